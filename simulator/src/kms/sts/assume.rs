//! `AssumeRole`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adyton_verifier::key_policy::{ConditionContext, IdentityDecision, IdentityRequest, Principal};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::form::Form;
use super::role::{Role, Trust};
use super::session::Session;
use super::xml;
use crate::kms::Service;
use crate::kms::audit::Trail;
use crate::kms::call::{Call, Caller};
use crate::kms::error::{Answer, ApiError};
use crate::kms::iam::{Attached, id_of};
use crate::kms::user::User;

/// Longest session that is possible at all, in seconds.
const MAX_SECONDS: u32 = 43_200;
/// Longest session of a role that was assumed by a session of another, in seconds.
const MAX_CHAINED_SECONDS: u32 = 3600;
const MAX_TAGS: usize = 50;
/// Most that tags may take, in bytes of their packed form; AWS does not say how it packs.
const MAX_PACKED_BYTES: usize = 4096;

/// What the caller wants, its fields checked one by one.
struct Wanted<'a> {
    role_arn: &'a str,
    session: &'a str,
    seconds: Option<u32>,
    external_id: Option<&'a str>,
    tags: Vec<(&'a str, &'a str)>,
    transitive: Vec<&'a str>,
}

impl Service {
    pub(super) fn assume_role(
        &self,
        call: &Call,
        caller: &Caller,
        form: &Form,
        trail: &mut Trail,
    ) -> Answer<String> {
        let wanted = Wanted::read(form)?;
        trail.assume_role(wanted.role_arn, wanted.parameters());
        if caller.principal.arn().ends_with(":root") {
            return Err(denied("Roles may not be assumed by root accounts."));
        }
        let role = self.store.role(wanted.role_arn)?;
        // A role that does not exist is not told from one that does not trust the caller.
        let Some(role) = role else { return Err(refused(caller, "sts:AssumeRole", wanted.role_arn)) };
        let (tags, transitive) = wanted.session_tags(caller, &role)?;
        self.permits(call, caller, &role, &wanted)?;
        let seconds = wanted.duration(caller, &role)?;

        let principal = Principal::assumed(&role.arn, wanted.session).map_err(|_| ApiError::internal())?;
        let expires =
            UNIX_EPOCH + Duration::from_millis(trail.time) + Duration::from_secs(u64::from(seconds));
        let fresh = User::generate_session(principal.arn(), false, expires)?;
        let session = Session {
            access_key_id: fresh.access_key_id.clone(),
            secret: fresh.secret_access_key.clone(),
            role_arn: role.arn.clone(),
            name: wanted.session.to_owned(),
            tags,
            transitive,
            created: trail.time,
            expires: crate::kms::millis(expires),
        };
        let token = session
            .seal(|identity, plain| self.store.seal(identity, plain))
            .ok_or_else(ApiError::internal)?;
        let (id, end) = (format!("{}:{}", id_of("AROA", &role.arn), session.name), text_of(expires));
        trail.assumed(&session.access_key_id, &principal, &id, &end);
        let user = xml::elements(&[("AssumedRoleId", &id), ("Arn", principal.arn())]);
        let credentials = xml::elements(&[
            ("AccessKeyId", &session.access_key_id),
            ("SecretAccessKey", &session.secret),
            ("SessionToken", &token),
            ("Expiration", &end),
        ]);
        Ok(xml::element("AssumedRoleUser", &user)
            + &xml::element("Credentials", &credentials)
            + &wanted.packed_size())
    }

    /// Asks the role's trust policy, and the caller's identity policy where both have to allow.
    fn permits(&self, call: &Call, caller: &Caller, role: &Role, wanted: &Wanted<'_>) -> Answer<()> {
        let context = wanted.conditions(call, caller);
        let mut actions = vec!["sts:AssumeRole"];
        if !wanted.tags.is_empty() {
            actions.push("sts:TagSession");
        }
        for action in actions {
            let allowed = match role.trusts(action, &caller.principal, &context) {
                Trust::Full => true,
                Trust::IfIdentityAllows => self.identity_allows(caller, action, &role.arn, &context)?,
                Trust::No => false,
            };
            if !allowed {
                return Err(refused(caller, action, &role.arn));
            }
        }
        Ok(())
    }

    /// What the caller's own policies say.
    fn identity_allows(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
        context: &ConditionContext,
    ) -> Answer<bool> {
        let request = IdentityRequest { action, resource, principal: &caller.principal, context };
        let mut allowed = false;
        for Attached { policy, .. } in self.attached(caller)? {
            match policy.evaluate(&request) {
                IdentityDecision::ExplicitDeny { .. } => return Ok(false),
                IdentityDecision::Allowed { .. } => allowed = true,
                IdentityDecision::NoStatement => {}
            }
        }
        Ok(allowed)
    }
}

