//! Receipts: what the enclave signs about a job that it has done.
//!
//! A receipt is a `COSE_Sign1` by the enclave's receipt key. The attestation document that names
//! the key is attached, so that nothing but the file, a trust root and expected measurements are
//! needed to check it, at the document's own time, years later.
//! Source: `docs/protocol.md` §6.

use aws_lc_rs::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};

use crate::KeyArn;
use crate::cbor::{self, CborError};
use crate::cose::{self, CoseError};
use crate::id::{EnclaveId, JobId, PolicyDigest, RequesterName, Sha256Digest};
use crate::job::Destination;

/// What signatures of receipts cover besides the receipt.
const DOMAIN: &[u8] = b"adyton receipt 1";

/// What ran on what. Times are milliseconds since 1970 by the enclave's own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Version of this structure; 1.
    pub version: u8,
    /// The job's id.
    pub job: JobId,
    /// Who signed the request.
    pub requester: RequesterName,
    /// SHA-256 of the job's canonical CBOR.
    pub job_digest: Sha256Digest,
    /// SHA-256 of the encrypted payload.
    pub input_digest: Sha256Digest,
    /// Length of the encrypted payload in bytes.
    pub input_bytes: u64,
    /// SHA-256 of the result.
    pub output_digest: Sha256Digest,
    /// Length of the result in bytes.
    pub output_bytes: u64,
    /// The KMS key that released the data key.
    pub key: KeyArn,
    /// Where the result went.
    pub to: Destination,
    /// The measured policy.
    pub policy: PolicyDigest,
    /// Records read; 0 where the input is not looked at as records.
    pub records_in: u64,
    /// Records let out; not said of a result whose length is padded.
    pub records_out: Option<u64>,
    /// When the job was admitted.
    pub started: u64,
    /// When the receipt was signed.
    pub finished: u64,
}

/// Why a receipt is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The signed object or its signature.
    #[error(transparent)]
    Cose(#[from] CoseError),
    /// The signed content.
    #[error(transparent)]
    Content(#[from] CborError),
    /// A version that is not known here.
    #[error("receipt version {0} is not supported; this release knows 1")]
    Version(u8),
    /// No attestation document is attached.
    #[error("the receipt carries no attestation document")]
    NoDocument,
}

impl Receipt {
    /// Signs the receipt and attaches the document that names the key.
    ///
    /// # Errors
    /// [`ReceiptError`] if it cannot be encoded.
    pub fn sign(&self, key: &Ed25519KeyPair, document: Vec<u8>) -> Result<Vec<u8>, ReceiptError> {
        Ok(cose::sign(DOMAIN, cbor::encode(self)?, key, Some(document))?)
    }
}

/// A receipt that was read; neither signature nor document has been looked at.
#[derive(Debug)]
pub struct UnverifiedReceipt {
    signed: cose::Unverified,
    document: Vec<u8>,
}

impl UnverifiedReceipt {
    /// Reads a receipt.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let signed = cose::Unverified::parse(DOMAIN, bytes)?;
        let document = signed.attestation().ok_or(ReceiptError::NoDocument)?.to_vec();
        Ok(Self { signed, document })
    }

    /// The attached attestation document; it names the key to verify with.
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// The receipt, if this enclave signed it.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(self, enclave: &EnclaveId) -> Result<Receipt, ReceiptError> {
        let receipt: Receipt = cbor::decode(&self.signed.verify(enclave.as_bytes())?)?;
        if receipt.version == 1 { Ok(receipt) } else { Err(ReceiptError::Version(receipt.version)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::KeyPair;

    #[test]
    fn a_receipt_is_no_request_and_opens_under_its_own_key() {
        let receipt = Receipt {
            version: 1,
            job: JobId::new([1; 16]),
            requester: "billing".parse().unwrap(),
            job_digest: Sha256Digest::of(b"job"),
            input_digest: Sha256Digest::of(b"in"),
            input_bytes: 2,
            output_digest: Sha256Digest::of(b"out"),
            output_bytes: 3,
            key: KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/1").unwrap(),
            to: Destination::Parent,
            policy: PolicyDigest::of(b"policy"),
            records_in: 1,
            records_out: Some(1),
            started: 1,
            finished: 2,
        };
        let key = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let enclave = EnclaveId::new(key.public_key().as_ref().try_into().unwrap());
        let bytes = receipt.sign(&key, b"document".to_vec()).unwrap();
        let read = UnverifiedReceipt::parse(&bytes).unwrap();
        assert_eq!(read.document(), b"document");
        assert_eq!(read.verify(&enclave), Ok(receipt));
        assert!(crate::request::UnverifiedRequest::parse(&bytes).is_err());
        let other = UnverifiedReceipt::parse(&bytes).unwrap().verify(&EnclaveId::new([9; 32]));
        assert_eq!(other, Err(ReceiptError::Cose(CoseError::Signature)));
    }
}
