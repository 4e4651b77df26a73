//! Records: what comes out does not depend on where the input was cut, and a record that is
//! refused stays so.
#![no_main]

use adyton_enclave::compute::{Limits, Pipeline};
use adyton_shared::job::{Destination, FieldPath, Input, Job, Mask, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [kind, cut, records @ ..] = data else { return };
    let (whole, in_parts) =
        (run(*kind, records, records.len().max(1)), run(*kind, records, usize::from(*cut) + 1));
    assert_eq!(whole.is_some(), in_parts.is_some());
    assert_eq!(whole, in_parts);
    if let (Some(output), Input::Json | Input::Ndjson) = (&whole, input(*kind)) {
        assert!(std::str::from_utf8(output).is_ok());
    }
});

fn input(kind: u8) -> Input {
    match kind % 3 {
        0 => Input::Json,
        1 => Input::Ndjson,
        _ => Input::Csv,
    }
}

fn job(kind: u8) -> Job {
    let path = |text: &str| FieldPath::parse(text).unwrap();
    let select = Step::Select(vec![path("id"), path("a.b"), path("list[].x")]);
    let flat = Step::Select(vec![path("id"), path("a")]);
    let mask = |field: &str| Step::Mask(Mask { fields: vec![path(field)], keep_last: kind >> 6 });
    let drop = |field: &str| Step::Drop(vec![path(field)]);
    let steps = match (input(kind), kind >> 4 & 1) {
        (Input::Csv, 0) => vec![flat, mask("a")],
        (Input::Csv, _) => vec![drop("b"), flat],
        (_, 0) => vec![select, mask("a.b"), drop("list[].x.y")],
        (_, _) => vec![mask("list[].x"), select],
    };
    Job { version: 1, input: input(kind), steps, to: Destination::Parent }
}

fn run(kind: u8, records: &[u8], part: usize) -> Option<Vec<u8>> {
    let mut pipeline = Pipeline::new(&job(kind), Limits { record_bytes: 1 << 16 }).unwrap();
    let mut out = Vec::new();
    for part in records.chunks(part) {
        pipeline.push(part, &mut out).ok()?;
    }
    pipeline.finish(&mut out).ok()?;
    Some(out)
}
