//! Roles: who may become one, and for how long.

use std::collections::BTreeMap;

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{
    ConditionContext, Decision, KeyPolicy, PolicyError, Principal, PrincipalError, Request,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A role, as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/NAME`, with a path before the name if it has one.
    pub arn: String,
    /// The trust policy, as JSON: who may assume the role.
    pub trust: String,
    /// Whether the role's identity policy allows everything (of what key policies leave to IAM).
    pub administrator: bool,
    /// Longest session, in seconds, from 3600 to 43200.
    pub max_session_seconds: u32,
    /// What sessions have as `aws:PrincipalTag/…` unless their own tags say otherwise.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Why a role is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// Its ARN.
    #[error("a role needs an ARN like arn:aws:iam::111122223333:role/name")]
    Arn(#[from] PrincipalError),
    /// Its trust policy is not JSON of the shape of a policy.
    #[error("the trust policy of a role is a JSON object with statements that have no Resource")]
    Shape,
    /// Its trust policy.
    #[error("the trust policy: {}", .0.aws_message())]
    Trust(#[from] PolicyError),
    /// Its longest session.
    #[error("the longest session of a role is 3600 to 43200 seconds, not {0}")]
    MaxSession(u32),
}

/// What the trust policy says to one action of one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It names the caller, who is of the role's account.
    Full,
    /// It permits what the caller's identity policy allows as well.
    IfIdentityAllows,
    No,
}

impl Role {
    /// A role of an hour's sessions without an identity policy of its own.
    ///
    /// # Errors
    /// [`RoleError`] that says what is wrong.
    pub fn new(arn: impl Into<String>, trust: impl Into<String>) -> Result<Self, RoleError> {
        let role = Self {
            arn: arn.into(),
            trust: trust.into(),
            administrator: false,
            max_session_seconds: 3600,
            tags: BTreeMap::new(),
        };
        role.check()?;
        Ok(role)
    }

    /// Whether this can be a role.
    ///
    /// # Errors
    /// [`RoleError`] that says what is wrong.
    pub fn check(&self) -> Result<(), RoleError> {
        Principal::assumed(&self.arn, "session")?;
        policy(&self.trust)?;
        if (3600..=43200).contains(&self.max_session_seconds) {
            Ok(())
        } else {
            Err(RoleError::MaxSession(self.max_session_seconds))
        }
    }

    /// The account, the fifth part of the ARN.
    pub fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }

    /// What the trust policy says.
    pub(super) fn trusts(&self, action: &str, caller: &Principal, context: &ConditionContext) -> Trust {
        // The evaluator is that of key policies; of the resource it sees the account alone.
        let resource =
            format!("arn:aws:kms:us-east-1:{}:key/00000000-0000-4000-8000-000000000000", self.account());
        let (Ok(policy), Ok(resource)) = (policy(&self.trust), KeyArn::parse(&resource)) else {
            return Trust::No;
        };
        match policy.evaluate(&Request { action, resource: &resource, principal: caller, context }) {
            Decision::Allowed { .. } => Trust::Full,
            Decision::DelegatedToIam { .. } => Trust::IfIdentityAllows,
            Decision::ExplicitDeny { .. } | Decision::NoStatement => Trust::No,
        }
    }
}

/// Reads a trust policy as a key policy: its statements are about the role and name no resource.
fn policy(trust: &str) -> Result<KeyPolicy, RoleError> {
    // Duplicate members and the like are for the real parser; this only adds one.
    KeyPolicy::parse(trust)?;
    let mut document: Value = serde_json::from_str(trust).map_err(|_| RoleError::Shape)?;
    let statements = match document.get_mut("Statement") {
        Some(Value::Array(statements)) => statements.iter_mut().collect(),
        Some(statement @ Value::Object(_)) => vec![statement],
        _ => return Err(RoleError::Shape),
    };
    for statement in statements {
        let Value::Object(members) = statement else { return Err(RoleError::Shape) };
        if members.contains_key("Resource") || members.contains_key("NotResource") {
            return Err(RoleError::Shape);
        }
        members.insert("Resource".into(), "*".into());
    }
    Ok(KeyPolicy::parse(&document.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(principal: &str) -> Role {
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":"sts:AssumeRole"}}}}"#
        );
        Role::new("arn:aws:iam::111122223333:role/app/reader", trust).unwrap()
    }

    #[test]
    fn a_trust_policy_decides_by_name_account_and_action() {
        let alice = Principal::parse("arn:aws:iam::111122223333:user/alice").unwrap();
        let bob = Principal::parse("arn:aws:iam::444455556666:user/bob").unwrap();
        let context = ConditionContext::default();
        let asks = |role: &Role, who: &Principal| role.trusts("sts:AssumeRole", who, &context);
        assert_eq!(asks(&role(alice.arn()), &alice), Trust::Full);
        assert_eq!(asks(&role(alice.arn()), &bob), Trust::No);
        assert_eq!(asks(&role("arn:aws:iam::111122223333:root"), &alice), Trust::IfIdentityAllows);
        assert_eq!(asks(&role(bob.arn()), &bob), Trust::IfIdentityAllows);
        assert_eq!(role(alice.arn()).trusts("sts:TagSession", &alice, &context), Trust::No);
    }

    #[test]
    fn says_what_is_wrong_with_a_role() {
        let refusal = |arn: &str, trust: &str| Role::new(arn, trust).unwrap_err().to_string();
        let trust = &role("*").trust;
        assert_eq!(
            refusal("arn:aws:iam::111122223333:user/a", trust),
            "a role needs an ARN like arn:aws:iam::111122223333:role/name"
        );
        assert!(refusal("arn:aws:iam::111122223333:role/a", "{").starts_with("the trust policy: "));
        let with_resource = trust.replace("\"Effect\"", "\"Resource\":\"*\",\"Effect\"");
        assert_eq!(
            refusal("arn:aws:iam::111122223333:role/a", &with_resource),
            "the trust policy of a role is a JSON object with statements that have no Resource"
        );
    }
}
