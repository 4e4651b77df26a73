//! Job files and field paths: a path is written in one way; a job has one digest.
#![no_main]

use adyton_shared::cbor;
use adyton_shared::job::{FieldPath, Job};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(path) = FieldPath::parse(text) {
        assert_eq!(FieldPath::parse(&path.to_string()).as_ref(), Ok(&path));
        assert!(path.covers(&path));
    }
    let jobs = [toml::from_str::<Job>(text).ok(), serde_json::from_str(text).ok(), cbor::decode(data).ok()];
    for job in jobs.into_iter().flatten() {
        let _ = job.outcome();
        let carried = cbor::encode(&job).unwrap();
        assert_eq!(cbor::decode::<Job>(&carried).as_ref(), Ok(&job));
    }
});
