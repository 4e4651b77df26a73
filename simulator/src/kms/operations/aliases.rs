//! `CreateAlias` and `DeleteAlias`.

use serde_json::{Value, json};

use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::AliasRecord;

const MAX_ALIAS: usize = 256;
const ALIASES_PER_KEY: usize = 50;
const PATTERN: &str = "^[a-zA-Z0-9:/_-]+$";

pub(super) fn create(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = alias_name(&mut input)?;
    let target = key_id(&mut input, "TargetKeyId")?;
    input.finish()?;
    check_name(&name)?;
    let key = session.managed_key(&target)?;
    // Needed twice: on the alias, which has no policy of its own, and on the key.
    session.authorize_by_identity("CreateAlias", Some(&alias_arn(session, &name)))?;
    session.authorize("CreateAlias", &key, |_| ())?;
    key.not_pending()?;
    let held = session.service.store.aliases()?.iter().filter(|alias| alias.key_id == key.id).count();
    if held >= ALIASES_PER_KEY {
        return Err(ApiError::new(
            "LimitExceededException",
            format!("A key has at most {ALIASES_PER_KEY} aliases."),
        ));
    }
    let alias = AliasRecord {
        account: session.caller.account().to_owned(),
        name,
        key_id: key.id,
        created: session.now,
    };
    if session.service.store.insert_alias(&alias)? {
        return Ok(json!({}));
    }
    let arn = alias.arn(&session.service.region);
    Err(ApiError::new("AlreadyExistsException", format!("An alias with the name {arn} already exists")))
}

pub(super) fn delete(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = alias_name(&mut input)?;
    input.finish()?;
    check_name(&name)?;
    let arn = alias_arn(session, &name);
    session.authorize_by_identity("DeleteAlias", Some(&arn))?;
    let account = session.caller.account();
    let alias = session.service.store.alias(account, &name)?;
    let alias = alias.ok_or_else(|| ApiError::not_found(format!("Alias {arn} is not found.")))?;
    if let Some(key) = session.service.store.key(&alias.key_id)? {
        session.trail.key(&key);
        session.authorize("DeleteAlias", &key, |_| ())?;
    }
    session.service.store.remove_alias(account, &name)?;
    Ok(json!({}))
}

fn alias_name(input: &mut Input) -> Answer<String> {
    let fits = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b));
    let name = input.pattern("AliasName", 1..=MAX_ALIAS, PATTERN, fits)?;
    Ok(input.require("AliasName", name))
}

fn check_name(name: &str) -> Answer<()> {
    let refused = |text: &str| Err(ApiError::new("InvalidAliasNameException", text));
    match name.strip_prefix("alias/") {
        None | Some("") => refused(
            "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        ),
        Some(rest) if rest.starts_with("aws/") => Err(ApiError::new(
            "NotAuthorizedException",
            "Aliases beginning with alias/aws/ are reserved for AWS managed keys",
        )),
        Some(_) => Ok(()),
    }
}

fn alias_arn(session: &Session<'_>, name: &str) -> String {
    format!("arn:aws:kms:{}:{}:{name}", session.service.region, session.caller.account())
}
