//! Names of things as types: jobs, enclaves, requesters, nonces, digests.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_NAME_BYTES, MAX_NONCE_BYTES, MIN_NONCE_BYTES};

/// Why a text or some bytes are not the identifier that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Wrong length.
    #[error("{what} of {length} bytes; {wanted}")]
    Length {
        /// What it should have been.
        what: &'static str,
        /// Its length.
        length: usize,
        /// Which lengths there are.
        wanted: &'static str,
    },
    /// Characters that it cannot have.
    #[error("not a {what}; write {form}")]
    Form {
        /// What it should have been.
        what: &'static str,
        /// Its form.
        form: &'static str,
    },
}

macro_rules! digest_type {
    ($(#[$doc:meta])+ $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Takes the bytes as they are.
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                let wrong = |_| IdError::Length {
                    what: $what,
                    length: bytes.len(),
                    wanted: concat!("it has ", stringify!($bytes)),
                };
                bytes.try_into().map(Self).map_err(wrong)
            }
        }

        impl TryFrom<serde_bytes::ByteBuf> for $name {
            type Error = IdError;
            fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, IdError> {
                Self::try_from(bytes.as_slice())
            }
        }

        impl From<$name> for serde_bytes::ByteBuf {
            fn from(value: $name) -> Self {
                Self::from(value.0.to_vec())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let form = IdError::Form { what: $what, form: concat!(stringify!($bytes), " bytes in hexadecimal") };
                let bytes = hex::decode(text).map_err(|_| form)?;
                Self::try_from(bytes.as_slice())
            }
        }
    };
}

digest_type!(
    /// Names one job; chosen at random by the requester and never used again (K-14).
    JobId, 16, "job id"
);
digest_type!(
    /// Names one run of an enclave: its Ed25519 receipt key, made at start and never stored.
    EnclaveId, 32, "enclave id"
);
digest_type!(
    /// The X25519 key that requests to one run of an enclave are sealed to; in its identity document (S-12).
    SealingKey, 32, "sealing key"
);
digest_type!(
    /// A SHA-256 digest.
    Sha256Digest, 32, "SHA-256 digest"
);
digest_type!(
    /// The SHA-384 digest of the measured policy file, as extended into PCR16.
    PolicyDigest, 48, "policy digest"
);

impl Sha256Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
    }

    /// Takes over a finished SHA-256.
    pub fn from_digest(digest: &aws_lc_rs::digest::Digest) -> Self {
        Self::try_from(digest.as_ref()).unwrap_or(Self([0; 32]))
    }
}

impl PolicyDigest {
    /// The digest of a policy file.
    pub fn of(policy: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, policy);
        Self::try_from(digest.as_ref()).unwrap_or(Self([0; 48]))
    }
}

/// A challenger's fresh random bytes, 16 to 512 (T-2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Nonce {
    type Error = IdError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, IdError> {
        if (MIN_NONCE_BYTES..=MAX_NONCE_BYTES).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(IdError::Length { what: "nonce", length: bytes.len(), wanted: "it has 16 to 512" })
        }
    }
}

impl TryFrom<serde_bytes::ByteBuf> for Nonce {
    type Error = IdError;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, IdError> {
        Self::try_from(bytes.into_vec())
    }
}

impl From<Nonce> for serde_bytes::ByteBuf {
    fn from(nonce: Nonce) -> Self {
        Self::from(nonce.0)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])+ $name:ident, $what:literal) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(name: String) -> Result<Self, IdError> {
                if name.is_empty() || name.len() > MAX_NAME_BYTES {
                    return Err(IdError::Length { what: $what, length: name.len(), wanted: "it has 1 to 64" });
                }
                let allowed =
                    |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
                if name.bytes().all(allowed) {
                    Ok(Self(name))
                } else {
                    Err(IdError::Form {
                        what: $what,
                        form: "lower-case letters, digits, dots, dashes and underscores",
                    })
                }
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(name: &str) -> Result<Self, IdError> {
                Self::try_from(name.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name_type!(
    /// What the policy calls a requester: 1 to 64 of `a-z 0-9 . _ -`.
    RequesterName, "requester name"
);
name_type!(
    /// What the policy calls a named key, `[keys.NAME]`: 1 to 64 of `a-z 0-9 . _ -`.
    KeyName, "key name"
);

/// A requester's Ed25519 public key; as text `ed25519:` and 32 bytes in base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequesterKey([u8; 32]);

impl RequesterKey {
    /// Takes the raw public key (RFC 8032 §5.1.5).
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for RequesterKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = IdError::Form { what: "requester key", form: "ed25519: and 32 bytes in base64" };
        let encoded = text.strip_prefix("ed25519:").ok_or(wrong)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong)?;
        bytes.as_slice().try_into().map(Self).map_err(|_| wrong)
    }
}

impl TryFrom<String> for RequesterKey {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<RequesterKey> for String {
    fn from(key: RequesterKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for RequesterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for RequesterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequesterKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // T-2
    #[test]
    fn a_nonce_has_16_to_512_bytes() {
        for (length, good) in [(0, false), (15, false), (16, true), (512, true), (513, false)] {
            assert_eq!(Nonce::try_from(vec![1; length]).is_ok(), good, "{length}");
        }
    }

    #[test]
    fn keys_and_ids_round_trip_as_text() {
        let key = RequesterKey::new([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        let id = JobId::new([9; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("ed25519:AAAA".parse::<RequesterKey>().is_err());
        assert!("Billing".parse::<RequesterName>().is_err());
    }
}
