//! The policy document: strict reading of its JSON into statements.

use super::condition::Condition;
use super::decision::{Decision, StatementTrace};
use super::json::Json;
use super::pattern::{Pattern, Variables};
use super::principal;
use super::statement::{Choice, Effect, Question, Request, Statement, Who};

/// Longest key policy, in bytes: KMS quota "key policy document size", 32 KB.
pub const MAX_KEY_POLICY_BYTES: usize = 32 * 1024;

/// A key policy that has been read completely; nothing in it was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPolicy {
    pub(super) statements: Vec<Statement>,
}

/// Why a text is not a key policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Over the quota.
    #[error("key policy of {bytes} bytes is over the limit of {MAX_KEY_POLICY_BYTES}")]
    TooLarge {
        /// Length in bytes.
        bytes: usize,
    },
    /// A character that the API's pattern does not have: tab, LF, CR, U+0020 to U+00FF.
    #[error(
        "key policy holds the character U+{code:04X}; only tab, line breaks and U+0020 to U+00FF are allowed"
    )]
    Character {
        /// The character's code point.
        code: u32,
    },
    /// Not JSON, or an object with the same key twice.
    #[error("key policy is not JSON: {reason}")]
    Json {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// An element that the policy language does not have here. Names are case-sensitive.
    #[error("key policy has the unknown element {element:?}")]
    UnknownElement {
        /// Its name.
        element: String,
    },
    /// A required element is absent.
    #[error("key policy lacks the element {element}")]
    Missing {
        /// Its name.
        element: &'static str,
    },
    /// An element and its negation in one statement.
    #[error("a statement has both {element} and Not{element}")]
    Both {
        /// The positive one's name.
        element: &'static str,
    },
    /// An element of another JSON type than it may have, or an empty list.
    #[error("{element} is not of the form that it must have")]
    Shape {
        /// Its name.
        element: &'static str,
    },
    /// An element with a value that it cannot have.
    #[error("{element} cannot be {value:?}")]
    Value {
        /// Its name.
        element: &'static str,
        /// What it says.
        value: String,
    },
    /// Neither `*`, nor an account, nor the ARN of a user, role, session, or a service.
    #[error("{0:?} is not a principal that a key policy can name")]
    InvalidPrincipal(String),
    /// `NotPrincipal` exists with `Deny` only.
    #[error("NotPrincipal must be used with Effect Deny")]
    NotPrincipalWithAllow,
    /// A `Principal` or `NotPrincipal` in an identity policy.
    #[error("an identity policy cannot name principals")]
    PrincipalNotAllowed,
    /// A `Sid` of an identity policy with characters other than letters and digits.
    #[error("the statement id {0:?} is not alphanumeric")]
    Sid(String),
    /// A `Sid` that two statements of an identity policy have.
    #[error("two statements have the id {0:?}")]
    DuplicateSid(String),
    /// A condition operator that does not exist, or that is not evaluated here (`BinaryEquals`).
    #[error("condition operator {0:?} is unknown or not supported")]
    UnsupportedOperator(String),
    /// A condition value that its operator cannot compare with.
    #[error("{operator} cannot compare {key} with {value:?}")]
    ConditionValue {
        /// As written in the policy.
        operator: String,
        /// As written in the policy.
        key: String,
        /// As written in the policy.
        value: String,
    },
}

impl PolicyError {
    /// The text that KMS answers with, where it has been seen; else ours.
    pub fn aws_message(&self) -> String {
        match self {
            Self::InvalidPrincipal(_) => {
                "Policy contains a statement with one or more invalid principals.".to_owned()
            }
            other => other.to_string(),
        }
    }
}

impl KeyPolicy {
    /// Reads a key policy document.
    ///
    /// # Errors
    /// [`PolicyError`] for anything that is not entirely understood: a policy that is half
    /// understood could allow what it forbids.
    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        if json.len() > MAX_KEY_POLICY_BYTES {
            return Err(PolicyError::TooLarge { bytes: json.len() });
        }
        Ok(Self { statements: read_document(json, Kind::Key)? })
    }

    /// Decides one request.
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        Decision::from_statements(&self.statements, request)
    }

    /// Says of every statement whether it applies to the request, and if not, why.
    pub fn explain(&self, request: &Request<'_>) -> Vec<StatementTrace> {
        let question = Question::from(request);
        self.statements.iter().map(|statement| StatementTrace::of(statement, &question)).collect()
    }
}

/// Whose policy is read: they share the language but not every element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Names principals. May leave out `Action` or `Resource`, and then does nothing.
    Key,
    /// Belongs to a principal and names none.
    Identity,
}

pub(super) fn read_document(json: &str, kind: Kind) -> Result<Vec<Statement>, PolicyError> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
    if let Some(c) = json.chars().find(|c| !allowed(*c)) {
        return Err(PolicyError::Character { code: c.into() });
    }
    let root: Json =
        serde_json::from_str(json).map_err(|error| PolicyError::Json { reason: error.to_string() })?;
    let Json::Object(members) = &root else { return Err(PolicyError::Shape { element: "policy" }) };
    let (mut variables, mut statement) = (Variables::Literal, None);
    for (name, value) in members {
        match name.as_str() {
            "Version" => variables = read_version(value)?,
            "Id" => drop(text(value, "Id")?),
            "Statement" => statement = Some(value),
            _ => return Err(PolicyError::UnknownElement { element: name.clone() }),
        }
    }
    let list = match statement.ok_or(PolicyError::Missing { element: "Statement" })? {
        one @ Json::Object(_) => std::slice::from_ref(one),
        Json::Array(many) if !many.is_empty() => many,
        _ => return Err(PolicyError::Shape { element: "Statement" }),
    };
    let read = |(index, json)| read_statement(index, json, variables, kind);
    list.iter().enumerate().map(read).collect()
}

