//! What all operations on ciphertext share: which key, whether it is ready, sealing and opening.

use adyton_shared::EncryptionContext;
use zeroize::Zeroizing;

use crate::kms::blob::{self, Binding};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;

/// Longest ciphertext, in bytes.
pub(super) const MAX_CIPHERTEXT_BYTES: usize = 6144;
/// The encryption algorithms of the service model.
pub(super) const ALGORITHMS: [&str; 4] =
    ["SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"];

/// The encryption context in the field of that name.
pub(super) fn encryption_context(input: &mut Input, field: &str) -> Answer<EncryptionContext> {
    let pairs = input.pairs(field)?;
    EncryptionContext::from_pairs(pairs).map_err(|error| ApiError::validation(error.to_string()))
}

/// The key that a call wants a blob opened with, before anybody has said whether it fits.
pub(super) struct Source {
    pub(super) key: KeyRecord,
    fit: Answer<()>,
}

impl Source {
    /// The key that the request names, else the one that the blob claims.
    ///
    /// # Errors
    /// `NotFoundException` for a name that leads nowhere; `InvalidCiphertextException` where only
    /// the blob could say, and does not.
    pub(super) fn of(session: &mut Session<'_>, name: Option<&str>, sealed: &[u8]) -> Answer<Self> {
        let owner = owner_of(session, sealed)?;
        match (name, owner) {
            (None, None) => Err(ApiError::invalid_ciphertext()),
            (None, Some(owner)) => {
                session.trail.key(&owner);
                Ok(Self { key: owner, fit: Ok(()) })
            }
            (Some(name), owner) => {
                let key = session.named_key(name, Names::All)?;
                let fit = match owner {
                    None => Err(ApiError::invalid_ciphertext()),
                    Some(owner) if owner.id != key.id => Err(ApiError::incorrect_key()),
                    Some(_) => Ok(()),
                };
                Ok(Self { key, fit })
            }
        }
    }

    /// The key, if it is the blob's. Asked only after the key's policy has permitted the call:
    /// nobody else is told anything about the blob.
    pub(super) fn confirmed(self) -> Answer<KeyRecord> {
        self.fit.map(|()| self.key)
    }
}

/// State and algorithm of a key that the caller may use; a dry run ends here.
pub(super) fn ready(key: &KeyRecord, algorithm: Option<&'static str>, dry_run: bool) -> Answer<()> {
    key.usable()?;
    if let Some(other) = algorithm.filter(|algorithm| *algorithm != "SYMMETRIC_DEFAULT") {
        let text = format!("Algorithm {other} is incompatible with key spec SYMMETRIC_DEFAULT.");
        return Err(ApiError::new("InvalidKeyUsageException", text));
    }
    if dry_run { Err(ApiError::dry_run()) } else { Ok(()) }
}

/// The key that a blob says it was made under, if this service has it.
fn owner_of(session: &Session<'_>, sealed: &[u8]) -> Answer<Option<KeyRecord>> {
    let Ok(material) = blob::claimed_material(sealed) else { return Ok(None) };
    let Some(id) = session.service.store.key_of_material(&material)? else { return Ok(None) };
    Ok(session.service.store.key(&id)?.filter(|key| !key.is_gone(session.now)))
}

pub(super) fn seal(
    session: &Session<'_>,
    key: &KeyRecord,
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Answer<Vec<u8>> {
    let master = session.service.store.master(key)?;
    let context = context.serialize_canonical();
    let binding = Binding { key_arn: &key.arn, context: &context };
    blob::seal(&master, &key.material, &binding, plaintext).ok_or_else(ApiError::internal)
}

pub(super) fn open(
    session: &Session<'_>,
    key: &KeyRecord,
    context: &EncryptionContext,
    sealed: &[u8],
) -> Answer<Zeroizing<Vec<u8>>> {
    let master = session.service.store.master(key)?;
    let context = context.serialize_canonical();
    let binding = Binding { key_arn: &key.arn, context: &context };
    blob::open(&master, &binding, sealed).map_err(|_| ApiError::invalid_ciphertext())
}
