//! Requests that the parent carries and cannot read, and answers that it cannot read either (S-12).
//!
//! A signed request is sealed with HPKE (RFC 9180, base mode: X25519, HKDF-SHA256, AES-256-GCM) to
//! the key in the enclave's identity document. Who seals without having verified that document
//! tells his secrets to whoever answered. Inside is the same request that could be sent in the
//! open; the enclave judges it by the same rules, and the signature in it says who asks.
//!
//! ```text
//! info   "adyton sealed request 1" 0 | enclave id (32)        aad   "adyton protocol" 0 | version (1)
//! plain  reply key (32) | length of the request (4, big endian) | request | zeros up to n × 1 KiB
//! ```
//!
//! The receipt names the job by its digest, by which a guess of the job can be tested, so the
//! answer leaves under the reply key. Refusals are codes and numbers and leave in the open.
//! Source: `docs/protocol.md` §5.1.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde_bytes::ByteBuf;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::cbor;
use crate::id::{EnclaveId, SealingKey};
use crate::limits::{MAX_SEALED_REQUEST_BYTES, SEALED_SIZE_CLASS_BYTES};
use crate::message::{Done, PROTOCOL_VERSION, SealedRequest};

const DOMAIN: &[u8] = b"adyton sealed request 1\0";
const REPLY_DOMAIN: &[u8] = b"adyton sealed reply 1\0";
const KEY_BYTES: usize = 32;
const LENGTH_BYTES: usize = 4;

/// Why nothing was sealed or opened. Nothing more is said: what is wrong inside is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Longer than what may be sealed.
    #[error("{0} bytes are over the limit of a sealed request")]
    TooLarge(usize),
    /// No key pair, no randomness, or a key that is none.
    #[error("the request could not be sealed")]
    Unsealed,
    /// Sealed to another key, for another enclave or protocol, or changed.
    #[error("the request was not sealed to this enclave, or was changed")]
    Unopenable,
}

fn suite() -> &'static dyn Hpke {
    DH_KEM_X25519_HKDF_SHA256_AES_256
}

fn info(enclave: EnclaveId) -> Vec<u8> {
    [DOMAIN, enclave.as_bytes()].concat()
}

fn aad() -> Vec<u8> {
    [&b"adyton protocol\0"[..], &[PROTOCOL_VERSION]].concat()
}

/// Seals a signed request to the key of a verified enclave; the reply key opens what it answers.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    signed: &[u8],
    enclave: EnclaveId,
    key: SealingKey,
) -> Result<(SealedRequest, ReplyKey), SealError> {
    let reply = ReplyKey::generate()?;
    let plain = pad(&reply.0, signed, MAX_SEALED_REQUEST_BYTES)?;
    let to = HpkePublicKey(key.as_bytes().to_vec());
    let (encapsulated, sealed) =
        suite().seal(&info(enclave), &aad(), &plain, &to).map_err(|_| SealError::Unsealed)?;
    let encapsulated = encapsulated.0.try_into().map_err(|_| SealError::Unsealed)?;
    Ok((SealedRequest { encapsulated, sealed: ByteBuf::from(sealed) }, reply))
}

/// `prefix`, the content's length, the content, and zeros to the next size class. Sized once: no copy stays behind.
fn pad(prefix: &[u8], content: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let too_large = SealError::TooLarge(content.len());
    let length = u32::try_from(content.len()).map_err(|_| too_large)?;
    let bare = prefix.len().saturating_add(LENGTH_BYTES).saturating_add(content.len());
    let padded = bare.checked_next_multiple_of(SEALED_SIZE_CLASS_BYTES).ok_or(too_large)?;
    if padded > limit {
        return Err(too_large);
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(padded));
    for part in [prefix, &length.to_be_bytes(), content] {
        plain.extend_from_slice(part);
    }
    plain.resize(padded, 0);
    Ok(plain)
}

