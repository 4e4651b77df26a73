//! What all operations on ciphertext share: which key, whether it is ready, sealing and opening.

use adyton_shared::EncryptionContext;
use zeroize::Zeroizing;

use crate::kms::blob::{self, Binding};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::master::MasterKey;
use crate::kms::material::MaterialRecord;
use crate::kms::spec::KeyUsage;

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
                    Some(owner) if owner.arn != key.arn => Err(ApiError::incorrect_key()),
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

/// State, usage and algorithm of a key that the caller may use; a dry run ends here.
pub(super) fn ready(
    key: &KeyRecord,
    operation: &str,
    algorithm: Option<&'static str>,
    dry_run: bool,
) -> Answer<()> {
    key.usable()?;
    let refused = |text: String| Err(ApiError::new("InvalidKeyUsageException", text));
    if key.usage != KeyUsage::EncryptDecrypt {
        return refused(format!(
            "{} key usage is {} which is not valid for {operation}.",
            key.arn,
            key.usage.name()
        ));
    }
    let algorithm = algorithm.unwrap_or("SYMMETRIC_DEFAULT");
    if !key.algorithms().contains(&algorithm) {
        return refused(format!("Algorithm {algorithm} is incompatible with key spec {}.", key.spec.name()));
    }
    if dry_run { Err(ApiError::dry_run()) } else { Ok(()) }
}

/// The key that a blob says it was made under, if this service has it in this region.
fn owner_of(session: &Session<'_>, sealed: &[u8]) -> Answer<Option<KeyRecord>> {
    let Ok(material) = blob::claimed_material(sealed) else { return Ok(None) };
    match session.service.store.key_of_material(session.region, &material)? {
        Some(arn) => session.service.key(&arn, session.now),
        None => Ok(None),
    }
}

/// Seals under the key's current material.
pub(super) fn seal(
    session: &Session<'_>,
    key: &KeyRecord,
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Answer<Vec<u8>> {
    let material = key.current()?;
    let master = master(session, key, material)?;
    let context = context.serialize_canonical();
    let binding = Binding { key: &key.binding(), context: &context };
    blob::seal(&master, &material.id, &binding, plaintext).ok_or_else(ApiError::internal)
}

/// What was in a blob.
pub(super) struct Opened {
    pub(super) plaintext: Zeroizing<Vec<u8>>,
    /// The id of the material that it was sealed under, on the wire.
    pub(super) material: String,
}

/// Opens with whichever of the key's materials the blob was sealed under.
pub(super) fn open(
    session: &Session<'_>,
    key: &KeyRecord,
    context: &EncryptionContext,
    sealed: &[u8],
) -> Answer<Opened> {
    let refused = |_| ApiError::invalid_ciphertext();
    let claimed = blob::claimed_material(sealed).map_err(refused)?;
    let material = key.material(&claimed).ok_or_else(ApiError::invalid_ciphertext)?;
    let master = master(session, key, material)?;
    let context = context.serialize_canonical();
    let binding = Binding { key: &key.binding(), context: &context };
    let plaintext = blob::open(&master, &binding, sealed).map_err(refused)?;
    Ok(Opened { plaintext, material: material.name() })
}

fn master(session: &Session<'_>, key: &KeyRecord, material: &MaterialRecord) -> Answer<MasterKey> {
    let secret = session.service.store.secret(key, material)?;
    MasterKey::from_bytes(&secret).ok_or_else(ApiError::internal)
}
