//! `CKM_AES_GCM`, and who chooses the nonce.
//!
//! AWS's library takes no nonce: it wants the place for one filled with zeros and writes there which
//! one the HSM chose. The standard, and `SoftHSM`, use what they are given, so zeros would repeat a
//! nonce and give the key away. Which kind a library is, is found out with a throw-away key.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use zeroize::Zeroizing;

use super::HsmError;

pub(super) const KEY_BYTES: Ulong = Ulong::new(32);
const NONCE_BYTES: usize = 12;
const TAG_BITS: Ulong = Ulong::new(128);

/// A nonce of AES-GCM.
pub(super) type Nonce = [u8; NONCE_BYTES];

/// Who chooses nonces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nonces {
    /// We do, at random (NIST SP 800-38D §8.2.2: at most 2^32 messages under a key).
    Ours,
    /// The HSM does.
    TheHsms,
}

impl Nonces {
    /// Finds out with a session key, which is destroyed.
    pub(super) fn of(session: &Session) -> Result<Self, HsmError> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(false),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::ValueLen(KEY_BYTES),
        ];
        let key = session.generate_key(&Mechanism::AesKeyGen, &template)?;
        let mut nonce = Nonce::default();
        let encrypted = encrypt_with(session, key, &mut nonce, b"probe", &[0; 16]);
        session.destroy_object(key)?;
        match encrypted {
            Ok(_) if nonce != Nonce::default() => Ok(Self::TheHsms),
            // Some libraries take no nonce of zeros, and then it is ours to choose a better one.
            Ok(_) | Err(HsmError::Unsuitable) => Ok(Self::Ours),
            Err(error) => Err(error),
        }
    }
}

/// Encrypts; the tag follows the ciphertext.
///
/// # Errors
/// [`HsmError::Unsuitable`] if the HSM did not choose a nonce although it was to.
pub(super) fn encrypt(
    session: &Session,
    key: ObjectHandle,
    nonces: Nonces,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(Nonce, Vec<u8>), HsmError> {
    let mut nonce = Nonce::default();
    if nonces == Nonces::Ours {
        getrandom::fill(&mut nonce).map_err(|_| HsmError::Unreachable)?;
    }
    let sealed = encrypt_with(session, key, &mut nonce, aad, plaintext)?;
    if nonce == Nonce::default() {
        return Err(HsmError::Unsuitable);
    }
    Ok((nonce, sealed))
}

/// Afterwards `nonce` is the one that was used, whoever chose it.
fn encrypt_with(
    session: &Session,
    key: ObjectHandle,
    nonce: &mut Nonce,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, HsmError> {
    let mechanism = Mechanism::AesGcm(GcmParams::new(nonce, aad, TAG_BITS)?);
    Ok(session.encrypt(&mechanism, key, plaintext)?)
}

/// Decrypts.
///
/// # Errors
/// [`HsmError::NotOpened`] if ciphertext, nonce and `aad` are not what this key encrypted.
pub(super) fn decrypt(
    session: &Session,
    key: ObjectHandle,
    nonces: Nonces,
    nonce: &Nonce,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HsmError> {
    let mut nonce = *nonce;
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut nonce, aad, TAG_BITS)?);
    match session.decrypt(&mechanism, key, sealed).map_err(HsmError::from) {
        Ok(plaintext) => Ok(Zeroizing::new(plaintext)),
        // Libraries word a wrong tag as any failure. If the key still works, the ciphertext was it.
        Err(HsmError::Unreachable | HsmError::Unsuitable) => {
            encrypt(session, key, nonces, aad, &[0; 16])?;
            Err(HsmError::NotOpened)
        }
        Err(error) => Err(error),
    }
}
