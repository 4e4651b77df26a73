//! What all operations on ciphertext share: which key, who may, sealing and opening.

use adyton_shared::EncryptionContext;
use adyton_verifier::key_policy::ConditionContext;
use zeroize::Zeroizing;

use crate::kms::asymmetric::{self, Decryption, Oaep};
use crate::kms::blob::{self, Binding, Cipher, CipherError, HsmKey};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::key_store;
use crate::kms::master::MasterKey;
use crate::kms::material::MaterialRecord;
use crate::kms::recipient::Recipient;
use crate::kms::spec::KeySpec;

/// Longest ciphertext, in bytes.
pub(super) const MAX_CIPHERTEXT_BYTES: usize = 6144;
/// The encryption algorithms of the service model.
pub(super) const ALGORITHMS: [&str; 4] =
    [SYMMETRIC_DEFAULT, "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"];
/// The algorithm of symmetric keys, and of requests that name none.
pub(super) const SYMMETRIC_DEFAULT: &str = "SYMMETRIC_DEFAULT";

/// The encryption context in the field of that name.
pub(super) fn encryption_context(input: &mut Input, field: &str) -> Answer<EncryptionContext> {
    let pairs = input.pairs(field)?;
    EncryptionContext::from_pairs(pairs).map_err(|error| ApiError::validation(error.to_string()))
}

/// A ciphertext that a request wants opened, or only asks about.
pub(super) struct Sealed {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// A dry run that is to say nothing about the ciphertext, which may be absent.
    pub(super) ignored: bool,
}

