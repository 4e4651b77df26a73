//! Encrypt, Decrypt and the data keys.

use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_shared::{EncryptionContext, KeyArn};
use adyton_verifier::key_policy::ConditionContext;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::sealed::{
    ALGORITHMS, MAX_CIPHERTEXT_BYTES, Opened, Source, encryption_context, open, ready, seal,
};
use super::{base64, grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::recipient::Recipient;

/// Longest plaintext of a symmetric key, in bytes.
const MAX_PLAINTEXT_BYTES: usize = 4096;
/// Longest data key, in bytes.
const MAX_DATA_KEY_BYTES: i64 = 1024;

/// What a data-key operation answers besides the blob.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Yield {
    Plaintext,
    CiphertextOnly,
}

pub(super) fn encrypt(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let plaintext = input.blob("Plaintext", 1..=MAX_PLAINTEXT_BYTES)?;
    let plaintext = input.require("Plaintext", plaintext);
    let context = encryption_context(&mut input, "EncryptionContext")?;
    let algorithm = input.choice("EncryptionAlgorithm", &ALGORITHMS)?;
    let dry_run = input.flag("DryRun")?;
    grant_tokens(&mut input)?;
    input.finish()?;

    let key = session.named_key(&name, Names::All)?;
    authorize(session, "Encrypt", &key, &context, None)?;
    ready(&key, "Encrypt", algorithm, dry_run)?;
    let sealed = seal(session, &key, &context, &plaintext)?;
    Ok(json!({
        "CiphertextBlob": base64(&sealed),
        "KeyId": session.answered_key(&key.arn),
        "EncryptionAlgorithm": session.answered_algorithm(),
    }))
}

pub(super) fn decrypt(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let sealed = input.blob("CiphertextBlob", 1..=MAX_CIPHERTEXT_BYTES)?;
    let sealed = input.require("CiphertextBlob", sealed);
    let name = input.text("KeyId", 1..=super::MAX_KEY_ID)?;
    let context = encryption_context(&mut input, "EncryptionContext")?;
    let algorithm = input.choice("EncryptionAlgorithm", &ALGORITHMS)?;
    let dry_run = input.flag("DryRun")?;
    grant_tokens(&mut input)?;
    input.finish()?;
    let recipient = session.recipient(&mut input)?;

    let source = Source::of(session, name.as_deref(), &sealed)?;
    compare_statement(session, "Decrypt", &source.key, &sealed, &context, recipient.as_ref())?;
    authorize(session, "Decrypt", &source.key, &context, recipient.as_ref())?;
    let key = source.confirmed()?;
    ready(&key, "Decrypt", algorithm, dry_run)?;
    let Opened { plaintext, material } = open(session, &key, &context, &sealed)?;
    let mut answer = json!({
        "KeyId": session.answered_key(&key.arn),
        "EncryptionAlgorithm": session.answered_algorithm(),
    });
    session.deliver(&mut answer, &plaintext, recipient.as_ref())?;
    if recipient.is_none() {
        answer["KeyMaterialId"] = material.into();
    }
    Ok(answer)
}

pub(super) fn generate_data_key(session: &mut Session<'_>, mut input: Input, yields: Yield) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let spec = input.choice("KeySpec", &["AES_256", "AES_128"])?;
    let bytes = input.number("NumberOfBytes", 1..=MAX_DATA_KEY_BYTES)?;
    let context = encryption_context(&mut input, "EncryptionContext")?;
    let dry_run = input.flag("DryRun")?;
    grant_tokens(&mut input)?;
    input.finish()?;
    let length = match (spec, bytes) {
        (Some("AES_128"), None) => 16,
        (Some(_), None) => 32,
        (None, Some(bytes)) => usize::try_from(bytes).map_err(|_| ApiError::internal())?,
        _ => return Err(ApiError::validation("Please specify either number of bytes or key spec.")),
    };
    let recipient = match yields {
        Yield::Plaintext => session.recipient(&mut input)?,
        // This operation has no recipient; like every unknown field it is ignored.
        Yield::CiphertextOnly => None,
    };

    let action = match yields {
        Yield::Plaintext => "GenerateDataKey",
        Yield::CiphertextOnly => "GenerateDataKeyWithoutPlaintext",
    };
    let key = session.named_key(&name, Names::All)?;
    compare_statement(session, action, &key, &[], &context, recipient.as_ref())?;
    authorize(session, action, &key, &context, recipient.as_ref())?;
    ready(&key, action, None, dry_run)?;
    let mut data_key = Zeroizing::new(vec![0; length]);
    getrandom::fill(&mut data_key).map_err(|_| ApiError::internal())?;
    let sealed = seal(session, &key, &context, &data_key)?;
    let material = key.current()?.name();
    let mut answer = json!({"CiphertextBlob": base64(&sealed), "KeyId": session.answered_key(&key.arn)});
    if yields == Yield::Plaintext {
        session.deliver(&mut answer, &data_key, recipient.as_ref())?;
    }
    if recipient.is_none() {
        answer["KeyMaterialId"] = material.into();
    }
    Ok(answer)
}

fn authorize(
    session: &Session<'_>,
    action: &str,
    key: &KeyRecord,
    context: &EncryptionContext,
    recipient: Option<&Recipient>,
) -> Answer<()> {
    session.authorize(action, key, |conditions: &mut ConditionContext| {
        conditions.set("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT");
        conditions.add_encryption_context(context.pairs());
        if let Some(recipient) = recipient {
            conditions.add_recipient(recipient.pcrs());
        }
    })
}

/// Notes whether the enclave meant its document for this very call (K-13).
///
/// Only documents with a release statement of this project can say so; nothing is refused by it,
/// because AWS does not look at `user_data` either.
fn compare_statement(
    session: &mut Session<'_>,
    operation: &str,
    key: &KeyRecord,
    ciphertext: &[u8],
    context: &EncryptionContext,
    recipient: Option<&Recipient>,
) -> Answer<()> {
    let user_data = recipient.and_then(|recipient| recipient.document.user_data.as_deref());
    let statement = user_data.and_then(|bytes| Statement::parse(bytes).ok());
    let Some(statement) = statement.filter(|statement| statement.purpose == Purpose::Release) else {
        return Ok(());
    };
    let key = KeyArn::parse(&key.arn).map_err(|_| ApiError::internal())?;
    let digest = release_digest(operation, &key, ciphertext, context);
    session.trail.document_matches_request(statement.subject == *digest.as_bytes());
    Ok(())
}
