//! Custom key stores: which cluster holds the keys, whether it is connected, and the way there.
//!
//! An object in an HSM and a record in the database cannot be changed in one step. So the database
//! notes an object before it is made and until the record of its key is there, and again from the
//! moment that the record is gone until the object is destroyed. A crash leaves at worst a noted
//! object without use, and the next connection removes it. Objects that nobody noted are reported
//! and left alone: another KMS, or an older copy of this one, may need them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Service;
use super::error::{Answer, ApiError};
use super::hsm::{Cluster, HsmError, Object, Password};
use super::key::{KeyRecord, Millis, seconds};
use super::material::{MaterialId, base64_bytes};

/// One custom key store as the database holds it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyStoreRecord {
    pub(super) id: String,
    pub(super) region: String,
    pub(super) account: String,
    pub(super) name: String,
    pub(super) cluster: String,
    /// The certificate as it was given.
    pub(super) trust_anchor: String,
    /// Sealed under the root key and bound to the store.
    #[serde(with = "base64_bytes")]
    pub(super) password: Vec<u8>,
    pub(super) created: Millis,
    pub(super) connection: Connection,
}

/// Connecting takes no longer than its call here, so there is nothing in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Connection {
    Connected,
    Disconnected,
    Failed(Failure),
}

/// `ConnectionErrorCode`, as far as a PKCS#11 library can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    ClusterNotFound,
    InternalError,
    InvalidCredentials,
    UserLockedOut,
    UserLoggedIn,
    UserNotFound,
}

/// The custom key store that a key is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InStore {
    pub(super) store: String,
    /// Its cluster, when the key is looked up.
    #[serde(skip)]
    pub(super) cluster: String,
    /// Whether it is connected, when the key is looked up.
    #[serde(skip, default = "presumed")]
    pub(super) connected: bool,
}

/// An object in an HSM that belongs to no key, or not yet, or no longer.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LooseObject {
    /// See [`KeyStoreRecord::place`].
    pub(super) place: String,
    /// The key that it was or is to be of.
    pub(super) key_arn: String,
    /// `CKA_ID`, the material's.
    #[serde(with = "base64_bytes")]
    pub(super) id: Vec<u8>,
}

/// A cluster, and what it takes to log in.
pub(super) struct Access<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) password: Password,
}

impl KeyStoreRecord {
    /// Names the store in the whole service.
    pub(super) fn place(&self) -> String {
        place(&self.region, &self.account, &self.id)
    }

    /// # Errors
    /// `CustomKeyStoreInvalidStateException`.
    pub(super) fn require_connected(&self) -> Answer<()> {
        match self.connection {
            Connection::Connected => Ok(()),
            Connection::Disconnected | Connection::Failed(_) => Err(self.invalid_state()),
        }
    }

    /// # Errors
    /// `CustomKeyStoreInvalidStateException`.
    pub(super) fn require_disconnected(&self) -> Answer<()> {
        match self.connection {
            Connection::Disconnected => Ok(()),
            Connection::Connected | Connection::Failed(_) => Err(self.invalid_state()),
        }
    }

    /// AWS's own text for this error is not known.
    pub(super) fn invalid_state(&self) -> ApiError {
        ApiError::new(
            "CustomKeyStoreInvalidStateException",
            format!(
                "The request was rejected because of the ConnectionState of the custom key store {}: {}.",
                self.id,
                self.connection.name()
            ),
        )
    }

    /// `CustomKeyStoresListEntry`. The password is in no answer.
    pub(super) fn entry(&self) -> Value {
        let mut entry = json!({
            "CustomKeyStoreId": self.id,
            "CustomKeyStoreName": self.name,
            "CloudHsmClusterId": self.cluster,
            "TrustAnchorCertificate": self.trust_anchor,
            "ConnectionState": self.connection.name(),
            "CreationDate": seconds(self.created),
            "CustomKeyStoreType": "AWS_CLOUDHSM",
        });
        if let Connection::Failed(failure) = self.connection {
            entry["ConnectionErrorCode"] = failure.name().into();
        }
        entry
    }
}

