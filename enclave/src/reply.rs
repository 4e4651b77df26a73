//! Stage 6: the receipt is signed and leaves with the result's key.

use adyton_shared::ErrorCode;
use adyton_shared::frame::{FrameWriter, Kind};
use adyton_shared::message::{self, Done, FromEnclave, Refusal};
use adyton_shared::sealed_request::ReplyKey;
use serde_bytes::ByteBuf;
use tokio::io::AsyncWrite;

use crate::boot::Enclave;
use crate::event::Event;
use crate::platform::AttestError;
use crate::release::Released;

/// Who can read the answer: as its request came, so it leaves.
#[derive(Debug)]
pub enum Answer {
    /// Whoever carries it.
    Open,
    /// Who sealed the request.
    Sealed(ReplyKey),
}

impl Answer {
    fn message(self, done: Done) -> Result<FromEnclave, Refusal> {
        match self {
            Self::Open => Ok(FromEnclave::Done(done)),
            Self::Sealed(key) => {
                let sealed = key.seal(&done).map_err(|_| ErrorCode::Internal)?;
                Ok(FromEnclave::SealedDone { sealed: ByteBuf::from(sealed) })
            }
        }
    }
}

impl Released {
    /// Ends the job well.
    ///
    /// # Errors
    /// [`ErrorCode::AttestationUnavailable`] if nothing vouches for the receipt key at present, or what
    /// is wrong with the stream.
    pub async fn reply<W: AsyncWrite + Unpin>(
        self,
        enclave: &Enclave,
        answer: Answer,
        frames: &mut FrameWriter<W>,
    ) -> Result<(), Refusal> {
        let Self { key, receipt } = self;
        let document = enclave.identity.document().map_err(attest_code)?;
        let signed =
            receipt.sign(enclave.identity.key(), document.to_vec()).map_err(|_| ErrorCode::Internal)?;
        frames.queue(Kind::End, &[]).map_err(|error| ErrorCode::from(&error))?;
        send(frames, &answer.message(Done { key, receipt: ByteBuf::from(signed) })?).await?;
        enclave
            .events
            .emit(Event::JobDone { records_in: receipt.records_in, input_bytes: receipt.input_bytes });
        Ok(())
    }
}

/// Sends one control message.
pub(crate) async fn send<W: AsyncWrite + Unpin>(
    frames: &mut FrameWriter<W>,
    message: &FromEnclave,
) -> Result<(), Refusal> {
    // It may hold a result's key: wiped after use.
    let bytes = zeroize::Zeroizing::new(message::encode(message).map_err(|_| ErrorCode::Internal)?);
    Ok(frames.send(Kind::Control, &bytes).await.map_err(|error| ErrorCode::from(&error))?)
}

pub(crate) fn attest_code(error: AttestError) -> ErrorCode {
    match error {
        AttestError::Limited => ErrorCode::AttestationLimited,
        AttestError::Unavailable => ErrorCode::AttestationUnavailable,
    }
}