impl Sealed {
    /// Reads `CiphertextBlob` and `DryRunModifiers`.
    pub(super) fn read(input: &mut Input, dry_run: bool) -> Answer<Self> {
        let bytes = input.blob("CiphertextBlob", 1..=MAX_CIPHERTEXT_BYTES)?;
        let modifiers = input.choices("DryRunModifiers", 0..=1, &["IGNORE_CIPHERTEXT"])?;
        let ignored = dry_run && !modifiers.is_empty();
        let bytes = if ignored { bytes.unwrap_or_default() } else { input.require("CiphertextBlob", bytes) };
        Ok(Self { bytes, ignored })
    }
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
    pub(super) fn of(session: &mut Session<'_>, name: Option<&str>, sealed: &Sealed) -> Answer<Self> {
        if sealed.ignored {
            let unnamed = || ApiError::validation("A key is required if the ciphertext is to be ignored.");
            let key = session.named_key(name.ok_or_else(unnamed)?, Names::All)?;
            return Ok(Self { key, fit: Ok(()) });
        }
        let owner = owner_of(session, &sealed.bytes)?;
        match (name, owner) {
            (None, None) => Err(ApiError::invalid_ciphertext()),
            (None, Some(owner)) => {
                session.meets(&owner)?;
                Ok(Self { key: owner, fit: Ok(()) })
            }
            (Some(name), owner) => {
                let key = session.named_key(name, Names::All)?;
                let fit = match owner {
                    // Ciphertexts of asymmetric keys say nothing about their key.
                    _ if key.spec != KeySpec::SymmetricDefault => Ok(()),
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

/// The key that a blob says it was made under, if this service has it in this region.
fn owner_of(session: &Session<'_>, sealed: &[u8]) -> Answer<Option<KeyRecord>> {
    let Ok(material) = blob::claimed_material(sealed) else { return Ok(None) };
    match session.service.store.key_of_material(session.region, &material)? {
        Some(arn) => session.service.key(&arn, session.now),
        None => Ok(None),
    }
}

/// What a policy sees of an operation on ciphertext.
pub(super) struct Terms<'a> {
    pub(super) algorithm: &'a str,
    pub(super) context: &'a EncryptionContext,
    pub(super) recipient: Option<&'a Recipient>,
}

impl Terms<'_> {
    /// Adds the condition keys.
    pub(super) fn describe(&self, conditions: &mut ConditionContext) {
        conditions.set("kms:EncryptionAlgorithm", self.algorithm);
        conditions.add_encryption_context(self.context.pairs());
        if let Some(recipient) = self.recipient {
            conditions.add_recipient(recipient.pcrs());
        }
    }

    /// Refuses an encryption context where there is nothing that could bind it.
    pub(super) fn fit(&self, key: &KeyRecord) -> Answer<()> {
        if key.spec == KeySpec::SymmetricDefault || self.context.pairs().next().is_none() {
            return Ok(());
        }
        Err(ApiError::validation("Encryption context is not supported for asymmetric keys."))
    }
}

/// Seals under the key's current material.
///
/// # Errors
/// `ValidationException` for what does not fit under an RSA key.
pub(super) fn seal(
    session: &Session<'_>,
    key: &KeyRecord,
    terms: &Terms<'_>,
    plaintext: &[u8],
) -> Answer<Vec<u8>> {
    let material = key.current()?;
    if let Some(oaep) = Oaep::of(terms.algorithm) {
        let (algorithm, spec) = (terms.algorithm, key.spec.name());
        let longest = oaep.longest(key.spec.modulus_bytes());
        if plaintext.len() > longest {
            return Err(ApiError::validation(format!(
                "Algorithm {algorithm} and key spec {spec} cannot encrypt data larger than {longest} bytes."
            )));
        }
        return asymmetric::encrypt(&material.public, oaep, plaintext).ok_or_else(ApiError::internal);
    }
    let context = terms.context.serialize_canonical();
    let binding = Binding { key: &key.binding(), context: &context };
    let sealed = blob::seal(&*cipher(session, key, material)?, &material.id, &binding, plaintext);
    sealed.map_err(|error| refusal(key, error))
}

/// What was in a blob.
pub(super) struct Opened {
    pub(super) plaintext: Zeroizing<Vec<u8>>,
    /// The id of the material that it was sealed under, on the wire; symmetric keys only.
    pub(super) material: Option<String>,
}

/// Opens with whichever of the key's materials the blob was sealed under.
pub(super) fn open(
    session: &Session<'_>,
    key: &KeyRecord,
    terms: &Terms<'_>,
    sealed: &[u8],
) -> Answer<Opened> {
    let refused = |_| ApiError::invalid_ciphertext();
    if let Some(oaep) = Oaep::of(terms.algorithm) {
        let secret = session.service.store.secret(key, key.current()?)?;
        return match asymmetric::decrypt(&secret, oaep, sealed).ok_or_else(ApiError::internal)? {
            Decryption::Plaintext(plaintext) => Ok(Opened { plaintext, material: None }),
            Decryption::Unreadable => Err(ApiError::invalid_ciphertext()),
        };
    }
    let claimed = blob::claimed_material(sealed).map_err(refused)?;
    let material = key.material(&claimed).ok_or_else(ApiError::invalid_ciphertext)?;
    let context = terms.context.serialize_canonical();
    let binding = Binding { key: &key.binding(), context: &context };
    let opened = blob::open(&*cipher(session, key, material)?, &binding, sealed);
    let plaintext = opened.map_err(|error| refusal(key, error))?;
    Ok(Opened { plaintext, material: Some(material.name()) })
}

/// Random bytes for a data key, from where the key is.
pub(super) fn random(session: &Session<'_>, key: &KeyRecord, length: usize) -> Answer<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    match session.service.access_to(key)? {
        Some(access) => key_store::random_from(&access, key, &mut bytes)?,
        None => getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?,
    }
    Ok(bytes)
}

/// What encrypts under one of the key's materials.
fn cipher<'a>(
    session: &Session<'a>,
    key: &KeyRecord,
    material: &MaterialRecord,
) -> Answer<Box<dyn Cipher + 'a>> {
    if let Some(access) = session.service.access_to(key)? {
        return Ok(Box::new(HsmKey { access, material: material.id }));
    }
    let secret = session.service.store.secret(key, material)?;
    Ok(Box::new(MasterKey::from_bytes(&secret).ok_or_else(ApiError::internal)?))
}

fn refusal(key: &KeyRecord, error: CipherError) -> ApiError {
    match error {
        CipherError::NotOpened => ApiError::invalid_ciphertext(),
        CipherError::Hsm(error) => key_store::failed(key, error),
        CipherError::Library => ApiError::internal(),
    }
}
