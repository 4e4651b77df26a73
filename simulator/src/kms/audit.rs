//! The audit log: one line of JSON a call, with the names that CloudTrail uses.
//!
//! It repeats what the caller said only field by field from a list: key ids, contexts, policies,
//! never plaintext, ciphertext or an attestation document.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use adyton_verifier::attestation::Document;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::call::{Call, Caller};
use super::error::ApiError;
use super::key::{KeyRecord, Millis};

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

/// What is known about a call so far.
pub(super) struct Trail {
    pub(super) time: Millis,
    request_id: String,
    source: String,
    user_agent: Option<String>,
    identity: Value,
    account: Option<String>,
    region: String,
    parameters: Value,
    resources: Vec<Value>,
    recipient: Option<Value>,
}

impl Trail {
    pub(super) fn new(call: &Call, time: Millis, region: &str) -> Self {
        let agent = call.parts.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        Self {
            time,
            request_id: call.request_id.clone(),
            source: call.peer.ip().to_string(),
            user_agent: agent.map(str::to_owned),
            identity: json!({"type": "Unknown"}),
            account: None,
            region: region.to_owned(),
            parameters: Value::Null,
            resources: Vec::new(),
            recipient: None,
        }
    }

    pub(super) fn caller(&mut self, caller: &Caller) {
        let arn = caller.principal.arn();
        let kind = match arn.split(':').nth(5) {
            Some("root") => "Root",
            Some(resource) if resource.starts_with("assumed-role/") => "AssumedRole",
            Some(resource) if resource.starts_with("federated-user/") => "FederatedUser",
            _ => "IAMUser",
        };
        self.identity = json!({
            "type": kind,
            "arn": arn,
            "accountId": caller.account(),
            "accessKeyId": caller.user.access_key_id,
        });
        if kind == "IAMUser" {
            self.identity["userName"] = arn.rsplit('/').next().into();
        }
        self.account = Some(caller.account().to_owned());
        self.region.clone_from(&caller.region);
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
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(self.time / 1000).unwrap_or_default())
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok());
        let read_only =
            !["Create", "Put", "Delete", "Enable", "Disable", "Schedule", "Cancel", "Update", "Tag", "Untag"]
                .iter()
                .any(|verb| operation.starts_with(verb));
        let mut line = json!({
            "eventVersion": "1.11",
            "userIdentity": self.identity,
            "eventTime": time,
            "eventSource": "kms.amazonaws.com",
            "eventName": operation,
            "awsRegion": self.region,
            "sourceIPAddress": self.source,
            "userAgent": self.user_agent,
            "requestParameters": self.parameters,
            "responseElements": null,
            "requestID": self.request_id,
            "eventID": uuid::Uuid::new_v4().to_string(),
            "readOnly": read_only,
            "resources": self.resources,
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "recipientAccountId": self.account,
            "eventCategory": "Management",
        });
        if let Some(error) = error {
            // CloudTrail shortens this one name.
            let code = if error.code == "AccessDeniedException" { "AccessDenied" } else { error.code };
            line["errorCode"] = code.into();
            line["errorMessage"] = error.message.clone().into();
        }
        if let Some(recipient) = &self.recipient {
            line["additionalEventData"] = json!({"recipient": recipient});
        }
        line
    }
}

/// The file, opened once.
pub(super) struct AuditLog {
    file: Mutex<File>,
}

impl AuditLog {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        end_torn_line(&mut file)?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Writes one line. A full disk must not stop the service: the loss is logged.
    pub(super) fn write(&self, trail: &Trail, operation: &str, error: Option<&ApiError>) {
        let mut line = trail.line(operation, error).to_string();
        line.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!(%error, "a line of the audit log is lost");
        }
    }
}

/// A process killed while it wrote leaves half a line; the next one starts on its own.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// CloudTrail writes the names of fields with a small first letter.
fn member(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
