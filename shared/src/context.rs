//! The encryption context: what a data key and its message are bound to.
//!
//! KMS authenticates the pairs, the message repeats them in its header, and the
//! policy says what they must be. Serialised as the AWS Encryption SDK does
//! (message format reference, "AAD"): count, then key and value, each with a
//! 16-bit length, sorted by the UTF-8 bytes of the key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_CONTEXT_BYTES, MAX_CONTEXT_PAIRS};

/// The pair that a signed message carries its verification key in.
pub const PUBLIC_KEY_PAIR: &str = "aws-crypto-public-key";

/// Non-secret pairs bound to a ciphertext as additional authenticated data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct EncryptionContext(BTreeMap<String, String>);

/// What every payload of this project is bound to (K-6): it cannot be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Whose data it is.
    pub tenant: String,
    /// Which object of the tenant.
    pub object: String,
    /// What it may be used for.
    pub purpose: String,
    /// Rises with each new version of the object, against roll-back (K-14).
    pub version: u64,
}

/// Why pairs are not an encryption context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// Longer than the format can say.
    #[error("an encryption context of {bytes} bytes is over the limit of {MAX_CONTEXT_BYTES}")]
    TooLarge {
        /// Serialised length in bytes.
        bytes: usize,
    },
    /// More pairs than are kept.
    #[error("an encryption context of {pairs} pairs is over the limit of {MAX_CONTEXT_PAIRS}")]
    TooManyPairs {
        /// Number of pairs.
        pairs: usize,
    },
    /// A key occurs twice or the keys are not sorted.
    #[error("encryption context keys are not sorted and unique")]
    Order,
    /// Text that is not UTF-8, a length that leads past the end, or bytes left over.
    #[error("malformed encryption context")]
    Malformed,
    /// A pair that every payload must have is empty or absent.
    #[error("the encryption context has no {0}; every payload names tenant, object, purpose and version")]
    Missing(&'static str),
}

impl EncryptionContext {
    /// Builds a context from pairs that need not be sorted.
    ///
    /// # Errors
    /// [`ContextError::Order`] for a key given twice, [`ContextError::TooLarge`] past the format's limit.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ContextError> {
        let mut map = BTreeMap::new();
        for (key, value) in pairs {
            if map.insert(key.into(), value.into()).is_some() {
                return Err(ContextError::Order);
            }
        }
        Self::try_from(map)
    }

    /// The context of a payload of this project.
    ///
    /// # Errors
    /// [`ContextError::Missing`] if a pair is empty (K-6).
    pub fn of(subject: &Subject) -> Result<Self, ContextError> {
        let Subject { tenant, object, purpose, version } = subject;
        for (name, value) in [("tenant", tenant), ("object", object), ("purpose", purpose)] {
            if value.is_empty() {
                return Err(ContextError::Missing(name));
            }
        }
        let version = version.to_string();
        Self::from_pairs([
            ("tenant", tenant.as_str()),
            ("object", object),
            ("purpose", purpose),
            ("version", &version),
        ])
    }

    /// The same context with another pair.
    ///
    /// # Errors
    /// As [`EncryptionContext::from_pairs`].
    pub fn with(self, key: &str, value: &str) -> Result<Self, ContextError> {
        Self::from_pairs(self.0.into_iter().chain([(key.to_owned(), value.to_owned())]))
    }

    /// The value of a pair.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The pairs, sorted by key.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical bytes; empty for an empty context.
    pub fn serialize_canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.serialized_length());
        if self.0.is_empty() {
            return out;
        }
        // Lengths were checked when the context was made.
        let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
        out.extend(length(self.0.len()));
        for text in self.0.iter().flat_map(|(k, v)| [k, v]) {
            out.extend(length(text.len()));
            out.extend(text.as_bytes());
        }
        out
    }

    /// Reads the canonical bytes back; any other encoding is refused.
    ///
    /// # Errors
    /// [`ContextError`] for unsorted or repeated keys, text that is not UTF-8, and bytes left over.
    pub fn parse_canonical(bytes: &[u8]) -> Result<Self, ContextError> {
        let context = Self::parse_unordered(bytes)?;
        if context.serialize_canonical() == bytes { Ok(context) } else { Err(ContextError::Order) }
    }

    /// Reads the bytes of a message header, whose writers did not all sort the keys.
    ///
    /// Nothing rests on the order there: the header's tag is over the bytes as they are, and KMS
    /// takes the pairs as a map.
    ///
    /// # Errors
    /// [`ContextError`] for repeated keys, text that is not UTF-8, and bytes left over.
    pub fn parse_unordered(bytes: &[u8]) -> Result<Self, ContextError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut rest = bytes;
        let count = take_u16(&mut rest)?;
        if count == 0 {
            return Err(ContextError::Malformed);
        }
        if usize::from(count) > MAX_CONTEXT_PAIRS {
            return Err(ContextError::TooManyPairs { pairs: count.into() });
        }
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let (key, value) = (take_text(&mut rest)?, take_text(&mut rest)?);
            if map.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(ContextError::Order);
            }
        }
        if rest.is_empty() { Ok(Self(map)) } else { Err(ContextError::Malformed) }
    }

    fn serialized_length(&self) -> usize {
        let pairs = self.0.iter().map(|(k, v)| k.len().saturating_add(v.len()).saturating_add(4));
        if self.0.is_empty() { 0 } else { pairs.fold(2, usize::saturating_add) }
    }
}

