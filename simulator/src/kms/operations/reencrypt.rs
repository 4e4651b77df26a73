//! `ReEncrypt`: from one key or context to another, without the caller seeing the plaintext.

use adyton_shared::EncryptionContext;
use serde_json::{Value, json};

use super::sealed::{
    ALGORITHMS, MAX_CIPHERTEXT_BYTES, Opened, Source, encryption_context, open, ready, seal,
};
use super::{base64, grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::Answer;
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;

pub(super) fn reencrypt(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let sealed = input.blob("CiphertextBlob", 1..=MAX_CIPHERTEXT_BYTES)?;
    let sealed = input.require("CiphertextBlob", sealed);
    let source_name = input.text("SourceKeyId", 1..=super::MAX_KEY_ID)?;
    let from = encryption_context(&mut input, "SourceEncryptionContext")?;
    let from_algorithm = input.choice("SourceEncryptionAlgorithm", &ALGORITHMS)?;
    let destination_name = key_id(&mut input, "DestinationKeyId")?;
    let to = encryption_context(&mut input, "DestinationEncryptionContext")?;
    let to_algorithm = input.choice("DestinationEncryptionAlgorithm", &ALGORITHMS)?;
    let dry_run = input.flag("DryRun")?;
    grant_tokens(&mut input)?;
    input.finish()?;

    let source = Source::of(session, source_name.as_deref(), &sealed)?;
    let source_alias = session.request_alias.take();
    let destination = session.named_key(&destination_name, Names::All)?;
    let same = source.key.arn == destination.arn;
    // Each key's policy sees the alias that this key was named by.
    let destination_alias = std::mem::replace(&mut session.request_alias, source_alias);
    authorize(session, "ReEncryptFrom", &source.key, &from, same)?;
    session.request_alias = destination_alias;
    authorize(session, "ReEncryptTo", &destination, &to, same)?;
    let source = source.confirmed()?;
    ready(&source, "ReEncrypt", from_algorithm, false)?;
    ready(&destination, "ReEncrypt", to_algorithm, dry_run)?;
    let Opened { plaintext, material } = open(session, &source, &from, &sealed)?;
    let sealed = seal(session, &destination, &to, &plaintext)?;
    Ok(json!({
        "CiphertextBlob": base64(&sealed),
        "SourceKeyId": source.arn,
        "KeyId": session.answered_key(&destination.arn),
        "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "DestinationEncryptionAlgorithm": session.answered_algorithm(),
        "SourceKeyMaterialId": material,
        "DestinationKeyMaterialId": destination.current()?.name(),
    }))
}

fn authorize(
    session: &Session<'_>,
    action: &str,
    key: &KeyRecord,
    context: &EncryptionContext,
    same: bool,
) -> Answer<()> {
    session.authorize(action, key, |conditions| {
        conditions.set("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT");
        conditions.set("kms:ReEncryptOnSameKey", if same { "true" } else { "false" });
        conditions.add_encryption_context(context.pairs());
    })
}
