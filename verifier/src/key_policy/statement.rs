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

/// What a statement is held against; of a key policy or an identity policy.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) action: &'a str,
    /// An ARN, or `*` for actions that are not about a resource.
    pub(super) resource: &'a str,
    pub(super) principal: &'a Principal,
    pub(super) context: &'a ConditionContext,
}

impl<'a> From<&Request<'a>> for Question<'a> {
    fn from(request: &Request<'a>) -> Self {
        let Request { action, resource, principal, context } = *request;
        Self { action, resource: resource.as_str(), principal, context }
    }
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
    /// The holder of an identity policy, which has neither.
    Holder,
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

    /// Refuses a statement without the element or its negation.
    pub(super) fn demand(&self, element: &'static str) -> Result<(), PolicyError> {
        if *self == Self::Absent { Err(PolicyError::Missing { element }) } else { Ok(()) }
    }

    pub(super) fn covers(&self, matches: impl Fn(&Pattern) -> bool) -> bool {
        match self {
            Self::Listed(patterns) => patterns.iter().any(matches),
            Self::AllBut(patterns) => !patterns.iter().any(matches),
            Self::Absent => false,
        }
    }
}

impl Statement {
    /// Whether the statement applies; the first element that does not fit is the reason why not.
    pub(super) fn verdict(&self, request: &Question<'_>) -> Verdict {
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

/// What a statement says by itself, for the linter.
impl Statement {
    /// Whether its `Action` or `NotAction` takes this action in.
    pub(super) fn acts(&self, action: &str) -> bool {
        let nothing = ConditionContext::default();
        let matches = |pattern: &Pattern| {
            let glob = pattern.resolve(&nothing, Wildcards::Read);
            glob.is_some_and(|glob| glob.matches(action, Case::Ignored))
        };
        self.resources != Choice::Absent && self.actions.covers(matches)
    }

    /// Whether it is about every caller and every key.
    pub(super) fn concerns_all(&self) -> bool {
        let key = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.source() == "*");
        matches!(&self.who, Who::Listed(named) if named.contains(&Named::Anybody))
            && matches!(&self.resources, Choice::Listed(patterns) if key(patterns))
    }

    /// Whether it lacks `Action` or `Resource` and so does nothing.
    pub(super) fn is_inert(&self) -> bool {
        self.actions == Choice::Absent || self.resources == Choice::Absent
    }

    /// The principals that it names.
    pub(super) fn named(&self) -> &[Named] {
        match &self.who {
            Who::Listed(named) => named,
            Who::Holder | Who::AllBut(_) => &[],
        }
    }
}

impl Who {
    fn fit(&self, caller: &Principal) -> Fit {
        match self {
            Self::Listed(named) => named.iter().map(|named| named.fit(caller)).max().unwrap_or(Fit::None),
            Self::AllBut(named) if Named::spares(named, caller) => Fit::None,
            Self::AllBut(_) | Self::Holder => Fit::Direct,
        }
    }
}

fn is_action(pattern: &Pattern, request: &Question<'_>) -> bool {
    let glob = pattern.resolve(request.context, Wildcards::Read);
    glob.is_some_and(|glob| glob.matches(request.action, Case::Ignored))
}

/// In a key policy `*` is the key that the policy belongs to; in an identity policy, everything.
fn is_resource(pattern: &Pattern, request: &Question<'_>) -> bool {
    let glob = pattern.resolve(request.context, Wildcards::Read);
    pattern.source() == "*" || glob.is_some_and(|glob| glob.matches_arn(request.resource))
}
