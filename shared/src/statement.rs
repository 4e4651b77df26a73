//! What an attestation document of this enclave says in its `user_data` (T-3).
//!
//! ```text
//! "adyton attestation" 0 | version 1 (1) | purpose (1) | subject (32) | policy digest (48)
//! ```
//!
//! The enclave puts nothing else there, so a document made for one purpose can never serve
//! another, and nobody can have the enclave attest to bytes of his own choosing. The subject of
//! a release is the digest of the KMS request (K-13); of an identity, the enclave's id.
//! Source: `docs/protocol.md` §7.

use aws_lc_rs::digest::{Context, SHA256};

use crate::id::{PolicyDigest, Sha256Digest};
use crate::{EncryptionContext, KeyArn};

const PREFIX: &[u8; 19] = b"adyton attestation\0";
const VERSION: u8 = 1;

/// What a document is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Names the key that signs receipts; answers a challenge.
    Identity,
    /// Names the RSA key that one KMS answer is to be sealed to.
    Release,
}

/// The content of `user_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// What the document is for.
    pub purpose: Purpose,
    /// Digest of the KMS request, or the enclave's id.
    pub subject: [u8; 32],
    /// Digest of the measured policy.
    pub policy: PolicyDigest,
}

/// The bytes are not a statement of this project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the document's user_data is not a statement of this project")]
pub struct NotAStatement;

impl Statement {
    /// The bytes for `user_data`: 101 of them.
    pub fn to_bytes(self) -> Vec<u8> {
        let purpose = match self.purpose {
            Purpose::Identity => 1,
            Purpose::Release => 2,
        };
        [&PREFIX[..], &[VERSION, purpose], &self.subject, self.policy.as_bytes()].concat()
    }

    /// Reads a statement; nothing may be left over.
    ///
    /// # Errors
    /// [`NotAStatement`].
    pub fn parse(user_data: &[u8]) -> Result<Self, NotAStatement> {
        let rest = user_data.strip_prefix(PREFIX).ok_or(NotAStatement)?;
        let ([version, purpose], rest) = rest.split_first_chunk().ok_or(NotAStatement)?;
        let (subject, policy) = rest.split_first_chunk::<32>().ok_or(NotAStatement)?;
        let purpose = match (*version, *purpose) {
            (VERSION, 1) => Purpose::Identity,
            (VERSION, 2) => Purpose::Release,
            _ => return Err(NotAStatement),
        };
        let policy = PolicyDigest::try_from(policy).map_err(|_| NotAStatement)?;
        Ok(Self { purpose, subject: *subject, policy })
    }
}

/// The digest of a KMS request that a release statement names: SHA-256 over the operation, the
/// key, the wrapped key and the canonical context, each with its length in 8 bytes before it.
pub fn release_digest(
    operation: &str,
    key: &KeyArn,
    ciphertext: &[u8],
    context: &EncryptionContext,
) -> Sha256Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(b"adyton kms request 1\0");
    let context = context.serialize_canonical();
    for part in [operation.as_bytes(), key.as_str().as_bytes(), ciphertext, &context] {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    Sha256Digest::from_digest(&hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    // T-3
    #[test]
    fn a_statement_is_typed_versioned_and_exact() {
        let statement =
            Statement { purpose: Purpose::Release, subject: [1; 32], policy: PolicyDigest::new([2; 48]) };
        let bytes = statement.to_bytes();
        assert_eq!(bytes.len(), 101);
        assert_eq!(Statement::parse(&bytes), Ok(statement));
        for at in 0..21 {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert_eq!(Statement::parse(&other), Err(NotAStatement), "byte {at}");
        }
        assert_eq!(Statement::parse(&bytes[..100]), Err(NotAStatement));
        assert_eq!(Statement::parse(&[bytes.as_slice(), b"\0"].concat()), Err(NotAStatement));
    }

    // K-13
    #[test]
    fn every_part_of_a_request_changes_its_digest() {
        let key = KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/1").unwrap();
        let other = KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/2").unwrap();
        let context = EncryptionContext::from_pairs([("a", "b")]).unwrap();
        let base = release_digest("Decrypt", &key, b"blob", &context);
        for changed in [
            release_digest("GenerateDataKey", &key, b"blob", &context),
            release_digest("Decrypt", &other, b"blob", &context),
            release_digest("Decrypt", &key, b"blob2", &context),
            release_digest("Decrypt", &key, b"blob", &EncryptionContext::default()),
        ] {
            assert_ne!(base, changed);
        }
    }
}
