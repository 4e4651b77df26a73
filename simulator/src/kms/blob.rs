//! The opaque `CiphertextBlob`: same size and outline as AWS's, sealed under a master key or in an HSM.
//!
//! ```text
//! 01 02 02 00 78 | key material id, 32 | 01 | salt, 16 | length, 4 | DER EncryptedData (RFC 5652 §8)
//!                                                                     AES-256-GCM, nonce 12, tag 16
//! ```
//!
//! Each blob under a master key has a key of its own, HKDF-SHA256 of master key and salt; an HSM
//! encrypts all blobs of a key with that key, and the salt is only there. Everything before the DER,
//! the key's ARN and the encryption context are authenticated; the DER has one encoding only, so
//! that no bit of a blob can change unnoticed. What real blobs hold inside is not known; ours
//! starts with eleven bytes that say what it is, because theirs are eleven bytes longer too.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

use super::cms::element;
use super::hsm::HsmError;
use super::key_store::Access;
use super::master::MasterKey;
use super::material::MaterialId;

const PREFIX: [u8; 5] = [0x01, 0x02, 0x02, 0x00, 0x78];
const SALT_MARK: u8 = 0x01;
const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = PREFIX.len() + 32 + 1 + SALT_BYTES;
const NONCE_BYTES: usize = 12;
const LABEL: &[u8; 11] = b"adyton blob";
const KDF_INFO: &[u8] = b"adyton simulator kms blob v1";

/// 1.2.840.113549.1.7.6 (RFC 5652 §8)
const ENCRYPTED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06";
/// 1.2.840.113549.1.7.1 (RFC 5652 §4)
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
/// 2.16.840.1.101.3.4.1.46 (RFC 5084 §3.2)
const AES_256_GCM: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2e";
const VERSION_0: &[u8] = b"\x02\x01\x00";
const TAG_LENGTH: &[u8] = b"\x02\x01\x10";

/// The blob is not one of this service, or not for this key and context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotOpened;

/// Why content was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CipherError {
    NotOpened,
    /// The HSM that was to do it did not.
    Hsm(HsmError),
    /// The cryptographic library or the random source failed.
    Library,
}

type Nonce = [u8; NONCE_BYTES];

/// What encrypts the content of blobs: AES-256-GCM under a key that it knows, with a nonce that it chooses.
pub(super) trait Cipher {
    fn encrypt(
        &self,
        salt: &[u8; SALT_BYTES],
        aad: &[u8],
        content: &[u8],
    ) -> Result<(Nonce, Vec<u8>), CipherError>;

    fn decrypt(
        &self,
        salt: &[u8; SALT_BYTES],
        nonce: &Nonce,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CipherError>;
}

/// A key in an HSM, by the id of its material.
pub(super) struct HsmKey<'a> {
    pub(super) access: Access<'a>,
    pub(super) material: MaterialId,
}

/// What a blob is bound to besides its own header.
pub(super) struct Binding<'a> {
    /// See [`KeyRecord::binding`](super::key::KeyRecord::binding).
    pub(super) key: &'a str,
    /// The encryption context in canonical encoding.
    pub(super) context: &'a [u8],
}

/// Seals `plaintext`.
///
/// # Errors
/// [`CipherError`], except that nothing is refused.
pub(super) fn seal(
    cipher: &dyn Cipher,
    material: &MaterialId,
    binding: &Binding,
    plaintext: &[u8],
) -> Result<Vec<u8>, CipherError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|_| CipherError::Library)?;
    let mut blob = [&PREFIX[..], material, &[SALT_MARK], &salt].concat();
    let mut labelled = Zeroizing::new(Vec::with_capacity(LABEL.len() + plaintext.len()));
    labelled.extend_from_slice(LABEL);
    labelled.extend_from_slice(plaintext);
    let aad = additional_data(&blob, binding);
    let (nonce, sealed) = cipher.encrypt(&salt, &aad, &labelled)?;
    let der = encrypted_data(&nonce, &sealed);
    blob.extend(u32::try_from(der.len()).map_err(|_| CipherError::Library)?.to_be_bytes());
    blob.extend(der);
    Ok(blob)
}

