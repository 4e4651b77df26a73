//! When and for what each key was last used.
//!
//! Uses are noted in memory, because a transaction for each would cost more than the use itself, and
//! written down when somebody asks and when the service ends. A killed process forgets the latest
//! ones; AWS too tells of a use only after a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::audit::Trail;
use super::key::{Millis, seconds};
use super::{KmsError, Service};

/// The operations that count (API reference, `KeyLastUsageData`).
const TRACKED: [&str; 14] = [
    "Decapsulate",
    "Decrypt",
    "DeriveSharedSecret",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "ReEncrypt",
    "Sign",
    "Verify",
    "VerifyMac",
];

/// The latest successful use of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastUse {
    operation: String,
    at: Millis,
    request_id: String,
    event_id: String,
}

impl LastUse {
    /// `KeyLastUsageData`.
    pub(super) fn describe(&self) -> Value {
        json!({
            "Operation": self.operation,
            "Timestamp": seconds(self.at),
            "KmsRequestId": self.request_id,
            "CloudTrailEventId": self.event_id,
        })
    }
}

/// What has not been written down yet, by key ARN.
#[derive(Default)]
pub(super) struct Usage(Mutex<HashMap<String, LastUse>>);

impl Usage {
    fn noted(&self) -> MutexGuard<'_, HashMap<String, LastUse>> {
        // Every change is one insertion.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Notes that a call succeeded with the keys in its trail.
    pub(super) fn note_use(&self, operation: &'static str, trail: &Trail) {
        if !TRACKED.contains(&operation) {
            return;
        }
        let last = LastUse {
            operation: operation.to_owned(),
            at: trail.time,
            request_id: trail.request_id().to_owned(),
            event_id: trail.event_id().to_owned(),
        };
        let mut noted = self.usage.noted();
        for arn in trail.keys() {
            noted.insert(arn.to_owned(), last.clone());
        }
    }

    pub(super) fn last_use(&self, arn: &str) -> Result<Option<LastUse>, KmsError> {
        self.write_usage()?;
        self.store.last_use(arn)
    }

    /// Writes down what was noted.
    pub(super) fn write_usage(&self) -> Result<(), KmsError> {
        let mut noted = self.usage.noted();
        if !noted.is_empty() {
            self.store.put_last_uses(&noted)?;
            noted.clear();
        }
        Ok(())
    }
}
