//! Stage 4: the payload passes through the job's steps, chunk by chunk.
//!
//! Memory is one message frame, one record and a few chunks, whatever the payload's length. The
//! steps themselves are in [`crate::compute`].

use adyton_shared::envelope::Step;
use adyton_shared::id::Sha256Digest;
use adyton_shared::message::Refusal;
use adyton_shared::result::ResultSealer;
use adyton_shared::{EncryptionContext, ErrorCode, KeyArn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use zeroize::Zeroizing;

use crate::admit::Admitted;
use crate::boot::Enclave;
use crate::compute::{ComputeError, Counts, Grouping, Limits, Pipeline, StepKeys};
use crate::named_keys::NamedKeys;
use crate::open::Opened;
use crate::payload::Payload;
use crate::release::Gate;

/// Output is sealed and sent when so much has gathered, in bytes.
const OUTPUT_CHUNK_BYTES: usize = 128 * 1024;

/// A job whose steps have run over the whole verified payload.
pub struct Computed {
    pub(crate) admitted: Admitted,
    pub(crate) arn: KeyArn,
    pub(crate) counts: Counts,
    pub(crate) input_digest: Sha256Digest,
    pub(crate) input_bytes: u64,
    pub(crate) sealer: ResultSealer,
    pub(crate) output_digest: Sha256Digest,
    pub(crate) output_bytes: u64,
}

impl Opened {
    /// Runs the steps; what they let pass goes through the gate.
    ///
    /// # Errors
    /// A [`Refusal`] with a code of 4xx, 5xx or 6xx.
    pub async fn compute<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        self,
        enclave: &Enclave,
        mut payload: Payload<'_, R>,
        mut gate: Gate<'_, W>,
    ) -> Result<Computed, Refusal> {
        let Self { admitted, arn, context, mut frames, lease, named_keys } = self;
        let limits = enclave.policy.limits;
        let grouping =
            Grouping { minimum: admitted.minimum_group, groups: limits.groups, bytes: limits.group_bytes };
        let keys = step_keys(&context, &named_keys);
        let records = Limits { record_bytes: limits.record };
        let mut pipeline =
            Pipeline::of(&admitted.outcome, &keys, records, grouping).map_err(|_| ErrorCode::KeyUnknown)?;
        drop((keys, named_keys));
        let mut plaintext_bytes: u64 = 0;
        let mut output = Zeroizing::new(Vec::new());
        loop {
            match frames.next(payload.bytes()).map_err(|error| ErrorCode::from(&error))? {
                Step::Need(count) => {
                    if !payload.fill(count).await? {
                        return Err(frames
                            .finish()
                            .err()
                            .map_or(ErrorCode::Internal, |e| (&e).into())
                            .into());
                    }
                }
                Step::Frame { consumed, plaintext } => {
                    let plaintext = payload.bytes().get(plaintext).unwrap_or_default();
                    plaintext_bytes = plaintext_bytes.saturating_add(plaintext.len() as u64);
                    if plaintext_bytes > limits.payload {
                        return Err(ErrorCode::PayloadTooLarge.into());
                    }
                    // Also if the job fails later: the key has opened them.
                    lease.charge(plaintext.len() as u64);
                    // A frame can be long, and its result three times as long: it leaves in parts.
                    for part in plaintext.chunks(OUTPUT_CHUNK_BYTES) {
                        pipeline.push(part, &mut output).map_err(refusal)?;
                        if output.len() >= OUTPUT_CHUNK_BYTES {
                            gate.pass(&mut output)?;
                            gate.flush().await?;
                        }
                        // A frame is long and a part can be slow; others have their turn between two.
                        yield_now().await;
                    }
                    payload.consume(consumed);
                }
                Step::End { consumed } => {
                    payload.consume(consumed);
                    break;
                }
            }
        }
        let counts = pipeline.finish(&mut output).map_err(refusal)?;
        gate.pass(&mut output)?;
        let (input_digest, input_bytes) = payload.finish().await?;
        let (sealer, output_digest, output_bytes) = gate.close().await?;
        Ok(Computed { admitted, arn, counts, input_digest, input_bytes, sealer, output_digest, output_bytes })
    }
}

/// The secrets of the steps, bound to whose data it is by the payload's own word.
fn step_keys(context: &EncryptionContext, named_keys: &NamedKeys) -> StepKeys {
    let mut keys = StepKeys::new(context.value("tenant").unwrap_or_default().to_owned());
    for (name, secret) in named_keys.iter() {
        keys.insert(name.clone(), secret.expose());
    }
    keys
}

fn refusal(error: ComputeError) -> Refusal {
    Refusal { record: error.record(), step: error.step(), ..error.code().into() }
}
