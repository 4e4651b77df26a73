//! Errors of the KMS API, with AWS's names, texts and HTTP statuses.
//!
//! Texts recorded from AWS are copied where they are known; where AWS's answer is not known
//! (a bad attestation document), the wording is the simulator's own and kept in this one file.

use serde_json::{Value, json};

/// An error as the API answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The bare name, `__type` on the wire.
    pub(crate) code: &'static str,
    /// The text; some errors of AWS carry none.
    pub(crate) message: Option<String>,
    /// HTTP status: 400 for everything that is not the service's own failure.
    pub(crate) status: u16,
}

/// Result of an operation.
pub(crate) type Answer<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), status: 400 }
    }

    pub(crate) fn silent(code: &'static str) -> Self {
        Self { code, message: None, status: 400 }
    }

    /// The JSON body. Access denied spells `Message` with a capital M, as AWS does.
    pub(crate) fn body(&self) -> Value {
        match &self.message {
            Some(text) if self.code == "AccessDeniedException" => {
                json!({"__type": self.code, "Message": text})
            }
            Some(text) => json!({"__type": self.code, "message": text}),
            None => json!({"__type": self.code}),
        }
    }

    pub(crate) fn validation(text: impl Into<String>) -> Self {
        Self::new("ValidationException", text)
    }

    /// A body that is not what the operation's model describes.
    pub(crate) fn serialization(text: impl Into<String>) -> Self {
        Self::new("SerializationException", text)
    }

    pub(crate) fn invalid_ciphertext() -> Self {
        Self::silent("InvalidCiphertextException")
    }

    pub(crate) fn incorrect_key() -> Self {
        Self::new(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.",
        )
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new("NotFoundException", text)
    }

    pub(crate) fn invalid_marker() -> Self {
        Self::new("InvalidMarkerException", "Marker is invalid.")
    }

    /// AWS's text is not known, if it has one.
    pub(crate) fn invalid_grant_token() -> Self {
        Self::silent("InvalidGrantTokenException")
    }

    pub(crate) fn invalid_state(text: impl Into<String>) -> Self {
        Self::new("KMSInvalidStateException", text)
    }

    /// The key is for something else.
    pub(crate) fn key_usage(text: impl Into<String>) -> Self {
        Self::new("InvalidKeyUsageException", text)
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new("UnsupportedOperationException", text)
    }

    pub(crate) fn malformed_policy(text: impl Into<String>) -> Self {
        Self::new("MalformedPolicyDocumentException", text)
    }

    pub(crate) fn dry_run() -> Self {
        Self::new(
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.",
        )
    }

    pub(crate) fn throttled() -> Self {
        Self::new(
            "ThrottlingException",
            "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
        )
    }

    pub(crate) fn internal() -> Self {
        Self {
            status: 500,
            ..Self::new("KMSInternalException", "The request failed because of an internal error.")
        }
    }

    /// Something that the service depends on does not answer.
    pub(crate) fn dependency_timeout() -> Self {
        let text = "The system timed out while trying to fulfill the request. You can retry the request.";
        Self { status: 500, ..Self::new("DependencyTimeoutException", text) }
    }

    /// Refuses an attestation document. AWS's own answer is not known; this wording is ours.
    pub(crate) fn bad_document(why: impl std::fmt::Display) -> Self {
        Self::validation(format!("The attestation document in Recipient was refused: {why}"))
    }
}
