//! Grants: made, listed, retired, revoked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Map, Value, json};

use super::lists::Page;
use super::{grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::grants::{self, Constraints, GrantRecord, OPERATIONS, Party, Wanted};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::spec::KeySpec;

const MAX_PRINCIPAL: usize = 256;
const PRINCIPAL_PATTERN: &str = r"^[\w+=,.@:/-]+$";
const MAX_NAME: usize = 256;
const NAME_PATTERN: &str = "^[a-zA-Z0-9:/_-]+$";
const MAX_GRANT_ID: usize = 128;
const MAX_TOKEN: usize = 8192;
/// Longest list of operations; some may be repeated.
const MAX_OPERATIONS: usize = 100;
/// Most pairs of one constraint.
const MAX_PAIRS: usize = 8;

pub(super) fn create(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let grantee = party(&mut input, "GranteePrincipal", "GranteeServicePrincipal")?;
    let retiring = party(&mut input, "RetiringPrincipal", "RetiringServicePrincipal")?;
    if input.peek("Operations").is_none_or(Value::is_null) {
        input.require::<String>("Operations", None);
    }
    let operations = input.choices("Operations", 1..=MAX_OPERATIONS, &OPERATIONS)?;
    let constraints = input.object("Constraints")?;
    let fits = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b));
    let grant_name = input.pattern("Name", 1..=MAX_NAME, NAME_PATTERN, fits)?;
    let dry_run = input.flag("DryRun")?;
    grant_tokens(&mut input)?;
    if grantee.is_none() {
        input.require::<String>("GranteePrincipal", None);
    }
    input.finish()?;
    let constraints = read_constraints(constraints)?;
    let named = |party: Option<Named>| party.map(Named::checked).transpose();
    let (Some(grantee), retiring) = (named(grantee)?, named(retiring)?) else {
        return Err(ApiError::internal());
    };

    let key = session.named_key(&name, Names::KeysOnly)?;
    let mut distinct: Vec<String> = Vec::new();
    for operation in operations {
        if !distinct.iter().any(|other| other == operation) {
            distinct.push(operation.to_owned());
        }
    }
    session.wanted_grant = Some(Wanted { operations: distinct.clone(), constraints: constraints.clone() });
    session.authorize("CreateGrant", &key, |_| ())?;
    // Nothing is encrypted by it: a custom key store may be disconnected meanwhile.
    if !key.is_unavailable() {
        key.usable()?;
    }
    check_possible(&key, &distinct, &constraints)?;
    if dry_run {
        return Err(ApiError::dry_run());
    }
    let grant = GrantRecord {
        key_arn: key.arn,
        id: hex::encode(random::<32>()?),
        name: grant_name,
        created: session.now,
        issuer: session.caller.account().to_owned(),
        grantee,
        retiring,
        operations: distinct,
        constraints,
        tokens: Vec::new(),
    };
    let token = STANDARD_NO_PAD.encode(random::<96>()?);
    let wanted = grant.clone();
    let same = |other: &GrantRecord| other.is_same_as(&wanted);
    let id = session.service.store.insert_grant(grant, &grants::token_digest(&token), same)?;
    Ok(json!({"GrantId": id, "GrantToken": token}))
}

pub(super) fn list(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let id = input.text("GrantId", 1..=MAX_GRANT_ID)?;
    let grantee = party(&mut input, "GranteePrincipal", "GranteeServicePrincipal")?.map(Named::unchecked);
    let page = Page::read(&mut input, "grants", 50, 100)?;
    let key = session.named_key(&name, Names::KeysOnly)?;
    session.authorize("ListGrants", &key, |_| ())?;
    let wanted = |grant: &GrantRecord| {
        id.as_ref().is_none_or(|id| *id == grant.id)
            && grantee.as_ref().is_none_or(|party| *party == grant.grantee)
    };
    let grants = session.service.grants_seen(&key.arn, session.now, |_| false)?;
    let entries = grants.iter().filter(|grant| wanted(grant)).map(|grant| (grant.sort_key(), grant.entry()));
    Ok(page.cut("Grants", entries.collect()))
}

pub(super) fn list_retirable(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let retiring = party(&mut input, "RetiringPrincipal", "RetiringServicePrincipal")?;
    if retiring.is_none() {
        input.require::<String>("RetiringPrincipal", None);
    }
    let page = Page::read(&mut input, "retirable", 50, 100)?;
    let retiring = retiring.map(Named::checked).transpose()?;
    session.authorize_by_identity("ListRetirableGrants", None)?;
    let grants = session.service.store.grants_in(session.region, session.caller.account())?;
    let mut entries = Vec::new();
    for grant in grants.iter().filter(|grant| grant.retiring == retiring) {
        // Those of a key whose window is over are gone with it.
        if session.service.key(&grant.key_arn, session.now)?.is_some() {
            entries.push((grant.sort_key(), grant.entry()));
        }
    }
    Ok(page.cut("Grants", entries))
}

