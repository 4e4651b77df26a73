//! Who asks, and whom a policy names.
//!
//! One caller has several names: a role session is its session ARN, its role
//! and its account. A policy may mean any of them, and what it means differs:
//! naming the account gives nobody the key, it lets IAM decide.

use std::fmt;

use super::document::PolicyError;
use super::json::Json;

/// The authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The ARN of the caller itself, of the session for a role.
    arn: String,
    /// The role behind a session; carries the role's path, which the session ARN does not.
    role: Option<String>,
    account: String,
}

/// Why a text is not the ARN of somebody who can call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the ARN of a user, an assumed role, a federated user or an account's root")]
pub struct PrincipalError(String);

impl Principal {
    /// A user, an account's root, or a session of a role that has no path.
    ///
    /// # Errors
    /// [`PrincipalError`] for anything else, bare roles included: nobody calls as a role without a session.
    pub fn parse(arn: &str) -> Result<Self, PrincipalError> {
        let error = || PrincipalError(arn.to_owned());
        let parts = ArnParts::parse(arn).ok_or_else(error)?;
        let role = match parts.kind {
            Kind::Root | Kind::User(_) | Kind::FederatedUser => None,
            Kind::AssumedRole { role } => {
                Some(format!("arn:{}:iam::{}:role/{role}", parts.partition, parts.account))
            }
            Kind::Role => return Err(error()),
        };
        Ok(Self { arn: arn.to_owned(), role, account: parts.account.to_owned() })
    }

    /// A session of the role with this ARN.
    ///
    /// # Errors
    /// [`PrincipalError`] unless the first is a role and the second a possible session name.
    pub fn assumed(role_arn: &str, session: &str) -> Result<Self, PrincipalError> {
        let error = || PrincipalError(role_arn.to_owned());
        let parts = ArnParts::parse(role_arn).filter(|parts| parts.kind == Kind::Role).ok_or_else(error)?;
        let name = role_arn.rsplit('/').next().ok_or_else(error)?;
        let arn = format!("arn:{}:sts::{}:assumed-role/{name}/{session}", parts.partition, parts.account);
        let caller = Self::parse(&arn)?;
        Ok(Self { role: Some(role_arn.to_owned()), ..caller })
    }

    /// The ARN of the caller itself, as in an access-denied message; of the session for a role.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The value of `aws:PrincipalArn`: the role for a role session, else the caller's own ARN.
    pub fn identity_arn(&self) -> &str {
        self.role.as_deref().unwrap_or(&self.arn)
    }

    /// The twelve-digit account.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The value of `aws:PrincipalType`.
    pub(super) fn kind(&self) -> &'static str {
        match ArnParts::parse(&self.arn).map(|parts| parts.kind) {
            Some(Kind::Root) => "Account",
            Some(Kind::User(_)) => "User",
            Some(Kind::FederatedUser) => "FederatedUser",
            Some(Kind::AssumedRole { .. } | Kind::Role) | None => "AssumedRole",
        }
    }

    /// The value of `aws:username`: the name without its path.
    pub(super) fn user_name(&self) -> Option<&str> {
        match ArnParts::parse(&self.arn)?.kind {
            Kind::User(name) => Some(name),
            _ => None,
        }
    }

    fn is_root(&self) -> bool {
        self.kind() == "Account"
    }
}

/// How a policy's principal element fits the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It does not name the caller.
    None,
    /// It names the caller's account.
    Account,
    /// It names the caller, or everybody.
    Direct,
}

/// One principal in a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// `*`.
    Anybody,
    /// An account id, or the ARN of its root.
    Account(String),
    /// A user, a role or a session.
    Arn(String),
    /// A service; no caller of the local KMS is one.
    Service(String),
}

impl Named {
    pub(super) fn fit(&self, caller: &Principal) -> Fit {
        match self {
            Self::Anybody => Fit::Direct,
            Self::Account(account) if *account == caller.account => {
                // The account's root user needs no IAM policy.
                if caller.is_root() { Fit::Direct } else { Fit::Account }
            }
            Self::Arn(arn) if *arn == caller.arn || Some(arn) == caller.role.as_ref() => Fit::Direct,
            Self::Account(_) | Self::Arn(_) | Self::Service(_) => Fit::None,
        }
    }

    /// The account that it belongs to, if it belongs to one.
    pub(super) fn account(&self) -> Option<&str> {
        match self {
            Self::Account(account) => Some(account),
            Self::Arn(arn) => ArnParts::parse(arn).map(|parts| parts.account),
            Self::Anybody | Self::Service(_) => None,
        }
    }

