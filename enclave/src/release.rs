//! Stage 5: the only way out.
//!
//! Results leave as they are computed, but sealed under a one-time key (see
//! [`adyton_shared::result`]). Until [`Computed::release`] has the whole job's success in its
//! hands, the key stays here and what the parent holds is noise. A job that fails drops the key.

use adyton_shared::ErrorCode;
use adyton_shared::chunks::Chunks;
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
use crate::sink::{SealedSink, Sink};

/// Seals a result on its way out and measures it.
pub struct Gate<'a, W> {
    wire: Wire<'a, W>,
    way: Way,
}

/// How plaintext becomes what leaves.
enum Way {
    /// As it is.
    Open,
    /// As a file for somebody else; in frames of one length, which say nothing of the records.
    Sealed { sink: Box<SealedSink>, sealed: Vec<u8>, frames: Chunks },
}

impl<'a, W: AsyncWrite + Unpin> Gate<'a, W> {
    /// A gate for one job.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if there is no randomness.
    pub(crate) fn new(
        frames: &'a mut FrameWriter<W>,
        job: JobId,
        limit: u64,
        sink: Sink,
    ) -> Result<Self, Refusal> {
        let sealer = ResultSealer::new(job).map_err(|_| ErrorCode::Internal)?;
        let wire = Wire { frames, sealer, hash: Context::new(&SHA256), bytes: 0, limit, frame: Vec::new() };
        let way = match sink {
            Sink::Open => Way::Open,
            Sink::Sealed(sink) => {
                Way::Sealed { sink, sealed: Vec::new(), frames: Chunks::new(MAX_RESULT_CHUNK_BYTES) }
            }
        };
        Ok(Self { wire, way })
    }

    /// Seals plaintext for the next flush; `plaintext` is wiped and empty afterwards.
    ///
    /// # Errors
    /// [`ErrorCode::ResultTooLarge`].
    pub fn pass(&mut self, plaintext: &mut Vec<u8>) -> Result<(), Refusal> {
        let Self { wire, way } = self;
        match way {
            Way::Open => {
                for chunk in plaintext.chunks(MAX_RESULT_CHUNK_BYTES) {
                    wire.queue(chunk)?;
                }
            }
            Way::Sealed { sink, sealed, frames } => {
                sink.push(plaintext, sealed)?;
                frames.push(sealed, |frame| wire.queue(frame))?;
                sealed.clear();
            }
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
        self.wire.flush().await
    }

    /// Ends the result: padding, the end of a sealed file, and what the receipt will say of it.
    pub(crate) async fn close(self) -> Result<(ResultSealer, Sha256Digest, u64), Refusal> {
        let Self { mut wire, way } = self;
        if let Way::Sealed { mut sink, mut sealed, mut frames } = way {
            let mut due = sink.padding();
            while due > 0 {
                due = due.saturating_sub(sink.push_padding(due, &mut sealed)?);
                frames.push(&sealed, |frame| wire.queue(frame))?;
                sealed.clear();
                wire.flush().await?;
            }
            sink.finish(&mut sealed)?;
            frames.push(&sealed, |frame| wire.queue(frame))?;
            let last = frames.finish();
            if !last.is_empty() {
                wire.queue(&last)?;
            }
        }
        Ok((wire.sealer, Sha256Digest::from_digest(&wire.hash.finish()), wire.bytes))
    }
}

/// The way to the parent: everything on it is sealed under the result's one-time key.
struct Wire<'a, W> {
    frames: &'a mut FrameWriter<W>,
    sealer: ResultSealer,
    hash: Context,
    bytes: u64,
    limit: u64,
    frame: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Wire<'_, W> {
    /// Seals one frame's content, of at most [`MAX_RESULT_CHUNK_BYTES`].
    fn queue(&mut self, chunk: &[u8]) -> Result<(), Refusal> {
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        if self.bytes > self.limit {
            return Err(ErrorCode::ResultTooLarge.into());
        }
        self.hash.update(chunk);
        self.frame.clear();
        self.frame.reserve_exact(adyton_shared::result::sealed_length(chunk.len()));
        self.frame.extend_from_slice(chunk);
        self.sealer.seal(&mut self.frame).map_err(|_| ErrorCode::Internal)?;
        Ok(self.frames.queue(Kind::Data, &self.frame).map_err(|error| ErrorCode::from(&error))?)
    }

    async fn flush(&mut self) -> Result<(), Refusal> {
        Ok(self.frames.flush().await.map_err(|error| ErrorCode::from(&error))?)
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
            // Otherwise the receipt would say what the padding hides.
            records_out: (!admitted.pad).then_some(counts.records_out),
            started: admitted.started,
            finished: enclave.clock.unix_millis(),
        };
        Released { key: sealer.finish(), receipt }
    }
}
