//! What a result becomes before it passes the gate: itself, an age file, or a message under a KMS key.
//!
//! A sealed destination's file is made here, inside, from the first byte: the parent stores it and
//! cannot read it even with the result's one-time key. With padding, line feeds fill the plaintext up
//! to its size class before it is sealed.

use adyton_shared::age::{AgeError, AgeSealer};
use adyton_shared::chunks::Chunks;
use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, SealError, Sealer, Suite};
use adyton_shared::job::Destination;
use adyton_shared::limits::DEFAULT_MESSAGE_FRAME_BYTES;
use adyton_shared::message::Refusal;
use adyton_shared::padding::padded_length;
use adyton_shared::{EncryptionContext, ErrorCode, KeyArn};

use crate::kms::{KeyError, KeyService};

/// What begins with this belongs to the message that it came in.
const RESERVED_PREFIX: &str = "aws-crypto-";
/// Padding: between records, and after the last one, it means nothing.
const LINE_FEEDS: [u8; 4096] = [b'\n'; 4096];

/// Takes a result's plaintext and gives what leaves.
pub(crate) enum Sink {
    /// For the parent: as it is.
    Open,
    /// For somebody else.
    Sealed(Box<SealedSink>),
}

/// Seals a result to somebody.
pub(crate) struct SealedSink {
    file: SealedFile,
    /// The part of the file that is there before any plaintext.
    header: Vec<u8>,
    plaintext_bytes: u64,
    pad: bool,
}

enum SealedFile {
    Age(AgeSealer),
    Kms { sealer: Box<Sealer>, frames: Chunks },
}

impl Sink {
    /// Begins the file for this destination. `context` is the payload's own, verified.
    ///
    /// # Errors
    /// What KMS says about a destination's key, or [`ErrorCode::Internal`].
    pub(crate) async fn begin(
        to: &Destination,
        pad: bool,
        context: &EncryptionContext,
        kms: &KeyService,
    ) -> Result<Self, Refusal> {
        let mut header = Vec::new();
        let file = match to {
            Destination::Parent => return Ok(Self::Open),
            Destination::Age(recipient) => {
                SealedFile::Age(AgeSealer::new(recipient, &mut header).map_err(age_code)?)
            }
            Destination::Kms(key) => kms_file(key, context, kms, &mut header).await?,
        };
        Ok(Self::Sealed(Box::new(SealedSink { file, header, plaintext_bytes: 0, pad })))
    }
}

async fn kms_file(
    key: &KeyArn,
    context: &EncryptionContext,
    kms: &KeyService,
    header: &mut Vec<u8>,
) -> Result<SealedFile, Refusal> {
    // Tenant, object, purpose and version stay bound to the data; another message's signing key does not.
    let pairs = context.pairs().filter(|(name, _)| !name.starts_with(RESERVED_PREFIX));
    let context = EncryptionContext::from_pairs(pairs).map_err(|_| ErrorCode::Internal)?;
    let draft = Draft::new(Suite::Aes256Commit, context).map_err(seal_code)?;
    let fresh = kms.fresh_key(key, draft.context()).await.map_err(destination_refusal)?;
    let wrapped = EncryptedDataKey {
        provider: KMS_PROVIDER,
        information: key.as_str().as_bytes(),
        ciphertext: &fresh.wrapped,
    };
    let (sealer, written) =
        draft.seal_with(&fresh.key, &[wrapped], DEFAULT_MESSAGE_FRAME_BYTES).map_err(seal_code)?;
    header.extend_from_slice(&written);
    let frames = Chunks::new(sealer.frame_length());
    Ok(SealedFile::Kms { sealer: Box::new(sealer), frames })
}

impl SealedSink {
    /// Takes plaintext and appends what is sealed of it.
    pub(crate) fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        out.append(&mut self.header);
        self.plaintext_bytes = self.plaintext_bytes.saturating_add(plaintext.len() as u64);
        match &mut self.file {
            SealedFile::Age(sealer) => sealer.push(plaintext, out).map_err(age_code),
            SealedFile::Kms { sealer, frames } => {
                frames.push(plaintext, |frame| sealer.seal_frame(frame, out)).map_err(seal_code)
            }
        }
    }

    /// How many bytes of padding are due.
    pub(crate) fn padding(&self) -> u64 {
        let padded = if self.pad { padded_length(self.plaintext_bytes) } else { self.plaintext_bytes };
        padded.saturating_sub(self.plaintext_bytes)
    }

    /// Appends so much padding as fits into one go, and says how much.
    pub(crate) fn push_padding(&mut self, due: u64, out: &mut Vec<u8>) -> Result<u64, ErrorCode> {
        let part = usize::try_from(due).unwrap_or(usize::MAX).min(LINE_FEEDS.len());
        let part = LINE_FEEDS.get(..part).unwrap_or(&LINE_FEEDS);
        self.push(part, out)?;
        Ok(part.len() as u64)
    }

    /// Appends the end of the file.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        out.append(&mut self.header);
        match self.file {
            SealedFile::Age(sealer) => sealer.finish(out).map_err(age_code),
            SealedFile::Kms { sealer, frames } => sealer.finish(&frames.finish(), out).map_err(seal_code),
        }
    }
}

/// Access denied means another key here than in the unlock stage, and another policy to look at.
fn destination_refusal(error: KeyError) -> Refusal {
    let code = match error.code() {
        ErrorCode::KmsAccessDenied => ErrorCode::DestinationKeyDenied,
        code => code,
    };
    Refusal { retry_after_ms: error.retry_after_ms(), ..code.into() }
}

fn age_code(_: AgeError) -> ErrorCode {
    ErrorCode::Internal
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
fn seal_code(error: SealError) -> ErrorCode {
    match error {
        // 2³² frames of 64 KiB: no policy's limit is the cause, but too large it is.
        SealError::TooManyFrames => ErrorCode::ResultTooLarge,
        _ => ErrorCode::Internal,
    }
}