    /// Whether this, a role or user, is the other one or stands behind it as its role.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        let (Self::Arn(own), Self::Arn(other)) = (self, other) else { return false };
        let session_of_own = ArnParts::parse(other).is_some_and(|parts| match parts.kind {
            // A session's ARN has the role's name without its path.
            Kind::AssumedRole { role } => ArnParts::parse(own).is_some_and(|own_parts| {
                own_parts.kind == Kind::Role
                    && own_parts.account == parts.account
                    && own.rsplit('/').next() == Some(role)
            }),
            _ => false,
        });
        own == other || session_of_own
    }

    pub(super) fn parse_aws(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::Anybody);
        }
        if is_account(text) {
            return Ok(Self::Account(text.to_owned()));
        }
        let invalid = || PolicyError::InvalidPrincipal(text.to_owned());
        let parts = ArnParts::parse(text).ok_or_else(invalid)?;
        Ok(match parts.kind {
            Kind::Root => Self::Account(parts.account.to_owned()),
            _ => Self::Arn(text.to_owned()),
        })
    }

    fn parse_service(text: &str) -> Result<Self, PolicyError> {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if text.contains('.') && text.bytes().all(letters) {
            Ok(Self::Service(text.to_owned()))
        } else {
            Err(PolicyError::InvalidPrincipal(text.to_owned()))
        }
    }

    /// Whether a `NotPrincipal` list spares the caller.
    ///
    /// AWS may test the account, the role and the session one after the other and asks
    /// policies to list them all (IAM User Guide, "`NotPrincipal`"); so all must be listed.
    pub(super) fn spares(listed: &[Self], caller: &Principal) -> bool {
        let names =
            |arn: &str| listed.iter().any(|named| *named == Self::Anybody || *named == Self::Arn(arn.into()));
        let account = listed
            .iter()
            .any(|named| *named == Self::Anybody || *named == Self::Account(caller.account.clone()));
        account && (caller.is_root() || (names(&caller.arn) && caller.role.as_deref().is_none_or(names)))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("everybody"),
            Self::Account(account) => write!(f, "the account {account}"),
            Self::Arn(text) | Self::Service(text) => f.write_str(text),
        }
    }
}

/// Reads a `Principal` or `NotPrincipal` element.
pub(super) fn parse_element(element: &Json) -> Result<Vec<Named>, PolicyError> {
    let members = match element {
        Json::Text(text) if text == "*" => return Ok(vec![Named::Anybody]),
        Json::Text(text) => return Err(PolicyError::InvalidPrincipal(text.clone())),
        Json::Object(members) => members,
        _ => return Err(PolicyError::Shape { element: "Principal" }),
    };
    let mut named = Vec::new();
    for (kind, list) in members {
        let parse = match kind.as_str() {
            "AWS" => Named::parse_aws,
            "Service" => Named::parse_service,
            _ => return Err(PolicyError::InvalidPrincipal(kind.clone())),
        };
        for text in super::document::texts(list, "Principal")? {
            named.push(parse(text)?);
        }
    }
    if named.is_empty() {
        return Err(PolicyError::Shape { element: "Principal" });
    }
    Ok(named)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    Root,
    /// The name without its path.
    User(&'a str),
    Role,
    AssumedRole {
        role: &'a str,
    },
    FederatedUser,
}

struct ArnParts<'a> {
    partition: &'a str,
    account: &'a str,
    kind: Kind<'a>,
}

impl<'a> ArnParts<'a> {
    fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next();
        let (prefix, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        let partition_ok =
            partition.starts_with("aws") && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        if prefix != "arn" || !partition_ok || !region.is_empty() || !is_account(account) {
            return None;
        }
        let kind = match (service, resource.split_once('/')) {
            ("iam", None) if resource == "root" => Kind::Root,
            ("iam", Some(("user", path))) if is_path(path) => Kind::User(path.rsplit('/').next()?),
            ("iam", Some(("role", path))) if is_path(path) => Kind::Role,
            ("sts", Some(("federated-user", name))) if is_name(name) => Kind::FederatedUser,
            ("sts", Some(("assumed-role", names))) => {
                let (role, session) = names.split_once('/')?;
                (is_name(role) && is_name(session)).then_some(Kind::AssumedRole { role })?
            }
            _ => return None,
        };
        Some(Self { partition, account, kind })
    }
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_name)
}

/// The characters of IAM names; no wildcard is among them.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_role_with_and_without_a_path() {
        let plain = Principal::parse("arn:aws:sts::111122223333:assumed-role/enclave/i-1").unwrap();
        assert_eq!(plain.identity_arn(), "arn:aws:iam::111122223333:role/enclave");
        let deep = Principal::assumed("arn:aws:iam::111122223333:role/prod/enclave", "i-1").unwrap();
        assert_eq!(deep.arn(), "arn:aws:sts::111122223333:assumed-role/enclave/i-1");
        assert_eq!(deep.identity_arn(), "arn:aws:iam::111122223333:role/prod/enclave");
    }

    #[test]
    fn refuses_what_cannot_call() {
        for arn in [
            "",
            "*",
            "111122223333",
            "arn:aws:iam::111122223333:role/enclave",
            "arn:aws:iam::11112222333:user/a",
            "arn:aws:iam:eu-west-1:111122223333:user/a",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:user/a*",
            "arn:aws:sts::111122223333:assumed-role/enclave",
            "arn:aws:sts::111122223333:assumed-role/a/b/c",
            "arn:gcp:iam::111122223333:user/a",
        ] {
            assert_eq!(Principal::parse(arn), Err(PrincipalError(arn.to_owned())));
        }
    }
}
