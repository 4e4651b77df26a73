//! The way of a job: six stages, each a type that only the one before it can make.
//!
//! ```text
//! request ─admit→ Admitted ─unlock→ Unlocked ─open→ Opened ─compute→ Computed ─release→ Released ─reply→ done
//! ```
//!
//! A stage that fails returns a [`Refusal`], which holds codes and positions and nothing of the data.

use adyton_shared::frame::{FrameReader, FrameWriter};
use adyton_shared::message::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admit::Admitted;
use crate::boot::Enclave;
use crate::payload::Payload;
use crate::reply::Answer;

/// Serves one signed request whose payload follows in `input`.
///
/// # Errors
/// The [`Refusal`] to send back.
pub async fn run<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    enclave: &Enclave,
    request: &[u8],
    answer: Answer,
    input: &mut FrameReader<R>,
    output: &mut FrameWriter<W>,
) -> Result<(), Refusal> {
    let mut payload = Payload::new(input, &enclave.payloads);

    let admitted = Admitted::admit(enclave, request).await?;
    let unlocked = admitted.unlock(enclave, &mut payload).await?;
    let opened = unlocked.open()?;
    let gate = opened.gate(enclave, output).await?;
    let computed = opened.compute(enclave, payload, gate).await?;
    let released = computed.release(enclave);
    released.reply(enclave, answer, output).await
}