impl TryFrom<BTreeMap<String, String>> for EncryptionContext {
    type Error = ContextError;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, ContextError> {
        let context = Self(map);
        if context.0.len() > MAX_CONTEXT_PAIRS {
            return Err(ContextError::TooManyPairs { pairs: context.0.len() });
        }
        // Every length field has 16 bits, so the sum bounds each of them too.
        let bytes = context.serialized_length();
        if bytes > MAX_CONTEXT_BYTES { Err(ContextError::TooLarge { bytes }) } else { Ok(context) }
    }
}

impl From<EncryptionContext> for BTreeMap<String, String> {
    fn from(context: EncryptionContext) -> Self {
        context.0
    }
}

fn take_u16(rest: &mut &[u8]) -> Result<u16, ContextError> {
    let (head, tail) = rest.split_first_chunk::<2>().ok_or(ContextError::Malformed)?;
    *rest = tail;
    Ok(u16::from_be_bytes(*head))
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, ContextError> {
    let length = usize::from(take_u16(rest)?);
    let (head, tail) = rest.split_at_checked(length).ok_or(ContextError::Malformed)?;
    *rest = tail;
    std::str::from_utf8(head).map_err(|_| ContextError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_in_canonical_order() {
        let context = EncryptionContext::from_pairs([("b", "2"), ("a", "1"), ("ä", "")]).unwrap();
        let bytes = context.serialize_canonical();
        assert_eq!(bytes, b"\0\x03\0\x01a\0\x011\0\x01b\0\x012\0\x02\xc3\xa4\0\0");
        assert_eq!(EncryptionContext::parse_canonical(&bytes), Ok(context));
        assert!(EncryptionContext::default().serialize_canonical().is_empty());
    }

    #[test]
    fn refuses_second_encodings_of_the_same_pairs() {
        for (bytes, error) in [
            (&b"\0\0"[..], ContextError::Malformed),
            (b"\0\x02\0\x01b\0\0\0\x01a\0\0", ContextError::Order),
            (b"\0\x02\0\x01a\0\0\0\x01a\0\0", ContextError::Order),
            (b"\0\x01\0\x01a\0\0\0", ContextError::Malformed),
            (b"\0\x01\0\x01\xff\0\0", ContextError::Malformed),
            (b"\0\x01\xff\xffa", ContextError::Malformed),
        ] {
            assert_eq!(EncryptionContext::parse_canonical(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_header_may_hold_its_pairs_in_any_order_but_each_once() {
        let context = EncryptionContext::from_pairs([("a", ""), ("b", "")]).unwrap();
        assert_eq!(EncryptionContext::parse_unordered(b"\0\x02\0\x01b\0\0\0\x01a\0\0"), Ok(context));
        let repeated = b"\0\x02\0\x01a\0\0\0\x01a\0\0";
        assert_eq!(EncryptionContext::parse_unordered(repeated), Err(ContextError::Order));
    }

    #[test]
    fn refuses_more_pairs_than_are_kept_before_reading_them() {
        let pairs = |count: usize| (0..count).map(|number| (number.to_string(), ""));
        assert!(EncryptionContext::from_pairs(pairs(MAX_CONTEXT_PAIRS)).is_ok());
        let error = ContextError::TooManyPairs { pairs: 1025 };
        assert_eq!(EncryptionContext::from_pairs(pairs(1025)), Err(error.clone()));
        assert_eq!(EncryptionContext::parse_unordered(b"\x04\x01"), Err(error));
    }

    #[test]
    fn decoding_checks_the_limits_too() {
        let json = format!(r#"{{"k":"{}"}}"#, "v".repeat(MAX_CONTEXT_BYTES - 7));
        assert!(serde_json::from_str::<EncryptionContext>(&json).is_ok());
        let json = json.replace(r#""k""#, r#""kk""#);
        assert!(serde_json::from_str::<EncryptionContext>(&json).is_err());
    }

    // K-6
    #[test]
    fn a_payload_context_without_tenant_object_or_purpose_cannot_be_built() {
        let full = Subject { tenant: "t".into(), object: "o".into(), purpose: "p".into(), version: 1 };
        assert!(EncryptionContext::of(&full).is_ok());
        let gaps = [
            (Subject { tenant: String::new(), ..full.clone() }, "tenant"),
            (Subject { object: String::new(), ..full.clone() }, "object"),
            (Subject { purpose: String::new(), ..full.clone() }, "purpose"),
        ];
        for (subject, name) in gaps {
            assert_eq!(EncryptionContext::of(&subject), Err(ContextError::Missing(name)));
        }
    }
}