impl Connection {
    fn name(self) -> &'static str {
        match self {
            Self::Connected => "CONNECTED",
            Self::Disconnected => "DISCONNECTED",
            Self::Failed(_) => "FAILED",
        }
    }
}

impl Failure {
    /// What a failed login leaves behind; `None` for what is no fault of the login.
    pub(super) fn of(error: HsmError) -> Option<Self> {
        match error {
            HsmError::WrongPassword => Some(Self::InvalidCredentials),
            HsmError::LockedOut => Some(Self::UserLockedOut),
            HsmError::NoSuchUser => Some(Self::UserNotFound),
            HsmError::OtherUser => Some(Self::UserLoggedIn),
            HsmError::Stale | HsmError::NoSuchKey | HsmError::NotOpened => Some(Self::InternalError),
            HsmError::Unreachable | HsmError::Unsuitable => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ClusterNotFound => "CLUSTER_NOT_FOUND",
            Self::InternalError => "INTERNAL_ERROR",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::UserLockedOut => "USER_LOCKED_OUT",
            Self::UserLoggedIn => "USER_LOGGED_IN",
            Self::UserNotFound => "USER_NOT_FOUND",
        }
    }
}

impl Service {
    /// A custom key store of an account in a region.
    ///
    /// # Errors
    /// `CustomKeyStoreNotFoundException`.
    pub(super) fn key_store(&self, region: &str, account: &str, id: &str) -> Answer<KeyStoreRecord> {
        self.store.key_store(&place(region, account, id))?.ok_or_else(not_found)
    }

    /// Notes in a key that was looked up how its store is.
    pub(super) fn look_at_store(&self, key: &mut KeyRecord) -> Answer<()> {
        let Some(inside) = &mut key.custom_key_store else { return Ok(()) };
        let store = self.key_store(&key.region, &key.account, &inside.store)?;
        inside.connected = store.connection == Connection::Connected;
        inside.cluster = store.cluster;
        Ok(())
    }

