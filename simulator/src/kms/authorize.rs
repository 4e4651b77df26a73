//! Whether a caller may do something: key policy first, then what stands in for IAM.

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{ConditionContext, Decision, Delegation, KeyPolicy, Request};

use super::call::Session;
use super::error::{Answer, ApiError};
use super::key::KeyRecord;

/// What stops a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    ExplicitDeny,
    NoResourcePolicy,
    NoIdentityPolicy,
}

impl Session<'_> {
    /// Asks the key's policy, with what `conditions` adds to the condition keys of every call.
    ///
    /// # Errors
    /// `AccessDeniedException` in AWS's words.
    pub(super) fn authorize(
        &self,
        action: &str,
        key: &KeyRecord,
        conditions: impl FnOnce(&mut ConditionContext),
    ) -> Answer<()> {
        let action = format!("kms:{action}");
        match self.judge(key, &key.policy, &action, conditions)? {
            None => Ok(()),
            Some(refusal) => Err(self.denied(&action, Some(&key.arn), refusal)),
        }
    }

    /// Operations on no particular key, which only an identity policy can allow.
    ///
    /// # Errors
    /// `AccessDeniedException` for everybody but administrators.
    pub(super) fn authorize_by_identity(&self, action: &str, resource: Option<&str>) -> Answer<()> {
        if self.caller.user.administrator {
            return Ok(());
        }
        Err(self.denied(&format!("kms:{action}"), resource, Refusal::NoIdentityPolicy))
    }

    /// What a policy, and IAM where the policy leaves it to IAM, say to `action`.
    pub(super) fn judge(
        &self,
        key: &KeyRecord,
        policy: &str,
        action: &str,
        conditions: impl FnOnce(&mut ConditionContext),
    ) -> Answer<Option<Refusal>> {
        let policy =
            KeyPolicy::parse(policy).map_err(|error| ApiError::malformed_policy(error.aws_message()))?;
        let resource = KeyArn::parse(&key.arn).map_err(|_| ApiError::internal())?;
        let mut context = self.conditions_of(key)?;
        conditions(&mut context);
        let request =
            Request { action, resource: &resource, principal: &self.caller.principal, context: &context };
        Ok(match policy.evaluate(&request) {
            Decision::Allowed { .. } => None,
            Decision::DelegatedToIam { .. } if self.caller.user.administrator => None,
            Decision::DelegatedToIam { delegation: Delegation::OtherAccount, .. }
                if self.caller.user.foreign_keys && action == "kms:GenerateDataKey" =>
            {
                None
            }
            Decision::DelegatedToIam { .. } => Some(Refusal::NoIdentityPolicy),
            Decision::ExplicitDeny { .. } => Some(Refusal::ExplicitDeny),
            Decision::NoStatement => Some(Refusal::NoResourcePolicy),
        })
    }

    /// The condition keys that every call on a key has.
    fn conditions_of(&self, key: &KeyRecord) -> Answer<ConditionContext> {
        let mut context = ConditionContext::for_principal(&self.caller.principal);
        context.set("kms:KeySpec", key.spec.name());
        context.set("kms:KeyUsage", key.usage.name());
        context.set("kms:KeyOrigin", key.origin.name());
        context.set("kms:MultiRegion", if key.regions.is_some() { "true" } else { "false" });
        if let Some(regions) = &key.regions {
            let primary = key.region == regions.primary;
            context.set("kms:MultiRegionKeyType", if primary { "PRIMARY" } else { "REPLICA" });
        }
        context.set("aws:RequestedRegion", self.region);
        context.set("aws:SourceIp", &self.peer.ip().to_string());
        context.set("aws:SecureTransport", if self.secure { "true" } else { "false" });
        context.set("aws:EpochTime", &(self.now / 1000).to_string());
        if let Some(alias) = &self.request_alias {
            context.set("kms:RequestAlias", alias);
        }
        for name in self.service.store.names_of(&key.arn)? {
            context.add("kms:ResourceAliases", &name);
        }
        for (tag, value) in &key.tags {
            context.set(&format!("aws:ResourceTag/{tag}"), value);
        }
        Ok(context)
    }

    /// The refusal in AWS's words, as seen in public traces.
    fn denied(&self, action: &str, resource: Option<&str>, refusal: Refusal) -> ApiError {
        let why = match refusal {
            Refusal::ExplicitDeny => "with an explicit deny in a resource-based policy".to_owned(),
            Refusal::NoResourcePolicy => {
                format!("because no resource-based policy allows the {action} action")
            }
            Refusal::NoIdentityPolicy => {
                format!("because no identity-based policy allows the {action} action")
            }
        };
        let resource = resource.map(|arn| format!(" on resource: {arn}")).unwrap_or_default();
        let who = self.caller.principal.arn();
        ApiError::new(
            "AccessDeniedException",
            format!("User: {who} is not authorized to perform: {action}{resource} {why}"),
        )
    }
}
