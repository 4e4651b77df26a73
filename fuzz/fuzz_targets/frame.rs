//! Frames: whatever is read was written in exactly these bytes, and is within its limit.
#![no_main]

use std::time::Duration;

use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter};
use libfuzzer_sys::fuzz_target;

const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(60), frame: Duration::from_secs(60) };

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut reader = FrameReader::new(data, DEADLINES);
        let mut written = Vec::new();
        let mut writer = FrameWriter::new(&mut written, DEADLINES);
        let mut payload = Vec::new();
        while let Ok(kind) = reader.next(&mut payload).await {
            assert!(payload.len() <= kind.limit() as usize);
            writer.send(kind, &payload).await.unwrap();
            payload.clear();
        }
        assert!(payload.is_empty(), "nothing of a refused frame is kept");
        assert!(data.starts_with(&written));
    });
});
