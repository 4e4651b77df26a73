//! The key policy that a user installs so that one enclave image, and nothing else, reads the data.
//!
//! Against the usual mistakes (K-2, K-3, K-17):
//! - The allow is not enough: another statement, added later, could allow the same without
//!   conditions. So everything that opens data is also denied unless the measurements fit.
//! - Conditions in one statement are joined by "and". A single deny with `StringNotEquals` over
//!   PCR0, PCR1 and PCR2 fires only if all three differ; so each measurement gets its own deny.
//! - Without a document the keys are absent, and a negated operator then holds: denied.
//! - Nobody holds `kms:*`, `kms:CreateGrant` is denied to all, and the account root gets nothing
//!   unless it is named as the administrator, who can change the policy but never decrypt.
//! - No deny touches `PutKeyPolicy`, so the administrator cannot be locked out by it.
//!
//! Whoever can put a policy can in the end permit themselves to read: the administrator belongs
//! to somebody who does not run the enclave (K-21).

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::principal::Named;

/// Length of a measurement: SHA-384.
const MEASUREMENT_BYTES: usize = 48;

/// The expected value of a PCR.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Measurement([u8; MEASUREMENT_BYTES]);

/// Why bytes are not a measurement that a policy may demand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeasurementError {
    /// Not 96 hexadecimal digits.
    #[error("a measurement is 96 hexadecimal digits")]
    Malformed,
    /// What enclaves in debug mode have; a policy that accepts it protects nothing.
    #[error("a measurement of zeros is that of any enclave in debug mode")]
    Zero,
}

impl Measurement {
    /// A measurement from its bytes.
    ///
    /// # Errors
    /// [`MeasurementError::Zero`] for zeros.
    pub fn new(bytes: [u8; MEASUREMENT_BYTES]) -> Result<Self, MeasurementError> {
        if bytes == [0; MEASUREMENT_BYTES] { Err(MeasurementError::Zero) } else { Ok(Self(bytes)) }
    }

    /// A measurement from hexadecimal digits, as `nitro-cli` prints it. No `0x`: KMS would not match it.
    ///
    /// # Errors
    /// [`MeasurementError`] for another length, other characters or zeros.
    pub fn from_hex(digits: &str) -> Result<Self, MeasurementError> {
        let mut bytes = [0; MEASUREMENT_BYTES];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| MeasurementError::Malformed)?;
        Self::new(bytes)
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who may do what with a key that only an enclave opens.
#[derive(Debug, Clone)]
pub struct RecipientOnly<'a> {
    /// The role whose credentials the enclave uses; a user for the local KMS.
    pub enclave_role: &'a str,
    /// Who encrypts data: they may make data keys, and may not open them again.
    pub data_owners: &'a [&'a str],
    /// Who may change the key and its policy, and nothing else. An account's root leaves that to IAM.
    pub administrator: &'a str,
    /// The measurements that the enclave must have: PCR0, PCR1 and PCR2 of the image, PCR16 for
    /// the policy's digest, PCR3 for the role of the parent instance, and so on.
    pub pcrs: &'a BTreeMap<u8, Measurement>,
    /// The VPC endpoint (`vpce-...`) through which alone data is opened, if there is one.
    pub vpc_endpoint: Option<&'a str>,
    /// Keys that every payload's encryption context must have.
    pub required_context: &'a [&'a str],
    /// The contexts of named keys, pair by pair; the enclave opens what is wrapped under exactly these
    /// values, and data owners make such keys without seeing them.
    pub named_keys: &'a [Vec<(&'a str, &'a str)>],
    /// Pairs that every payload's encryption context must have with just this value.
    pub fixed_context: &'a [(&'a str, &'a str)],
}

/// Why no policy can be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// No user, role or session; or, for anyone but the administrator, an account or everybody.
    #[error("{0:?} is not the ARN of a user, role or session")]
    Principal(String),
    /// Key and principals must be of one account: management works in the key's own account
    /// only, and a foreign caller would need an IAM policy over there as well.
    #[error("{0:?} is not of the administrator's account")]
    OtherAccount(String),
    /// One principal in two roles, which undoes the separation.
    #[error("the enclave's role {0:?} must not also be data owner or administrator")]
    SameRole(String),
    /// Nobody could encrypt, and a statement must name somebody.
    #[error("no data owner is named")]
    NoDataOwner,
    /// PCR0, PCR1 and PCR2 together are the image.
    #[error("no value for PCR{0}; PCR0, PCR1 and PCR2 are required")]
    NoMeasurement(u8),
    /// There are PCRs 0 to 31.
    #[error("there is no PCR{0}")]
    NoSuchPcr(u8),
    /// It would not be what it seems, or not parse again.
    #[error("{0:?} cannot be written into a key policy")]
    Text(String),
}

