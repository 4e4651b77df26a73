//! The `COSE_Sign1` (RFC 9052 §4.2) around a document (V-1).
//!
//! ```text
//! [d2]                   tag 18, or none
//! 84                     array of 4
//!    44 a1013822         protected header, exactly {1: -35} (ES384)
//!    a0                  unprotected header, exactly empty
//!    59 ....             payload
//!    58 60 ...           signature r || s, 96 bytes
//! ```
//!
//! The algorithm is what we know it to be, not what the sender says: any other
//! header is refused before its content is looked at.

use adyton_shared::limits::MAX_ATTESTATION_BYTES;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};

use super::cbor::{Entries, Reader, Writer};
use super::error::{AttestationError, Part};

const COSE_SIGN1_TAG: u64 = 18;
/// `{1: -35}`: the algorithm is ES384, and nothing else is said.
const PROTECTED: &[u8] = &[0xa1, 0x01, 0x38, 0x22];
/// r and s of P-384.
const SIGNATURE_BYTES: usize = 96;

/// A document taken apart; nothing is verified yet.
pub(super) struct Envelope<'a> {
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(super) fn split(document: &'a [u8]) -> Result<Self, AttestationError> {
        if document.len() > MAX_ATTESTATION_BYTES {
            return Err(AttestationError::Oversize { bytes: document.len() });
        }
        let mut reader = Reader::new(document);
        let malformed = |error| AttestationError::Malformed { part: Part::Envelope, error };
        reader.optional_tag(COSE_SIGN1_TAG).map_err(malformed)?;
        if reader.array().map_err(malformed)? != 4 {
            return Err(AttestationError::NotSign1);
        }
        if reader.bytes().map_err(malformed)? != PROTECTED {
            return Err(AttestationError::ProtectedHeader);
        }
        // Whatever is in this map is not signed, so it may say nothing.
        if reader.definite_map().map_err(malformed)? != Entries::Left(0) {
            return Err(AttestationError::UnprotectedHeader);
        }
        let payload = reader.bytes().map_err(malformed)?;
        let signature = reader.bytes().map_err(malformed)?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(AttestationError::SignatureLength { bytes: signature.len() });
        }
        reader.end().map_err(malformed)?;
        Ok(Self { payload, signature })
    }

    /// The payload, byte for byte as received.
    pub(super) fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Verifies the signature over the received bytes (RFC 9052 §4.4).
    pub(super) fn verify_signature(&self, leaf_key: &LeafKey) -> Result<(), AttestationError> {
        let mut signed = Writer::default();
        signed.array(4);
        signed.text("Signature1");
        signed.bytes(PROTECTED);
        signed.bytes(b""); // no external data
        signed.bytes(self.payload);
        leaf_key.0.verify_sig(&signed.into_bytes(), self.signature).map_err(|_| AttestationError::Signature)
    }
}

/// The P-384 key of a leaf whose chain has been verified.
pub(super) struct LeafKey(ParsedPublicKey);

impl LeafKey {
    /// Takes an uncompressed point. `None` if it is not one of P-384.
    pub(super) fn from_point(point: &[u8]) -> Option<Self> {
        ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).ok().map(Self)
    }
}