/// The older version, which is also the default, has no policy variables.
fn read_version(value: &Json) -> Result<Variables, PolicyError> {
    match text(value, "Version")? {
        "2012-10-17" => Ok(Variables::Read),
        "2008-10-17" => Ok(Variables::Literal),
        other => Err(PolicyError::Value { element: "Version", value: other.to_owned() }),
    }
}

fn read_statement(
    index: usize,
    json: &Json,
    variables: Variables,
    kind: Kind,
) -> Result<Statement, PolicyError> {
    let Json::Object(members) = json else { return Err(PolicyError::Shape { element: "Statement" }) };
    let (mut sid, mut effect, mut conditions) = (None, None, Vec::new());
    let (mut principal, mut not_principal) = (None, None);
    let (mut action, mut not_action, mut resource, mut not_resource) = (None, None, None, None);
    for (name, value) in members {
        match name.as_str() {
            "Sid" => sid = Some(text(value, "Sid")?.to_owned()),
            "Effect" => effect = Some(read_effect(value)?),
            "Principal" => principal = Some(principal::parse_element(value)?),
            "NotPrincipal" => not_principal = Some(principal::parse_element(value)?),
            "Action" => action = Some(read_actions(value)?),
            "NotAction" => not_action = Some(read_actions(value)?),
            "Resource" => resource = Some(read_resources(value, variables)?),
            "NotResource" => not_resource = Some(read_resources(value, variables)?),
            "Condition" => conditions = Condition::parse_block(value, variables)?,
            _ => return Err(PolicyError::UnknownElement { element: name.clone() }),
        }
    }
    let effect = effect.ok_or(PolicyError::Missing { element: "Effect" })?;
    let who = match (principal, not_principal) {
        (None, None) if kind == Kind::Identity => Who::Holder,
        _ if kind == Kind::Identity => return Err(PolicyError::PrincipalNotAllowed),
        (Some(named), None) => Who::Listed(named),
        (None, Some(_)) if effect == Effect::Allow => return Err(PolicyError::NotPrincipalWithAllow),
        (None, Some(named)) => Who::AllBut(named),
        (Some(_), Some(_)) => return Err(PolicyError::Both { element: "Principal" }),
        (None, None) => return Err(PolicyError::Missing { element: "Principal" }),
    };
    let actions = Choice::of(action, not_action, "Action")?;
    let resources = Choice::of(resource, not_resource, "Resource")?;
    if kind == Kind::Identity {
        actions.demand("Action")?;
        resources.demand("Resource")?;
    }
    Ok(Statement { index, sid, effect, who, actions, resources, conditions })
}

fn read_effect(value: &Json) -> Result<Effect, PolicyError> {
    match text(value, "Effect")? {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        other => Err(PolicyError::Value { element: "Effect", value: other.to_owned() }),
    }
}

/// `*` or `service:name`; variables are not read here (IAM User Guide, "Where you can use policy variables").
fn read_actions(value: &Json) -> Result<Vec<Pattern>, PolicyError> {
    let read = |action: &str| {
        let malformed = || PolicyError::Value { element: "Action", value: action.to_owned() };
        let named = action.split_once(':').is_some_and(|(service, name)| {
            let word = |s: &str, more: &[u8]| {
                !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
            };
            word(service, b"-") && word(name, b"*?")
        });
        if !named && action != "*" {
            return Err(malformed());
        }
        Pattern::parse(action, Variables::Literal).ok_or_else(malformed)
    };
    texts(value, "Action")?.into_iter().map(read).collect()
}

/// `*` or an ARN of six parts, with wildcards.
fn read_resources(value: &Json, variables: Variables) -> Result<Vec<Pattern>, PolicyError> {
    let read = |resource: &str| {
        let malformed = || PolicyError::Value { element: "Resource", value: resource.to_owned() };
        if resource != "*" && (!resource.starts_with("arn:") || resource.splitn(6, ':').count() != 6) {
            return Err(malformed());
        }
        Pattern::parse(resource, variables).ok_or_else(malformed)
    };
    texts(value, "Resource")?.into_iter().map(read).collect()
}

pub(super) fn text<'a>(value: &'a Json, element: &'static str) -> Result<&'a str, PolicyError> {
    match value {
        Json::Text(text) => Ok(text),
        _ => Err(PolicyError::Shape { element }),
    }
}

/// One text, or a list of at least one.
pub(super) fn texts<'a>(value: &'a Json, element: &'static str) -> Result<Vec<&'a str>, PolicyError> {
    match value {
        Json::Array(items) if !items.is_empty() => items.iter().map(|item| text(item, element)).collect(),
        other => Ok(vec![text(other, element)?]),
    }
}
