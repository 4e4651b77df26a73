//! Opening messages beside the library that does the arithmetic, in the same run.
//!
//! Suite 0x0478 against aws-lc-rs opening the same frames bare, suite 0x0578
//! against one SHA-384 pass over the same bytes; frames of 4 KiB, 64 KiB and
//! 1 MiB, one thread. The two take turns, and the medians are compared, so that
//! a busy machine slows both. Header, key derivation, sequence and, where
//! signed, the footer are inside the measured time; making the working copy,
//! which is opened in place, is not.

use std::hint::black_box;
use std::time::{Duration, Instant};

use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, Parsed, Step, Suite, UnverifiedHeader};
use adyton_shared::{DataKey, EncryptionContext};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest;

const PAYLOAD_BYTES: usize = 32 << 20;
const ROUNDS: usize = 25;
/// What `docs/performance.md` promises.
const HOLD: f64 = 0.8;

fn main() -> anyhow::Result<()> {
    println!("{} MiB per message, one thread, median of {ROUNDS} rounds", PAYLOAD_BYTES >> 20);
    println!("{:<8}{:>10}  {:<24}{:>10}{:>10}{:>8}", "suite", "frame", "yardstick", "MiB/s", "ours", "ratio");
    let mut all_hold = true;
    for frame_length in [4 << 10, 64 << 10, 1 << 20] {
        let bare = Bare::new(frame_length)?;
        all_hold &= row(Suite::Aes256Commit, frame_length, "aws-lc-rs, bare", |_, copy| bare.open(copy))?;
    }
    for frame_length in [4 << 10, 64 << 10, 1 << 20] {
        all_hold &= row(Suite::Aes256CommitSigned, frame_length, "aws-lc-rs, one SHA-384", |sealed, _| {
            black_box(digest::digest(&digest::SHA384, sealed));
            Ok(())
        })?;
    }
    println!("{}", if all_hold { "every row holds" } else { "a row does not hold" });
    Ok(())
}

/// Measures one row; the yardstick gets the message and a working copy of its own sealed frames.
fn row(
    suite: Suite,
    frame_length: usize,
    name: &str,
    yardstick: impl Fn(&[u8], &mut [u8]) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let key = DataKey::copy_from(&[7; 32]).ok_or_else(|| anyhow::anyhow!("key length"))?;
    let sealed = seal(suite, &key, frame_length)?;
    let bare_sealed = Bare::new(frame_length)?.sealed();
    let (mut copy, mut bare_copy) = (sealed.clone(), bare_sealed.clone());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare_copy.copy_from_slice(&bare_sealed);
        theirs.push(time(|| yardstick(&sealed, &mut bare_copy))?);
        copy.copy_from_slice(&sealed);
        ours.push(time(|| open(&key, &mut copy))?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    let verdict = if ratio >= HOLD { "" } else { "  BELOW" };
    let frame = format!("{} KiB", frame_length >> 10);
    let (speed, own) = (speed(theirs), speed(ours));
    println!("{:<8}{frame:>10}  {name:<24}{speed:>10.0}{own:>10.0}{ratio:>8.2}{verdict}", suite.to_string());
    Ok(ratio >= HOLD)
}

fn seal(suite: Suite, key: &DataKey, frame_length: usize) -> anyhow::Result<Vec<u8>> {
    let wrapped = EncryptedDataKey { provider: KMS_PROVIDER, information: b"arn", ciphertext: &[0; 184] };
    let draft = Draft::new(suite, EncryptionContext::from_pairs([("tenant", "bench")])?)?;
    let (mut sealer, mut message) = draft.seal_with(key, &[wrapped], u32::try_from(frame_length)?)?;
    let frame = vec![0x5a; frame_length];
    for _ in 1..PAYLOAD_BYTES / frame_length {
        sealer.seal_frame(&frame, &mut message)?;
    }
    sealer.finish(&frame, &mut message)?;
    Ok(message)
}

fn open(key: &DataKey, message: &mut [u8]) -> anyhow::Result<()> {
    let Parsed::Complete { header, length } = UnverifiedHeader::parse(message)? else {
        anyhow::bail!("incomplete header");
    };
    let mut opener = header.verify(key, &EncryptionContext::default())?;
    let mut rest = message.get_mut(length..).unwrap_or_default();
    loop {
        match opener.next(rest)? {
            Step::Frame { consumed, plaintext } => {
                black_box(rest.get(plaintext));
                rest = rest.get_mut(consumed..).unwrap_or_default();
            }
            Step::End { .. } => return Ok(opener.finish()?),
            Step::Need(bytes) => anyhow::bail!("{bytes} bytes are missing"),
        }
    }
}

/// The same number of frames of the same length, sealed and opened by the library alone.
struct Bare {
    key: LessSafeKey,
    frame_length: usize,
}

const AAD: [u8; 72] = [3; 72];

impl Bare {
    fn new(frame_length: usize) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32])?;
        Ok(Self { key: LessSafeKey::new(key), frame_length })
    }

    fn sealed(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for number in 0..PAYLOAD_BYTES / self.frame_length {
            let mut frame = vec![0x5a; self.frame_length];
            let sealed = self.key.seal_in_place_append_tag(nonce(number), Aad::from(AAD), &mut frame);
            if sealed.is_ok() {
                all.extend(frame);
            }
        }
        all
    }

    fn open(&self, sealed: &mut [u8]) -> anyhow::Result<()> {
        for (number, frame) in sealed.chunks_mut(self.frame_length + AES_256_GCM.tag_len()).enumerate() {
            black_box(self.key.open_in_place(nonce(number), Aad::from(AAD), frame)?);
        }
        Ok(())
    }
}

fn nonce(number: usize) -> Nonce {
    let mut iv = [0; 12];
    iv[4..].copy_from_slice(&(number as u64).to_be_bytes());
    Nonce::assume_unique_for_key(iv)
}

fn time(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn speed(time: Duration) -> f64 {
    f64::from(u32::try_from(PAYLOAD_BYTES >> 20).unwrap_or_default()) / time.as_secs_f64()
}