impl<'a> Wanted<'a> {
    fn read(form: &'a Form) -> Answer<Self> {
        for unsupported in ["Policy", "PolicyArns.member.1.arn", "SerialNumber", "TokenCode"] {
            if form.get(unsupported).is_some() {
                return Err(invalid(format!("{unsupported} is not available in the local STS.")));
            }
        }
        let role_arn = text(form, "RoleArn", 20, 2048, |_| true)?;
        let role_arn = role_arn.ok_or_else(|| missing("roleArn"))?;
        if Principal::assumed(role_arn, "session").is_err() {
            return Err(invalid(format!("{role_arn} is invalid")));
        }
        let session = text(form, "RoleSessionName", 2, 64, is_name)?;
        let session = session.ok_or_else(|| missing("roleSessionName"))?;
        let external = |c: char| is_name(c) || ":/".contains(c);
        let tags = form.members("Tags", ".Key").into_iter().zip(form.members("Tags", ".Value"));
        Ok(Self {
            role_arn,
            session,
            seconds: seconds(form)?,
            external_id: text(form, "ExternalId", 2, 1224, external)?,
            tags: checked_tags(tags)?,
            transitive: form.members("TransitiveTagKeys", "").into_iter().flatten().collect(),
        })
    }

    /// The tags of the session and the keys of those that go further.
    fn session_tags(&self, caller: &Caller, role: &Role) -> Answer<(BTreeMap<String, String>, Vec<String>)> {
        let mut tags = role.tags.clone();
        let mut transitive: Vec<String> = Vec::new();
        let own = |tags: &mut BTreeMap<String, String>, key: &str, value: &str| {
            // Tag keys differ by more than their case.
            tags.retain(|known, _| !known.eq_ignore_ascii_case(key));
            tags.insert(key.to_owned(), value.to_owned());
        };
        for (key, value) in &self.tags {
            own(&mut tags, key, value);
        }
        for key in &self.transitive {
            if !self.tags.iter().any(|(tag, _)| tag == key) {
                return Err(invalid(format!(
                    "The specified transitive tag key must be included in the requested tags. Transitive tag key: {key}"
                )));
            }
            transitive.push((*key).to_owned());
        }
        for key in caller.session.iter().flat_map(|session| &session.transitive) {
            if self.tags.iter().any(|(tag, _)| tag.eq_ignore_ascii_case(key)) {
                return Err(ApiError::new(
                    "InvalidParameterValue",
                    format!(
                        "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session. Tag key: {key}"
                    ),
                ));
            }
            if let Some((_, value)) = caller.user.tags.get_key_value(key) {
                own(&mut tags, key, value);
                transitive.push(key.clone());
            }
        }
        Ok((tags, transitive))
    }

    fn duration(&self, caller: &Caller, role: &Role) -> Answer<u32> {
        let seconds = self.seconds.unwrap_or(3600);
        if caller.session.is_some() && seconds > MAX_CHAINED_SECONDS {
            return Err(invalid(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
                    .to_owned(),
            ));
        }
        if seconds > role.max_session_seconds {
            return Err(invalid(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.".to_owned(),
            ));
        }
        Ok(seconds)
    }

    /// What the trust policy's conditions see.
    fn conditions(&self, call: &Call, caller: &Caller) -> ConditionContext {
        let mut context = ConditionContext::for_principal(&caller.principal);
        for (key, value) in &caller.user.tags {
            context.set(&format!("aws:PrincipalTag/{key}"), value);
        }
        for (key, value) in &self.tags {
            context.set(&format!("aws:RequestTag/{key}"), value);
            context.add("aws:TagKeys", key);
        }
        for key in &self.transitive {
            context.add("sts:TransitiveTagKeys", key);
        }
        if let Some(id) = self.external_id {
            context.set("sts:ExternalId", id);
        }
        context.set("sts:RoleSessionName", self.session);
        context.set("aws:SourceIp", &call.peer.ip().to_string());
        context.set("aws:SecureTransport", if call.secure { "true" } else { "false" });
        context.set("aws:RequestedRegion", &caller.region);
        context
    }

    /// `requestParameters` of the audit log.
    fn parameters(&self) -> serde_json::Value {
        let mut parameters = json!({"roleArn": self.role_arn, "roleSessionName": self.session});
        if let Some(seconds) = self.seconds {
            parameters["durationSeconds"] = seconds.into();
        }
        if let Some(id) = self.external_id {
            parameters["externalId"] = id.into();
        }
        if !self.tags.is_empty() {
            let tags = self.tags.iter().map(|(key, value)| json!({"key": key, "value": value}));
            parameters["tags"] = tags.collect();
        }
        if !self.transitive.is_empty() {
            parameters["transitiveTagKeys"] = json!(self.transitive);
        }
        parameters
    }

