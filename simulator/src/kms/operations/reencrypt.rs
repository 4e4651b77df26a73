//! `ReEncrypt`: from one key or context to another, without the caller seeing the plaintext.

use serde_json::{Value, json};

use super::ready::{compatible, ready, unless_dry};
use super::sealed::{
    ALGORITHMS, Opened, SYMMETRIC_DEFAULT, Sealed, Source, Terms, encryption_context, open, seal,
};
use super::{base64, grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::Answer;
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::spec::{KeySpec, KeyUsage};

pub(super) fn reencrypt(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let dry_run = input.flag("DryRun")?;
    let sealed = Sealed::read(&mut input, dry_run)?;
    let source_name = input.text("SourceKeyId", 1..=super::MAX_KEY_ID)?;
    let from_context = encryption_context(&mut input, "SourceEncryptionContext")?;
    let from_algorithm = input.choice("SourceEncryptionAlgorithm", &ALGORITHMS)?;
    let destination_name = key_id(&mut input, "DestinationKeyId")?;
    let to_context = encryption_context(&mut input, "DestinationEncryptionContext")?;
    let to_algorithm = input.choice("DestinationEncryptionAlgorithm", &ALGORITHMS)?;
    grant_tokens(&mut input)?;
    input.finish()?;
    let from_algorithm = from_algorithm.unwrap_or(SYMMETRIC_DEFAULT);
    let to_algorithm = to_algorithm.unwrap_or(SYMMETRIC_DEFAULT);
    let from = Terms { algorithm: from_algorithm, context: &from_context, recipient: None };
    let to = Terms { algorithm: to_algorithm, context: &to_context, recipient: None };

    let source = Source::of(session, source_name.as_deref(), &sealed)?;
    let source_alias = session.request_alias.take();
    let destination = session.named_key(&destination_name, Names::All)?;
    let same = source.key.arn == destination.arn;
    // Each key's policy sees the alias that this key was named by.
    let destination_alias = std::mem::replace(&mut session.request_alias, source_alias);
    authorize(session, "ReEncryptFrom", &source.key, &from, same)?;
    session.request_alias = destination_alias;
    authorize(session, "ReEncryptTo", &destination, &to, same)?;
    for (key, terms) in [(&source.key, &from), (&destination, &to)] {
        ready(key, "ReEncrypt", KeyUsage::EncryptDecrypt)?;
        compatible(key, terms.algorithm)?;
        terms.fit(key)?;
    }
    unless_dry(sealed.ignored)?;
    let source = source.confirmed()?;
    let Opened { plaintext, material } = open(session, &source, &from, &sealed.bytes)?;
    let sealed = seal(session, &destination, &to, &plaintext)?;
    unless_dry(dry_run)?;
    let mut answer = json!({
        "CiphertextBlob": base64(&sealed),
        "SourceKeyId": source.arn,
        "KeyId": session.answered_key(&destination.arn),
        "SourceEncryptionAlgorithm": from_algorithm,
        "DestinationEncryptionAlgorithm": session.answered_algorithm(to_algorithm),
    });
    if let Some(material) = material {
        answer["SourceKeyMaterialId"] = material.into();
    }
    if destination.spec == KeySpec::SymmetricDefault {
        answer["DestinationKeyMaterialId"] = destination.current()?.name().into();
    }
    Ok(answer)
}

fn authorize(
    session: &Session<'_>,
    action: &str,
    key: &KeyRecord,
    terms: &Terms<'_>,
    same: bool,
) -> Answer<()> {
    session.authorize(action, key, |conditions| {
        terms.describe(conditions);
        conditions.set("kms:ReEncryptOnSameKey", if same { "true" } else { "false" });
    })
}
