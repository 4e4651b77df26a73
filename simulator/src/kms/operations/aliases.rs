//! Second names of keys: `CreateAlias`, `UpdateAlias`, `DeleteAlias`.

use serde_json::{Value, json};

use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{AliasRecord, KeyRecord, alias_arn};
use crate::kms::store::Change;

const MAX_ALIAS: usize = 256;
const ALIASES_PER_KEY: u64 = 50;
const PATTERN: &str = "^[a-zA-Z0-9:/_-]+$";

pub(super) fn create(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let (name, target) = alias_and_target(&mut input)?;
    let key = session.managed_key(&target)?;
    // Needed twice: on the alias, which has no policy of its own, and on the key.
    let arn = own_alias_arn(session, &name);
    session.authorize_by_identity("CreateAlias", Some(&arn))?;
    session.authorize("CreateAlias", &key, |_| ())?;
    session.service.store.edit(|change| {
        if change.alias(&arn)?.is_some() {
            let text = format!("An alias with the name {arn} already exists");
            return Err(ApiError::new("AlreadyExistsException", text));
        }
        let key = accepting(change, &key.arn)?;
        let (created, updated) = (session.now, session.now);
        change.put_alias(&AliasRecord { arn, name, key_arn: key.arn, created, updated })?;
        Ok(())
    })?;
    Ok(json!({}))
}

pub(super) fn update(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let (name, target) = alias_and_target(&mut input)?;
    let arn = own_alias_arn(session, &name);
    let missing = || ApiError::not_found(format!("Alias {arn} is not found."));
    let target = session.managed_key(&target)?;
    session.authorize_by_identity("UpdateAlias", Some(&arn))?;
    let alias = session.service.store.alias(&arn)?.ok_or_else(missing)?;
    // The alias is taken from one key and given to another: both have a say.
    if let Some(key) = session.service.key(&alias.key_arn, session.now)? {
        session.trail.key(&key);
        session.authorize("UpdateAlias", &key, |_| ())?;
    }
    session.authorize("UpdateAlias", &target, |_| ())?;
    session.service.store.edit(|change| {
        let mut alias = change.alias(&arn)?.ok_or_else(missing)?;
        if alias.key_arn == target.arn {
            target.not_pending()?;
        } else {
            let new = accepting(change, &target.arn)?;
            if let Some(old) = change.key(&alias.key_arn)? {
                same_kind(&arn, &old, &new)?;
            }
        }
        alias.key_arn = target.arn;
        alias.updated = session.now;
        change.put_alias(&alias)?;
        Answer::Ok(())
    })?;
    Ok(json!({}))
}

pub(super) fn delete(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = alias_name(&mut input)?;
    input.finish()?;
    check_name(&name)?;
    let arn = own_alias_arn(session, &name);
    session.authorize_by_identity("DeleteAlias", Some(&arn))?;
    session.service.settle(session.now)?;
    let alias = session.service.store.alias(&arn)?;
    let alias = alias.ok_or_else(|| ApiError::not_found(format!("Alias {arn} is not found.")))?;
    if let Some(key) = session.service.key(&alias.key_arn, session.now)? {
        session.trail.key(&key);
        session.authorize("DeleteAlias", &key, |_| ())?;
    }
    session.service.store.edit(|change| Answer::Ok(change.remove_alias(&alias.arn)?))?;
    Ok(json!({}))
}

/// A key that may be given one more alias.
fn accepting(change: &Change<'_>, arn: &str) -> Answer<KeyRecord> {
    let key = change.key(arn)?.ok_or_else(ApiError::internal)?;
    key.not_pending()?;
    if change.aliases_of(arn)? >= ALIASES_PER_KEY {
        let text = format!("The KMS key {arn} already has {ALIASES_PER_KEY} aliases.");
        return Err(ApiError::new("LimitExceededException", text));
    }
    Ok(key)
}

/// An alias must not turn from one kind of key to another under those who use it.
fn same_kind(alias: &str, old: &KeyRecord, new: &KeyRecord) -> Answer<()> {
    if old.usage == new.usage && old.spec.family() == new.spec.family() {
        return Ok(());
    }
    Err(ApiError::validation(format!(
        "Alias {alias} cannot be changed from {} ({}, {}) to {} ({}, {}): both keys must be of the same type and have \
         the same key usage.",
        old.arn,
        old.spec.name(),
        old.usage.name(),
        new.arn,
        new.spec.name(),
        new.usage.name()
    )))
}

fn alias_and_target(input: &mut Input) -> Answer<(String, String)> {
    let name = alias_name(input)?;
    let target = key_id(input, "TargetKeyId")?;
    input.finish()?;
    check_name(&name)?;
    Ok((name, target))
}

fn alias_name(input: &mut Input) -> Answer<String> {
    let fits = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b));
    let name = input.pattern("AliasName", 1..=MAX_ALIAS, PATTERN, fits)?;
    Ok(input.require("AliasName", name))
}

fn check_name(name: &str) -> Answer<()> {
    match name.strip_prefix("alias/") {
        None | Some("") => Err(ApiError::validation(
            "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        )),
        // The names of the keys that AWS services make for themselves.
        Some(rest) if rest.starts_with("aws/") => Err(ApiError::silent("NotAuthorizedException")),
        Some(_) => Ok(()),
    }
}

fn own_alias_arn(session: &Session<'_>, name: &str) -> String {
    alias_arn(session.region, session.caller.account(), name)
}
