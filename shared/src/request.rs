//! Requests: what a requester signs and the parent can only carry.
//!
//! A request names one enclave, one job and what the payload must be; it has an id, and a life of
//! minutes. The parent can drop or delay it, but not write one, change one, or send one twice.
//! Source: `docs/protocol.md` §5.

use std::collections::BTreeMap;

use aws_lc_rs::signature::Ed25519KeyPair;
use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborError};
use crate::cose::{self, CoseError};
use crate::id::{EnclaveId, JobId, RequesterKey, RequesterName, Sha256Digest};
use crate::job::Job;
use crate::limits::{MAX_CLAIM_BYTES, MAX_CLAIMS, MAX_CONTROL_BYTES, MAX_JOB_BYTES};

/// What signatures of requests cover besides the request.
const DOMAIN: &[u8] = b"adyton request 1";

/// One job for one payload, as signed. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Version of this structure; 1.
    pub version: u8,
    /// Chosen at random, used once.
    pub id: JobId,
    /// Who signs.
    pub requester: RequesterName,
    /// Which enclave this is for (S-7).
    pub enclave: EnclaveId,
    /// When it was signed.
    pub issued: u64,
    /// From when on it is refused.
    pub expires: u64,
    /// What the payload's encryption context must say (K-5).
    pub claims: BTreeMap<String, String>,
    /// What is to be done.
    pub job: Job,
}

/// Why a request is refused before anything is known about its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Longer than a control message can be.
    #[error("a request of {0} bytes is over the limit of {MAX_CONTROL_BYTES}")]
    TooLarge(usize),
    /// The signed object or its signature.
    #[error(transparent)]
    Cose(#[from] CoseError),
    /// The signed content.
    #[error(transparent)]
    Content(#[from] CborError),
    /// A version that is not known here.
    #[error("request version {0} is not supported; this release knows 1")]
    Version(u8),
    /// Too many or too long claims, or too large a job.
    #[error("the request's claims or job are over the limits")]
    Limits,
}

impl Request {
    /// Signs the request.
    ///
    /// # Errors
    /// [`RequestError`] if it is over a limit.
    pub fn sign(&self, key: &Ed25519KeyPair) -> Result<Vec<u8>, RequestError> {
        self.check()?;
        Ok(cose::sign(DOMAIN, cbor::encode(self)?, key, None)?)
    }

    fn check(&self) -> Result<(), RequestError> {
        if self.version != 1 {
            return Err(RequestError::Version(self.version));
        }
        let long = |text: &String| text.len() > MAX_CLAIM_BYTES;
        let job = cbor::encode(&self.job)?.len();
        if self.claims.len() > MAX_CLAIMS
            || self.claims.iter().any(|(k, v)| long(k) || long(v))
            || job > MAX_JOB_BYTES
        {
            return Err(RequestError::Limits);
        }
        Ok(())
    }
}

impl Job {
    /// SHA-256 of the job's canonical CBOR, as receipts name it.
    ///
    /// # Errors
    /// [`CborError`] if it has no encoding.
    pub fn digest(&self) -> Result<Sha256Digest, CborError> {
        Ok(Sha256Digest::of(&cbor::encode(self)?))
    }
}

/// A request that was read; its signature has not been looked at.
#[derive(Debug)]
pub struct UnverifiedRequest {
    signed: cose::Unverified,
    requester: RequesterName,
}

impl UnverifiedRequest {
    /// Reads a signed request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        if u32::try_from(bytes.len()).is_ok_and(|length| length > MAX_CONTROL_BYTES) {
            return Err(RequestError::TooLarge(bytes.len()));
        }
        let signed = cose::Unverified::parse(DOMAIN, bytes)?;
        if signed.attestation().is_some() {
            return Err(CoseError::Malformed.into());
        }
        let request: Request = cbor::decode(signed.payload_unverified())?;
        request.check()?;
        Ok(Self { signed, requester: request.requester })
    }

    /// Who claims to have signed: to find the key, for nothing else.
    pub fn requester_unverified(&self) -> &RequesterName {
        &self.requester
    }

    /// The request, if this requester signed it.
    ///
    /// # Errors
    /// [`CoseError::Signature`].
    pub fn verify(self, key: &RequesterKey) -> Result<Request, RequestError> {
        Ok(cbor::decode(&self.signed.verify(key.as_bytes())?)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::job::{Destination, DigestAlgorithm, Input, Step};
    use aws_lc_rs::signature::KeyPair;

    pub(crate) fn request() -> Request {
        Request {
            version: 1,
            id: JobId::new([1; 16]),
            requester: "billing".parse().unwrap(),
            enclave: EnclaveId::new([2; 32]),
            issued: 1_700_000_000,
            expires: 1_700_000_060,
            claims: BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]),
            job: Job {
                version: 1,
                input: Input::Ndjson,
                steps: vec![Step::Digest(DigestAlgorithm::Sha256)],
                to: Destination::Parent,
            },
        }
    }

    #[test]
    fn round_trips_and_refuses_another_signer() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let public = RequesterKey::new(key.public_key().as_ref().try_into().unwrap());
        let bytes = request().sign(&key).unwrap();
        let read = UnverifiedRequest::parse(&bytes).unwrap();
        assert_eq!(read.requester_unverified().as_str(), "billing");
        assert_eq!(read.verify(&public), Ok(request()));
        let other = UnverifiedRequest::parse(&bytes).unwrap().verify(&RequesterKey::new([0; 32]));
        assert_eq!(other, Err(RequestError::Cose(CoseError::Signature)));
    }

    // K-10
    #[test]
    fn a_request_cannot_name_region_endpoint_or_algorithm() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        for field in ["region", "endpoint", "algorithm", "key"] {
            let serde_cbor::Value::Map(mut map) = serde_cbor::value::to_value(request()).unwrap() else {
                panic!("a request is a map")
            };
            map.insert(serde_cbor::Value::Text(field.into()), serde_cbor::Value::Text("x".into()));
            let content = serde_cbor::to_vec(&map).unwrap();
            let bytes = cose::sign(DOMAIN, content, &key, None).unwrap();
            assert!(
                matches!(
                    UnverifiedRequest::parse(&bytes),
                    Err(RequestError::Content(CborError::Malformed { .. }))
                ),
                "{field}"
            );
        }
    }
}
