//! A KMS key as the database holds it and as the API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Answer, ApiError};
use super::key_store::{self, InStore};
use super::material::{MaterialId, MaterialRecord};
use super::spec::{KeySpec, KeyUsage, Origin};

/// Milliseconds since 1970.
pub(super) type Millis = u64;

/// What a key can be asked for now (developer guide, "Key states of AWS KMS keys").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeyState {
    Enabled,
    Disabled,
    /// No material has been imported, or it has been deleted or has expired.
    PendingImport,
    PendingDeletion {
        at: Millis,
    },
    /// A primary key that waits for its last replica to be deleted, and then these days more.
    PendingReplicaDeletion {
        days: u32,
    },
}

/// One key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    /// Names the key in the whole service.
    pub(super) arn: String,
    pub(super) account: String,
    pub(super) region: String,
    /// The last part of the ARN; a multi-region key has the same in all its regions.
    pub(super) id: String,
    pub(super) created: Millis,
    pub(super) description: String,
    pub(super) state: KeyState,
    pub(super) spec: KeySpec,
    pub(super) usage: KeyUsage,
    pub(super) origin: Origin,
    /// The key policy as it was given.
    pub(super) policy: String,
    pub(super) tags: BTreeMap<String, String>,
    /// The custom key store that holds its material, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) custom_key_store: Option<InStore>,
    /// The key's regions, if it is a multi-region key.
    pub(super) regions: Option<Regions>,
    /// All that the key ever had; the last is the current one. Imported ones may have lost their secret.
    pub(super) materials: Vec<MaterialRecord>,
    /// Imported, and to become the current one at the next rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<MaterialRecord>,
    /// When it rotates by itself. The same in all regions of a multi-region key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schedule: Option<Schedule>,
    /// How often it was rotated on demand.
    #[serde(default)]
    pub(super) on_demand_rotations: u32,
}

/// Automatic rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Schedule {
    pub(super) days: u32,
    pub(super) next: Millis,
}

/// Where a multi-region key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Regions {
    pub(super) primary: String,
    /// Sorted, without the primary.
    pub(super) replicas: Vec<String>,
}

/// One alias.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AliasRecord {
    pub(super) arn: String,
    /// With its prefix `alias/`.
    pub(super) name: String,
    pub(super) key_arn: String,
    pub(super) created: Millis,
    pub(super) updated: Millis,
}

impl KeyState {
    /// `KeyState` on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingImport => "PendingImport",
            Self::PendingDeletion { .. } => "PendingDeletion",
            Self::PendingReplicaDeletion { .. } => "PendingReplicaDeletion",
        }
    }
}

