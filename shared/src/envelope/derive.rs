//! From a data key to the key that encrypts one message.
//!
//! Version 2 derives a commitment beside the key: a header that commits to
//! another key is refused before any key is used (K-8). Derived keys live in
//! buffers that are wiped, and in the cipher that they were derived for.

use aws_lc_rs::aead::{LessSafeKey, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{self, KeyType, Salt};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::suite::{Suite, Version};
use crate::DataKey;

/// Length of the key commitment in a version 2 header, in bytes.
pub(super) const COMMITMENT_BYTES: usize = 32;

const DERIVE_LABEL: &[u8] = b"DERIVEKEY";
const COMMIT_LABEL: &[u8] = b"COMMITKEY";

/// What one data key becomes for one message.
pub(super) struct Derivation<'a> {
    suite: Suite,
    message_id: &'a [u8],
    data_key: &'a DataKey,
}

impl<'a> Derivation<'a> {
    /// Fails if the data key has not the length that the suite asks for.
    pub(super) fn new(
        suite: Suite,
        message_id: &'a [u8],
        data_key: &'a DataKey,
    ) -> Result<Self, Unspecified> {
        if data_key.expose().len() == suite.key_bytes() {
            Ok(Self { suite, message_id, data_key })
        } else {
            Err(Unspecified)
        }
    }

    /// The commitment to the data key; only version 2 has one.
    pub(super) fn commitment(&self) -> Result<[u8; COMMITMENT_BYTES], Unspecified> {
        let mut commitment = [0; COMMITMENT_BYTES];
        self.expand(hkdf::HKDF_SHA512, &[COMMIT_LABEL], &mut commitment)?;
        Ok(commitment)
    }

    /// Compares in constant time what the header commits to.
    pub(super) fn commits_to(&self, stored: &[u8]) -> Result<(), Unspecified> {
        let own = self.commitment()?;
        if bool::from(own.as_slice().ct_eq(stored)) { Ok(()) } else { Err(Unspecified) }
    }

    /// The cipher of the message's header tag and frames.
    pub(super) fn cipher(&self) -> Result<LessSafeKey, Unspecified> {
        let id = self.suite.id().to_be_bytes();
        let mut key = Zeroizing::new([0_u8; DataKey::MAX_BYTES]);
        let key = key.get_mut(..self.suite.key_bytes()).ok_or(Unspecified)?;
        match (self.suite.derivation(), self.suite.version()) {
            (None, _) => key.copy_from_slice(self.data_key.expose()),
            (Some(hash), Version::One) => self.expand(hash, &[&id, self.message_id], key)?,
            (Some(hash), Version::Two) => self.expand(hash, &[&id, DERIVE_LABEL], key)?,
        }
        Ok(LessSafeKey::new(UnboundKey::new(self.suite.cipher(), key)?))
    }

    fn expand(&self, hash: hkdf::Algorithm, info: &[&[u8]], out: &mut [u8]) -> Result<(), Unspecified> {
        let salt = match self.suite.version() {
            Version::One => Salt::none(hash),
            Version::Two => Salt::new(hash, self.message_id),
        };
        salt.extract(self.data_key.expose()).expand(info, Length(out.len()))?.fill(out)
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
