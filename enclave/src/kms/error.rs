//! Why there is no data key: data only, and one code for the other side.
//!
//! Nothing that KMS wrote is kept: its texts name principals and keys, and a hostile host could
//! write them. An error name from KMS is compared with a closed list and forgotten.

use std::time::Duration;

use adyton_shared::ErrorCode;

use crate::platform::AttestError;

/// Why a data key was not released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// KMS refused: key policy, IAM or grants. Never asked again.
    #[error("KMS denied the use of the key")]
    AccessDenied,
    /// The wrapped key is not for this key or this encryption context (K-4).
    #[error("KMS says that the wrapped key does not belong to this key and context")]
    WrappedKeyRejected,
    /// Disabled, pending deletion, gone, or made for something else (K-20).
    #[error("the KMS key cannot be used")]
    KeyUnusable,
    /// Throttled until the deadline.
    #[error("KMS throttled all attempts")]
    Throttled {
        /// When it makes sense to try again.
        retry_after: Duration,
    },
    /// Unreachable or failing until the deadline.
    #[error("KMS could not be reached or failed")]
    Unavailable {
        /// When it makes sense to try again.
        retry_after: Duration,
    },
    /// The answer is not one to what was asked.
    #[error("KMS's answer does not fit the question")]
    AnswerRejected(#[source] AnswerFault),
    /// A plaintext key came although a recipient was named (K-1).
    #[error("KMS answered with a plaintext key")]
    PlaintextRefused,
    /// The endpoint's certificate does not verify against the configured roots (K-16).
    #[error("the KMS endpoint's certificate does not verify")]
    TlsRejected,
    /// The parent has no credentials, or none that are valid at the enclave's time.
    #[error("the parent has no credentials")]
    CredentialsUnavailable,
    /// KMS does not accept the credentials, new ones included.
    #[error("KMS does not accept the credentials")]
    CredentialsRejected,
    /// There is no attestation document, so nothing can be asked.
    #[error(transparent)]
    Attestation(#[from] AttestError),
    /// A defect: no recipient key could be made, or a task ended early.
    #[error("the key service failed")]
    Internal,
}

/// What is wrong with an answer. All of them are one code outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// Longer than any answer can be.
    #[error("it is too long")]
    TooLarge,
    /// Not JSON, a field missing or given twice.
    #[error("it is malformed")]
    Malformed,
    /// A status or an error name that has no meaning here.
    #[error("it has an unexpected status")]
    Status,
    /// KMS called the request invalid.
    #[error("it calls the request invalid")]
    RequestInvalid,
    /// It names another key (K-9).
    #[error("it is for another key")]
    KeyId,
    /// It names another algorithm (K-11).
    #[error("it names another algorithm")]
    Algorithm,
    /// The envelope was not read or not opened; which one is not said.
    #[error("its envelope could not be opened")]
    Envelope,
}

impl KeyError {
    /// The code that may leave the enclave.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::AccessDenied => ErrorCode::KmsAccessDenied,
            Self::WrappedKeyRejected => ErrorCode::WrappedKeyRejected,
            Self::KeyUnusable => ErrorCode::KmsKeyUnusable,
            Self::Throttled { .. } => ErrorCode::KmsThrottled,
            Self::Unavailable { .. } => ErrorCode::KmsUnavailable,
            Self::AnswerRejected(_) => ErrorCode::KmsAnswerRejected,
            Self::PlaintextRefused => ErrorCode::KmsPlaintextRefused,
            Self::TlsRejected => ErrorCode::KmsTlsRejected,
            Self::CredentialsUnavailable => ErrorCode::CredentialsUnavailable,
            Self::CredentialsRejected => ErrorCode::CredentialsRejected,
            Self::Attestation(AttestError::Limited) => ErrorCode::AttestationLimited,
            Self::Attestation(AttestError::Unavailable) => ErrorCode::AttestationUnavailable,
            Self::Internal => ErrorCode::Internal,
        }
    }

    /// When it makes sense to try again, in milliseconds, where that is known.
    pub fn retry_after_ms(self) -> Option<u64> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after } => {
                u64::try_from(retry_after.as_millis()).ok()
            }
            Self::CredentialsUnavailable => Some(10_000),
            Self::Attestation(_) => Some(1_000),
            _ => None,
        }
    }
}

impl From<AnswerFault> for KeyError {
    fn from(fault: AnswerFault) -> Self {
        Self::AnswerRejected(fault)
    }
}
