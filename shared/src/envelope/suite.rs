//! The algorithm suites of the AWS Encryption SDK.
//!
//! What each suite means for key lengths, derivation and signature is written
//! once, here (algorithm suites reference; framework specification,
//! `algorithm-suites.md`). An identifier outside the table does not become a
//! [`Suite`]. Which suites may be used is the policy's business.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, EcdsaVerificationAlgorithm};
use aws_lc_rs::{aead, digest, hkdf};

/// An algorithm suite that encrypts with AES-GCM, 12-byte IVs and 16-byte tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Suite {
    /// AES-128, the data key used as it is.
    Aes128 = 0x0014,
    /// AES-192, the data key used as it is.
    Aes192 = 0x0046,
    /// AES-256, the data key used as it is.
    Aes256 = 0x0078,
    /// AES-128, HKDF with SHA-256.
    Aes128Hkdf = 0x0114,
    /// AES-192, HKDF with SHA-256.
    Aes192Hkdf = 0x0146,
    /// AES-256, HKDF with SHA-256.
    Aes256Hkdf = 0x0178,
    /// AES-128, HKDF with SHA-256, signed with ECDSA P-256.
    Aes128HkdfSigned = 0x0214,
    /// AES-192, HKDF with SHA-384, signed with ECDSA P-384.
    Aes192HkdfSigned = 0x0346,
    /// AES-256, HKDF with SHA-384, signed with ECDSA P-384.
    Aes256HkdfSigned = 0x0378,
    /// AES-256, HKDF with SHA-512, key commitment.
    Aes256Commit = 0x0478,
    /// AES-256, HKDF with SHA-512, key commitment, signed with ECDSA P-384: the SDKs' default.
    Aes256CommitSigned = 0x0578,
}

/// Which layout a suite's header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// How a signed suite's footer is verified.
#[derive(Clone, Copy)]
pub(super) struct SignatureScheme {
    pub(super) digest: &'static digest::Algorithm,
    pub(super) verification: &'static EcdsaVerificationAlgorithm,
    /// Length of a compressed public point, in bytes.
    pub(super) point_bytes: usize,
    /// Longest DER signature, in bytes.
    pub(super) max_signature_bytes: usize,
}

impl Suite {
    /// Every suite, by identifier.
    pub const ALL: [Self; 11] = [
        Self::Aes128,
        Self::Aes192,
        Self::Aes256,
        Self::Aes128Hkdf,
        Self::Aes192Hkdf,
        Self::Aes256Hkdf,
        Self::Aes128HkdfSigned,
        Self::Aes192HkdfSigned,
        Self::Aes256HkdfSigned,
        Self::Aes256Commit,
        Self::Aes256CommitSigned,
    ];

    /// The suite of an identifier.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id() == id)
    }

    /// The identifier in the message header.
    pub const fn id(self) -> u16 {
        self as u16
    }

    /// Whether the header commits to one data key (K-8).
    pub const fn is_committing(self) -> bool {
        matches!(self, Self::Aes256Commit | Self::Aes256CommitSigned)
    }

    /// Whether a footer signs the message.
    pub const fn is_signed(self) -> bool {
        self.signature().is_some()
    }

    /// Length of the data key, in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes128Hkdf | Self::Aes128HkdfSigned => 16,
            Self::Aes192 | Self::Aes192Hkdf | Self::Aes192HkdfSigned => 24,
            Self::Aes256
            | Self::Aes256Hkdf
            | Self::Aes256HkdfSigned
            | Self::Aes256Commit
            | Self::Aes256CommitSigned => 32,
        }
    }

    pub(super) const fn version(self) -> Version {
        if self.is_committing() { Version::Two } else { Version::One }
    }

    pub(super) const fn message_id_bytes(self) -> usize {
        match self.version() {
            Version::One => 16,
            Version::Two => 32,
        }
    }

    pub(super) fn cipher(self) -> &'static aead::Algorithm {
        match self.key_bytes() {
            16 => &aead::AES_128_GCM,
            24 => &aead::AES_192_GCM,
            _ => &aead::AES_256_GCM,
        }
    }

    pub(super) fn derivation(self) -> Option<hkdf::Algorithm> {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => None,
            Self::Aes128Hkdf | Self::Aes192Hkdf | Self::Aes256Hkdf | Self::Aes128HkdfSigned => {
                Some(hkdf::HKDF_SHA256)
            }
            Self::Aes192HkdfSigned | Self::Aes256HkdfSigned => Some(hkdf::HKDF_SHA384),
            Self::Aes256Commit | Self::Aes256CommitSigned => Some(hkdf::HKDF_SHA512),
        }
    }

    pub(super) const fn signature(self) -> Option<SignatureScheme> {
        match self {
            Self::Aes128HkdfSigned => Some(SignatureScheme {
                digest: &digest::SHA256,
                verification: &ECDSA_P256_SHA256_ASN1,
                point_bytes: 33,
                max_signature_bytes: 72,
            }),
            Self::Aes192HkdfSigned | Self::Aes256HkdfSigned | Self::Aes256CommitSigned => {
                Some(SignatureScheme {
                    digest: &digest::SHA384,
                    verification: &ECDSA_P384_SHA384_ASN1,
                    point_bytes: 49,
                    max_signature_bytes: 104,
                })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#06x}", self.id())
    }
}
