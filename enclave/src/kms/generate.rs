//! The attested `GenerateDataKey`: a data key for what the enclave seals under somebody's KMS key.
//!
//! The plaintext half comes sealed to the enclave like any other (K-15); the wrapped half goes into the
//! message that is written with it, and is nobody's secret.

use std::collections::BTreeMap;
use std::fmt;

use adyton_shared::limits::MAX_WRAPPED_KEY_BYTES;
use adyton_shared::{DataKey, EncryptionContext, KeyArn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use super::answer::{Fields, Recipient};
use super::error::{AnswerFault, KeyError};
use super::link::Answer;
use super::recipient::RecipientKey;

/// The name of the operation.
pub(super) const OPERATION: &str = "GenerateDataKey";
const AES_256: &str = "AES_256";
const AES_256_BYTES: usize = 32;

/// A data key that nobody has used yet, and its wrapped form.
pub struct FreshKey {
    /// The key.
    pub key: DataKey,
    /// The same, as KMS wrapped it.
    pub wrapped: Vec<u8>,
}

impl fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshKey(..)")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question<'a> {
    key_id: &'a str,
    key_spec: &'static str,
    encryption_context: BTreeMap<&'a str, &'a str>,
    recipient: Recipient,
}

/// The body of the request. Nothing in it is secret.
pub(super) fn question(
    key: &KeyArn,
    context: &EncryptionContext,
    document: &[u8],
) -> Result<Bytes, KeyError> {
    let question = Question {
        key_id: key.as_str(),
        key_spec: AES_256,
        encryption_context: context.pairs().collect(),
        recipient: Recipient::new(document),
    };
    serde_json::to_vec(&question).map(Bytes::from).map_err(|_| KeyError::Internal)
}

/// The data key in the answer to [`question`].
pub(super) fn fresh_key(
    answer: &Answer,
    key: &KeyArn,
    recipient: &RecipientKey,
) -> Result<FreshKey, KeyError> {
    let fields = Fields::read(answer, key)?;
    let wrapped = fields.ciphertext_blob.as_ref().ok_or(AnswerFault::Malformed)?;
    if wrapped.len() > MAX_WRAPPED_KEY_BYTES.saturating_mul(2) {
        return Err(AnswerFault::TooLarge.into());
    }
    let wrapped = STANDARD.decode(wrapped.as_bytes()).map_err(|_| AnswerFault::Malformed)?;
    if wrapped.is_empty() || wrapped.len() > MAX_WRAPPED_KEY_BYTES {
        return Err(AnswerFault::Malformed.into());
    }
    let key = fields.data_key(recipient)?;
    if key.expose().len() != AES_256_BYTES {
        return Err(AnswerFault::Envelope.into());
    }
    Ok(FreshKey { key, wrapped })
}
