//! IAM identity policies: what a user or role may do with keys whose policies leave it to IAM.
//!
//! The language is that of key policies without principals. Only what concerns KMS is
//! evaluated; statements about other services are read and never apply.

use std::collections::HashSet;
use std::fmt;

use super::context::ConditionContext;
use super::decision::{StatementId, StatementTrace, Verdict};
use super::document::{Kind, PolicyError, read_document};
use super::principal::Principal;
use super::statement::{Effect, Question, Statement};

/// Longest identity policy that the IAM API takes, white space included, in bytes.
pub const MAX_IDENTITY_POLICY_BYTES: usize = 131_072;

/// An identity policy that has been read completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityPolicy {
    statements: Vec<Statement>,
}

/// What is asked of an identity policy: may its holder do this?
#[derive(Debug, Clone, Copy)]
pub struct IdentityRequest<'a> {
    /// The action, `kms:Decrypt`.
    pub action: &'a str,
    /// The ARN of the key or alias; `*` for actions on no particular one, such as `kms:ListKeys`.
    pub resource: &'a str,
    /// The holder of the policy.
    pub principal: &'a Principal,
    /// The condition keys; start from [`ConditionContext::for_principal`].
    pub context: &'a ConditionContext,
}

/// What an identity policy says. Anything but `Allowed` is a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityDecision {
    /// A statement allows it and none denies it.
    Allowed {
        /// The first such statement.
        statement: StatementId,
    },
    /// A statement denies it, whatever else allows.
    ExplicitDeny {
        /// The first such statement.
        statement: StatementId,
    },
    /// No statement allows it.
    NoStatement,
}

impl IdentityPolicy {
    /// Reads an identity policy document.
    ///
    /// # Errors
    /// [`PolicyError`] for anything that is not entirely understood; [`PolicyError::iam_message`]
    /// words it as IAM does.
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        if json.len() > MAX_IDENTITY_POLICY_BYTES {
            return Err(PolicyError::TooLarge { bytes: json.len() });
        }
        let statements = read_document(json, Kind::Identity)?;
        let mut seen = HashSet::new();
        for sid in statements.iter().filter_map(|statement| statement.sid.as_deref()) {
            if !sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(PolicyError::Sid(sid.to_owned()));
            }
            if !sid.is_empty() && !seen.insert(sid) {
                return Err(PolicyError::DuplicateSid(sid.to_owned()));
            }
        }
        Ok(Self { statements })
    }

    /// The size that IAM's quotas count: characters that are not white space.
    pub fn counted_characters(json: &str) -> usize {
        json.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')).count()
    }

    /// Decides one request.
    pub fn evaluate(&self, request: &IdentityRequest<'_>) -> IdentityDecision {
        let question = Question::from(request);
        let mut allowed = None;
        for statement in &self.statements {
            let Verdict::Applies { .. } = statement.verdict(&question) else { continue };
            match statement.effect {
                Effect::Deny => {
                    return IdentityDecision::ExplicitDeny { statement: StatementId::of(statement) };
                }
                Effect::Allow => drop(allowed.get_or_insert(statement)),
            }
        }
        allowed.map_or(IdentityDecision::NoStatement, |statement| IdentityDecision::Allowed {
            statement: StatementId::of(statement),
        })
    }

    /// Says of every statement whether it applies to the request, and if not, why.
    pub fn explain(&self, request: &IdentityRequest<'_>) -> Vec<StatementTrace> {
        let question = Question::from(request);
        self.statements.iter().map(|statement| StatementTrace::of(statement, &question)).collect()
    }
}

impl<'a> From<&IdentityRequest<'a>> for Question<'a> {
    fn from(request: &IdentityRequest<'a>) -> Self {
        let IdentityRequest { action, resource, principal, context } = *request;
        Self { action, resource, principal, context }
    }
}

impl fmt::Display for IdentityDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { statement } => write!(f, "allowed by {statement}"),
            Self::ExplicitDeny { statement } => write!(f, "denied by {statement}"),
            Self::NoStatement => f.write_str("no statement allows it"),
        }
    }
}

impl PolicyError {
    /// The text with which IAM answers `MalformedPolicyDocument` (`LimitExceeded` for the size).
    pub fn iam_message(&self) -> String {
        match self {
            Self::TooLarge { .. } => {
                format!("Cannot exceed quota for PolicySize: {MAX_IDENTITY_POLICY_BYTES}")
            }
            Self::Character { .. } => "The specified value for policyDocument is invalid. It must contain \
                                       only printable ASCII characters."
                .to_owned(),
            Self::Missing { element: "Action" } => "Policy statement must contain actions.".to_owned(),
            Self::Missing { element: "Resource" } => "Policy statement must contain resources.".to_owned(),
            Self::PrincipalNotAllowed => "Policy document should not specify a principal.".to_owned(),
            Self::Sid(_) => "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the \
                             regular expression [0-9A-Za-z]*"
                .to_owned(),
            Self::DuplicateSid(_) => "Statement IDs (SID) in a single policy must be unique.".to_owned(),
            Self::Value { element: "Version", .. } => {
                "Policy document must be version 2012-10-17 or greater.".to_owned()
            }
            Self::Value { element: "Resource", value } => {
                format!("Resource {value} must be in ARN format or \"*\".")
            }
            Self::Value { element: "Action", value } => match value.matches(':').count() {
                0 => "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.".to_owned(),
                1 => {
                    format!("Vendor {} is not valid", value.split(':').next().unwrap_or_default())
                }
                _ => "Actions/Condition can contain only one colon.".to_owned(),
            },
            _ => "Syntax errors in policy.".to_owned(),
        }
    }
}
