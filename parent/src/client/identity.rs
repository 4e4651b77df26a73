//! Who answers: challenges an enclave and verifies what it shows (S-7, S-12).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use adyton_shared::id::{EnclaveId, JobId, Nonce, PolicyDigest, RequesterName, SealingKey};
use adyton_shared::job::Job;
use adyton_shared::request::Request;
use adyton_shared::sealed_request::seal;
use adyton_shared::statement::{Purpose, Statement};
use adyton_verifier::attestation::{Document, Expectations, TrustAnchor, Verified, verify};
use aws_lc_rs::signature::Ed25519KeyPair;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientError, Conversation, Order};

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
    /// The key that requests to it are sealed to.
    pub sealing_key: SealingKey,
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
    let Identity { id, sealing_key, policy } = identity(&document)?;
    Ok(VerifiedEnclave { id, sealing_key, policy, document, bytes })
}

/// What an identity document says.
pub(super) struct Identity {
    pub(super) id: EnclaveId,
    pub(super) sealing_key: SealingKey,
    pub(super) policy: PolicyDigest,
}

/// What a document says about the enclave that it was made for.
pub(super) fn identity(document: &Verified<Document>) -> Result<Identity, ClientError> {
    let user_data = document.user_data.as_deref().unwrap_or_default();
    let Statement { purpose, subject, policy } =
        Statement::parse(user_data).map_err(|_| ClientError::NotAnIdentity)?;
    let key = document.public_key.as_deref().unwrap_or_default();
    let sealing_key = SealingKey::try_from(key).map_err(|_| ClientError::NotAnIdentity)?;
    match purpose {
        Purpose::Identity => Ok(Identity { id: EnclaveId::new(subject), sealing_key, policy }),
        Purpose::Release => Err(ClientError::NotAnIdentity),
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

/// Seals a signed request to the enclave that it names, so that nobody on the way reads it (S-12).
///
/// # Errors
/// [`ClientError::OtherEnclave`] if the request is for another enclave than the one that was verified,
/// [`ClientError::Seal`] if it is over a limit.
pub fn seal_request(
    enclave: &VerifiedEnclave,
    request: &Request,
    signed: &[u8],
) -> Result<Order, ClientError> {
    if request.enclave != enclave.id {
        return Err(ClientError::OtherEnclave);
    }
    let (sealed, reply) = seal(signed, enclave.id, enclave.sealing_key)?;
    Ok(Order::Sealed { sealed, reply })
}
