//! The signature over a whole message: header and body, before anything is decrypted.
//!
//! The verification key is a pair of the encryption context, which the data key
//! binds; the footer proves that nobody else who holds the data key changed or
//! made the message. Source: message format reference, "Footer structure".

use aws_lc_rs::digest;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::OpenError;
use super::suite::{SignatureScheme, Suite};

/// A signature being checked: hashes what it is shown, judges once.
pub(super) struct SignatureCheck {
    hash: digest::Context,
    key: ParsedPublicKey,
    max_signature_bytes: usize,
}

impl SignatureCheck {
    /// The check that the suite asks for, if any.
    ///
    /// A verification key without a signed suite is refused as well: it is what remains when a
    /// signature was cut off (framework specification, default CMM, "Decrypt Materials").
    pub(super) fn new(suite: Suite, public_key: Option<&str>) -> Result<Option<Self>, OpenError> {
        match (suite.signature(), public_key) {
            (None, None) => Ok(None),
            (Some(scheme), Some(text)) => Self::with_key(scheme, text).map(Some),
            (None, Some(_)) | (Some(_), None) => Err(OpenError::Signature),
        }
    }

    fn with_key(scheme: SignatureScheme, text: &str) -> Result<Self, OpenError> {
        let point = STANDARD.decode(text).map_err(|_| OpenError::Signature)?;
        if point.len() != scheme.point_bytes {
            return Err(OpenError::Signature);
        }
        let key = UnparsedPublicKey::new(scheme.verification, &point).parse();
        Ok(Self {
            hash: digest::Context::new(scheme.digest),
            key: key.map_err(|_| OpenError::Signature)?,
            max_signature_bytes: scheme.max_signature_bytes,
        })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// Longest signature that can verify, in bytes: a longer one is not waited for.
    pub(super) fn max_signature_bytes(&self) -> usize {
        self.max_signature_bytes
    }

    pub(super) fn verify(self, signature: &[u8]) -> Result<(), OpenError> {
        self.key.verify_digest_sig(&self.hash.finish(), signature).map_err(|_| OpenError::Signature)
    }
}
