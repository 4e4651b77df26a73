//! What stands in for IAM: identity policies, and the ids of principals.
//!
//! Policies are attached to a user or a role by name, as inline policies are. An access key made
//! for an administrator has `AdministratorAccess` besides; an account's root user has everything.

use adyton_verifier::key_policy::{IdentityPolicy, Principal, RuntimeRole};
use serde::{Deserialize, Serialize};

use super::call::Caller;
use super::error::{Answer, ApiError};
use super::{KmsError, KmsServer, Service};

/// AWS's own policy of this name.
const EVERYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
/// Longest name of a policy.
const MAX_POLICY_NAME: usize = 128;
/// What all inline policies of one user, and of one role, may measure together (IAM quotas).
const USER_QUOTA: usize = 2048;
const ROLE_QUOTA: usize = 10_240;

/// An identity policy as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityPolicyRecord {
    /// The user's or role's ARN.
    pub principal: String,
    /// The policy's name, unique within the principal.
    pub name: String,
    /// The document as it was given.
    pub document: String,
}

/// A policy that a caller has.
pub(super) struct Attached {
    pub(super) name: String,
    pub(super) policy: IdentityPolicy,
}

impl Service {
    /// All identity policies of a caller.
    pub(super) fn attached(&self, caller: &Caller) -> Answer<Vec<Attached>> {
        let read = |name: String, document: &str| {
            let policy = IdentityPolicy::parse(document).map_err(|_| ApiError::internal())?;
            Answer::Ok(Attached { name, policy })
        };
        let mut attached = Vec::new();
        for record in self.store.identity_policies(caller.principal.identity_arn())? {
            attached.push(read(record.name, &record.document)?);
        }
        if caller.user.administrator || caller.principal.arn().ends_with(":root") {
            attached.push(read("AdministratorAccess".to_owned(), EVERYTHING)?);
        }
        Ok(attached)
    }
}

impl KmsServer {
    /// Attaches a policy to a user or role, or replaces the one of that name.
    ///
    /// # Errors
    /// [`KmsError::Iam`] in IAM's words for what is no policy or too much of it, and for names that
    /// cannot be; others if the database fails.
    pub fn put_identity_policy(&self, policy: &IdentityPolicyRecord) -> Result<(), KmsError> {
        let IdentityPolicyRecord { principal, name, document } = policy;
        let quota = quota_of(principal)?;
        check_name(name)?;
        IdentityPolicy::parse(document).map_err(|error| KmsError::Iam {
            code: "MalformedPolicyDocument",
            message: error.iam_message(),
        })?;
        self.service.store.put_identity_policy(policy, |others| {
            let sizes = others.iter().map(|other| IdentityPolicy::counted_characters(&other.document));
            let (kind, most) = quota;
            if sizes.sum::<usize>() + IdentityPolicy::counted_characters(document) <= most {
                return Ok(());
            }
            let who = principal.rsplit('/').next().unwrap_or_default();
            let message = format!("Maximum policy size of {most} bytes exceeded for {kind} {who}");
            Err(KmsError::Iam { code: "LimitExceeded", message })
        })
    }

    /// Detaches a policy; `false` if there was none of that name.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails.
    pub fn remove_identity_policy(&self, principal: &str, name: &str) -> Result<bool, KmsError> {
        self.service.store.remove_identity_policy(principal, name)
    }

    /// The policies of a user or role, by name.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails.
    pub fn identity_policies(&self, principal: &str) -> Result<Vec<IdentityPolicyRecord>, KmsError> {
        self.service.store.identity_policies(principal)
    }
}

fn quota_of(principal: &str) -> Result<(&'static str, usize), KmsError> {
    let resource = principal.splitn(6, ':').nth(5).unwrap_or_default();
    let known = RuntimeRole::parse(principal).is_ok();
    match resource.split('/').next() {
        Some("user") if known => Ok(("user", USER_QUOTA)),
        Some("role") if known => Ok(("role", ROLE_QUOTA)),
        _ => Err(KmsError::Iam {
            code: "ValidationError",
            message: format!("ARN {principal} is not that of a user or a role."),
        }),
    }
}

fn check_name(name: &str) -> Result<(), KmsError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if (1..=MAX_POLICY_NAME).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    Err(KmsError::Iam {
        code: "ValidationError",
        message:
            "The specified value for policyName is invalid. It must contain only alphanumeric characters \
                  and/or the following: +=,.@_-"
                .to_owned(),
    })
}

/// The value of `aws:userid`. IAM makes these ids at random; here they follow from the ARN, so that
/// a state made anew has the same.
pub(super) fn unique_id(principal: &Principal) -> String {
    let session = principal.arn().rsplit('/').next().unwrap_or_default();
    let resource = principal.arn().splitn(6, ':').nth(5).unwrap_or_default();
    match resource.split('/').next() {
        Some("user") => id_of("AIDA", principal.arn()),
        Some("assumed-role") => format!("{}:{session}", id_of("AROA", principal.identity_arn())),
        Some("federated-user") => format!("{}:{session}", principal.account()),
        _ => principal.account().to_owned(),
    }
}

/// Four letters for the kind and seventeen from the ARN.
pub(super) fn id_of(prefix: &str, arn: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, arn.as_bytes());
    let letters = digest.as_ref().iter().take(17).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    prefix.chars().chain(letters).collect()
}
