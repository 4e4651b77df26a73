//! Why a message is not read, and which code the other side learns.

use crate::ErrorCode;
use crate::limits::{MAX_ENCRYPTED_DATA_KEYS, MAX_HEADER_BYTES, MAX_MESSAGE_FRAME_BYTES};

/// Why bytes are not the header of a message that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Not the header of an AWS Encryption SDK message, or not its only encoding.
    #[error("malformed message header")]
    Malformed,
    /// No suite has this identifier.
    #[error("{0:#06x} is not an algorithm suite")]
    UnknownSuite(u16),
    /// More encrypted data keys than are looked at.
    #[error("{announced} encrypted data keys are over the limit of {MAX_ENCRYPTED_DATA_KEYS}")]
    TooManyKeys {
        /// Number in the header.
        announced: u16,
    },
    /// Longer than is buffered.
    #[error("a header of at least {bytes} bytes is over the limit of {MAX_HEADER_BYTES}")]
    TooLarge {
        /// Length known so far, in bytes.
        bytes: usize,
    },
}

/// Why a message is not opened. The opener that said so stays shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A tag or the key commitment does not verify. One variant for all of them: which
    /// one it was would tell an attacker how far a forgery came.
    #[error("the message or its key was changed")]
    Tampered,
    /// There is no more input before the last frame or the footer.
    #[error("the message ends too early")]
    Truncated,
    /// A sequence number out of order or an impossible length.
    #[error("the message's frames are not in order")]
    Malformed,
    /// The footer does not sign these bytes, or no key can say so.
    #[error("the message's signature does not verify")]
    Signature,
    /// A frame, or an unframed body, is longer than is buffered.
    #[error("a frame of {announced} bytes is over the limit of {MAX_MESSAGE_FRAME_BYTES}")]
    FrameTooLarge {
        /// Length of the content, in bytes.
        announced: u64,
    },
    /// Bytes follow the end of the message.
    #[error("bytes follow the end of the message")]
    Trailing,
}

impl From<&HeaderError> for ErrorCode {
    fn from(error: &HeaderError) -> Self {
        match error {
            HeaderError::Malformed => Self::HeaderMalformed,
            HeaderError::UnknownSuite(_) => Self::SuiteRefused,
            HeaderError::TooManyKeys { .. } | HeaderError::TooLarge { .. } => Self::HeaderTooLarge,
        }
    }
}

impl From<&OpenError> for ErrorCode {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::Tampered => Self::PayloadTampered,
            OpenError::Truncated => Self::PayloadTruncated,
            OpenError::Malformed => Self::PayloadMalformed,
            OpenError::Signature => Self::PayloadSignature,
            OpenError::FrameTooLarge { .. } => Self::PayloadFrameTooLarge,
            OpenError::Trailing => Self::PayloadTrailing,
        }
    }
}
