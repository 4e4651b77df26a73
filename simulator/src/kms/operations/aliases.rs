//! `CreateAlias` and `DeleteAlias`.

use serde_json::{Value, json};

use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{AliasRecord, alias_arn};

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
    let arn = own_alias_arn(session, &name);
    session.authorize_by_identity("CreateAlias", Some(&arn))?;
    session.authorize("CreateAlias", &key, |_| ())?;
    key.not_pending()?;
    if session.service.store.names_of(&key.arn)?.len() >= ALIASES_PER_KEY {
        return Err(ApiError::new(
            "LimitExceededException",
            format!("A key has at most {ALIASES_PER_KEY} aliases."),
        ));
    }
    let alias =
        AliasRecord { arn: arn.clone(), name, key_arn: key.arn, created: session.now, updated: session.now };
    if session.service.store.insert_alias(&alias)? {
        return Ok(json!({}));
    }
    Err(ApiError::new("AlreadyExistsException", format!("An alias with the name {arn} already exists")))
}

pub(super) fn delete(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = alias_name(&mut input)?;
    input.finish()?;
    check_name(&name)?;
    let arn = own_alias_arn(session, &name);
    session.authorize_by_identity("DeleteAlias", Some(&arn))?;
    let alias = session.service.store.alias(&arn)?;
    let alias = alias.ok_or_else(|| ApiError::not_found(format!("Alias {arn} is not found.")))?;
    if let Some(key) = session.service.key(&alias.key_arn, session.now)? {
        session.trail.key(&key);
        session.authorize("DeleteAlias", &key, |_| ())?;
    }
    session.service.store.remove_alias(&alias)?;
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

fn own_alias_arn(session: &Session<'_>, name: &str) -> String {
    alias_arn(session.region, session.caller.account(), name)
}
