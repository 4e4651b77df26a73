//! Why a message is not read or not written, and which code the other side learns.

use aws_lc_rs::error::Unspecified;

use super::suite::Suite;
use crate::ErrorCode;
use crate::context::ContextError;
use crate::limits::{MAX_CONTEXT_PAIRS, MAX_ENCRYPTED_DATA_KEYS, MAX_HEADER_BYTES, MAX_MESSAGE_FRAME_BYTES};

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
    /// More pairs in the encryption context than are kept.
    #[error("{announced} pairs in the encryption context are over the limit of {MAX_CONTEXT_PAIRS}")]
    TooManyPairs {
        /// Number in the header.
        announced: usize,
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

/// Why a message is not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Only suites with key commitment are written.
    #[error("messages are not written with suite {0}")]
    Suite(Suite),
    /// A pair whose name begins with `aws-crypto-`, which belongs to the format.
    #[error("names in an encryption context must not begin with aws-crypto-")]
    ReservedPair,
    /// The pairs and the verification key do not fit.
    #[error("the encryption context cannot be stored")]
    Context(#[from] ContextError),
    /// No encrypted data key, or more than are read.
    #[error("{count} encrypted data keys are not between 1 and {MAX_ENCRYPTED_DATA_KEYS}")]
    KeyCount {
        /// Number given.
        count: usize,
    },
    /// A header that would not be read.
    #[error("a header or a part of it of {bytes} bytes is over its limit")]
    HeaderTooLarge {
        /// Length in bytes.
        bytes: usize,
    },
    /// Frames of no byte, or longer than are read.
    #[error("a frame length of {bytes} bytes is not between 1 and {MAX_MESSAGE_FRAME_BYTES}")]
    FrameLength {
        /// Length in bytes.
        bytes: u32,
    },
    /// A frame's plaintext has not the frame length, or the last one's is longer.
    #[error("{bytes} bytes do not make this frame")]
    PlaintextLength {
        /// Length in bytes.
        bytes: usize,
    },
    /// All 2³² - 1 sequence numbers are used up.
    #[error("the message has too many frames; use longer ones")]
    TooManyFrames,
    /// A data key of the wrong length, or the cryptographic library failed.
    #[error("sealing failed")]
    Cryptography,
}

impl From<Unspecified> for SealError {
    fn from(_: Unspecified) -> Self {
        Self::Cryptography
    }
}

impl From<&HeaderError> for ErrorCode {
    fn from(error: &HeaderError) -> Self {
        match error {
            HeaderError::Malformed => Self::HeaderMalformed,
            HeaderError::UnknownSuite(_) => Self::SuiteRefused,
            HeaderError::TooManyKeys { .. }
            | HeaderError::TooManyPairs { .. }
            | HeaderError::TooLarge { .. } => Self::HeaderTooLarge,
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
