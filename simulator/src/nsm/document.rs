//! Attestation documents in AWS's encoding: the payload's map and the `COSE_Sign1` around it.
//!
//! ```text
//! 84                        array of 4, untagged
//!    44 a1013822            protected header {1: -35}: ES384
//!    a0                     unprotected header, empty
//!    59 .... bf|a9 ...      payload: one map, of indefinite or definite length
//!    58 60 ...              signature r || s, 96 bytes
//! ```

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_nitro_enclaves_nsm_api::api::AttestationDoc;
use coset::{CborSerializable, CoseSign1Builder, HeaderBuilder, iana};

/// A CBOR map of nine entries, and the two bytes that make the same map one of indefinite length.
const MAP_OF_NINE: u8 = 0xa9;
const OPEN_MAP: u8 = 0xbf;
const BREAK: u8 = 0xff;

/// How the payload's outermost map is encoded. Real devices have used both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapForm {
    /// With its length in front, as in documents up to at least April 2025.
    Definite,
    /// Ended by a break, as in documents of 2026.
    Indefinite,
}

/// Why a document could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the attestation document could not be encoded or signed")]
pub struct DocumentError;

/// The payload of a document, byte for byte as a real device encodes the same content.
///
/// # Errors
/// [`DocumentError`] if the content has no CBOR encoding.
pub fn encode_payload(document: &AttestationDoc, form: MapForm) -> Result<Vec<u8>, DocumentError> {
    // The API's struct has its fields in the device's order, absent ones become null.
    let mut payload = serde_cbor::to_vec(document).map_err(|_| DocumentError)?;
    let first = payload.first_mut().ok_or(DocumentError)?;
    if *first != MAP_OF_NINE {
        return Err(DocumentError);
    }
    if form == MapForm::Indefinite {
        *first = OPEN_MAP;
        payload.push(BREAK);
    }
    Ok(payload)
}

/// The whole document, signed with ES384.
pub(super) fn sign(payload: Vec<u8>, key: &EcdsaKeyPair) -> Result<Vec<u8>, DocumentError> {
    let protected = HeaderBuilder::new().algorithm(iana::Algorithm::ES384).build();
    CoseSign1Builder::new()
        .protected(protected)
        .payload(payload)
        .try_create_signature(b"", |message| {
            key.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec())
        })
        .map_err(|_| DocumentError)?
        .build()
        .to_vec()
        .map_err(|_| DocumentError)
}
