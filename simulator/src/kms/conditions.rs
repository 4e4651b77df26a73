//! The condition keys of a call: who asks, from where, for which key, with which parameters.
//!
//! `kms:ViaService` and `aws:SourceVpce` are always absent: no AWS service and no VPC endpoint is
//! in between. What operations verify themselves (encryption contexts, recipients) they add.

use adyton_verifier::key_policy::ConditionContext;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::call::Session;
use super::error::Answer;
use super::iam;
use super::input::Input;
use super::key::KeyRecord;

/// A parameter that becomes a condition key: operations, field, key, value if the field is absent.
type Parameter = (&'static [&'static str], &'static str, &'static str, Option<&'static str>);

const CREATING: &[&str] = &["CreateKey"];
const SIGNING: &[&str] = &["Sign", "Verify"];
const POLICY_SETTING: &[&str] = &["CreateKey", "PutKeyPolicy", "ReplicateKey"];

/// Developer guide, "AWS KMS condition keys".
const PARAMETERS: [Parameter; 24] = [
    (POLICY_SETTING, "BypassPolicyLockoutSafetyCheck", "kms:BypassPolicyLockoutSafetyCheck", Some("false")),
    (CREATING, "CustomerMasterKeySpec", "kms:KeySpec", Some("SYMMETRIC_DEFAULT")),
    (CREATING, "KeySpec", "kms:KeySpec", None),
    (CREATING, "KeyUsage", "kms:KeyUsage", Some("ENCRYPT_DECRYPT")),
    (CREATING, "Origin", "kms:KeyOrigin", Some("AWS_KMS")),
    (CREATING, "MultiRegion", "kms:MultiRegion", Some("false")),
    (&["Decrypt", "Encrypt"], "EncryptionAlgorithm", "kms:EncryptionAlgorithm", Some("SYMMETRIC_DEFAULT")),
    (
        &["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"],
        "KeyPairSpec",
        "kms:DataKeyPairSpec",
        None,
    ),
    (&["DeriveSharedSecret"], "KeyAgreementAlgorithm", "kms:KeyAgreementAlgorithm", None),
    (&["GenerateMac", "VerifyMac"], "MacAlgorithm", "kms:MacAlgorithm", None),
    (SIGNING, "SigningAlgorithm", "kms:SigningAlgorithm", None),
    (SIGNING, "MessageType", "kms:MessageType", Some("RAW")),
    (
        &["ScheduleKeyDeletion"],
        "PendingWindowInDays",
        "kms:ScheduleKeyDeletionPendingWindowInDays",
        Some("30"),
    ),
    (&["EnableKeyRotation"], "RotationPeriodInDays", "kms:RotationPeriodInDays", Some("365")),
    (&["GetParametersForImport"], "WrappingAlgorithm", "kms:WrappingAlgorithm", None),
    (&["GetParametersForImport"], "WrappingKeySpec", "kms:WrappingKeySpec", None),
    (&["ImportKeyMaterial"], "ExpirationModel", "kms:ExpirationModel", Some("KEY_MATERIAL_EXPIRES")),
    (&["ImportKeyMaterial"], "ValidTo", "kms:ValidTo", None),
    (&["ReplicateKey"], "ReplicaRegion", "kms:ReplicaRegion", None),
    (&["UpdatePrimaryRegion"], "PrimaryRegion", "kms:PrimaryRegion", None),
    (&["CreateGrant"], "GranteePrincipal", "kms:GranteePrincipal", None),
    (&["CreateGrant"], "GranteeServicePrincipal", "kms:GranteePrincipal", None),
    (&["CreateGrant"], "RetiringPrincipal", "kms:RetiringPrincipal", None),
    (&["CreateGrant"], "RetiringServicePrincipal", "kms:RetiringPrincipal", None),
];

/// The condition keys that follow from the parameters of a request.
pub(super) fn of_request(operation: &str, input: &Input) -> Vec<(String, String)> {
    let mut conditions = Vec::new();
    for (operations, field, key, default) in PARAMETERS {
        if !operations.contains(&operation) {
            continue;
        }
        let value = input.peek(field).and_then(text);
        // A later row may have the same key under another name of the field.
        if let Some(value) = value.or_else(|| default.map(str::to_owned)) {
            conditions.retain(|(other, _)| other != key);
            conditions.push((key.to_owned(), value));
        }
    }
    if operation == "CreateGrant" {
        of_grant(input, &mut conditions);
    }
    tags(operation, input, &mut conditions);
    conditions
}

fn of_grant(input: &Input, conditions: &mut Vec<(String, String)>) {
    for granted in input.peek("Operations").and_then(Value::as_array).into_iter().flatten().filter_map(text) {
        conditions.push(("kms:GrantOperations".into(), granted));
    }
    // Only AWS services make grants for AWS resources, and none calls here.
    conditions.push(("kms:GrantIsForAWSResource".into(), "false".into()));
    let constraints = input.peek("Constraints").and_then(Value::as_object);
    for kind in ["EncryptionContextEquals", "EncryptionContextSubset", "SourceArn"] {
        if constraints.is_some_and(|constraints| constraints.contains_key(kind)) {
            conditions.push(("kms:GrantConstraintType".into(), kind.into()));
        }
    }
}

