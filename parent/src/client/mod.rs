//! Talks to an enclave: challenges it, sends jobs, and believes nothing that it has not verified.
//!
//! Works over any stream, so programs and tests use it as the command line does.

mod conversation;
mod identity;
mod receipt;
mod result;

use std::io;

use adyton_shared::frame::FrameError;
use adyton_shared::message::{MessageError, Refusal};
use adyton_shared::receipt::ReceiptError;
use adyton_shared::request::RequestError;
use adyton_shared::sealed_request::SealError;
use adyton_verifier::attestation::AttestationError;

pub use conversation::{Conversation, Order, Sent, Upload};
pub use identity::{VerifiedEnclave, challenge, seal_request, sign_request};
pub use receipt::{Claims, VerifiedReceipt, verify_receipt};
pub use result::SealedResult;

/// Why a conversation with an enclave did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The enclave refused, with a code.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection failed.
    #[error("the connection to the enclave failed")]
    Frame(#[from] FrameError),
    /// A message of the enclave could not be read.
    #[error("the enclave's message could not be read")]
    Message(#[from] MessageError),
    /// A message came that cannot come here.
    #[error("the enclave sent a message out of turn")]
    UnexpectedMessage,
    /// The payload could not be read.
    #[error("the input could not be read")]
    Input(#[source] io::Error),
    /// The result could not be stored.
    #[error("the result could not be stored")]
    Spool(#[source] io::Error),
    /// The request could not be signed.
    #[error("the request could not be made")]
    Request(#[from] RequestError),
    /// The request could not be sealed.
    #[error("the request could not be sealed")]
    Seal(#[from] SealError),
    /// The request names another enclave than the one whose document was verified.
    #[error("the request is for another enclave than the one that answers")]
    OtherEnclave,
    /// The attestation document is not one to trust.
    #[error("the attestation document is refused")]
    Attestation(#[from] AttestationError),
    /// The document is genuine and says something else than it should.
    #[error("the attestation document is not an identity of an enclave of this project")]
    NotAnIdentity,
    /// The receipt is not signed as it should be.
    #[error("the receipt is refused")]
    Receipt(#[from] ReceiptError),
    /// The receipt says something else than what was sent or received.
    #[error("the receipt is for another {0}")]
    ReceiptMismatch(&'static str),
    /// A frame of the result was changed, moved or left out.
    #[error("the result was changed on the way")]
    ResultTampered,
    /// No random bytes.
    #[error("the system's random source failed")]
    Random,
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code.hint(),
            Self::Frame(_) => "is the enclave still running? nothing was let out; send the job again",
            Self::Message(_) | Self::UnexpectedMessage => {
                "is the enclave of the same release as this program?"
            }
            Self::Input(_) => "check the input file",
            Self::Spool(_) => "is there space in the output's folder, and may you write there?",
            Self::Request(_) | Self::Seal(_) => "the job or the claims are over a limit",
            Self::OtherEnclave => "sign the request for the enclave that answers now",
            Self::Attestation(_) => "do not send data to this enclave unless you know why it differs",
            Self::NotAnIdentity => "is this an enclave of this project, and of the same release?",
            Self::Receipt(_) | Self::ReceiptMismatch(_) | Self::ResultTampered => {
                "do not use the result; something between you and the enclave changes bytes"
            }
            Self::Random => "try again",
        }
    }
}