/// The id of the master key that a blob claims to be sealed under. Nothing is verified by it.
pub(super) fn claimed_material(blob: &[u8]) -> Result<MaterialId, NotOpened> {
    let rest = blob.strip_prefix(&PREFIX).ok_or(NotOpened)?;
    rest.first_chunk::<32>().copied().ok_or(NotOpened)
}

/// Opens a blob.
///
/// # Errors
/// [`CipherError::NotOpened`] for everything that is wrong with the blob: AWS does not say either.
pub(super) fn open(
    cipher: &dyn Cipher,
    binding: &Binding,
    blob: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CipherError> {
    let (header, rest) = blob.split_at_checked(HEADER_BYTES).ok_or(NotOpened)?;
    let (length, der) = rest.split_first_chunk::<4>().ok_or(NotOpened)?;
    if u32::from_be_bytes(*length) as usize != der.len() {
        return Err(NotOpened.into());
    }
    let (nonce, sealed) = split_encrypted_data(der)?;
    let salt = header.last_chunk::<SALT_BYTES>().ok_or(NotOpened)?;
    let aad = additional_data(header, binding);
    let labelled = cipher.decrypt(salt, &nonce, &aad, sealed)?;
    let plaintext = labelled.strip_prefix(LABEL).ok_or(NotOpened)?;
    Ok(Zeroizing::new(plaintext.to_vec()))
}

impl From<NotOpened> for CipherError {
    fn from(_: NotOpened) -> Self {
        Self::NotOpened
    }
}

impl Cipher for MasterKey {
    fn encrypt(
        &self,
        salt: &[u8; SALT_BYTES],
        aad: &[u8],
        content: &[u8],
    ) -> Result<(Nonce, Vec<u8>), CipherError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| CipherError::Library)?;
        let key = derive(self, salt).ok_or(CipherError::Library)?;
        let sealed = key.encrypt(&nonce.into(), Payload { msg: content, aad });
        Ok((nonce, sealed.map_err(|_| CipherError::Library)?))
    }

    fn decrypt(
        &self,
        salt: &[u8; SALT_BYTES],
        nonce: &Nonce,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CipherError> {
        let key = derive(self, salt).ok_or(CipherError::Library)?;
        let opened = key.decrypt(&(*nonce).into(), Payload { msg: sealed, aad });
        opened.map(Zeroizing::new).map_err(|_| CipherError::NotOpened)
    }
}

impl Cipher for HsmKey<'_> {
    fn encrypt(
        &self,
        _: &[u8; SALT_BYTES],
        aad: &[u8],
        content: &[u8],
    ) -> Result<(Nonce, Vec<u8>), CipherError> {
        let Access { cluster, password } = &self.access;
        cluster.encrypt(password, &self.material, aad, content).map_err(CipherError::Hsm)
    }

    fn decrypt(
        &self,
        _: &[u8; SALT_BYTES],
        nonce: &Nonce,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CipherError> {
        let Access { cluster, password } = &self.access;
        cluster.decrypt(password, &self.material, nonce, aad, sealed).map_err(|error| match error {
            HsmError::NotOpened => CipherError::NotOpened,
            error => CipherError::Hsm(error),
        })
    }
}

/// The key of one blob.
fn derive(master: &MasterKey, salt: &[u8; SALT_BYTES]) -> Option<Aes256Gcm> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = Zeroizing::new([0; 32]);
    let derived = Salt::new(HKDF_SHA256, salt).extract(master.expose());
    derived.expand(&[KDF_INFO], Length).ok()?.fill(key.as_mut_slice()).ok()?;
    Aes256Gcm::new_from_slice(key.as_slice()).ok()
}

/// Header and ARN have lengths that cannot run into what follows them.
fn additional_data(header: &[u8], binding: &Binding) -> Vec<u8> {
    [header, binding.key.as_bytes(), &[0], binding.context].concat()
}

fn encrypted_data(nonce: &[u8; NONCE_BYTES], sealed: &[u8]) -> Vec<u8> {
    let parameters = element(0x30, &[&element(0x04, &[nonce]), TAG_LENGTH]);
    let algorithm = element(0x30, &[AES_256_GCM, &parameters]);
    let content = element(0x30, &[DATA, &algorithm, &element(0x80, &[sealed])]);
    let data = element(0x30, &[VERSION_0, &content]);
    element(0x30, &[ENCRYPTED_DATA, &element(0xa0, &[&data])])
}

