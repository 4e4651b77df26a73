//! The audit log: one line of JSON a call, with the names that CloudTrail uses, in a hash chain.
//!
//! It repeats what the caller said only field by field from a list: key ids, contexts, policies,
//! never plaintext, ciphertext or an attestation document.

mod chain;
mod head;
mod log;
mod verify;

use adyton_verifier::attestation::Document;
use adyton_verifier::key_policy::Principal;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::call::{Call, Caller};
use super::error::ApiError;
use super::key::{KeyRecord, Millis};
use super::{iam, sts};
pub(super) use log::AuditLog;
pub use verify::{AuditVerdict, verify_audit};

/// Fields that may appear in `requestParameters`. Everything else is left out.
const REPEATED: [&str; 39] = [
    "AliasName",
    "BypassPolicyLockoutSafetyCheck",
    "CloudHsmClusterId",
    "CustomKeyStoreId",
    "CustomKeyStoreName",
    "CustomKeyStoreType",
    "CustomerMasterKeySpec",
    "Description",
    "DestinationEncryptionAlgorithm",
    "DestinationEncryptionContext",
    "DestinationKeyId",
    "DryRun",
    "EncryptionAlgorithm",
    "EncryptionContext",
    "KeyId",
    "KeyPairSpec",
    "KeySpec",
    "KeyUsage",
    "Limit",
    "MacAlgorithm",
    "Marker",
    "MessageType",
    "MultiRegion",
    "NewCustomKeyStoreName",
    "NumberOfBytes",
    "Operations",
    "Origin",
    "PendingWindowInDays",
    "Policy",
    "PolicyName",
    "RotationPeriodInDays",
    "SigningAlgorithm",
    "SourceEncryptionAlgorithm",
    "SourceEncryptionContext",
    "SourceKeyId",
    "TagKeys",
    "Tags",
    "TargetKeyId",
    "WrappingKeySpec",
];

/// How the names of operations begin that change something.
const CHANGES: [&str; 17] = [
    "Cancel",
    "Connect",
    "Create",
    "Delete",
    "Disable",
    "Disconnect",
    "Enable",
    "Import",
    "Put",
    "Replicate",
    "Retire",
    "Revoke",
    "Rotate",
    "Schedule",
    "Tag",
    "Untag",
    "Update",
];

/// What is known about a call so far.
pub(super) struct Trail {
    pub(super) time: Millis,
    request_id: String,
    event_id: String,
    source: String,
    user_agent: Option<String>,
    identity: Value,
    account: Option<String>,
    region: String,
    parameters: Value,
    response: Value,
    resources: Vec<Value>,
    recipient: Option<Value>,
    source_service: &'static str,
}

impl Trail {
    pub(super) fn new(call: &Call, time: Millis, region: &str) -> Self {
        let agent = call.parts.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        Self {
            time,
            request_id: call.request_id.clone(),
            event_id: uuid::Uuid::new_v4().to_string(),
            source: call.peer.ip().to_string(),
            user_agent: agent.map(str::to_owned),
            identity: json!({"type": "Unknown"}),
            account: None,
            region: region.to_owned(),
            parameters: Value::Null,
            response: Value::Null,
            resources: Vec::new(),
            recipient: None,
            source_service: if sts::is_query(&call.parts) {
                "sts.amazonaws.com"
            } else {
                "kms.amazonaws.com"
            },
        }
    }

    pub(super) fn caller(&mut self, caller: &Caller) {
        self.identity = identity(caller);
        self.account = Some(caller.account().to_owned());
        self.region.clone_from(&caller.region);
    }

    /// What is asked of STS. A role of another account sees the caller's account, as in CloudTrail.
    pub(super) fn assume_role(&mut self, role_arn: &str, parameters: Value) {
        self.parameters = parameters;
        let account = role_arn.split(':').nth(4).unwrap_or_default();
        if self.account.as_deref() != Some(account) {
            let (id, arn) = (self.identity["principalId"].take(), self.identity["arn"].take());
            self.identity =
                json!({"type": "AWSAccount", "principalId": id, "arn": arn, "accountId": self.account});
            self.account = Some(account.to_owned());
        }
        self.resources.push(json!({"accountId": account, "type": "AWS::IAM::Role", "ARN": role_arn}));
    }

    /// The session that was given, without what would let a reader use it.
    pub(super) fn assumed(&mut self, access_key_id: &str, session: &Principal, id: &str, expires: &str) {
        self.response = json!({
            "credentials": {"accessKeyId": access_key_id, "expiration": expires},
            "assumedRoleUser": {"assumedRoleId": id, "arn": session.arn()},
        });
    }

