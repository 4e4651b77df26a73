//! Whether a caller may do something: key policy, identity policies and grants together.
//!
//! An explicit deny anywhere wins. Otherwise one of these is enough: the key policy allows the
//! caller itself; it names the account and an identity policy of the caller allows; a grant allows.
//! Callers of another account need the key policy and an identity policy, or a grant (developer
//! guide, "Troubleshooting key access"; service-linked roles, which have no policy about KMS, use
//! keys of other accounts through grants alone). Lists, aliases and what is about no key are up to
//! identity policies.
//!
//! Every judgement is noted for `adyton-sim kms explain`.

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{
    ConditionContext, Decision, Delegation, IdentityDecision, IdentityRequest, KeyPolicy, Request,
};

use super::call::Session;
use super::decisions::{By, Judgement, Traced};
use super::error::{Answer, ApiError};
use super::grants::{self, GrantRecord};
use super::iam::Attached;
use super::key::KeyRecord;

/// What stops a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    DeniedByResource,
    DeniedByIdentity,
    NoResourcePolicy,
    NoIdentityPolicy,
}

/// What was decided, and which policy or grant decided it.
struct Weighed {
    outcome: Result<By, Refusal>,
    traces: Vec<Traced>,
}

impl Session<'_> {
    /// Asks policies and grants, with what `conditions` adds to the condition keys of every call.
    ///
    /// # Errors
    /// `AccessDeniedException` in AWS's words.
    pub(super) fn authorize(
        &self,
        action: &str,
        key: &KeyRecord,
        conditions: impl FnOnce(&mut ConditionContext),
    ) -> Answer<()> {
        let mut context = self.conditions_of(key)?;
        conditions(&mut context);
        let tokens = self.used_tokens()?;
        let granted = |session: &Self| {
            let has_token = |id: &str| tokens.iter().any(|token| token == id);
            let grants = session.service.grants_seen(&key.arn, session.now, has_token)?;
            Ok(grants.into_iter().find(|grant| {
                grant.allows(action, &session.caller.principal, &context)
                    && session.sees(grant, &tokens)
                    && (action != "CreateGrant" || session.may_pass_on(grant))
            }))
        };
        let weighed = self.weigh(key, &key.policy, &format!("kms:{action}"), &context, granted)?;
        self.conclude(&format!("kms:{action}"), Some(&key.arn), weighed)
    }

    /// `RetireGrant`: whoever the grant says, and whom identity policies of the key's account allow.
    ///
    /// # Errors
    /// `AccessDeniedException` in AWS's words.
    pub(super) fn authorize_retiring(&self, key: &KeyRecord, grant: &GrantRecord) -> Answer<()> {
        let context = self.conditions_of(key)?;
        let own = || grant.may_be_retired_by(&self.caller.principal).then(|| grant.clone());
        let action = "kms:RetireGrant";
        let mut weighed = self.weigh(key, &key.policy, action, &context, |_| Ok(own()))?;
        // A key policy alone lets nobody retire; the account itself may.
        if !matches!(weighed.outcome, Err(Refusal::DeniedByResource | Refusal::DeniedByIdentity))
            && own().is_none()
        {
            let at_home = key.account == self.caller.account();
            let identity = self.ask_identity(action, &key.arn, &context)?;
            weighed.outcome = match identity.outcome {
                Ok(by) if at_home => Ok(by),
                _ => Err(Refusal::NoIdentityPolicy),
            };
            weighed.traces.extend(identity.traces);
        }
        self.conclude(action, Some(&key.arn), weighed)
    }

    /// Operations on no key, which only identity policies can allow.
    ///
    /// # Errors
    /// `AccessDeniedException` in AWS's words.
    pub(super) fn authorize_by_identity(&self, action: &str, resource: Option<&str>) -> Answer<()> {
        let action = format!("kms:{action}");
        let context = self.conditions_of_call();
        let weighed = self.ask_identity(&action, resource.unwrap_or("*"), &context)?;
        self.conclude(&action, resource, weighed)
    }

    /// Whether the caller could still put a policy if the key had this one.
    pub(super) fn could_put_policy(&self, key: &KeyRecord, policy: &str) -> Answer<bool> {
        let context = self.conditions_of(key)?;
        let weighed = self.weigh(key, policy, "kms:PutKeyPolicy", &context, |_| Ok(None))?;
        Ok(weighed.outcome.is_ok())
    }

    fn weigh(
        &self,
        key: &KeyRecord,
        policy: &str,
        action: &str,
        context: &ConditionContext,
        granted: impl FnOnce(&Self) -> Answer<Option<GrantRecord>>,
    ) -> Answer<Weighed> {
        let policy =
            KeyPolicy::parse(policy).map_err(|error| ApiError::malformed_policy(error.aws_message()))?;
        let resource = KeyArn::parse(&key.arn).map_err(|_| ApiError::internal())?;
        let request = Request { action, resource: &resource, principal: &self.caller.principal, context };
        let decision = policy.evaluate(&request);
        let Weighed { outcome: identity, mut traces } = self.ask_identity(action, &key.arn, context)?;
        let outcome = match (decision, identity) {
            (Decision::ExplicitDeny { .. }, _) => Err(Refusal::DeniedByResource),
            (_, Err(Refusal::DeniedByIdentity)) => Err(Refusal::DeniedByIdentity),
            (Decision::Allowed { statement }, _) => Ok(By::key_policy(&statement)),
            (Decision::DelegatedToIam { statement, .. }, Ok(by)) => Ok(by.through(&statement)),
            (other, _) => match granted(self)? {
                Some(grant) => Ok(By::grant(&grant.id)),
                None => Err(match other {
                    Decision::DelegatedToIam {
                        delegation: Delegation::AccountRoot | Delegation::OtherAccount,
                        ..
                    } => Refusal::NoIdentityPolicy,
                    _ => Refusal::NoResourcePolicy,
                }),
            },
        };
        if outcome.is_err() {
            let mut all: Vec<_> =
                policy.explain(&request).iter().map(|trace| Traced::statement("key policy", trace)).collect();
            all.append(&mut traces);
            if !matches!(outcome, Err(Refusal::DeniedByResource | Refusal::DeniedByIdentity)) {
                all.extend(self.why_no_grant(key, action, context)?);
            }
            traces = all;
        }
        Ok(Weighed { outcome, traces })
    }

    /// What the caller's identity policies say.
    fn ask_identity(&self, action: &str, resource: &str, context: &ConditionContext) -> Answer<Weighed> {
        let request = IdentityRequest { action, resource, principal: &self.caller.principal, context };
        let (mut outcome, mut traces) = (Err(Refusal::NoIdentityPolicy), Vec::new());
        for Attached { name, policy } in &self.service.attached(self.caller)? {
            match policy.evaluate(&request) {
                IdentityDecision::ExplicitDeny { .. } => outcome = Err(Refusal::DeniedByIdentity),
                IdentityDecision::Allowed { statement } if outcome == Err(Refusal::NoIdentityPolicy) => {
                    outcome = Ok(By::identity_policy(name, &statement));
                }
                IdentityDecision::Allowed { .. } | IdentityDecision::NoStatement => {}
            }
            if outcome.is_err() {
                let source = format!("identity policy {name}");
                traces.extend(policy.explain(&request).iter().map(|trace| Traced::statement(&source, trace)));
            }
        }
        Ok(Weighed { outcome, traces })
    }

    /// Of each grant of the caller, why it does not help.
    fn why_no_grant(&self, key: &KeyRecord, action: &str, context: &ConditionContext) -> Answer<Vec<Traced>> {
        let operation = action.strip_prefix("kms:").unwrap_or(action);
        let tokens = self.used_tokens()?;
        let grants = self.service.grants_seen(&key.arn, self.now, |_| false)?;
        let own =
            grants.iter().filter(|grant| grant.is_for(&self.caller.principal)).take(grants::MOST_EXPLAINED);
        let why = |grant: &GrantRecord| match grant.mismatch(operation, context) {
            Some(mismatch) => Traced::grant(&grant.id, mismatch),
            None if !self.sees(grant, &tokens) => {
                Traced::grant_text(&grant.id, "it is not seen yet; send its token")
            }
            None => Traced::grant_text(&grant.id, "it cannot be passed on to a wider grant"),
        };
        Ok(own.map(why).collect())
    }

    /// Notes the judgement, and words a refusal.
    fn conclude(&self, action: &str, resource: Option<&str>, weighed: Weighed) -> Answer<()> {
        let Weighed { outcome, traces } = weighed;
        let refusal = outcome.as_ref().err().copied();
        let resource_text = resource.map(str::to_owned);
        self.judgements.borrow_mut().push(match outcome {
            Ok(by) => Judgement::allowed(action, resource_text, by),
            Err(refusal) => Judgement::refused(action, resource_text, refusal.why(action), traces),
        });
        match refusal {
            None => Ok(()),
            Some(refusal) => Err(self.denied(action, resource, refusal)),
        }
    }

    /// The refusal in AWS's words, as seen in public traces.
    fn denied(&self, action: &str, resource: Option<&str>, refusal: Refusal) -> ApiError {
        let why = refusal.why(action);
        let resource = resource.map(|arn| format!(" on resource: {arn}")).unwrap_or_default();
        let who = self.caller.principal.arn();
        ApiError::new(
            "AccessDeniedException",
            format!("User: {who} is not authorized to perform: {action}{resource} {why}"),
        )
    }
}

impl Refusal {
    fn why(self, action: &str) -> String {
        match self {
            Self::DeniedByResource => "with an explicit deny in a resource-based policy".to_owned(),
            Self::DeniedByIdentity => "with an explicit deny in an identity-based policy".to_owned(),
            Self::NoResourcePolicy => format!("because no resource-based policy allows the {action} action"),
            Self::NoIdentityPolicy => format!("because no identity-based policy allows the {action} action"),
        }
    }
}
