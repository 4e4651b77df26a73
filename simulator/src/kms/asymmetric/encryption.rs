//! RSAES-OAEP (RFC 8017 §7.1) without a label, as AWS KMS uses it.

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use zeroize::Zeroizing;

use crate::kms::material::Secret;

/// A way to encrypt with RSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kms) enum Oaep {
    Sha1,
    Sha256,
}

impl Oaep {
    /// By the algorithm's name in the API.
    pub(in crate::kms) fn of(algorithm: &str) -> Option<Self> {
        match algorithm {
            "RSAES_OAEP_SHA_1" => Some(Self::Sha1),
            "RSAES_OAEP_SHA_256" => Some(Self::Sha256),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static OaepAlgorithm {
        match self {
            Self::Sha1 => &OAEP_SHA1_MGF1SHA1,
            Self::Sha256 => &OAEP_SHA256_MGF1SHA256,
        }
    }

    /// Longest plaintext under a key of this many bytes: two hashes and two bytes less.
    pub(in crate::kms) fn longest(self, key_bytes: usize) -> usize {
        let hash = match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        };
        key_bytes.saturating_sub(2 * hash + 2)
    }
}

/// Encrypts to a public key; `None` if the library fails.
pub(in crate::kms) fn encrypt(spki: &[u8], oaep: Oaep, plaintext: &[u8]) -> Option<Vec<u8>> {
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(spki).ok()?).ok()?;
    let mut ciphertext = vec![0; key.ciphertext_size()];
    key.encrypt(oaep.algorithm(), plaintext, &mut ciphertext, None).ok()?;
    Some(ciphertext)
}

/// What came of a decryption.
pub(in crate::kms) enum Decryption {
    Plaintext(Secret),
    /// The ciphertext is not one of this key and algorithm.
    Unreadable,
}

/// Decrypts; `None` if the key cannot be read.
pub(in crate::kms) fn decrypt(pkcs8: &[u8], oaep: Oaep, ciphertext: &[u8]) -> Option<Decryption> {
    let key = OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?).ok()?;
    if ciphertext.len() != key.key_size_bytes() {
        return Some(Decryption::Unreadable);
    }
    let mut buffer = Zeroizing::new(vec![0; key.min_output_size()]);
    let opened = key.decrypt(oaep.algorithm(), ciphertext, &mut buffer, None);
    Some(opened.map_or(Decryption::Unreadable, |plaintext| {
        Decryption::Plaintext(Zeroizing::new(plaintext.to_vec()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_plaintexts_are_those_that_aws_names() {
        let sizes = [256, 384, 512];
        assert_eq!(sizes.map(|size| Oaep::Sha1.longest(size)), [214, 342, 470]);
        assert_eq!(sizes.map(|size| Oaep::Sha256.longest(size)), [190, 318, 446]);
    }
}