    /// Takes over the fields of a body that may be repeated.
    pub(super) fn parameters(&mut self, body: &[u8]) {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return };
        let mut repeated = Map::new();
        for (name, value) in fields {
            if REPEATED.contains(&name.as_str()) {
                repeated.insert(member(&name), value);
            } else if let ("Recipient", Value::Object(recipient)) = (name.as_str(), value) {
                let algorithm = recipient.get("KeyEncryptionAlgorithm").cloned().unwrap_or_default();
                repeated.insert("recipient".into(), json!({"keyEncryptionAlgorithm": algorithm}));
            }
        }
        self.parameters = Value::Object(repeated);
    }

    pub(super) fn key(&mut self, key: &KeyRecord) {
        self.resources.push(json!({"accountId": key.account, "type": "AWS::KMS::Key", "ARN": key.arn}));
    }

    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    pub(super) fn event_id(&self) -> &str {
        &self.event_id
    }

    /// The ARNs of the keys that the call was about.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.resources
            .iter()
            .filter(|resource| resource["type"] == "AWS::KMS::Key")
            .filter_map(|key| key["ARN"].as_str())
    }

    /// What the verified document says, under CloudTrail's names.
    pub(super) fn recipient(&mut self, document: &Document) {
        let mut recipient = Map::new();
        recipient.insert("attestationDocumentModuleId".into(), document.module_id.clone().into());
        for (index, value) in &document.pcrs {
            let value = Value::from(value.to_string());
            if *index == 0 {
                recipient.insert("attestationDocumentEnclaveImageDigest".into(), value.clone());
            }
            recipient.insert(format!("attestationDocumentEnclavePCR{index}"), value);
        }
        self.recipient = Some(Value::Object(recipient));
    }

    /// Whether the document was made for this very request (K-13).
    pub(super) fn document_matches_request(&mut self, matches: bool) {
        if let Some(recipient) = &mut self.recipient {
            recipient["documentMatchesRequest"] = matches.into();
        }
    }

    fn line(&self, operation: &str, error: Option<&ApiError>) -> Value {
        let read_only = !CHANGES.iter().any(|verb| operation.starts_with(verb));
        let mut line = json!({
            "eventVersion": "1.11",
            "userIdentity": self.identity,
            "eventTime": time_text(self.time),
            "eventSource": self.source_service,
            "eventName": operation,
            "awsRegion": self.region,
            "sourceIPAddress": self.source,
            "userAgent": self.user_agent,
            "requestParameters": self.parameters,
            "responseElements": self.response,
            "requestID": self.request_id,
            "eventID": self.event_id,
            "readOnly": read_only,
            "resources": self.resources,
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "recipientAccountId": self.account,
            "eventCategory": "Management",
        });
        if let Some(error) = error {
            let code = match (self.source_service, error.code) {
                // CloudTrail shortens this one name.
                (_, "AccessDeniedException") => "AccessDenied",
                ("sts.amazonaws.com", _) => sts::code_of(error),
                (_, code) => code,
            };
            line["errorCode"] = code.into();
            if let Some(text) = &error.message {
                line["errorMessage"] = text.as_str().into();
            }
        }
        if let Some(recipient) = &self.recipient {
            line["additionalEventData"] = json!({"recipient": recipient});
        }
        line
    }
}

/// CloudTrail writes the names of fields with a small first letter.
fn member(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// `userIdentity` of somebody whose signature was right.
fn identity(caller: &Caller) -> Value {
    let arn = caller.principal.arn();
    let mut identity = json!({
        "principalId": iam::unique_id(&caller.principal),
        "arn": arn,
        "accountId": caller.account(),
        "accessKeyId": caller.user.access_key_id,
    });
    match arn.split(':').nth(5).unwrap_or_default() {
        "root" => identity["type"] = "Root".into(),
        resource if resource.starts_with("assumed-role/") => {
            identity["type"] = "AssumedRole".into();
            identity["sessionContext"] = session_context(caller);
        }
        resource if resource.starts_with("federated-user/") => identity["type"] = "FederatedUser".into(),
        resource => {
            identity["type"] = "IAMUser".into();
            identity["userName"] = resource.rsplit('/').next().into();
        }
    }
    identity
}

/// Which role a session is of.
fn session_context(caller: &Caller) -> Value {
    let role = caller.principal.identity_arn();
    let mut context = json!({
        "sessionIssuer": {
            "type": "Role",
            "principalId": iam::id_of("AROA", role),
            "arn": role,
            "accountId": caller.account(),
            "userName": role.rsplit('/').next(),
        },
        "attributes": {"mfaAuthenticated": "false"},
    });
    if let Some(session) = &caller.session {
        context["attributes"]["creationDate"] = time_text(session.created).into();
    }
    context
}

/// A time as CloudTrail writes it.
fn time_text(time: Millis) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(time / 1000).ok()?).ok()?;
    time.format(&Rfc3339).ok()
}
