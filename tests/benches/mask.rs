//! Masking four fields of NDJSON, decryption included, beside `jq` and `jaq` doing the same to plaintext.
//!
//! `cargo bench -p adyton-tests --bench mask`. One thread, synthetic records of about 300 bytes. The
//! others get a slice of the same file and the time is scaled by its bytes; they start once per slice, which is inside
//! of their time, as is reading the file from the page cache; writing goes nowhere. Every result is
//! compared with ours first. A program that is not installed is skipped and named; `JQ` and `JAQ` say where they are.
#![expect(
    clippy::cast_precision_loss,
    clippy::naive_bytecount,
    reason = "figures are printed rounded, and lines are counted once"
)]

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use adyton_enclave::compute::{Limits, Pipeline};
use adyton_shared::DataKey;
use adyton_shared::job::{Destination, FieldPath, Input, Job, Mask, Step as JobStep};
use adyton_tests::measure::{
    FRAME_BYTES, ROUNDS, end_of_line, median, opened_and_computed, records, row, seal,
};

const PAYLOAD_BYTES: usize = 200_000_000;
/// What the slower programs get of it.
const SLICE_BYTES: usize = 20_000_000;

const FIELDS: &str = "id created name email phone address card amount currency items note active";
const MASKED: &str = "name email phone card.pan";
const PROGRAM: &str = r#"def mask: if length < 8 then "*" * length else "*" * (length - 4) + .[-4:] end;
    .name |= mask | .email |= mask | .phone |= mask | .card.pan |= mask"#;

fn main() -> anyhow::Result<()> {
    let data = records(PAYLOAD_BYTES);
    let slice = data.get(..end_of_line(&data, SLICE_BYTES)).unwrap_or_default();
    let key = DataKey::copy_from(&[7; 32]).ok_or_else(|| anyhow::anyhow!("key length"))?;
    let message = seal(&key, &data)?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("records.ndjson");
    std::fs::write(&file, slice)?;
    let mut expected = Vec::new();
    compute(slice, |out| expected.extend_from_slice(out))?;

    let lines = data.iter().filter(|byte| **byte == b'\n').count();
    println!(
        "{} MB of NDJSON, {} bytes a record, one thread, median of {ROUNDS}",
        data.len() / 1_000_000,
        data.len() / lines
    );
    println!("{:<34}{:>10}{:>8}{:>8}", "", "MB/s", "ratio", "hold");
    let alone = median(|| compute(&data, |out| _ = black_box(out.len())))?;
    row("compute", data.len(), alone, None);
    let ours = opened_and_computed(&key, &message, pipeline)?;
    row("open and compute", data.len(), ours, None);
    let ours = ours.as_secs_f64() / data.len() as f64;
    for (name, hold) in [("jq", 20.0), ("jaq", 4.0)] {
        let program = std::env::var(name.to_uppercase()).unwrap_or_else(|_| name.to_owned());
        if Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("{name} is not installed: skipped");
            continue;
        }
        let output = Command::new(&program).args(["-c", PROGRAM]).arg(&file).output()?;
        anyhow::ensure!(output.stdout == expected, "{name} does not say the same");
        let theirs = median(|| run(&program, &file))?;
        let ratio = theirs.as_secs_f64() / slice.len() as f64 / ours;
        row(&format!("{name} -c, plaintext"), slice.len(), theirs, Some((ratio, hold)));
    }
    Ok(())
}

fn run(program: &str, file: &Path) -> anyhow::Result<()> {
    let nowhere = File::create("/dev/null")?;
    let status = Command::new(program).args(["-c", PROGRAM]).arg(file).stdout(nowhere).status()?;
    anyhow::ensure!(status.success(), "{program} failed");
    Ok(())
}

fn pipeline() -> anyhow::Result<Pipeline> {
    let paths = |names: &str| names.split(' ').map(FieldPath::parse).collect::<Result<Vec<_>, _>>();
    let steps =
        vec![JobStep::Select(paths(FIELDS)?), JobStep::Mask(Mask { fields: paths(MASKED)?, keep_last: 4 })];
    let job = Job { version: 1, input: Input::Ndjson, steps, to: Destination::Parent };
    Ok(Pipeline::new(&job, Limits { record_bytes: 4 << 20 })?)
}

fn compute(data: &[u8], mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let mut pipeline = pipeline()?;
    let mut out = Vec::new();
    for chunk in data.chunks(FRAME_BYTES) {
        pipeline.push(chunk, &mut out)?;
        take(&out);
        out.clear();
    }
    pipeline.finish(&mut out)?;
    take(&out);
    Ok(())
}