impl RecipientOnly<'_> {
    /// The policy as formatted JSON, ready for `PutKeyPolicy`.
    ///
    /// # Errors
    /// [`RenderError`] for principals or measurements that would make the policy weaker than it looks.
    pub fn render(&self) -> Result<String, RenderError> {
        let account = self.check()?;
        let document = Document {
            version: "2012-10-17",
            id: "adyton-recipient-only",
            statement: self.statements(&account),
        };
        // Maps with text keys and plain structs always serialise.
        serde_json::to_string_pretty(&document).map_err(|error| RenderError::Text(error.to_string()))
    }

    fn check(&self) -> Result<String, RenderError> {
        let Self {
            enclave_role,
            data_owners,
            administrator,
            pcrs,
            vpc_endpoint,
            required_context,
            named_keys,
            fixed_context,
        } = self;
        let account = account(administrator)?;
        if data_owners.is_empty() {
            return Err(RenderError::NoDataOwner);
        }
        for principal in data_owners.iter().chain([enclave_role]) {
            let named = matches!(Named::parse_aws(principal), Ok(Named::Arn(_)));
            if !named {
                return Err(RenderError::Principal((*principal).to_owned()));
            }
            if self::account(principal)? != account {
                return Err(RenderError::OtherAccount((*principal).to_owned()));
            }
        }
        if data_owners.iter().chain([administrator]).any(|other| other == enclave_role) {
            return Err(RenderError::SameRole((*enclave_role).to_owned()));
        }
        if let Some(missing) = (0..=2).find(|index| !pcrs.contains_key(index)) {
            return Err(RenderError::NoMeasurement(missing));
        }
        if let Some(index) = pcrs.keys().find(|index| **index > 31) {
            return Err(RenderError::NoSuchPcr(*index));
        }
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'$');
        let pairs = named_keys.iter().flatten().chain(*fixed_context).flat_map(|(key, value)| [key, value]);
        match vpc_endpoint.iter().chain(*required_context).chain(pairs).find(|text| !plain(text)) {
            Some(text) => Err(RenderError::Text((*text).to_owned())),
            None => Ok(account),
        }
    }

    fn statements(&self, account: &str) -> Vec<Rendered> {
        let mut statements =
            vec![self.enclave(account), self.data_owners(account), administration(self.administrator)];
        for (number, pairs) in (1..).zip(self.named_keys) {
            let mut opens =
                self.attested(format!("AttestedEnclaveNamedKey{number}"), &["kms:Decrypt"], account);
            let sid = format!("DataOwnersMakeNamedKey{number}");
            let mut makes = self.owned(sid, &["kms:GenerateDataKeyWithoutPlaintext"], account);
            for (key, value) in pairs {
                opens.add("StringEquals", format!("kms:EncryptionContext:{key}"), (*value).to_owned());
                makes.add("StringEquals", format!("kms:EncryptionContext:{key}"), (*value).to_owned());
            }
            statements.extend([opens, makes]);
        }
        statements.extend(self.pcrs.iter().map(|(index, measurement)| {
            let condition = ("StringNotEqualsIgnoreCase", pcr_key(*index), measurement.to_string());
            Rendered::deny(format!("OpenNothingUnlessPCR{index}Fits"), &OPENING, Some(condition))
        }));
        if let Some(endpoint) = self.vpc_endpoint {
            let condition = ("StringNotEquals", "aws:SourceVpce".to_owned(), endpoint.to_owned());
            statements.push(Rendered::deny("OpenNothingOutsideTheVpc".into(), &OPENING, Some(condition)));
        }
        let foreign = ("StringNotEquals", "kms:CallerAccount".to_owned(), account.to_owned());
        statements.push(Rendered::deny("NothingForOtherAccounts".into(), &USING, Some(foreign)));
        statements.push(Rendered::deny("NoGrants".into(), &["kms:CreateGrant"], None));
        statements
    }

    fn enclave(&self, account: &str) -> Rendered {
        let mut statement = self.attested("AttestedEnclave".into(), &ATTESTED, account);
        self.demand_context(&mut statement);
        statement
    }

    fn attested(&self, sid: String, actions: &[&'static str], account: &str) -> Rendered {
        let mut statement = Rendered::allow(sid, &[self.enclave_role], actions);
        for (index, measurement) in self.pcrs {
            statement.add("StringEqualsIgnoreCase", pcr_key(*index), measurement.to_string());
        }
        statement.add("StringEquals", "kms:CallerAccount".into(), account.to_owned());
        if let Some(endpoint) = self.vpc_endpoint {
            statement.add("StringEquals", "aws:SourceVpce".into(), endpoint.to_owned());
        }
        statement
    }

    fn data_owners(&self, account: &str) -> Rendered {
        let mut statement = self.owned("DataOwnersEncrypt".into(), &ENCRYPTING, account);
        self.demand_context(&mut statement);
        statement
    }

    fn owned(&self, sid: String, actions: &[&'static str], account: &str) -> Rendered {
        let mut statement = Rendered::allow(sid, self.data_owners, actions);
        statement.add("StringEquals", "kms:CallerAccount".into(), account.to_owned());
        statement
    }

    fn demand_context(&self, statement: &mut Rendered) {
        for key in self.required_context {
            statement.add("Null", format!("kms:EncryptionContext:{key}"), "false".into());
        }
        for (key, value) in self.fixed_context {
            statement.add("StringEquals", format!("kms:EncryptionContext:{key}"), (*value).to_owned());
        }
    }
}

/// What the enclave does, always with a document. `GenerateDataKeyWithoutPlaintext` takes none.
const ATTESTED: [&str; 2] = ["kms:Decrypt", "kms:GenerateDataKey"];

/// What data owners do. Their data keys come in plaintext: it is their data.
const ENCRYPTING: [&str; 3] = ["kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"];

/// Whatever turns ciphertext into something else. `ReEncrypt` takes no document, so it is denied to all.
const OPENING: [&str; 2] = ["kms:Decrypt", "kms:ReEncrypt*"];

/// Every cryptographic operation of a symmetric key.
const USING: [&str; 4] = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"];

/// The care of the key, by name: a wildcard would take in operations that do not exist yet.
const CARE: [&str; 21] = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
];