/// Takes nonce and sealed content out; the one encoding that holds them must be this one.
fn split_encrypted_data(der: &[u8]) -> Result<([u8; NONCE_BYTES], &[u8]), NotOpened> {
    let info = contents(der, 0x30, ENCRYPTED_DATA)?;
    let data = contents(info, 0xa0, &[])?;
    let content = contents(contents(data, 0x30, VERSION_0)?, 0x30, DATA)?;
    let algorithm = contents(content, 0x30, AES_256_GCM)?;
    let nonce = contents(contents(algorithm, 0x30, &[])?, 0x04, &[])?;
    let nonce = *nonce.first_chunk::<NONCE_BYTES>().ok_or(NotOpened)?;
    // The algorithm is a SEQUENCE of short length; what follows it is the sealed content.
    let after = 2 + usize::from(*content.get(1).ok_or(NotOpened)?);
    let sealed = contents(content.get(after..).ok_or(NotOpened)?, 0x80, &[])?;
    if encrypted_data(&nonce, sealed) == der { Ok((nonce, sealed)) } else { Err(NotOpened) }
}

/// What follows `lead` inside the element that `der` starts with.
fn contents<'a>(der: &'a [u8], tag: u8, lead: &[u8]) -> Result<&'a [u8], NotOpened> {
    let rest = der.strip_prefix(&[tag]).ok_or(NotOpened)?;
    let (first, rest) = rest.split_first().ok_or(NotOpened)?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(*first), rest),
        0x81 => rest.split_first().map(|(n, rest)| (usize::from(*n), rest)).ok_or(NotOpened)?,
        0x82 => rest
            .split_first_chunk::<2>()
            .map(|(n, rest)| (usize::from(u16::from_be_bytes(*n)), rest))
            .ok_or(NotOpened)?,
        _ => return Err(NotOpened),
    };
    rest.get(..length).and_then(|inside| inside.strip_prefix(lead)).ok_or(NotOpened)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> MasterKey {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).unwrap();
        MasterKey::from_bytes(&bytes).unwrap()
    }

    const BINDING: Binding = Binding { key: "arn:aws:kms:eu-west-1:111122223333:key/1", context: b"context" };

    #[test]
    fn has_the_sizes_of_real_blobs() {
        let master = fresh();
        for (plaintext, size) in [(16, 168), (24, 176), (32, 184)] {
            let blob = seal(&master, &[5; 32], &BINDING, &vec![1; plaintext]).unwrap();
            assert_eq!(blob.len(), size);
            assert_eq!(claimed_material(&blob), Ok([5; 32]));
        }
    }

    #[test]
    fn opens_every_length_and_no_other_bit_pattern() {
        let master = fresh();
        for length in [1, 15, 16, 32, 84, 100, 101, 128, 229, 230, 1024, 4096] {
            let plaintext = vec![0xA5; length];
            let blob = seal(&master, &[5; 32], &BINDING, &plaintext).unwrap();
            assert_eq!(open(&master, &BINDING, &blob).unwrap().as_slice(), plaintext);
        }
        let blob = seal(&master, &[5; 32], &BINDING, &[1; 32]).unwrap();
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                claimed_material(&flipped) != Ok([5; 32]) || open(&master, &BINDING, &flipped).is_err(),
                "{bit}"
            );
        }
        for length in 0..blob.len() {
            assert!(open(&master, &BINDING, &blob[..length]).is_err());
        }
        assert!(open(&master, &BINDING, &[&blob[..], &[0]].concat()).is_err());
    }

    // K-4
    #[test]
    fn another_context_key_or_arn_does_not_open_a_blob() {
        let master = fresh();
        let blob = seal(&master, &[5; 32], &BINDING, &[1; 32]).unwrap();
        assert!(open(&master, &Binding { context: b"contexT", ..BINDING }, &blob).is_err());
        assert!(
            open(&master, &Binding { key: "arn:aws:kms:eu-west-1:111122223333:key/2", ..BINDING }, &blob)
                .is_err()
        );
        assert!(open(&fresh(), &BINDING, &blob).is_err());
    }
}