impl KeyRecord {
    /// Refuses cryptography with a key that is disabled, empty or about to be deleted (K-20).
    pub(super) fn usable(&self) -> Answer<()> {
        if self.is_unavailable() {
            return Err(key_store::unavailable(self));
        }
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => {
                Err(ApiError::new("DisabledException", format!("{} is disabled.", self.arn)))
            }
            KeyState::PendingImport => {
                Err(ApiError::invalid_state(format!("{} is pending import.", self.arn)))
            }
            KeyState::PendingDeletion { .. } | KeyState::PendingReplicaDeletion { .. } => self.not_pending(),
        }
    }

    /// Whether its custom key store is not connected. A key that is about to be deleted is that first.
    pub(super) fn is_unavailable(&self) -> bool {
        !matches!(self.state, KeyState::PendingDeletion { .. })
            && self.custom_key_store.as_ref().is_some_and(|inside| !inside.connected)
    }

    /// Refuses changes to a key that is about to be deleted.
    pub(super) fn not_pending(&self) -> Answer<()> {
        match self.state {
            KeyState::PendingDeletion { .. } => {
                Err(ApiError::invalid_state(format!("{} is pending deletion.", self.arn)))
            }
            KeyState::PendingReplicaDeletion { .. } => {
                Err(ApiError::invalid_state(format!("{} is pending replica deletion.", self.arn)))
            }
            KeyState::Enabled | KeyState::Disabled | KeyState::PendingImport => Ok(()),
        }
    }

    /// The material that new ciphertexts and signatures are made with.
    pub(super) fn current(&self) -> Answer<&MaterialRecord> {
        // Keys without one are pending import, and `usable` refused them.
        self.materials.last().ok_or_else(ApiError::internal)
    }

    pub(super) fn material(&self, id: &MaterialId) -> Option<&MaterialRecord> {
        self.materials.iter().find(|material| material.id == *id)
    }

    /// What ciphertexts are bound to: the ARN, without the region if every replica has to open them.
    pub(super) fn binding(&self) -> String {
        match self.regions {
            None => self.arn.clone(),
            Some(_) => format!("arn:aws:kms::{}:key/{}", self.account, self.id),
        }
    }

    /// Whether another region's key decides what all regions share.
    pub(super) fn is_replica(&self) -> bool {
        self.regions.as_ref().is_some_and(|regions| regions.primary != self.region)
    }

    /// The ARNs of this key in all its regions, this one included.
    pub(super) fn family(&self) -> Vec<String> {
        match &self.regions {
            None => vec![self.arn.clone()],
            Some(regions) => std::iter::once(&regions.primary)
                .chain(&regions.replicas)
                .map(|region| key_arn(region, &self.account, &self.id))
                .collect(),
        }
    }

    /// Whether a material that the key needs is not there: never imported, deleted, expired.
    pub(super) fn lacks_material(&self) -> bool {
        self.materials.is_empty() || !self.materials.iter().all(MaterialRecord::is_present)
    }

    pub(super) fn algorithms(&self) -> &'static [&'static str] {
        self.spec.algorithms(self.usage)
    }

    /// `KeyMetadata`.
    pub(super) fn metadata(&self) -> Value {
        let mut metadata = json!({
            "AWSAccountId": self.account,
            "KeyId": self.id,
            "Arn": self.arn,
            "CreationDate": seconds(self.created),
            "Enabled": self.state == KeyState::Enabled && !self.is_unavailable(),
            "Description": self.description,
            "KeyUsage": self.usage.name(),
            "KeyState": if self.is_unavailable() { "Unavailable" } else { self.state.name() },
            "Origin": self.origin.name(),
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": self.spec.name(),
            "KeySpec": self.spec.name(),
            "MultiRegion": self.regions.is_some(),
        });
        metadata[self.usage.algorithms_member()] = json!(self.algorithms());
        if let Some(inside) = &self.custom_key_store {
            metadata["CustomKeyStoreId"] = inside.store.clone().into();
            metadata["CloudHsmClusterId"] = inside.cluster.clone().into();
        } else if let (KeySpec::SymmetricDefault, Some(material)) = (self.spec, self.materials.last()) {
            metadata["CurrentKeyMaterialId"] = material.name().into();
        }
        if let Some(regions) = &self.regions {
            metadata["MultiRegionConfiguration"] = self.multi_region_configuration(regions);
        }
        match self.state {
            KeyState::PendingDeletion { at } => metadata["DeletionDate"] = seconds(at),
            KeyState::PendingReplicaDeletion { days } => {
                metadata["PendingDeletionWindowInDays"] = days.into();
            }
            _ => {}
        }
        if self.origin == Origin::External && self.materials.last().is_some_and(MaterialRecord::is_present) {
            let ends = self.materials.iter().filter_map(MaterialRecord::expires).min();
            metadata["ExpirationModel"] = expiration_model(ends).into();
            if let Some(end) = ends {
                metadata["ValidTo"] = seconds(end);
            }
        }
        metadata
    }

    fn multi_region_configuration(&self, regions: &Regions) -> Value {
        let member =
            |region: &String| json!({"Arn": key_arn(region, &self.account, &self.id), "Region": region});
        json!({
            "MultiRegionKeyType": if self.region == regions.primary { "PRIMARY" } else { "REPLICA" },
            "PrimaryKey": member(&regions.primary),
            "ReplicaKeys": regions.replicas.iter().map(member).collect::<Vec<_>>(),
        })
    }
}

impl AliasRecord {
    /// The id of the key that it names.
    pub(super) fn key_id(&self) -> &str {
        self.key_arn.rsplit('/').next().unwrap_or_default()
    }
}

/// `ExpirationModel` of a material that expires then, or never.
pub(super) fn expiration_model(expires: Option<Millis>) -> &'static str {
    if expires.is_some() { "KEY_MATERIAL_EXPIRES" } else { "KEY_MATERIAL_DOES_NOT_EXPIRE" }
}

/// The ARN of a key.
pub(super) fn key_arn(region: &str, account: &str, id: &str) -> String {
    format!("arn:aws:kms:{region}:{account}:key/{id}")
}

/// The ARN of an alias, whose name has its prefix `alias/`.
pub(super) fn alias_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:kms:{region}:{account}:{name}")
}

/// A time on the wire: seconds since 1970 with a fraction.
#[expect(clippy::cast_precision_loss, reason = "exact for the next quarter of a million years")]
pub(super) fn seconds(millis: Millis) -> Value {
    json!(millis as f64 / 1000.0)
}
