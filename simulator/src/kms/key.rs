//! A KMS key as the database holds it and as the API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::blob::MaterialId;
use super::error::{Answer, ApiError};

/// Milliseconds since 1970.
pub(super) type Millis = u64;

/// What a key can be asked for now (developer guide, "Key states of AWS KMS keys").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeyState {
    Enabled,
    Disabled,
    PendingDeletion { at: Millis },
}

/// One key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) account: String,
    pub(super) created: Millis,
    pub(super) description: String,
    pub(super) state: KeyState,
    /// The key policy as it was given.
    pub(super) policy: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) material: MaterialId,
    pub(super) sealed_master: Vec<u8>,
}

/// One alias.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AliasRecord {
    pub(super) account: String,
    /// With its prefix `alias/`.
    pub(super) name: String,
    pub(super) key_id: String,
    pub(super) created: Millis,
}

impl KeyRecord {
    /// Whether the waiting period is over and the key no longer exists.
    pub(super) fn is_gone(&self, now: Millis) -> bool {
        matches!(self.state, KeyState::PendingDeletion { at } if at <= now)
    }

    /// Refuses cryptography with a key that is disabled or about to be deleted (K-20).
    pub(super) fn usable(&self) -> Answer<()> {
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => {
                Err(ApiError::new("DisabledException", format!("{} is disabled.", self.arn)))
            }
            KeyState::PendingDeletion { .. } => self.not_pending(),
        }
    }

    /// Refuses changes to a key that is about to be deleted.
    pub(super) fn not_pending(&self) -> Answer<()> {
        match self.state {
            KeyState::PendingDeletion { .. } => {
                Err(ApiError::invalid_state(format!("{} is pending deletion.", self.arn)))
            }
            KeyState::Enabled | KeyState::Disabled => Ok(()),
        }
    }

    pub(super) fn material_id(&self) -> String {
        hex::encode(self.material)
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            KeyState::Enabled => "Enabled",
            KeyState::Disabled => "Disabled",
            KeyState::PendingDeletion { .. } => "PendingDeletion",
        }
    }

    /// `KeyMetadata`.
    pub(super) fn metadata(&self) -> Value {
        let mut metadata = json!({
            "AWSAccountId": self.account,
            "KeyId": self.id,
            "Arn": self.arn,
            "CreationDate": seconds(self.created),
            "Enabled": self.state == KeyState::Enabled,
            "Description": self.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": self.state_name(),
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": false,
            "CurrentKeyMaterialId": self.material_id(),
        });
        if let KeyState::PendingDeletion { at } = self.state {
            metadata["DeletionDate"] = seconds(at);
        }
        metadata
    }
}

impl AliasRecord {
    pub(super) fn arn(&self, region: &str) -> String {
        format!("arn:aws:kms:{region}:{}:{}", self.account, self.name)
    }
}

/// A time on the wire: seconds since 1970 with a fraction.
#[expect(clippy::cast_precision_loss, reason = "exact for the next quarter of a million years")]
pub(super) fn seconds(millis: Millis) -> Value {
    json!(millis as f64 / 1000.0)
}