    /// The way into a store's cluster; `None` if `hsm.toml` no longer has it.
    pub(super) fn access(&self, store: &KeyStoreRecord) -> Answer<Option<Access<'_>>> {
        let Some(cluster) = self.clusters.get(&store.cluster) else { return Ok(None) };
        Ok(Some(Access { cluster, password: self.store.password(store)? }))
    }

    /// The way to the material of a key; `None` if it is in no HSM.
    ///
    /// # Errors
    /// `KMSInvalidStateException` if its store is not connected.
    pub(super) fn access_to(&self, key: &KeyRecord) -> Answer<Option<Access<'_>>> {
        let Some(inside) = &key.custom_key_store else { return Ok(None) };
        let store = self.key_store(&key.region, &key.account, &inside.store)?;
        if store.connection != Connection::Connected {
            return Err(unavailable(key));
        }
        self.access(&store)?.map(Some).ok_or_else(|| unavailable(key))
    }

    /// Makes the material of a new key in the HSM, and the key's record.
    ///
    /// # Errors
    /// Those of `CreateKey`.
    pub(super) fn insert_key_in_store(&self, key: &KeyRecord, material: &MaterialId) -> Answer<()> {
        let Some(inside) = &key.custom_key_store else { return Err(ApiError::internal()) };
        let store = self.key_store(&key.region, &key.account, &inside.store)?;
        store.require_connected()?;
        let access = self.access(&store)?.ok_or_else(not_active_for_keys)?;
        let loose = LooseObject { place: store.place(), key_arn: key.arn.clone(), id: material.to_vec() };
        let _making = access.cluster.making();
        self.store.note_loose(&loose)?;
        let object = Object { id: material.to_vec(), label: key.arn.clone() };
        access.cluster.generate(&access.password, &object).map_err(|error| {
            tracing::warn!(%error, cluster = access.cluster.id(), "no key was made in the HSM");
            not_active_for_keys()
        })?;
        self.store.insert_key_in_store(key, &loose).inspect_err(|_| {
            // The store was disconnected meanwhile. If this fails, the note is still there.
            if access.cluster.destroy(&access.password, &loose.id).is_ok() {
                let _ = self.store.forget_loose(&loose);
            }
        })
    }

    /// Destroys the objects that keys of connected stores have left in their HSMs.
    pub(super) fn remove_all_loose(&self) -> Answer<()> {
        for store in self.store.key_stores("")? {
            if store.connection == Connection::Connected {
                self.remove_loose(&store)?;
            }
        }
        Ok(())
    }

    /// Destroys the objects of a store that belong to no key. What does not work now is tried again
    /// at the next connection.
    pub(super) fn remove_loose(&self, store: &KeyStoreRecord) -> Answer<()> {
        let place = store.place();
        if self.store.loose(&place)?.is_empty() {
            return Ok(());
        }
        let Some(access) = self.access(store)? else { return Ok(()) };
        // Whoever was making a key is done now, and those notes are gone.
        let _removing = access.cluster.removing();
        for loose in self.store.loose(&place)? {
            match access.cluster.destroy(&access.password, &loose.id) {
                Ok(_) => self.store.forget_loose(&loose)?,
                Err(error) => {
                    tracing::warn!(%error, key = loose.key_arn, "the material of a deleted key is still in the HSM");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Says which objects in the HSM look like keys of this account and belong to none.
    pub(super) fn report_strangers(&self, store: &KeyStoreRecord, access: &Access<'_>) -> Answer<()> {
        let prefix = format!("arn:aws:kms:{}:{}:key/", store.region, store.account);
        let Ok(objects) = access.cluster.objects(&access.password, &prefix) else { return Ok(()) };
        for object in objects {
            let known = match <MaterialId>::try_from(object.id.as_slice()) {
                Ok(id) => self.store.key_of_material(&store.region, &id)?.is_some(),
                Err(_) => false,
            };
            if !known {
                let (cluster, label) = (access.cluster.id(), object.label.as_str());
                tracing::warn!(cluster, label, "an object in the HSM belongs to no key of this service");
            }
        }
        Ok(())
    }
}

/// Names a key store in the whole service.
pub(super) fn place(region: &str, account: &str, id: &str) -> String {
    format!("{region}/{account}/{id}")
}

/// Refuses cryptography with a key whose store is not connected.
pub(super) fn unavailable(key: &KeyRecord) -> ApiError {
    ApiError::invalid_state(format!("{} is unavailable.", key.arn))
}

/// What the use of a key answers when its HSM does not do it.
pub(super) fn failed(key: &KeyRecord, error: HsmError) -> ApiError {
    tracing::warn!(%error, key = key.arn, "the HSM of a key failed");
    ApiError::invalid_state(format!("{} is unavailable: its AWS CloudHSM cluster does not answer.", key.arn))
}

/// Fills `bytes` from the HSM of a key.
pub(super) fn random_from(
    access: &Access<'_>,
    key: &KeyRecord,
    bytes: &mut Zeroizing<Vec<u8>>,
) -> Answer<()> {
    access.cluster.random(&access.password, bytes).map_err(|error| failed(key, error))
}

pub(super) fn not_found() -> ApiError {
    ApiError::new(
        "CustomKeyStoreNotFoundException",
        "The request was rejected because AWS KMS cannot find a custom key store with the specified key store name or ID.",
    )
}

/// `CreateKey` has no error for a cluster that is not active: to it such a cluster has too few HSMs.
fn not_active_for_keys() -> ApiError {
    ApiError::new(
        "CloudHsmClusterInvalidConfigurationException",
        "The request was rejected because the AWS CloudHSM cluster does not contain enough active HSMs to create a KMS key.",
    )
}

fn presumed() -> bool {
    true
}
