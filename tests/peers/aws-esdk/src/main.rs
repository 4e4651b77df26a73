//! Opens the same messages with the official Rust Encryption SDK and with ours, in turns.
//!
//! The messages are ours (suite 0x0478), their data key wrapped as the SDK's raw AES keyring wraps it, so that
//! the SDK opens them without KMS. Prints medians and ratios; asserts that both give the same bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use adyton_shared::envelope::{Draft, EncryptedDataKey, Parsed, Step, Suite, UnverifiedHeader};
use adyton_shared::{DataKey, EncryptionContext};
use anyhow::{Context as _, Result, bail};
use aws_esdk::client::Client as Sdk;
use aws_esdk::material_providers::client::Client as Providers;
use aws_esdk::material_providers::types::AesWrappingAlg;
use aws_esdk::material_providers::types::keyring::KeyringRef;
use aws_esdk::material_providers::types::material_providers_config::MaterialProvidersConfig;
use aws_esdk::types::aws_encryption_sdk_config::AwsEncryptionSdkConfig;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const PAYLOAD_BYTES: usize = 32 << 20;
const ROUNDS: usize = 5;
/// What `docs/performance.md` promises.
const HOLD: f64 = 10.0;

const NAMESPACE: &str = "comparison";
const NAME: &str = "wrapping key";
const WRAPPING_KEY: [u8; 32] = [9; 32];
const DATA_KEY: [u8; 32] = [7; 32];
const IV: [u8; 12] = [1; 12];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let sdk = Sdk::from_conf(AwsEncryptionSdkConfig::builder().build()?)?;
    let keyring = Providers::from_conf(MaterialProvidersConfig::builder().build()?)?
        .create_raw_aes_keyring()
        .key_name(NAME)
        .key_namespace(NAMESPACE)
        .wrapping_key(WRAPPING_KEY.to_vec())
        .wrapping_alg(AesWrappingAlg::AlgAes256GcmIv12Tag16)
        .send()
        .await?;
    println!("{} MiB per message, one thread, median of {ROUNDS} rounds", PAYLOAD_BYTES >> 20);
    println!("{:<8}{:>10}{:>16}{:>10}{:>8}", "suite", "frame", "aws-esdk MiB/s", "ours", "ratio");
    let mut all_hold = true;
    for frame_length in [4 << 10, 64 << 10, 1 << 20] {
        all_hold &= row(&sdk, &keyring, frame_length).await?;
    }
    println!("{}", if all_hold { "every row holds" } else { "a row does not hold" });
    Ok(())
}

async fn row(sdk: &Sdk, keyring: &KeyringRef, frame_length: usize) -> Result<bool> {
    let sealed = seal(frame_length)?;
    let mut copy = sealed.clone();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (message, keyring) = (sealed.clone(), keyring.clone());
        let begin = Instant::now();
        let opened = sdk.decrypt().ciphertext(message).keyring(keyring).send().await?;
        theirs.push(begin.elapsed());
        let plaintext = opened.plaintext.context("no plaintext")?;
        if plaintext.as_ref() != vec![0x5a; PAYLOAD_BYTES] {
            bail!("the SDK opens something else");
        }
        copy.copy_from_slice(&sealed);
        let begin = Instant::now();
        let bytes = open(&mut copy)?;
        ours.push(begin.elapsed());
        if bytes != PAYLOAD_BYTES {
            bail!("we open something else");
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    let speed = |time: Duration| (PAYLOAD_BYTES >> 20) as f64 / time.as_secs_f64();
    let frame = format!("{} KiB", frame_length >> 10);
    println!("{:<8}{frame:>10}{:>16.0}{:>10.0}{ratio:>7.0}x", "0x0478", speed(theirs), speed(ours));
    Ok(ratio >= HOLD)
}

fn seal(frame_length: usize) -> Result<Vec<u8>> {
    let context = EncryptionContext::from_pairs([("tenant", "bench")])?;
    let wrapping = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &WRAPPING_KEY)?);
    let mut wrapped = DATA_KEY.to_vec();
    let aad = Aad::from(context.serialize_canonical());
    wrapping.seal_in_place_append_tag(Nonce::assume_unique_for_key(IV), aad, &mut wrapped)?;
    let lengths = [128_u32.to_be_bytes(), 12_u32.to_be_bytes()].concat();
    let information = [NAME.as_bytes(), &lengths, &IV].concat();
    let edk = EncryptedDataKey {
        provider: NAMESPACE,
        information: &information,
        ciphertext: &wrapped,
    };
    let key = DataKey::copy_from(&DATA_KEY).context("key length")?;
    let draft = Draft::new(Suite::Aes256Commit, context)?;
    let (mut sealer, mut message) = draft.seal_with(&key, &[edk], u32::try_from(frame_length)?)?;
    let frame = vec![0x5a; frame_length];
    for _ in 1..PAYLOAD_BYTES / frame_length {
        sealer.seal_frame(&frame, &mut message)?;
    }
    sealer.finish(&frame, &mut message)?;
    Ok(message)
}

/// Opens in place; the number of bytes of plaintext.
fn open(message: &mut [u8]) -> Result<usize> {
    let key = DataKey::copy_from(&DATA_KEY).context("key length")?;
    let Parsed::Complete { header, length } = UnverifiedHeader::parse(message)? else {
        bail!("incomplete header");
    };
    let mut opener = header.verify(&key, &EncryptionContext::default())?;
    let mut rest = message.get_mut(length..).unwrap_or_default();
    let mut bytes = 0;
    loop {
        match opener.next(rest)? {
            Step::Frame { consumed, plaintext } => {
                bytes += plaintext.len();
                black_box(rest.get(plaintext));
                rest = rest.get_mut(consumed..).unwrap_or_default();
            }
            Step::End { .. } => {
                opener.finish()?;
                return Ok(bytes);
            }
            Step::Need(missing) => bail!("{missing} bytes are missing"),
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
