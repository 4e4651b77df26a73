//! What benches share: records of people that nobody is, sealed; a median; a table.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::missing_errors_doc,
    reason = "figures are printed rounded, random numbers are small, and errors end a bench"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use adyton_enclave::compute::Pipeline;
use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, Parsed, Step, Suite, UnverifiedHeader};
use adyton_shared::{DataKey, EncryptionContext};

/// Frames that the benches seal, in bytes.
pub const FRAME_BYTES: usize = 64 << 10;
/// How often each thing is measured.
pub const ROUNDS: usize = 5;

/// Prints one line: a speed and, where there is one, its ratio to a yardstick and what it should hold.
pub fn row(name: &str, bytes: usize, time: Duration, ratio: Option<(f64, f64)>) {
    let speed = bytes as f64 / 1e6 / time.as_secs_f64();
    let (ratio, hold) = ratio.map_or_else(Default::default, |(ratio, hold)| {
        (format!("{ratio:.1}"), format!("{hold}{}", if ratio < hold { "  BELOW" } else { "" }))
    });
    println!("{name:<34}{speed:>10.0}{ratio:>8}{hold:>8}");
}

/// The median time of [`ROUNDS`] runs.
pub fn median(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default())
}

/// Opens a message in place and sends it through the steps; gives the number of bytes that leave.
pub fn open_and_compute(key: &DataKey, message: &mut [u8], mut pipeline: Pipeline) -> anyhow::Result<usize> {
    let Parsed::Complete { header, length } = UnverifiedHeader::parse(message)? else {
        anyhow::bail!("incomplete header");
    };
    let mut opener = header.verify(key, &EncryptionContext::default())?;
    let mut rest = message.get_mut(length..).unwrap_or_default();
    let mut out = Vec::new();
    let mut bytes = 0;
    loop {
        match opener.next(rest)? {
            Step::Frame { consumed, plaintext } => {
                pipeline.push(rest.get(plaintext).unwrap_or_default(), &mut out)?;
                bytes += black_box(&out).len();
                out.clear();
                rest = rest.get_mut(consumed..).unwrap_or_default();
            }
            Step::End { .. } => break,
            Step::Need(bytes) => anyhow::bail!("{bytes} bytes are missing"),
        }
    }
    opener.finish()?;
    pipeline.finish(&mut out)?;
    Ok(bytes + black_box(&out).len())
}

/// The median time of opening a message and computing over it.
pub fn opened_and_computed(
    key: &DataKey,
    message: &[u8],
    mut pipeline: impl FnMut() -> anyhow::Result<Pipeline>,
) -> anyhow::Result<Duration> {
    let mut copy = message.to_vec();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        copy.copy_from_slice(message);
        let start = Instant::now();
        open_and_compute(key, &mut copy, pipeline()?)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default())
}

/// What steps make of plaintext.
pub fn computed(data: &[u8], mut pipeline: Pipeline) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    for chunk in data.chunks(FRAME_BYTES) {
        pipeline.push(chunk, &mut out)?;
    }
    pipeline.finish(&mut out)?;
    Ok(out)
}

/// Seals data as one message under this key.
pub fn seal(key: &DataKey, data: &[u8]) -> anyhow::Result<Vec<u8>> {
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
pub fn end_of_line(data: &[u8], at: usize) -> usize {
    let rest = data.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1)
}

/// Customers that nobody is: a fixed sequence, so that every run sees the same.
pub fn records(bytes: usize) -> Vec<u8> {
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
