//! A requester, as a program that uses the client library would be one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use adyton_parent::client::{
    Claims, ClientError, Conversation, Order, SealedResult, Upload, VerifiedEnclave, VerifiedReceipt,
    challenge, sign_request, verify_receipt,
};
use adyton_parent::dial::dial;
use adyton_parent::{EnclaveAddress, Stream};
use adyton_shared::ErrorCode;
use adyton_shared::id::{EnclaveId, RequesterName};
use adyton_shared::job::{Destination, DigestAlgorithm, FieldPath, Input, Job, Mask, Step};
use adyton_shared::message::{JOB_PORT, Refusal};
use adyton_shared::request::Request;
use adyton_verifier::attestation::{Expectations, TrustAnchor};
use aws_lc_rs::signature::Ed25519KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite};

/// Challenges are limited to 20 a second; who asks more often waits.
const CHALLENGE_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Who sends jobs to one enclave.
#[derive(Debug)]
pub struct Requester {
    socket: PathBuf,
    anchor: TrustAnchor,
    /// The key that signs.
    pub key: Ed25519KeyPair,
    challenges: AtomicU32,
}

/// A job that was done, verified.
#[derive(Debug)]
pub struct Finished {
    /// What came back.
    pub output: Vec<u8>,
    /// The receipt.
    pub receipt: VerifiedReceipt,
}

impl Requester {
    /// A requester with this key file, who trusts this root.
    pub fn new(socket: &Path, root: &Path, key: &Path) -> Self {
        let root = std::fs::read_to_string(root).expect("a root");
        let secret = PrivatePkcs8KeyDer::from_pem_file(key).expect("a key in PEM");
        Self {
            socket: socket.to_owned(),
            anchor: TrustAnchor::from_pem(&root).expect("a root"),
            key: Ed25519KeyPair::from_pkcs8_maybe_unchecked(secret.secret_pkcs8_der()).expect("a key"),
            challenges: AtomicU32::new(0),
        }
    }

    /// The name that the policy has for the requester.
    pub fn name() -> RequesterName {
        adyton_simulator::policy::REQUESTER.parse().expect("a name")
    }

    /// A stream to the enclave's port for jobs.
    pub async fn dial(&self) -> Stream {
        let address = EnclaveAddress::Unix(self.socket.clone());
        dial(&address, JOB_PORT).await.expect("the enclave answers")
    }

    /// Challenges the enclave on a stream of its own, whatever image it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn challenge(&self) -> Result<VerifiedEnclave, ClientError> {
        loop {
            self.challenges.fetch_add(1, Ordering::Relaxed);
            let mut conversation = Conversation::new(self.dial().await);
            let answer = challenge(&mut conversation, &self.anchor, &Expectations::any_image()).await;
            match answer {
                Err(ClientError::Refused(Refusal { code: ErrorCode::AttestationLimited, .. })) => {
                    tokio::time::sleep(CHALLENGE_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// The id of the enclave that answers now.
    pub async fn enclave(&self) -> EnclaveId {
        self.challenge().await.expect("the enclave is genuine").id
    }

    /// Signs a request with [`claims`] for the object `object`.
    pub fn sign(&self, enclave: EnclaveId, object: &str, job: Job) -> (Request, Vec<u8>) {
        self.sign_claims(enclave, claims(object), job)
    }

    /// Signs a request with these claims.
    pub fn sign_claims(
        &self,
        enclave: EnclaveId,
        claims: BTreeMap<String, String>,
        job: Job,
    ) -> (Request, Vec<u8>) {
        sign_request(enclave, &Self::name(), &self.key, claims, job).expect("a request")
    }

    /// Challenges, signs, sends, verifies.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run(&self, object: &str, job: Job, payload: &[u8]) -> Result<Finished, ClientError> {
        let enclave = self.enclave().await;
        self.send(enclave, object, job, payload, self.dial().await).await
    }

    /// Signs for this enclave, sends over this stream, verifies.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        enclave: EnclaveId,
        object: &str,
        job: Job,
        payload: impl AsyncRead + Unpin,
        stream: S,
    ) -> Result<Finished, ClientError> {
        let (request, signed) = self.sign(enclave, object, job);
        self.carry(&request, signed, payload, stream).await
    }

    /// Sends a signed request, open or sealed, and its payload over this stream and verifies what comes back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        request: &Request,
        order: impl Into<Order>,
        payload: impl AsyncRead + Unpin,
        stream: S,
    ) -> Result<Finished, ClientError> {
        let mut conversation = Conversation::new(stream);
        let upload = Upload { payload, hash: true, progress: &mut |_| () };
        let sent = conversation.job(order, upload, SealedResult::in_folder(&std::env::temp_dir())).await?;
        let mut output = Vec::new();
        let result = sent.result.open(&sent.done.key, request.id, &mut output)?;
        let claims = Claims {
            enclave: Some(request.enclave),
            job: Some(request.id),
            requester: Some(request.requester.clone()),
            policy: None,
            job_digest: request.job.digest().ok(),
            input: sent.input_digest.map(|digest| (digest, sent.input_bytes)),
            output: Some(result),
        };
        let receipt = verify_receipt(&sent.done.receipt, &self.anchor, &Expectations::any_image(), &claims)?;
        Ok(Finished { output, receipt })
    }
}

/// The code of a job that must be refused.
///
/// # Panics
/// If it was done, or failed in another way.
#[track_caller]
pub fn code<T>(result: Result<T, ClientError>) -> ErrorCode {
    match result {
        Err(ClientError::Refused(refusal)) => refusal.code,
        Err(other) => panic!("no refusal: {other:?}"),
        Ok(_) => panic!("the job was not refused"),
    }
}

/// What requests for an object of the tests claim.
pub fn claims(object: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("tenant".to_owned(), "acme".to_owned()), ("object".to_owned(), object.to_owned())])
}

/// The digest of the plaintext.
pub fn digest_job() -> Job {
    job(Input::Raw, vec![Step::Digest(DigestAlgorithm::Sha256)])
}

/// Two fields, one of them masked.
pub fn mask_job(input: Input) -> Job {
    job(
        input,
        vec![
            Step::Select(vec![path("id"), path("email")]),
            Step::Mask(Mask { fields: vec![path("email")], keep_last: 0 }),
        ],
    )
}

/// A job to the parent.
pub fn job(input: Input, steps: Vec<Step>) -> Job {
    Job { version: 1, input, steps, to: Destination::Parent }
}

/// A field's path.
pub fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).expect("a path")
}