pub(super) fn retire(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let token = input.text("GrantToken", 1..=MAX_TOKEN)?;
    let name = input.text("KeyId", 1..=super::MAX_KEY_ID)?;
    let id = input.text("GrantId", 1..=MAX_GRANT_ID)?;
    let dry_run = input.flag("DryRun")?;
    input.finish()?;
    let grant = match (token, name, id) {
        (Some(token), None, None) => {
            let grant = session.service.store.grant_of_token(&grants::token_digest(&token))?;
            grant.ok_or_else(ApiError::invalid_grant_token)?
        }
        (None, Some(name), Some(id)) => {
            let key = session.named_key(&name, Names::KeysOnly)?;
            session.service.store.grant(&key.arn, &id)?.ok_or_else(|| unknown(&id))?
        }
        _ => return Err(ApiError::validation("Specify either a grant token, or a key ARN and a grant ID.")),
    };
    // Again for the token's, which also refuses a key that is gone.
    let key = session.named_key(&grant.key_arn, Names::KeysOnly)?;
    session.authorize_retiring(&key, &grant)?;
    remove(session, &grant, dry_run)
}

pub(super) fn revoke(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let id = input.text("GrantId", 1..=MAX_GRANT_ID)?;
    let id = input.require("GrantId", id);
    let dry_run = input.flag("DryRun")?;
    input.finish()?;
    let key = session.named_key(&name, Names::KeysOnly)?;
    session.authorize("RevokeGrant", &key, |_| ())?;
    let grant = session.service.store.grant(&key.arn, &id)?.ok_or_else(|| unknown(&id))?;
    remove(session, &grant, dry_run)
}

fn remove(session: &Session<'_>, grant: &GrantRecord, dry_run: bool) -> Answer<Value> {
    if dry_run {
        return Err(ApiError::dry_run());
    }
    if session.service.store.remove_grant(&grant.key_arn, &grant.id)? {
        return Ok(json!({}));
    }
    Err(unknown(&grant.id))
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("Grant {id} is not found."))
}

/// A principal or a service, as a request names it.
enum Named {
    Principal(String),
    Service(String),
}

impl Named {
    fn checked(self) -> Answer<Party> {
        match self {
            Self::Principal(arn) => Party::principal(arn),
            Self::Service(name) => Ok(Party::Service(name)),
        }
    }

    fn unchecked(self) -> Party {
        match self {
            Self::Principal(arn) => Party::Principal(arn),
            Self::Service(name) => Party::Service(name),
        }
    }
}

fn party(input: &mut Input, principal: &str, service: &str) -> Answer<Option<Named>> {
    let fits = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b));
    let named = input.pattern(principal, 1..=MAX_PRINCIPAL, PRINCIPAL_PATTERN, fits)?;
    let served = input.pattern(service, 1..=MAX_PRINCIPAL, PRINCIPAL_PATTERN, fits)?;
    match (named, served) {
        (Some(_), Some(_)) => Err(ApiError::validation(format!(
            "You cannot specify {principal} and {service} in the same request."
        ))),
        (Some(arn), None) => Ok(Some(Named::Principal(arn))),
        (None, served) => Ok(served.map(Named::Service)),
    }
}

fn read_constraints(fields: Option<Map<String, Value>>) -> Answer<Constraints> {
    let Some(fields) = fields else { return Ok(Constraints::default()) };
    let mut input = Input::nested(fields);
    let equals = input.pairs("EncryptionContextEquals")?;
    let subset = input.pairs("EncryptionContextSubset")?;
    let source_arn = input.text("SourceArn", 1..=2048)?;
    input.finish()?;
    if equals.len() > MAX_PAIRS || subset.len() > MAX_PAIRS {
        return Err(ApiError::validation(format!(
            "A grant constraint has at most {MAX_PAIRS} encryption context pairs."
        )));
    }
    Ok(Constraints { equals: equals.into_iter().collect(), subset: subset.into_iter().collect(), source_arn })
}

/// Refuses what the key cannot do anyway. AWS's text is not known; this one is ours.
fn check_possible(key: &KeyRecord, operations: &[String], constraints: &Constraints) -> Answer<()> {
    if let Some(operation) = operations.iter().find(|operation| !grants::is_possible(key, operation)) {
        let (arn, usage, spec) = (&key.arn, key.usage.name(), key.spec.name());
        return Err(ApiError::validation(format!(
            "Grant operation {operation} is not supported for {arn} with key usage {usage} and key spec {spec}."
        )));
    }
    let bound = !constraints.equals.is_empty() || !constraints.subset.is_empty();
    if bound && key.spec != KeySpec::SymmetricDefault {
        return Err(ApiError::validation(
            "Encryption context constraints are supported only for grants on symmetric encryption KMS keys.",
        ));
    }
    Ok(())
}

fn random<const N: usize>() -> Answer<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
    Ok(bytes)
}