/// The content of `length | content | zeros`, in its one encoding.
fn unpad(prefix_bytes: usize, padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.get(prefix_bytes..)?.split_first_chunk::<LENGTH_BYTES>()?;
    let (content, zeros) = rest.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    let bare = padded.len().checked_sub(zeros.len())?;
    let exact = bare.checked_next_multiple_of(SEALED_SIZE_CLASS_BYTES)? == padded.len();
    (exact && zeros.iter().all(|byte| *byte == 0)).then_some(content)
}

/// The key pair of one run of an enclave. Never stored; the private half is wiped when dropped (T-1).
pub struct OpeningKey {
    private: HpkePrivateKey,
    public: SealingKey,
}

impl OpeningKey {
    /// A fresh pair.
    ///
    /// # Errors
    /// [`SealError::Unsealed`] if there is no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let (public, private) = suite().generate_key_pair().map_err(|_| SealError::Unsealed)?;
        let public = SealingKey::try_from(public.0.as_slice()).map_err(|_| SealError::Unsealed)?;
        Ok(Self { private, public })
    }

    /// The half that the identity document names.
    pub fn public(&self) -> SealingKey {
        self.public
    }

    /// Opens a request that was sealed to this key for this enclave.
    ///
    /// # Errors
    /// [`SealError::Unopenable`].
    pub fn open(&self, enclave: EnclaveId, sealed: &SealedRequest) -> Result<OpenedRequest, SealError> {
        let SealedRequest { encapsulated, sealed } = sealed;
        let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
        let plain = suite().open(&encapsulated, &info(enclave), &aad(), sealed, &self.private);
        let plain = Zeroizing::new(plain.map_err(|_| SealError::Unopenable)?);
        let reply = plain.first_chunk().copied().map(ReplyKey).ok_or(SealError::Unopenable)?;
        let signed = unpad(KEY_BYTES, &plain).ok_or(SealError::Unopenable)?;
        Ok(OpenedRequest { signed: Zeroizing::new(signed.to_vec()), reply })
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpeningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What was in a sealed request. Nothing of it is verified yet.
pub struct OpenedRequest {
    /// The signed request, see [`crate::request`].
    pub signed: Zeroizing<Vec<u8>>,
    /// For the answer.
    pub reply: ReplyKey,
}

impl fmt::Debug for OpenedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenedRequest(..)")
    }
}

/// Seals the one answer to one sealed request. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ReplyKey([u8; KEY_BYTES]);

impl ReplyKey {
    fn generate() -> Result<Self, SealError> {
        let mut key = Self([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut key.0).map_err(|_| SealError::Unsealed)?;
        Ok(key)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).ok()?))
    }

    /// Seals the answer, padded as requests are. Consumes the key: its one nonce is used up.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(self, done: &Done) -> Result<Vec<u8>, SealError> {
        let content = Zeroizing::new(cbor::encode(done).map_err(|_| SealError::Unsealed)?);
        let mut plain = pad(&[], &content, MAX_SEALED_REQUEST_BYTES)?;
        let cipher = self.cipher().ok_or(SealError::Unsealed)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = cipher
            .seal_in_place_separate_tag(nonce, Aad::from(REPLY_DOMAIN), &mut plain)
            .map_err(|_| SealError::Unsealed)?;
        Ok([plain.as_slice(), tag.as_ref()].concat())
    }

    /// Opens the answer.
    ///
    /// # Errors
    /// [`SealError::Unopenable`].
    pub fn open(self, sealed: &[u8]) -> Result<Done, SealError> {
        let mut plain = Zeroizing::new(sealed.to_vec());
        let cipher = self.cipher().ok_or(SealError::Unopenable)?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let padded = cipher
            .open_in_place(nonce, Aad::from(REPLY_DOMAIN), &mut plain)
            .map_err(|_| SealError::Unopenable)?;
        let content = unpad(0, padded).ok_or(SealError::Unopenable)?;
        cbor::decode(content).map_err(|_| SealError::Unopenable)
    }
}

impl fmt::Debug for ReplyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyKey(..)")
    }
}
