//! Stage 5: the only way out.
//!
//! Results leave as they are computed, but sealed under a one-time key (see
//! [`adyton_shared::result`]). Until [`Computed::release`] has the whole job's success in its
//! hands, the key stays here and what the parent holds is noise. A job that fails drops the key.

use adyton_shared::ErrorCode;
use adyton_shared::frame::{FrameWriter, Kind};
use adyton_shared::id::{JobId, Sha256Digest};
use adyton_shared::message::{Refusal, ResultKey};
use adyton_shared::receipt::Receipt;
use adyton_shared::result::{MAX_RESULT_CHUNK_BYTES, ResultSealer};
use aws_lc_rs::digest::{Context, SHA256};
use tokio::io::AsyncWrite;
use zeroize::Zeroize;

use crate::boot::Enclave;
use crate::pass::Computed;
use crate::platform::TimeSource;

/// Seals a result on its way out and measures it.
pub struct Gate<'a, W> {
    frames: &'a mut FrameWriter<W>,
    sealer: ResultSealer,
    hash: Context,
    bytes: u64,
    limit: u64,
}

impl<'a, W: AsyncWrite + Unpin> Gate<'a, W> {
    /// A gate for one job.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if there is no randomness.
    pub fn new(frames: &'a mut FrameWriter<W>, job: JobId, limit: u64) -> Result<Self, Refusal> {
        let sealer = ResultSealer::new(job).map_err(|_| ErrorCode::Internal)?;
        Ok(Self { frames, sealer, hash: Context::new(&SHA256), bytes: 0, limit })
    }

    /// Seals plaintext for the next flush; `plaintext` is wiped and empty afterwards.
    ///
    /// # Errors
    /// [`ErrorCode::ResultTooLarge`].
    pub fn pass(&mut self, plaintext: &mut Vec<u8>) -> Result<(), Refusal> {
        self.bytes = self.bytes.saturating_add(plaintext.len() as u64);
        if self.bytes > self.limit {
            return Err(ErrorCode::ResultTooLarge.into());
        }
        self.hash.update(plaintext);
        let mut frame = Vec::new();
        for chunk in plaintext.chunks(MAX_RESULT_CHUNK_BYTES) {
            frame.clear();
            frame.reserve_exact(adyton_shared::result::sealed_length(chunk.len()));
            frame.extend_from_slice(chunk);
            self.sealer.seal(&mut frame).map_err(|_| ErrorCode::Internal)?;
            self.frames.queue(Kind::Data, &frame).map_err(|error| ErrorCode::from(&error))?;
        }
        plaintext.as_mut_slice().zeroize();
        plaintext.clear();
        Ok(())
    }

    /// Sends what has been sealed so far.
    ///
    /// # Errors
    /// What is wrong with the stream.
    pub async fn flush(&mut self) -> Result<(), Refusal> {
        Ok(self.frames.flush().await.map_err(|error| ErrorCode::from(&error))?)
    }

    pub(crate) fn close(self) -> (ResultSealer, Sha256Digest, u64) {
        (self.sealer, Sha256Digest::from_digest(&self.hash.finish()), self.bytes)
    }
}

/// What may leave: the key of the sealed result, and what the receipt will say.
pub struct Released {
    pub(crate) key: ResultKey,
    pub(crate) receipt: Receipt,
}

impl Computed {
    /// Lets the result out.
    pub fn release(self, enclave: &Enclave) -> Released {
        let Self { admitted, arn, counts, input_digest, input_bytes, sealer, output_digest, output_bytes } =
            self;
        let receipt = Receipt {
            version: 1,
            job: admitted.request.id,
            requester: admitted.request.requester,
            job_digest: admitted.job_digest,
            input_digest,
            input_bytes,
            output_digest,
            output_bytes,
            key: arn,
            to: admitted.request.job.to,
            policy: enclave.policy.digest,
            records_in: counts.records_in,
            records_out: Some(counts.records_out),
            started: admitted.started,
            finished: enclave.clock.unix_millis(),
        };
        Released { key: sealer.finish(), receipt }
    }
}
