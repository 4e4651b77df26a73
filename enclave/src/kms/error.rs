//! Why a data key was not released. Holds no text from outside.

use adyton_shared::ErrorCode;

use crate::platform::AttestError;

/// See the module's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Key policy, IAM or grants say no. Never asked again.
    #[error("KMS denied the use of the key")]
    Denied,
    /// The wrapped key is not of this key or this context.
    #[error("KMS says that the wrapped key does not belong to this key and context")]
    WrappedKeyRejected,
    /// Disabled, being deleted, or gone.
    #[error("the KMS key is disabled, pending deletion or does not exist")]
    KeyUnusable,
    /// Throttled until the deadline.
    #[error("KMS throttled all attempts")]
    Throttled,
    /// Not reached, or failed until the deadline.
    #[error("KMS could not be reached or failed")]
    Unavailable,
    /// The answer does not fit the question.
    #[error("KMS's answer does not fit the question")]
    AnswerRejected,
    /// The answer has a plaintext although a recipient was named (K-1).
    #[error("KMS answered with a plaintext key")]
    PlaintextRefused,
    /// The endpoint's certificate does not verify (K-16).
    #[error("the KMS endpoint's certificate does not verify")]
    TlsRejected,
    /// The parent supplied no credentials.
    #[error("the parent supplied no credentials")]
    CredentialsUnavailable,
    /// KMS does not accept the credentials.
    #[error("KMS does not accept the credentials")]
    CredentialsRejected,
    /// There is no document to send.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// The random source or the cryptographic library failed.
    #[error("the cryptographic library failed")]
    Internal,
}

impl KeyError {
    /// The code that may leave the enclave.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Denied => ErrorCode::KmsAccessDenied,
            Self::WrappedKeyRejected => ErrorCode::WrappedKeyRejected,
            Self::KeyUnusable => ErrorCode::KmsKeyUnusable,
            Self::Throttled => ErrorCode::KmsThrottled,
            Self::Unavailable => ErrorCode::KmsUnavailable,
            Self::AnswerRejected => ErrorCode::KmsAnswerRejected,
            Self::PlaintextRefused => ErrorCode::KmsPlaintextRefused,
            Self::TlsRejected => ErrorCode::KmsTlsRejected,
            Self::CredentialsUnavailable => ErrorCode::CredentialsUnavailable,
            Self::CredentialsRejected => ErrorCode::CredentialsRejected,
            Self::Attest(AttestError::Limited) => ErrorCode::AttestationLimited,
            Self::Attest(AttestError::Unavailable) => ErrorCode::AttestationUnavailable,
            Self::Internal => ErrorCode::Internal,
        }
    }

    /// When it makes sense to try again, in milliseconds.
    pub fn retry_after_ms(self) -> Option<u64> {
        match self {
            Self::Throttled => Some(60_000),
            Self::Unavailable | Self::CredentialsUnavailable => Some(10_000),
            Self::Attest(_) => Some(1_000),
            _ => None,
        }
    }
}
