//! One statement, and whether it applies to a request.

use adyton_shared::KeyArn;

use super::condition::Condition;
use super::context::ConditionContext;
use super::decision::{Mismatch, Verdict};
use super::document::PolicyError;
use super::pattern::{Case, Pattern, Wildcards};
use super::principal::{Fit, Named, Principal};

/// What is asked: who wants to do what with which key, under which circumstances.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The action, `kms:Decrypt`.
    pub action: &'a str,
    /// The key that the policy belongs to.
    pub resource: &'a KeyArn,
    /// The authenticated caller.
    pub principal: &'a Principal,
    /// The condition keys; start from [`ConditionContext::for_principal`].
    pub context: &'a ConditionContext,
}

/// What a statement does where it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Permit, unless another statement denies.
    Allow,
    /// Refuse, whatever else allows.
    Deny,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) index: usize,
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    pub(super) who: Who,
    pub(super) actions: Choice,
    pub(super) resources: Choice,
    pub(super) conditions: Vec<Condition>,
}

/// `Principal` or `NotPrincipal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Listed(Vec<Named>),
    AllBut(Vec<Named>),
}

/// An element, its negation, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Listed(Vec<Pattern>),
    AllBut(Vec<Pattern>),
    /// The statement is accepted and does nothing (KMS Developer Guide, "Key policy elements").
    Absent,
}

impl Choice {
    pub(super) fn of(
        listed: Option<Vec<Pattern>>,
        all_but: Option<Vec<Pattern>>,
        element: &'static str,
    ) -> Result<Self, PolicyError> {
        match (listed, all_but) {
            (Some(listed), None) => Ok(Self::Listed(listed)),
            (None, Some(all_but)) => Ok(Self::AllBut(all_but)),
            (None, None) => Ok(Self::Absent),
            (Some(_), Some(_)) => Err(PolicyError::Both { element }),
        }
    }

    fn covers(&self, matches: impl Fn(&Pattern) -> bool) -> bool {
        match self {
            Self::Listed(patterns) => patterns.iter().any(matches),
            Self::AllBut(patterns) => !patterns.iter().any(matches),
            Self::Absent => false,
        }
    }
}

impl Statement {
    /// Whether the statement applies; the first element that does not fit is the reason why not.
    pub(super) fn verdict(&self, request: &Request<'_>) -> Verdict {
        let Self { index: _, sid: _, effect: _, who, actions, resources, conditions } = self;
        if *actions == Choice::Absent || *resources == Choice::Absent {
            return Verdict::Skipped(Mismatch::Inert);
        }
        let fit = who.fit(request.principal);
        if fit == Fit::None {
            return Verdict::Skipped(Mismatch::Principal);
        }
        if !actions.covers(|pattern| is_action(pattern, request)) {
            return Verdict::Skipped(Mismatch::Action);
        }
        if !resources.covers(|pattern| is_resource(pattern, request)) {
            return Verdict::Skipped(Mismatch::Resource);
        }
        match conditions.iter().find(|condition| !condition.holds(request.context)) {
            Some(unmet) => Verdict::Skipped(unmet.mismatch(request.context)),
            None => Verdict::Applies { directly: fit == Fit::Direct },
        }
    }
}

impl Who {
    fn fit(&self, caller: &Principal) -> Fit {
        match self {
            Self::Listed(named) => named.iter().map(|named| named.fit(caller)).max().unwrap_or(Fit::None),
            Self::AllBut(named) if Named::spares(named, caller) => Fit::None,
            Self::AllBut(_) => Fit::Direct,
        }
    }
}

fn is_action(pattern: &Pattern, request: &Request<'_>) -> bool {
    let glob = pattern.resolve(request.context, Wildcards::Read);
    glob.is_some_and(|glob| glob.matches(request.action, Case::Ignored))
}

/// In a key policy `*` is the key that the policy belongs to.
fn is_resource(pattern: &Pattern, request: &Request<'_>) -> bool {
    let glob = pattern.resolve(request.context, Wildcards::Read);
    pattern.source() == "*" || glob.is_some_and(|glob| glob.matches_arn(request.resource.as_str()))
}