fn administration(administrator: &str) -> Rendered {
    Rendered::allow("Administration".into(), &[administrator], &CARE)
}

fn pcr_key(index: u8) -> String {
    format!("kms:RecipientAttestation:PCR{index}")
}

fn account(principal: &str) -> Result<String, RenderError> {
    let error = || RenderError::Principal(principal.to_owned());
    match Named::parse_aws(principal).map_err(|_| error())? {
        Named::Account(account) => Ok(account),
        Named::Arn(arn) => arn.split(':').nth(4).map(str::to_owned).ok_or_else(error),
        Named::Anybody | Named::Service(_) => Err(error()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: &'static str,
    id: &'static str,
    statement: Vec<Rendered>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rendered {
    sid: String,
    effect: &'static str,
    principal: BTreeMap<&'static str, Vec<String>>,
    action: Vec<&'static str>,
    resource: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<String, String>>,
}

impl Rendered {
    fn new(sid: String, effect: &'static str, principals: &[&str], actions: &[&'static str]) -> Self {
        let principals = principals.iter().map(|text| (*text).to_owned()).collect();
        Self {
            sid,
            effect,
            principal: BTreeMap::from([("AWS", principals)]),
            action: actions.to_vec(),
            resource: "*",
            condition: BTreeMap::new(),
        }
    }

    fn allow(sid: String, principals: &[&str], actions: &[&'static str]) -> Self {
        Self::new(sid, "Allow", principals, actions)
    }

    fn deny(
        sid: String,
        actions: &[&'static str],
        condition: Option<(&'static str, String, String)>,
    ) -> Self {
        let mut statement = Self::new(sid, "Deny", &["*"], actions);
        if let Some((operator, key, value)) = condition {
            statement.add(operator, key, value);
        }
        statement
    }

    fn add(&mut self, operator: &'static str, key: String, value: String) {
        self.condition.entry(operator).or_default().insert(key, value);
    }
}
