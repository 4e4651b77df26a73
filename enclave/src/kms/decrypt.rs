//! One attested Decrypt: what is asked, and what an answer must say to be believed.
//!
//! Source: AWS KMS API Reference, "Decrypt"; the answer with a recipient is in the developer
//! guide, "How AWS Nitro Enclaves uses AWS KMS".

use std::collections::BTreeMap;

use adyton_shared::{DataKey, EncryptionContext, KeyArn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::endpoint::Answer;
use super::error::KeyError;
use super::recipient::RecipientKey;

pub(super) const OPERATION: &str = "Decrypt";
const SYMMETRIC: &str = "SYMMETRIC_DEFAULT";
const OAEP: &str = "RSAES_OAEP_SHA_256";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question<'a> {
    key_id: &'a str,
    ciphertext_blob: String,
    encryption_context: BTreeMap<&'a str, &'a str>,
    encryption_algorithm: &'static str,
    recipient: Recipient,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Recipient {
    attestation_document: String,
    key_encryption_algorithm: &'static str,
}

/// The body of a Decrypt that only the holder of the document's key can read the answer of (K-1).
pub(super) fn question(
    key: &KeyArn,
    ciphertext: &[u8],
    context: &EncryptionContext,
    document: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let question = Question {
        key_id: key.as_str(),
        ciphertext_blob: STANDARD.encode(ciphertext),
        encryption_context: context.pairs().collect(),
        encryption_algorithm: SYMMETRIC,
        recipient: Recipient {
            attestation_document: STANDARD.encode(document),
            key_encryption_algorithm: OAEP,
        },
    };
    serde_json::to_vec(&question).map_err(|_| KeyError::Internal)
}

/// AWS adds fields at times, so unknown ones are not refused; one given twice is.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Released<'a> {
    key_id: Option<&'a str>,
    encryption_algorithm: Option<&'a str>,
    key_encryption_algorithm: Option<&'a str>,
    ciphertext_for_recipient: Option<&'a str>,
    plaintext: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Refused<'a> {
    #[serde(rename = "__type")]
    name: Option<&'a str>,
}

/// What is to be done about an answer that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It will not get better.
    Final(KeyError),
    /// Try again in a moment.
    Transient(KeyError),
    /// Ask the parent for other credentials.
    Credentials,
}

/// The data key in an answer.
pub(super) fn read(answer: &Answer, key: &KeyArn, recipient: &RecipientKey) -> Result<DataKey, Failure> {
    if answer.status == http::StatusCode::OK {
        release(&answer.body, key, recipient).map_err(Failure::Final)
    } else {
        Err(failure(answer))
    }
}

fn release(body: &[u8], key: &KeyArn, recipient: &RecipientKey) -> Result<DataKey, KeyError> {
    let released: Released<'_> = serde_json::from_slice(body).map_err(|_| KeyError::AnswerRejected)?;
    let Released {
        key_id,
        encryption_algorithm,
        key_encryption_algorithm,
        ciphertext_for_recipient,
        plaintext,
    } = released;
    if plaintext.is_some() {
        return Err(KeyError::PlaintextRefused);
    }
    let is_asked = key_id == Some(key.as_str())
        && encryption_algorithm == Some(SYMMETRIC)
        && key_encryption_algorithm.is_none_or(|algorithm| algorithm == OAEP);
    if !is_asked {
        return Err(KeyError::AnswerRejected);
    }
    let sealed = ciphertext_for_recipient.ok_or(KeyError::AnswerRejected)?;
    let sealed = STANDARD.decode(sealed).map_err(|_| KeyError::AnswerRejected)?;
    let opened = recipient.open(&sealed).map_err(|_| KeyError::AnswerRejected)?;
    DataKey::copy_from(&opened).ok_or(KeyError::AnswerRejected)
}

/// AWS's error names (AWS KMS API Reference, "Common errors" and "Decrypt").
fn failure(answer: &Answer) -> Failure {
    let name = serde_json::from_slice::<Refused<'_>>(&answer.body).ok().and_then(|refused| refused.name);
    match name.map(|name| name.rsplit('#').next().unwrap_or(name)) {
        Some("AccessDeniedException") => Failure::Final(KeyError::Denied),
        Some("InvalidCiphertextException" | "IncorrectKeyException") => {
            Failure::Final(KeyError::WrappedKeyRejected)
        }
        Some(
            "DisabledException"
            | "NotFoundException"
            | "KMSInvalidStateException"
            | "InvalidKeyUsageException"
            | "InvalidGrantTokenException"
            | "InvalidArnException",
        ) => Failure::Final(KeyError::KeyUnusable),
        Some("ThrottlingException" | "LimitExceededException" | "RequestLimitExceeded" | "Throttling") => {
            Failure::Transient(KeyError::Throttled)
        }
        Some(
            "ExpiredTokenException"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignatureException"
            | "IncompleteSignature"
            | "SignatureDoesNotMatch",
        ) => Failure::Credentials,
        Some(
            "KMSInternalException"
            | "DependencyTimeoutException"
            | "KeyUnavailableException"
            | "InternalFailure"
            | "ServiceUnavailable"
            | "ServiceUnavailableException",
        ) => Failure::Transient(KeyError::Unavailable),
        _ if answer.status.is_server_error() => Failure::Transient(KeyError::Unavailable),
        _ if answer.status == http::StatusCode::TOO_MANY_REQUESTS => Failure::Transient(KeyError::Throttled),
        _ => Failure::Final(KeyError::AnswerRejected),
    }
}
