//! Encrypt, Decrypt and the symmetric data keys.

use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_shared::{EncryptionContext, KeyArn};
use serde_json::{Value, json};

use super::ready::{compatible, ready, unless_dry};
use super::sealed::{
    ALGORITHMS, Opened, SYMMETRIC_DEFAULT, Sealed, Source, Terms, encryption_context, open, random, seal,
};
use super::{base64, grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::recipient::Recipient;
use crate::kms::spec::KeyUsage;

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

    let algorithm = algorithm.unwrap_or(SYMMETRIC_DEFAULT);
    let terms = Terms { algorithm, context: &context, recipient: None };

    let key = session.named_key(&name, Names::All)?;
    session.authorize("Encrypt", &key, |conditions| terms.describe(conditions))?;
    ready(&key, "Encrypt", KeyUsage::EncryptDecrypt)?;
    compatible(&key, algorithm)?;
    terms.fit(&key)?;
    let sealed = seal(session, &key, &terms, &plaintext)?;
    unless_dry(dry_run)?;
    Ok(json!({
        "CiphertextBlob": base64(&sealed),
        "KeyId": session.answered_key(&key.arn),
        "EncryptionAlgorithm": session.answered_algorithm(algorithm),
    }))
}

pub(super) fn decrypt(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let dry_run = input.flag("DryRun")?;
    let sealed = Sealed::read(&mut input, dry_run)?;
    let name = input.text("KeyId", 1..=super::MAX_KEY_ID)?;
    let context = encryption_context(&mut input, "EncryptionContext")?;
    let algorithm = input.choice("EncryptionAlgorithm", &ALGORITHMS)?;
    grant_tokens(&mut input)?;
    input.finish()?;
    let algorithm = algorithm.unwrap_or(SYMMETRIC_DEFAULT);
    let recipient = session.recipient(&mut input)?;
    let terms = Terms { algorithm, context: &context, recipient: recipient.as_ref() };

    let source = Source::of(session, name.as_deref(), &sealed)?;
    compare_statement(session, "Decrypt", &source.key, &sealed.bytes, &context, recipient.as_ref())?;
    session.authorize("Decrypt", &source.key, |conditions| terms.describe(conditions))?;
    ready(&source.key, "Decrypt", KeyUsage::EncryptDecrypt)?;
    compatible(&source.key, algorithm)?;
    terms.fit(&source.key)?;
    unless_dry(sealed.ignored)?;
    let key = source.confirmed()?;
    let Opened { plaintext, material } = open(session, &key, &terms, &sealed.bytes)?;
    unless_dry(dry_run)?;
    let mut answer = json!({
        "KeyId": session.answered_key(&key.arn),
        "EncryptionAlgorithm": session.answered_algorithm(algorithm),
    });
    session.deliver(&mut answer, "Plaintext", &plaintext, recipient.as_ref())?;
    if let (Some(material), None) = (material, &recipient) {
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
    let terms = Terms { algorithm: SYMMETRIC_DEFAULT, context: &context, recipient: recipient.as_ref() };
    let key = session.named_key(&name, Names::All)?;
    compare_statement(session, action, &key, &[], &context, recipient.as_ref())?;
    session.authorize(action, &key, |conditions| terms.describe(conditions))?;
    ready(&key, action, KeyUsage::EncryptDecrypt)?;
    compatible(&key, SYMMETRIC_DEFAULT)?;
    unless_dry(dry_run)?;
    let data_key = random(session, &key, length)?;
    let sealed = seal(session, &key, &terms, &data_key)?;
    let material = key.current()?.name();
    let mut answer = json!({"CiphertextBlob": base64(&sealed), "KeyId": session.answered_key(&key.arn)});
    if yields == Yield::Plaintext {
        session.deliver(&mut answer, "Plaintext", &data_key, recipient.as_ref())?;
    }
    if recipient.is_none() {
        answer["KeyMaterialId"] = material.into();
    }
    Ok(answer)
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
