//! Key material: the secret under a key, of which a rotated key has several.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::asymmetric;
use super::error::{Answer, ApiError};
use super::key::Millis;
use super::spec::KeySpec;

/// Names one key material; 64 hexadecimal digits on the wire. Replicas of a multi-region key share it.
pub(super) type MaterialId = [u8; 32];

/// The secret of one material: an AES key, an HMAC key, or a private key in PKCS#8 (RFC 5958).
pub(super) type Secret = Zeroizing<Vec<u8>>;

/// One material as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaterialRecord {
    #[serde(with = "digits")]
    pub(super) id: MaterialId,
    /// When it became current.
    pub(super) since: Millis,
    pub(super) sealed: Held,
    /// `SubjectPublicKeyInfo` in DER, of an asymmetric key.
    #[serde(with = "base64_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) public: Vec<u8>,
    /// How it became the current one, unless it was the key's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rotation: Option<Rotation>,
    /// What its importer said, if it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) import: Option<Import>,
}

/// The rotation that made a material the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    pub(super) at: Millis,
    pub(super) automatic: bool,
}

/// What belongs to imported material besides the secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    pub(super) description: Option<String>,
    pub(super) expires: Option<Millis>,
}

/// Where the secret of a material is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Held {
    /// Here, sealed under the root key and bound to key and material.
    Sealed(#[serde(with = "base64_bytes")] Vec<u8>),
    /// In the HSM of the key's custom key store, as the object whose `CKA_ID` is the material's id.
    Hsm,
    /// Nowhere: imported material that was deleted, has expired or was not imported in this region.
    Gone,
}

impl MaterialRecord {
    /// A key's first material, or one that a rotation is about to make the current one.
    pub(super) fn new(id: MaterialId, since: Millis, sealed: Held, public: Vec<u8>) -> Self {
        Self { id, since, sealed, public, rotation: None, import: None }
    }

    /// Whether its secret is here: imported ones can be deleted and expire.
    pub(super) fn is_present(&self) -> bool {
        self.sealed != Held::Gone
    }

    /// When its secret will be gone.
    pub(super) fn expires(&self) -> Option<Millis> {
        self.import.as_ref().and_then(|import| import.expires).filter(|_| self.is_present())
    }

    /// Forgets the secret; what it was is remembered, so that only the same can come back.
    pub(super) fn forget(&mut self) {
        self.sealed = Held::Gone;
        if let Some(import) = &mut self.import {
            import.expires = None;
        }
    }

    /// The id on the wire.
    pub(super) fn name(&self) -> String {
        hex::encode(self.id)
    }
}

/// A secret that was just made, and its public half if it has one.
pub(super) struct Fresh {
    pub(super) secret: Secret,
    pub(super) public: Vec<u8>,
}

/// Makes a secret of this kind.
///
/// # Errors
/// `UnsupportedOperationException` for kinds that are not here.
pub(super) fn generate(spec: KeySpec) -> Answer<Fresh> {
    if !spec.is_available() {
        return Err(ApiError::unsupported(format!(
            "KeySpec {} is not available in the local KMS.",
            spec.name()
        )));
    }
    let Some(length) = spec.secret_bytes() else {
        return asymmetric::generate(spec).ok_or_else(ApiError::internal);
    };
    let mut secret = Zeroizing::new(vec![0; length]);
    getrandom::fill(&mut secret).map_err(|_| ApiError::internal())?;
    Ok(Fresh { secret, public: Vec::new() })
}

/// A name for a new material.
pub(super) fn fresh_id() -> Answer<MaterialId> {
    let mut id = [0; 32];
    getrandom::fill(&mut id).map_err(|_| ApiError::internal())?;
    Ok(id)
}

mod digits {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(id))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).map_err(D::Error::custom)?;
        Ok(id)
    }
}

pub(super) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::kms) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in crate::kms) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
