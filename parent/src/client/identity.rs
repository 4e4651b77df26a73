//! Who answers: challenges an enclave and verifies what it shows (S-7, S-12).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use adyton_shared::id::{EnclaveId, JobId, Nonce, PolicyDigest, RequesterName};
use adyton_shared::job::Job;
use adyton_shared::request::Request;
use adyton_shared::statement::{Purpose, Statement};
use adyton_verifier::attestation::{Document, Expectations, TrustAnchor, Verified, verify};
use aws_lc_rs::signature::Ed25519KeyPair;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientError, Conversation};

/// How old an answer to a challenge may be, and how far the clocks may differ.
const MAX_AGE: Duration = Duration::from_mins(5);
const SKEW: Duration = Duration::from_mins(5);
/// Life of a request, in seconds: long enough to be queued behind others, short enough to forget.
const REQUEST_LIFE_SECONDS: u64 = 120;

/// An enclave whose document has verified.
#[derive(Debug, Clone)]
pub struct VerifiedEnclave {
    /// Its id: the key that signs its receipts.
    pub id: EnclaveId,
    /// The policy that it runs under.
    pub policy: PolicyDigest,
    /// The document, verified.
    pub document: Verified<Document>,
    /// The document as it came.
    pub bytes: Vec<u8>,
}

/// Challenges an enclave with a fresh nonce and verifies the document.
///
/// # Errors
/// [`ClientError`].
pub async fn challenge<S: AsyncRead + AsyncWrite + Unpin>(
    conversation: &mut Conversation<S>,
    anchor: &TrustAnchor,
    expectations: &Expectations,
) -> Result<VerifiedEnclave, ClientError> {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| ClientError::Random)?;
    let wrapped = Nonce::try_from(nonce.to_vec()).map_err(|_| ClientError::Random)?;
    let bytes = conversation.attest(wrapped).await?;
    let expectations = expectations.clone().nonce(&nonce)?.fresh(MAX_AGE, SKEW);
    let document = verify(&bytes, anchor, SystemTime::now().into(), &expectations)?;
    let (id, policy) = identity(&document)?;
    Ok(VerifiedEnclave { id, policy, document, bytes })
}

/// What a document says about the enclave that it was made for.
pub(super) fn identity(document: &Verified<Document>) -> Result<(EnclaveId, PolicyDigest), ClientError> {
    let user_data = document.user_data.as_deref().unwrap_or_default();
    let statement = Statement::parse(user_data).map_err(|_| ClientError::NotAnIdentity)?;
    let key = document.public_key.as_deref().unwrap_or_default();
    let id = EnclaveId::try_from(key).map_err(|_| ClientError::NotAnIdentity)?;
    if statement.purpose == Purpose::Identity && statement.subject == *id.as_bytes() {
        Ok((id, statement.policy))
    } else {
        Err(ClientError::NotAnIdentity)
    }
}

/// Signs a request for one job, for this enclave, valid from now for two minutes.
///
/// # Errors
/// [`ClientError::Request`] if job or claims are over a limit.
pub fn sign_request(
    enclave: EnclaveId,
    requester: &RequesterName,
    key: &Ed25519KeyPair,
    claims: BTreeMap<String, String>,
    job: Job,
) -> Result<(Request, Vec<u8>), ClientError> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| ClientError::Random)?;
    let issued = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let request = Request {
        version: 1,
        id: JobId::new(id),
        requester: requester.clone(),
        enclave,
        issued,
        expires: issued + REQUEST_LIFE_SECONDS,
        claims,
        job,
    };
    let signed = request.sign(key)?;
    Ok((request, signed))
}
