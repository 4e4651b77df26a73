//! `DeriveSharedSecret`.

use serde_json::{Value, json};

use super::ready::{compatible, ready, unless_dry};
use super::{grant_tokens, key_id};
use crate::kms::asymmetric::{self, Agreement};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key_id::Names;
use crate::kms::spec::KeyUsage;

/// Longest public key, in bytes.
const MAX_PUBLIC_KEY_BYTES: usize = 8192;

pub(super) fn derive(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let algorithm = input.required_choice("KeyAgreementAlgorithm", &["ECDH"])?;
    let peer = input.blob("PublicKey", 1..=MAX_PUBLIC_KEY_BYTES)?;
    let peer = input.require("PublicKey", peer);
    let dry_run = input.flag("DryRun")?;
    grant_tokens(&mut input)?;
    input.finish()?;
    let recipient = session.recipient(&mut input)?;

    let key = session.named_key(&name, Names::All)?;
    session.authorize("DeriveSharedSecret", &key, |conditions| {
        conditions.set("kms:KeyAgreementAlgorithm", algorithm);
        if let Some(recipient) = &recipient {
            conditions.add_recipient(recipient.pcrs());
        }
    })?;
    ready(&key, "DeriveSharedSecret", KeyUsage::KeyAgreement)?;
    compatible(&key, algorithm)?;
    let secret = session.service.store.secret(&key, key.current()?)?;
    let shared = match asymmetric::agree(key.spec, &secret, &peer).ok_or_else(ApiError::internal)? {
        Agreement::Shared(shared) => shared,
        Agreement::BadPeer => {
            return Err(ApiError::validation(format!(
                "PublicKey is not a valid DER-encoded public key for key spec {}.",
                key.spec.name()
            )));
        }
    };
    unless_dry(dry_run)?;
    let mut answer = json!({
        "KeyId": session.answered_key(&key.arn),
        "KeyAgreementAlgorithm": algorithm,
        "KeyOrigin": key.origin.name(),
    });
    session.deliver(&mut answer, "SharedSecret", &shared, recipient.as_ref())?;
    Ok(answer)
}