fn tags(operation: &str, input: &Input, conditions: &mut Vec<(String, String)>) {
    if ["CreateKey", "ReplicateKey", "TagResource"].contains(&operation) {
        let tags = input.peek("Tags").and_then(Value::as_array).into_iter().flatten();
        for tag in tags {
            let member = |name: &str| tag.get(name).and_then(text);
            let (Some(key), Some(value)) = (member("TagKey"), member("TagValue")) else { continue };
            conditions.push((format!("aws:RequestTag/{key}"), value));
            conditions.push(("aws:TagKeys".into(), key));
        }
    }
    if operation == "UntagResource" {
        let keys = input.peek("TagKeys").and_then(Value::as_array).into_iter().flatten();
        conditions.extend(keys.filter_map(text).map(|key| ("aws:TagKeys".to_owned(), key)));
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Session<'_> {
    /// The condition keys that every call has.
    pub(super) fn conditions_of_call(&self) -> ConditionContext {
        let principal = &self.caller.principal;
        let mut context = ConditionContext::for_principal(principal);
        context.set("aws:userid", &iam::unique_id(principal));
        for (tag, value) in &self.caller.user.tags {
            context.set(&format!("aws:PrincipalTag/{tag}"), value);
        }
        context.set("aws:PrincipalIsAWSService", "false");
        context.set("aws:ViaAWSService", "false");
        context.set("aws:RequestedRegion", self.region);
        context.set("aws:SourceIp", &self.peer.ip().to_string());
        context.set("aws:SecureTransport", if self.secure { "true" } else { "false" });
        let seconds = self.now / 1000;
        context.set("aws:EpochTime", &seconds.to_string());
        let time =
            i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        if let Some(time) = time.and_then(|time| time.format(&Rfc3339).ok()) {
            context.set("aws:CurrentTime", &time);
        }
        for (key, value) in &self.request_conditions {
            context.add(key, value);
        }
        context
    }

    /// The same with those of the key.
    pub(super) fn conditions_of(&self, key: &KeyRecord) -> Answer<ConditionContext> {
        let mut context = self.conditions_of_call();
        context.set("kms:KeySpec", key.spec.name());
        context.set("kms:KeyUsage", key.usage.name());
        context.set("kms:KeyOrigin", key.origin.name());
        context.set("kms:MultiRegion", if key.regions.is_some() { "true" } else { "false" });
        if let Some(regions) = &key.regions {
            let primary = key.region == regions.primary;
            context.set("kms:MultiRegionKeyType", if primary { "PRIMARY" } else { "REPLICA" });
        }
        if let Some(alias) = &self.request_alias {
            context.set("kms:RequestAlias", alias);
        }
        for name in self.service.store.names_of(&key.arn)? {
            context.add("kms:ResourceAliases", &name);
        }
        for (tag, value) in &key.tags {
            context.set(&format!("aws:ResourceTag/{tag}"), value);
        }
        Ok(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(operation: &str, body: &str) -> Vec<(String, String)> {
        let mut conditions = of_request(operation, &Input::parse(body.as_bytes()).unwrap());
        conditions.sort();
        conditions
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn parameters_become_condition_keys_of_their_operation_only() {
        for (operation, body, expected) in [
            ("Decrypt", "{}", &[("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT")][..]),
            (
                "Sign",
                r#"{"SigningAlgorithm":"A"}"#,
                &[("kms:MessageType", "RAW"), ("kms:SigningAlgorithm", "A")],
            ),
            ("GenerateMac", r#"{"MacAlgorithm":"HMAC_SHA_256"}"#, &[("kms:MacAlgorithm", "HMAC_SHA_256")]),
            (
                "ScheduleKeyDeletion",
                r#"{"PendingWindowInDays":7}"#,
                &[("kms:ScheduleKeyDeletionPendingWindowInDays", "7")],
            ),
            ("EnableKeyRotation", "{}", &[("kms:RotationPeriodInDays", "365")]),
            ("PutKeyPolicy", "{}", &[("kms:BypassPolicyLockoutSafetyCheck", "false")]),
            (
                "ImportKeyMaterial",
                r#"{"ValidTo":1767225600}"#,
                &[("kms:ExpirationModel", "KEY_MATERIAL_EXPIRES"), ("kms:ValidTo", "1767225600")],
            ),
            ("DescribeKey", r#"{"SigningAlgorithm":"A"}"#, &[]),
            ("Sign", r#"{"SigningAlgorithm":["A"]}"#, &[("kms:MessageType", "RAW")]),
        ] {
            assert_eq!(of(operation, body), pairs(expected), "{operation} {body}");
        }
    }

    #[test]
    fn a_key_that_is_not_made_yet_is_described_by_its_request() {
        let made = of(
            "CreateKey",
            r#"{"CustomerMasterKeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY","Tags":[{"TagKey":"a","TagValue":"b"},7]}"#,
        );
        let expected = [
            ("aws:RequestTag/a", "b"),
            ("aws:TagKeys", "a"),
            ("kms:BypassPolicyLockoutSafetyCheck", "false"),
            ("kms:KeyOrigin", "AWS_KMS"),
            ("kms:KeySpec", "RSA_2048"),
            ("kms:KeyUsage", "SIGN_VERIFY"),
            ("kms:MultiRegion", "false"),
        ];
        assert_eq!(made, pairs(&expected));
    }

    #[test]
    fn a_grant_says_what_for_and_how_it_is_bound() {
        let body = r#"{"GranteePrincipal":"g","Operations":["Encrypt","Decrypt"],
            "Constraints":{"EncryptionContextSubset":{"a":"b"}}}"#;
        let expected = [
            ("kms:GrantConstraintType", "EncryptionContextSubset"),
            ("kms:GrantIsForAWSResource", "false"),
            ("kms:GrantOperations", "Decrypt"),
            ("kms:GrantOperations", "Encrypt"),
            ("kms:GranteePrincipal", "g"),
        ];
        assert_eq!(of("CreateGrant", body), pairs(&expected));
    }
}
