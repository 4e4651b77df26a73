//! What a policy says to a request, and why.

use std::fmt;

use super::statement::{Effect, Question, Request, Statement};

/// Which statement of the policy decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementId {
    /// Its place in the document, from 0.
    pub index: usize,
    /// Its `Sid`, if it has one.
    pub sid: Option<String>,
}

/// What the key policy says. Anything but `Allowed` and `DelegatedToIam` is a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A statement names the caller, or everybody, and the caller is of the key's account.
    Allowed {
        /// The first such statement.
        statement: StatementId,
    },
    /// The key policy permits it if an IAM policy of the caller's account does too.
    DelegatedToIam {
        /// The first such statement.
        statement: StatementId,
        /// Why IAM is asked.
        delegation: Delegation,
    },
    /// A statement denies it, whatever else allows.
    ExplicitDeny {
        /// The first such statement.
        statement: StatementId,
    },
    /// No statement allows it.
    NoStatement,
}

/// Why a key policy alone does not allow what it permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegation {
    /// The statement names the account (its root), which lets IAM policies of that account work.
    AccountRoot,
    /// The caller is of another account than the key; both sides must allow.
    OtherAccount,
}

/// What one statement has to say to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementTrace {
    /// Which statement.
    pub statement: StatementId,
    /// What it does where it applies.
    pub effect: Effect,
    /// Whether it applies.
    pub verdict: Verdict,
}

/// Whether a statement applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything in it fits the request.
    Applies {
        /// It names the caller or everybody, not only the caller's account.
        directly: bool,
    },
    /// Something in it does not fit.
    Skipped(Mismatch),
}

/// The first thing of a statement that does not fit a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It has no `Action` or no `Resource`, so it does nothing.
    Inert,
    /// It is not about this caller.
    Principal,
    /// It is not about this action.
    Action,
    /// It is not about this key.
    Resource,
    /// A condition does not hold.
    Condition {
        /// The operator as written in the policy.
        operator: String,
        /// The condition key as written in the policy.
        key: String,
        /// What the policy compares with.
        wanted: Vec<String>,
        /// What the request has; empty if it does not have the key.
        actual: Vec<String>,
    },
}

impl Decision {
    pub(super) fn from_statements(statements: &[Statement], request: &Request<'_>) -> Self {
        let other_account = request.principal.account() != request.resource.account();
        let question = Question::from(request);
        let (mut allowed, mut delegated) = (None, None);
        for statement in statements {
            let Verdict::Applies { directly } = statement.verdict(&question) else { continue };
            match (statement.effect, directly && !other_account) {
                (Effect::Deny, _) => return Self::ExplicitDeny { statement: StatementId::of(statement) },
                (Effect::Allow, true) => drop(allowed.get_or_insert(statement)),
                (Effect::Allow, false) => drop(delegated.get_or_insert(statement)),
            }
        }
        match (allowed, delegated) {
            (Some(statement), _) => Self::Allowed { statement: StatementId::of(statement) },
            (None, Some(statement)) => {
                let delegation =
                    if other_account { Delegation::OtherAccount } else { Delegation::AccountRoot };
                Self::DelegatedToIam { statement: StatementId::of(statement), delegation }
            }
            (None, None) => Self::NoStatement,
        }
    }
}

impl StatementId {
    pub(super) fn of(statement: &Statement) -> Self {
        Self { index: statement.index, sid: statement.sid.clone() }
    }
}

impl StatementTrace {
    pub(super) fn of(statement: &Statement, request: &Question<'_>) -> Self {
        Self {
            statement: StatementId::of(statement),
            effect: statement.effect,
            verdict: statement.verdict(request),
        }
    }
}

impl fmt::Display for StatementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}", self.index)?;
        self.sid.as_ref().map_or(Ok(()), |sid| write!(f, " ({sid})"))
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { statement } => write!(f, "allowed by {statement}"),
            Self::DelegatedToIam { statement, delegation } => {
                let whose = match delegation {
                    Delegation::AccountRoot => "IAM policies of the key's account",
                    Delegation::OtherAccount => "IAM policies of the caller's account",
                };
                write!(f, "left to {whose} by {statement}")
            }
            Self::ExplicitDeny { statement } => write!(f, "denied by {statement}"),
            Self::NoStatement => f.write_str("no statement allows it"),
        }
    }
}

impl fmt::Display for StatementTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        write!(f, "{} ({effect}): {}", self.statement, self.verdict)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applies { directly: true } => f.write_str("applies"),
            Self::Applies { directly: false } => f.write_str("applies to the caller's account"),
            Self::Skipped(mismatch) => write!(f, "does not apply: {mismatch}"),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inert => f.write_str("it has no Action or no Resource"),
            Self::Principal => f.write_str("it names other principals"),
            Self::Action => f.write_str("it names other actions"),
            Self::Resource => f.write_str("it names other resources"),
            Self::Condition { operator, key, wanted, actual } => {
                write!(f, "{operator} {key} wants {}, ", wanted.join(" or "))?;
                if actual.is_empty() {
                    f.write_str("the request does not have it")?;
                } else {
                    write!(f, "the request has {}", actual.join(", "))?;
                }
                let hexadecimal = key.to_lowercase().starts_with("kms:recipientattestation:");
                if hexadecimal && wanted.iter().any(|value| value.starts_with("0x")) {
                    f.write_str("; measurements are compared without 0x")?;
                }
                Ok(())
            }
        }
    }
}
