//! The attested Decrypt: exactly what is asked, and whether the answer fits.
//!
//! The answer is believed to come from KMS because the TLS session ends here; that it is for the
//! pinned key and by the pinned algorithms is compared all the same (K-9, K-11). A plaintext in it
//! is refused before anything else is looked at (K-1).

use std::borrow::Cow;
use std::collections::BTreeMap;

use adyton_shared::{DataKey, EncryptionContext, KeyArn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::error::{AnswerFault, KeyError};
use super::link::Answer;
use super::recipient::RecipientKey;
use crate::cms::MAX_ENVELOPE_BYTES;

/// The name of the operation.
pub(super) const OPERATION: &str = "Decrypt";
const SYMMETRIC_DEFAULT: &str = "SYMMETRIC_DEFAULT";
const RSAES_OAEP_SHA_256: &str = "RSAES_OAEP_SHA_256";

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

/// The body of the request. Nothing in it is secret.
pub(super) fn question(
    key: &KeyArn,
    ciphertext: &[u8],
    context: &EncryptionContext,
    document: &[u8],
) -> Result<Bytes, KeyError> {
    let question = Question {
        key_id: key.as_str(),
        ciphertext_blob: STANDARD.encode(ciphertext),
        encryption_context: context.pairs().collect(),
        encryption_algorithm: SYMMETRIC_DEFAULT,
        recipient: Recipient {
            attestation_document: STANDARD.encode(document),
            key_encryption_algorithm: RSAES_OAEP_SHA_256,
        },
    };
    serde_json::to_vec(&question).map(Bytes::from).map_err(|_| KeyError::Internal)
}

/// The fields that matter. KMS adds others from time to time; one of these given twice is refused.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fields<'a> {
    #[serde(borrow)]
    key_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    encryption_algorithm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_encryption_algorithm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_spec: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ciphertext_for_recipient: Option<Cow<'a, str>>,
    /// Only whether it is there: its value is skipped, never copied.
    plaintext: Option<IgnoredAny>,
}

/// The data key in the answer to [`question`].
pub(super) fn data_key(answer: &Answer, key: &KeyArn, recipient: &RecipientKey) -> Result<DataKey, KeyError> {
    if answer.status != StatusCode::OK {
        return Err(AnswerFault::Status.into());
    }
    let Fields {
        key_id,
        encryption_algorithm,
        key_encryption_algorithm,
        key_spec,
        ciphertext_for_recipient,
        plaintext,
    } = serde_json::from_slice(&answer.body).map_err(|_| AnswerFault::Malformed)?;
    if plaintext.is_some() {
        return Err(KeyError::PlaintextRefused);
    }
    if key_id.ok_or(AnswerFault::Malformed)? != key.as_str() {
        return Err(AnswerFault::KeyId.into());
    }
    if encryption_algorithm.ok_or(AnswerFault::Malformed)? != SYMMETRIC_DEFAULT
        || key_encryption_algorithm.is_some_and(|named| named != RSAES_OAEP_SHA_256)
        || key_spec.is_some_and(|named| named != SYMMETRIC_DEFAULT)
    {
        return Err(AnswerFault::Algorithm.into());
    }
    let envelope = ciphertext_for_recipient.ok_or(AnswerFault::Malformed)?;
    if envelope.len() > MAX_ENVELOPE_BYTES.saturating_mul(2) {
        return Err(AnswerFault::TooLarge.into());
    }
    let envelope = STANDARD.decode(envelope.as_bytes()).map_err(|_| AnswerFault::Malformed)?;
    let content = recipient.open(&envelope).map_err(|_| AnswerFault::Envelope)?;
    DataKey::from_bytes(&content).ok_or_else(|| AnswerFault::Envelope.into())
}
