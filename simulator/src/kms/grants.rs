//! Grants: who may use a key beside its policy, for which operations, under which constraints.

use std::collections::BTreeMap;

use adyton_verifier::key_policy::{ConditionContext, Principal, RuntimeRole};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Session;
use super::decisions::{GrantMismatch, Unmet};
use super::error::{Answer, ApiError};
use super::key::{KeyRecord, Millis, seconds};
use super::spec::{KeySpec, KeyUsage};

/// Most grants that an explanation goes through.
pub(super) const MOST_EXPLAINED: usize = 20;
/// Tokens of one grant that stay valid; a grant that is made again and again gets new ones.
const TOKENS_PER_GRANT: usize = 20;

/// What a grant can be for, in the order of the API's model.
pub(super) const OPERATIONS: [&str; 17] = [
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "Sign",
    "Verify",
    "GetPublicKey",
    "CreateGrant",
    "RetireGrant",
    "DescribeKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateMac",
    "VerifyMac",
    "DeriveSharedSecret",
];

/// Operations without an encryption context; constraints on it do not concern them.
const WITHOUT_CONTEXT: [&str; 3] = ["CreateGrant", "DescribeKey", "RetireGrant"];

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantRecord {
    pub(super) key_arn: String,
    /// 64 hexadecimal digits.
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) created: Millis,
    /// The account of whoever made it.
    pub(super) issuer: String,
    pub(super) grantee: Party,
    pub(super) retiring: Option<Party>,
    /// As given, without repetitions.
    pub(super) operations: Vec<String>,
    pub(super) constraints: Constraints,
    /// Digests of its tokens, the oldest first.
    pub(super) tokens: Vec<String>,
}

/// Who is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Party {
    Principal(String),
    /// An AWS service, and none calls here.
    Service(String),
}

/// What the encryption context must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Constraints {
    pub(super) equals: BTreeMap<String, String>,
    pub(super) subset: BTreeMap<String, String>,
    pub(super) source_arn: Option<String>,
}

/// A grant that a holder of another one asks for.
pub(super) struct Wanted {
    pub(super) operations: Vec<String>,
    pub(super) constraints: Constraints,
}

impl Party {
    /// A user, role, session or account.
    ///
    /// # Errors
    /// `InvalidArnException` in AWS's words.
    pub(super) fn principal(arn: String) -> Answer<Self> {
        if RuntimeRole::parse(&arn).is_ok() || Principal::parse(&arn).is_ok() {
            return Ok(Self::Principal(arn));
        }
        Err(ApiError::new("InvalidArnException", format!("ARN does not refer to a valid principal: {arn}")))
    }

    fn is(&self, caller: &Principal) -> bool {
        match self {
            Self::Principal(arn) => arn == caller.arn() || arn == caller.identity_arn(),
            Self::Service(_) => false,
        }
    }
}

impl Constraints {
    fn is_empty(&self) -> bool {
        let Self { equals, subset, source_arn } = self;
        equals.is_empty() && subset.is_empty() && source_arn.is_none()
    }

    /// Whether whatever passes these passes `other` as well.
    fn is_within(&self, other: &Self) -> bool {
        let contains = |pairs: &BTreeMap<String, String>| {
            other.subset.iter().all(|(key, value)| pairs.get(key) == Some(value))
        };
        let equals = other.equals.is_empty() || self.equals == other.equals;
        let subset = contains(&self.subset) || contains(&self.equals);
        equals && subset && (other.source_arn.is_none() || self.source_arn == other.source_arn)
    }

    /// The first constraint that the request does not keep. Keys have no case here, values have.
    fn unmet(&self, context: &ConditionContext) -> Option<Unmet> {
        let unmet = |operator: &str, key: String, wanted: &str| {
            let actual = context.values(&key).to_vec();
            let fits = matches!(actual.as_slice(), [one] if one == wanted);
            (!fits).then(|| Unmet {
                operator: operator.to_owned(),
                key,
                wanted: vec![wanted.to_owned()],
                actual,
            })
        };
        let pair = |operator: &str, (key, value): (&String, &String)| {
            unmet(operator, format!("kms:EncryptionContext:{key}"), value)
        };
        let keys = context.values("kms:EncryptionContextKeys");
        let more = !self.equals.is_empty() && keys.len() != self.equals.len();
        let whole = || Unmet {
            operator: "EncryptionContextEquals".to_owned(),
            key: "kms:EncryptionContextKeys".to_owned(),
            wanted: self.equals.keys().cloned().collect(),
            actual: keys.to_vec(),
        };
        self.equals
            .iter()
            .find_map(|entry| pair("EncryptionContextEquals", entry))
            .or_else(|| more.then(whole))
            .or_else(|| self.subset.iter().find_map(|entry| pair("EncryptionContextSubset", entry)))
            .or_else(|| {
                let source = self.source_arn.as_deref()?;
                unmet("SourceArn", "aws:SourceArn".to_owned(), source)
            })
    }

    fn to_json(&self) -> Value {
        let Self { equals, subset, source_arn } = self;
        let mut constraints = json!({});
        if !equals.is_empty() {
            constraints["EncryptionContextEquals"] = json!(equals);
        }
        if !subset.is_empty() {
            constraints["EncryptionContextSubset"] = json!(subset);
        }
        if let Some(source) = source_arn {
            constraints["SourceArn"] = source.as_str().into();
        }
        constraints
    }
}

