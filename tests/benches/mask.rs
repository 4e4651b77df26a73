//! Masking four fields of NDJSON, decryption included, beside `jq` and `jaq` doing the same to plaintext.
//!
//! `cargo bench -p adyton-tests --bench mask`. One thread, synthetic records of about 300 bytes. The
//! others get a slice of the same file and the time is scaled by its bytes; they start once per slice, which is inside
//! of their time, as is reading the file from the page cache; writing goes nowhere. Every result is
//! compared with ours first. A program that is not installed is skipped and named; `JQ` and `JAQ` say where they are.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::naive_bytecount,
    reason = "figures are printed rounded, random numbers are small, and lines are counted once"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use adyton_enclave::compute::{Limits, Pipeline};
use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, Parsed, Step, Suite, UnverifiedHeader};
use adyton_shared::job::{Destination, FieldPath, Input, Job, Mask, Step as JobStep};
use adyton_shared::{DataKey, EncryptionContext};

const PAYLOAD_BYTES: usize = 200_000_000;
/// What the slower programs get of it.
const SLICE_BYTES: usize = 20_000_000;
const FRAME_BYTES: usize = 64 << 10;
const ROUNDS: usize = 5;

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
    let mut copy = message.clone();
    let mut opened = Vec::new();
    for _ in 0..ROUNDS {
        copy.copy_from_slice(&message);
        let start = Instant::now();
        open_and_compute(&key, &mut copy)?;
        opened.push(start.elapsed());
    }
    opened.sort_unstable();
    let ours = opened.get(ROUNDS / 2).copied().unwrap_or_default();
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

fn row(name: &str, bytes: usize, time: Duration, ratio: Option<(f64, f64)>) {
    let speed = bytes as f64 / 1e6 / time.as_secs_f64();
    let (ratio, hold) = ratio.map_or_else(Default::default, |(ratio, hold)| {
        (format!("{ratio:.1}"), format!("{hold}{}", if ratio < hold { "  BELOW" } else { "" }))
    });
    println!("{name:<34}{speed:>10.0}{ratio:>8}{hold:>8}");
}

fn median(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default())
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

fn open_and_compute(key: &DataKey, message: &mut [u8]) -> anyhow::Result<()> {
    let Parsed::Complete { header, length } = UnverifiedHeader::parse(message)? else {
        anyhow::bail!("incomplete header");
    };
    let mut opener = header.verify(key, &EncryptionContext::default())?;
    let mut rest = message.get_mut(length..).unwrap_or_default();
    let mut pipeline = pipeline()?;
    let mut out = Vec::new();
    loop {
        match opener.next(rest)? {
            Step::Frame { consumed, plaintext } => {
                pipeline.push(rest.get(plaintext).unwrap_or_default(), &mut out)?;
                black_box(&out);
                out.clear();
                rest = rest.get_mut(consumed..).unwrap_or_default();
            }
            Step::End { .. } => break,
            Step::Need(bytes) => anyhow::bail!("{bytes} bytes are missing"),
        }
    }
    opener.finish()?;
    pipeline.finish(&mut out)?;
    Ok(())
}

fn seal(key: &DataKey, data: &[u8]) -> anyhow::Result<Vec<u8>> {
    let wrapped = EncryptedDataKey { provider: KMS_PROVIDER, information: b"arn", ciphertext: &[0; 184] };
    let context = EncryptionContext::from_pairs([("tenant", "bench")])?;
    let draft = Draft::new(Suite::Aes256Commit, context)?;
    let (mut sealer, mut message) = draft.seal_with(key, &[wrapped], u32::try_from(FRAME_BYTES)?)?;
    let mut frames = data.chunks_exact(FRAME_BYTES);
    for frame in frames.by_ref() {
        sealer.seal_frame(frame, &mut message)?;
    }
    sealer.finish(frames.remainder(), &mut message)?;
    Ok(message)
}

/// Where the line ends in which `at` lies.
fn end_of_line(data: &[u8], at: usize) -> usize {
    let rest = data.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1)
}

/// Customers that nobody is: a fixed sequence, so that every run sees the same.
fn records(bytes: usize) -> Vec<u8> {
    const NAMES: [&str; 8] = [
        "Ana Silva",
        "Björn Ekström",
        "Chidi Okafor",
        "Dora Nagy",
        "Emre Yılmaz",
        "Fay Li",
        "Gus O'Neil",
        "Hana Sato",
    ];
    const NOTES: [&str; 4] = ["", "call \"before\" noon", "leave at the door\\nring twice", "prefers e-mail"];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut text = String::with_capacity(bytes + 1024);
    let mut id = 0_u64;
    while text.len() < bytes {
        id += 1;
        let name = NAMES[random(8) as usize];
        let note = NOTES[random(4) as usize].replace('"', "\\\"");
        let _ = write!(
            text,
            r#"{{"id":{id},"created":"2025-{:02}-{:02}T{:02}:{:02}:09Z","name":"{name}","email":"user{}@example.com","#,
            random(12) + 1,
            random(28) + 1,
            random(24),
            random(60),
            random(1_000_000),
        );
        let _ = write!(
            text,
            r#""phone":"+44 20 {:04} {:04}","address":{{"street":"{} High Street","city":"Leeds","zip":"LS{}","country":"GB"}},"#,
            random(10_000),
            random(10_000),
            random(300) + 1,
            random(30),
        );
        let _ = write!(
            text,
            r#""card":{{"pan":"4111 1111 {:04} {:04}","exp":"{:02}/29"}},"amount":{}.{}5,"currency":"EUR","#,
            random(10_000),
            random(10_000),
            random(12) + 1,
            random(5000) + 1,
            random(10),
        );
        let _ = writeln!(
            text,
            r#""items":[{{"sku":"A-{}","qty":{}}},{{"sku":"B-{}","qty":{}}}],"note":"{note}","active":{}}}"#,
            random(10_000),
            random(9) + 1,
            random(100),
            random(9) + 1,
            random(2) == 0,
        );
    }
    text.into_bytes()
}
