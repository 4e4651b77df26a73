//! `COSE_Sign1` (RFC 9052 §4.2) with Ed25519 and a domain: how requests and receipts are signed.
//!
//! The domain is the external data of the signature (RFC 9052 §4.3), so a signed request can
//! never be shown as a receipt. The protected header is exactly `{1: -8}`; a receipt carries the
//! attestation document that names its key in the unprotected header, where it needs no protection:
//! another document names another key.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use coset::cbor::Value;
use coset::{
    CborSerializable, CoseSign1, CoseSign1Builder, Header, HeaderBuilder, Label, RegisteredLabelWithPrivate,
    TaggedCborSerializable, iana,
};

/// Label of the attestation document in the unprotected header.
const ATTESTATION: &str = "attestation";

/// Why a signed object is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoseError {
    /// Not a tagged `COSE_Sign1` in the one encoding that is accepted.
    #[error("not a COSE_Sign1 object of this project")]
    Malformed,
    /// The signature does not verify under this key and domain.
    #[error("the signature does not verify")]
    Signature,
    /// The object could not be made.
    #[error("the object could not be signed")]
    Unsigned,
}

/// Signs a payload.
///
/// # Errors
/// [`CoseError::Unsigned`] if it cannot be encoded.
pub fn sign(
    domain: &'static [u8],
    payload: Vec<u8>,
    key: &Ed25519KeyPair,
    attestation: Option<Vec<u8>>,
) -> Result<Vec<u8>, CoseError> {
    let unprotected = attestation.map_or_else(Header::default, |document| {
        HeaderBuilder::new().text_value(ATTESTATION.to_owned(), Value::Bytes(document)).build()
    });
    CoseSign1Builder::new()
        .protected(protected())
        .unprotected(unprotected)
        .payload(payload)
        .create_signature(domain, |message| key.sign(message).as_ref().to_vec())
        .build()
        .to_tagged_vec()
        .map_err(|_| CoseError::Unsigned)
}

/// A signed object that has been read and not verified.
#[derive(Debug)]
pub struct Unverified {
    object: CoseSign1,
    domain: &'static [u8],
}

impl Unverified {
    /// Reads a signed object; every other encoding of the same is refused.
    ///
    /// # Errors
    /// [`CoseError::Malformed`].
    pub fn parse(domain: &'static [u8], bytes: &[u8]) -> Result<Self, CoseError> {
        let object = CoseSign1::from_tagged_slice(bytes).map_err(|_| CoseError::Malformed)?;
        let canonical = object.clone().to_tagged_vec().map_err(|_| CoseError::Malformed)?;
        let exact_header = object.protected.header == protected()
            && protected().to_vec().ok().as_deref() == object.protected.original_data.as_deref();
        let known = |(label, value): &(Label, Value)| {
            matches!(label, Label::Text(text) if text == ATTESTATION) && value.is_bytes()
        };
        let bare = Header { rest: Vec::new(), ..object.unprotected.clone() } == Header::default();
        let rest = &object.unprotected.rest;
        if canonical != bytes || !exact_header || !bare || rest.len() > 1 || !rest.iter().all(known) {
            return Err(CoseError::Malformed);
        }
        if object.payload.is_none() {
            return Err(CoseError::Malformed);
        }
        Ok(Self { object, domain })
    }

    /// What the signer claims. Not to be used for anything but finding the key.
    pub fn payload_unverified(&self) -> &[u8] {
        self.object.payload.as_deref().unwrap_or_default()
    }

    /// The attached attestation document; it is verified by itself.
    pub fn attestation(&self) -> Option<&[u8]> {
        self.object.unprotected.rest.first().and_then(|(_, value)| value.as_bytes()).map(Vec::as_slice)
    }

    /// The payload, if the signature verifies under this Ed25519 key.
    ///
    /// # Errors
    /// [`CoseError::Signature`].
    pub fn verify(self, public_key: &[u8; 32]) -> Result<Vec<u8>, CoseError> {
        let key = UnparsedPublicKey::new(&ED25519, public_key);
        self.object
            .verify_signature(self.domain, |signature, message| key.verify(message, signature))
            .map_err(|_| CoseError::Signature)?;
        self.object.payload.ok_or(CoseError::Malformed)
    }
}

fn protected() -> Header {
    Header { alg: Some(RegisteredLabelWithPrivate::Assigned(iana::Algorithm::EdDSA)), ..Header::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::KeyPair;

    fn key() -> (Ed25519KeyPair, [u8; 32]) {
        let key = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
        let public = key.public_key().as_ref().try_into().unwrap();
        (key, public)
    }

    #[test]
    fn opens_only_in_its_own_domain_and_under_its_own_key() {
        let (key, public) = key();
        let bytes = sign(b"a", b"payload".to_vec(), &key, Some(b"doc".to_vec())).unwrap();
        let read = Unverified::parse(b"a", &bytes).unwrap();
        assert_eq!(read.attestation(), Some(&b"doc"[..]));
        assert_eq!(read.verify(&public), Ok(b"payload".to_vec()));
        assert_eq!(Unverified::parse(b"b", &bytes).unwrap().verify(&public), Err(CoseError::Signature));
        let other = Ed25519KeyPair::from_seed_unchecked(&[4; 32]).unwrap();
        let other: [u8; 32] = other.public_key().as_ref().try_into().unwrap();
        assert_eq!(Unverified::parse(b"a", &bytes).unwrap().verify(&other), Err(CoseError::Signature));
    }

    #[test]
    fn no_changed_or_truncated_object_verifies() {
        let (key, public) = key();
        let bytes = sign(b"a", b"payload".to_vec(), &key, None).unwrap();
        let opens =
            |bytes: &[u8]| Unverified::parse(b"a", bytes).and_then(|read| read.verify(&public)).is_ok();
        assert!(opens(&bytes));
        for at in 0..bytes.len() {
            assert!(!opens(&bytes[..at]));
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(!opens(&changed), "byte {at} bit {bit}");
            }
        }
        assert!(!opens(&[bytes.as_slice(), b"\0"].concat()));
    }
}