impl GrantRecord {
    pub(super) fn is_for(&self, caller: &Principal) -> bool {
        self.grantee.is(caller)
    }

    /// Whether it lets the caller do this.
    pub(super) fn allows(&self, operation: &str, caller: &Principal, context: &ConditionContext) -> bool {
        self.is_for(caller) && self.mismatch(operation, context).is_none()
    }

    /// Why it does not help its grantee.
    pub(super) fn mismatch(&self, operation: &str, context: &ConditionContext) -> Option<GrantMismatch> {
        if !self.operations.iter().any(|own| own == operation) {
            return Some(GrantMismatch::Operation);
        }
        if WITHOUT_CONTEXT.contains(&operation) {
            return None;
        }
        self.constraints.unmet(context).map(GrantMismatch::Constraint)
    }

    pub(super) fn may_be_retired_by(&self, caller: &Principal) -> bool {
        let by_grantee = self.is_for(caller) && self.operations.iter().any(|own| own == "RetireGrant");
        by_grantee || self.retiring.as_ref().is_some_and(|retiring| retiring.is(caller))
    }

    /// Whether asking for `other` again means this one.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let Self {
            key_arn,
            id: _,
            name,
            created: _,
            issuer,
            grantee,
            retiring,
            operations,
            constraints,
            tokens: _,
        } = self;
        let same_set = operations.len() == other.operations.len()
            && operations.iter().all(|own| other.operations.contains(own));
        same_set
            && *key_arn == other.key_arn
            && *name == other.name
            && *issuer == other.issuer
            && *grantee == other.grantee
            && *retiring == other.retiring
            && *constraints == other.constraints
    }

    /// Adds the digest of a token; the one that is forgotten for it, if there are too many.
    pub(super) fn add_token(&mut self, digest: String) -> Option<String> {
        self.tokens.push(digest);
        (self.tokens.len() > TOKENS_PER_GRANT).then(|| self.tokens.remove(0))
    }

    /// An entry of `Grants`.
    pub(super) fn entry(&self) -> Value {
        let mut entry = json!({
            "KeyId": self.key_arn,
            "GrantId": self.id,
            "Name": self.name.clone().unwrap_or_default(),
            "CreationDate": seconds(self.created),
            "IssuingAccount": format!("arn:aws:iam::{}:root", self.issuer),
            "Operations": self.operations,
        });
        let (member, name) = match &self.grantee {
            Party::Principal(arn) => ("GranteePrincipal", arn),
            Party::Service(name) => ("GranteeServicePrincipal", name),
        };
        entry[member] = name.as_str().into();
        match &self.retiring {
            Some(Party::Principal(arn)) => entry["RetiringPrincipal"] = arn.as_str().into(),
            Some(Party::Service(name)) => entry["RetiringServicePrincipal"] = name.as_str().into(),
            None => {}
        }
        if !self.constraints.is_empty() {
            entry["Constraints"] = self.constraints.to_json();
        }
        entry
    }

    /// In the order in which they were made.
    pub(super) fn sort_key(&self) -> String {
        format!("{:020}{}", self.created, self.id)
    }
}

/// Whether grants on this key can be for this operation (developer guide, "Grant operations").
pub(super) fn is_possible(key: &KeyRecord, operation: &str) -> bool {
    let symmetric = key.spec == KeySpec::SymmetricDefault;
    match operation {
        "CreateGrant" | "RetireGrant" | "DescribeKey" => true,
        "Encrypt" | "Decrypt" | "ReEncryptFrom" | "ReEncryptTo" => key.usage == KeyUsage::EncryptDecrypt,
        "GenerateDataKey"
        | "GenerateDataKeyWithoutPlaintext"
        | "GenerateDataKeyPair"
        | "GenerateDataKeyPairWithoutPlaintext" => symmetric,
        "Sign" | "Verify" => key.usage == KeyUsage::SignVerify,
        "GenerateMac" | "VerifyMac" => key.usage == KeyUsage::GenerateVerifyMac,
        "DeriveSharedSecret" => key.usage == KeyUsage::KeyAgreement,
        "GetPublicKey" => !symmetric && key.usage != KeyUsage::GenerateVerifyMac,
        _ => false,
    }
}

/// What the database knows a token by.
pub(super) fn token_digest(token: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()))
}

impl Session<'_> {
    /// The ids of the grants whose tokens the call sent.
    ///
    /// # Errors
    /// `InvalidGrantTokenException` for a token of no grant.
    pub(super) fn used_tokens(&self) -> Answer<Vec<String>> {
        let find = |token: &String| {
            let grant = self.service.store.grant_of_token(&token_digest(token))?;
            grant.map(|grant| grant.id).ok_or_else(ApiError::invalid_grant_token)
        };
        self.grant_tokens.iter().map(find).collect()
    }

    /// Whether a grant has become known everywhere, or its token says that it is there.
    pub(super) fn sees(&self, grant: &GrantRecord, tokens: &[String]) -> bool {
        let age = self.now.saturating_sub(grant.created);
        age >= self.faults.stale_ms || tokens.contains(&grant.id)
    }

    /// Whether the grant that is asked for is no wider than the one that allows asking.
    pub(super) fn may_pass_on(&self, grant: &GrantRecord) -> bool {
        self.wanted_grant.as_ref().is_some_and(|Wanted { operations, constraints }| {
            operations.iter().all(|operation| grant.operations.contains(operation))
                && constraints.is_within(&grant.constraints)
        })
    }
}
