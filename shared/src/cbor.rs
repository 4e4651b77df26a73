//! CBOR (RFC 8949) of control messages, requests and receipts: one value, one encoding.
//!
//! Decoding is strict: unknown fields (by the types' `deny_unknown_fields`), trailing bytes and
//! any second encoding of the same value are refused. The last is checked by encoding what was
//! decoded again; messages are small, so this costs little and cannot be forgotten for one field.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are not the encoding of the expected value. Holds none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// Not CBOR, not of this type, or bytes are left over.
    #[error("malformed CBOR near byte {at}")]
    Malformed {
        /// Offset at which decoding stopped.
        at: u64,
    },
    /// The same value has a shorter or more regular encoding.
    #[error("the CBOR encoding is not the canonical one")]
    NotCanonical,
    /// The value cannot be encoded.
    #[error("the value has no CBOR encoding")]
    Unencodable,
}

/// Encodes a value.
///
/// # Errors
/// [`CborError::Unencodable`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CborError> {
    serde_cbor::to_vec(value).map_err(|_| CborError::Unencodable)
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
/// [`CborError`] for anything that [`encode`] would not have written.
pub fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, CborError> {
    let value: T =
        serde_cbor::from_slice(bytes).map_err(|error| CborError::Malformed { at: error.offset() })?;
    if encode(&value)? == bytes { Ok(value) } else { Err(CborError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        a: u64,
        b: Option<String>,
    }

    #[test]
    fn refuses_second_encodings_unknown_fields_and_trailing_bytes() {
        let pair = Pair { a: 1, b: None };
        let good = encode(&pair).unwrap();
        assert_eq!(good, b"\xa2\x61a\x01\x61b\xf6");
        assert_eq!(decode::<Pair>(&good), Ok(pair));
        for (bytes, error) in [
            (&b"\xa2\x61a\x18\x01\x61b\xf6"[..], CborError::NotCanonical), // long form of 1
            (b"\xa2\x61b\xf6\x61a\x01", CborError::NotCanonical),          // other order
            (b"\xbf\x61a\x01\x61b\xf6\xff", CborError::NotCanonical),      // indefinite length
            (b"\xa1\x61a\x01", CborError::NotCanonical),                   // absent for null
        ] {
            assert_eq!(decode::<Pair>(bytes), Err(error), "{bytes:?}");
        }
        for bytes in
            [&b"\xa2\x61a\x01\x61b\xf6\x00"[..], b"\xa3\x61a\x01\x61b\xf6\x61c\x01", b"\xa1\x61a", b""]
        {
            assert!(matches!(decode::<Pair>(bytes), Err(CborError::Malformed { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn a_huge_declared_length_allocates_nothing() {
        let bytes = b"\xa2\x61a\x01\x61b\x7b\xff\xff\xff\xff\xff\xff\xff\xff";
        assert!(matches!(decode::<Pair>(bytes), Err(CborError::Malformed { .. })));
    }
}