    fn packed_size(&self) -> String {
        if self.tags.is_empty() {
            return String::new();
        }
        let percent = (packed(&self.tags) * 100).div_ceil(MAX_PACKED_BYTES);
        xml::elements(&[("PackedPolicySize", &percent.to_string())])
    }
}

fn packed(tags: &[(&str, &str)]) -> usize {
    tags.iter().map(|(key, value)| key.len() + value.len() + 2).sum()
}

fn checked_tags<'a>(
    tags: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>,
) -> Answer<Vec<(&'a str, &'a str)>> {
    let mut checked: Vec<(&str, &str)> = Vec::new();
    for (place, (key, value)) in tags.enumerate() {
        let at = |member: &str| format!("tags.{}.member.{member}", place + 1);
        let key = key.ok_or_else(|| missing(&at("key")))?;
        let value = value.ok_or_else(|| missing(&at("value")))?;
        length(&at("key"), key, 1, 128)?;
        length(&at("value"), value, 0, 256)?;
        if let Some((_, bad)) = [("key", key), ("value", value)].into_iter().find(|(_, text)| !is_tag(text)) {
            return Err(constraint(
                &at(if bad == key { "key" } else { "value" }),
                bad,
                r"Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+",
            ));
        }
        if key.to_lowercase().starts_with("aws:") {
            return Err(invalid(format!("Tag keys beginning with aws: are reserved. Tag key: {key}")));
        }
        if checked.iter().any(|(known, _)| known.eq_ignore_ascii_case(key)) {
            return Err(ApiError::new(
                "InvalidParameterValue",
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
        checked.push((key, value));
    }
    if checked.len() > MAX_TAGS {
        return Err(invalid(format!(
            "1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to {MAX_TAGS}"
        )));
    }
    if packed(&checked) > MAX_PACKED_BYTES {
        return Err(ApiError::new(
            "PackedPolicyTooLarge",
            "Packed size of session tags consumes more than 100% of allotted space.",
        ));
    }
    Ok(checked)
}

fn seconds(form: &Form) -> Answer<Option<u32>> {
    let Some(text) = form.get("DurationSeconds") else { return Ok(None) };
    let malformed = || ApiError::new("MalformedInput", "Start of structure or map found where not expected.");
    let seconds: i64 = text.parse().map_err(|_| malformed())?;
    let limit = if seconds < 900 {
        "Member must have value greater than or equal to 900"
    } else if seconds > i64::from(MAX_SECONDS) {
        "Member must have value less than or equal to 43200"
    } else {
        return Ok(u32::try_from(seconds).ok());
    };
    Err(constraint("durationSeconds", text, limit))
}

fn text<'a>(
    form: &'a Form,
    name: &str,
    shortest: usize,
    longest: usize,
    fits: impl Fn(char) -> bool,
) -> Answer<Option<&'a str>> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let mut letters = name.chars();
    let member: String = letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
    length(&member, text, shortest, longest)?;
    if text.chars().all(fits) {
        return Ok(Some(text));
    }
    let pattern = if name == "ExternalId" { r"[\w+=,.@:\/-]*" } else { r"[\w+=,.@-]*" };
    Err(constraint(&member, text, &format!("Member must satisfy regular expression pattern: {pattern}")))
}

fn length(member: &str, text: &str, shortest: usize, longest: usize) -> Answer<()> {
    let count = text.chars().count();
    if count < shortest {
        let limit = format!("Member must have length greater than or equal to {shortest}");
        Err(constraint(member, text, &limit))
    } else if count > longest {
        let limit = format!("Member must have length less than or equal to {longest}");
        Err(constraint(member, text, &limit))
    } else {
        Ok(())
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

fn is_tag(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
}

fn constraint(member: &str, value: &str, limit: &str) -> ApiError {
    let value: String = value.chars().take(256).collect();
    invalid(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {limit}"
    ))
}

fn missing(member: &str) -> ApiError {
    invalid(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
    ))
}

fn invalid(text: String) -> ApiError {
    ApiError::validation(text)
}

fn denied(text: &str) -> ApiError {
    ApiError::new("AccessDeniedException", text)
}

fn refused(caller: &Caller, action: &str, role_arn: &str) -> ApiError {
    let who = caller.principal.arn();
    denied(&format!("User: {who} is not authorized to perform: {action} on resource: {role_arn}"))
}

/// `2011-07-15T23:28:33Z`.
fn text_of(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
