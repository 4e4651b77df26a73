//! Asks the NSM for attestation documents, on blocking threads, one at a time.
//!
//! The driver serves one request under one lock, so queueing here costs nothing and keeps the
//! async workers free (T-6). Challenges from outside have a rate; what the enclave itself needs
//! waits behind a bounded number of them. Every document carries a [`Statement`]: nobody outside
//! chooses a byte of it but the nonce (T-3).

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use adyton_shared::id::{EnclaveId, Nonce, PolicyDigest, SealingKey, Sha256Digest};
use adyton_shared::statement::{Purpose, Statement};
use aws_nitro_enclaves_nsm_api::api::{AttestationDoc, Request, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_bytes::ByteBuf;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use crate::platform::{Attest, AttestError, BoxFuture, Nsm};

/// Challenges answered in one second, and at once after a quiet time. One document takes the real
/// device some milliseconds.
const CHALLENGES_A_SECOND: u32 = 20;
/// Nonces remembered so that none is answered twice (T-2): the last seven minutes at full rate.
const MAX_NONCES: usize = 8192;

/// Why a challenge is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeError {
    /// The nonce was used before.
    NonceReused,
    /// There is no document.
    Attest(AttestError),
}

/// What an identity document says of an enclave.
#[derive(Debug, Clone, Copy)]
pub struct Identified {
    /// The key that signs receipts: the statement's subject.
    pub id: EnclaveId,
    /// The key that requests are sealed to: the document's `public_key`.
    pub sealing: SealingKey,
    /// The measured policy.
    pub policy: PolicyDigest,
}

/// The one way to the NSM's attestation.
pub struct Attester {
    nsm: Arc<dyn Nsm>,
    device: Arc<Semaphore>,
    rate: Mutex<Rate>,
    nonces: Mutex<Nonces>,
}

impl Attester {
    /// Attests with this device.
    pub fn new(nsm: Arc<dyn Nsm>) -> Self {
        Self {
            nsm,
            device: Arc::new(Semaphore::new(1)),
            rate: Mutex::new(Rate { tokens: CHALLENGES_A_SECOND, filled: Instant::now() }),
            nonces: Mutex::default(),
        }
    }

    /// A document that names the enclave's keys; with a nonce it answers a challenge.
    ///
    /// # Errors
    /// [`AttestError`].
    pub async fn identity(
        &self,
        identified: Identified,
        nonce: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, AttestError> {
        let Identified { id, sealing, policy } = identified;
        let statement = Statement { purpose: Purpose::Identity, subject: *id.as_bytes(), policy };
        self.document(statement.to_bytes(), sealing.as_bytes().to_vec(), nonce).await
    }

    /// Answers a challenge from outside.
    ///
    /// # Errors
    /// [`ChallengeError`].
    pub async fn challenge(&self, identified: Identified, nonce: &Nonce) -> Result<Vec<u8>, ChallengeError> {
        if !self.rate.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(ChallengeError::Attest(AttestError::Limited));
        }
        if !self.nonces.lock().unwrap_or_else(PoisonError::into_inner).is_new(nonce) {
            return Err(ChallengeError::NonceReused);
        }
        self.identity(identified, Some(nonce.as_bytes().to_vec())).await.map_err(ChallengeError::Attest)
    }
}

impl Attest for Attester {
    fn document(
        &self,
        user_data: Vec<u8>,
        public_key: Vec<u8>,
        nonce: Option<Vec<u8>>,
    ) -> BoxFuture<'_, Result<Vec<u8>, AttestError>> {
        Box::pin(async move {
            let turn =
                Arc::clone(&self.device).acquire_owned().await.map_err(|_| AttestError::Unavailable)?;
            let nsm = Arc::clone(&self.nsm);
            let request = Request::Attestation {
                user_data: Some(ByteBuf::from(user_data)),
                nonce: nonce.map(ByteBuf::from),
                public_key: Some(ByteBuf::from(public_key)),
            };
            let work = move || {
                let response = nsm.process(request);
                // Not before: the device is busy also when nobody waits for it any more.
                drop(turn);
                response
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(Response::Attestation { document }) => Ok(document),
                _ => Err(AttestError::Unavailable),
            }
        })
    }
}

/// The time in a document that this enclave's own NSM has just made, in milliseconds since 1970.
///
/// # Errors
/// [`AttestError::Unavailable`] if it is not a document.
pub fn own_document_time(document: &[u8]) -> Result<u64, AttestError> {
    #[derive(Deserialize)]
    struct Sign1(IgnoredAny, IgnoredAny, ByteBuf, IgnoredAny);
    let Sign1(_, _, payload, _) = serde_cbor::from_slice(document).map_err(|_| AttestError::Unavailable)?;
    Ok(AttestationDoc::from_binary(&payload).map_err(|_| AttestError::Unavailable)?.timestamp)
}

/// A token bucket.
#[derive(Debug)]
struct Rate {
    tokens: u32,
    filled: Instant,
}

impl Rate {
    fn take(&mut self) -> bool {
        let interval = Duration::from_secs(1).checked_div(CHALLENGES_A_SECOND).unwrap_or_default();
        while self.tokens < CHALLENGES_A_SECOND && self.filled.elapsed() >= interval {
            self.tokens = self.tokens.saturating_add(1);
            self.filled = self.filled.checked_add(interval).unwrap_or_else(Instant::now);
        }
        if self.tokens == CHALLENGES_A_SECOND {
            self.filled = Instant::now();
        }
        let Some(rest) = self.tokens.checked_sub(1) else { return false };
        self.tokens = rest;
        true
    }
}

/// The latest nonces, by digest.
#[derive(Debug, Default)]
struct Nonces {
    known: HashSet<Sha256Digest>,
    order: VecDeque<Sha256Digest>,
}

impl Nonces {
    fn is_new(&mut self, nonce: &Nonce) -> bool {
        let digest = Sha256Digest::of(nonce.as_bytes());
        if !self.known.insert(digest) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > MAX_NONCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every attestation with its user data.
    struct Echo;

    impl Nsm for Echo {
        fn process(&self, request: Request) -> Response {
            match request {
                Request::Attestation { user_data, .. } => {
                    Response::Attestation { document: user_data.unwrap_or_default().into_vec() }
                }
                _ => Response::Error(aws_nitro_enclaves_nsm_api::api::ErrorCode::InvalidOperation),
            }
        }
    }

    const POLICY: PolicyDigest = PolicyDigest::new([2; 48]);
    const WHO: Identified =
        Identified { id: EnclaveId::new([1; 32]), sealing: SealingKey::new([3; 32]), policy: POLICY };

    fn nonce(n: u8) -> Nonce {
        vec![n; 16].try_into().unwrap()
    }

    // T-2, T-3
    #[tokio::test]
    async fn answers_a_nonce_once_and_attests_to_nothing_but_a_statement() {
        let attester = Attester::new(Arc::new(Echo));
        let user_data = attester.challenge(WHO, &nonce(1)).await.unwrap();
        let statement = Statement { purpose: Purpose::Identity, subject: [1; 32], policy: POLICY };
        assert_eq!(Statement::parse(&user_data), Ok(statement));
        assert_eq!(attester.challenge(WHO, &nonce(1)).await, Err(ChallengeError::NonceReused));
        assert!(attester.challenge(WHO, &nonce(2)).await.is_ok());
    }

    /// Says that it works, and works until it is told to end.
    struct Held(tokio::sync::Notify, Mutex<std::sync::mpsc::Receiver<()>>);

    impl Nsm for Held {
        fn process(&self, _: Request) -> Response {
            self.0.notify_one();
            let _ = self.1.lock().unwrap().recv();
            Response::Attestation { document: Vec::new() }
        }
    }

    // T-6
    #[tokio::test]
    async fn a_caller_that_gives_up_leaves_the_turn_with_the_device() {
        let (end, held) = std::sync::mpsc::channel();
        let nsm = Arc::new(Held(tokio::sync::Notify::new(), Mutex::new(held)));
        let attester = Attester::new(Arc::clone(&nsm) as Arc<dyn Nsm>);
        tokio::select! {
            _ = attester.identity(WHO, None) => panic!("it has not ended"),
            () = nsm.0.notified() => {}
        }
        assert_eq!(attester.device.available_permits(), 0, "the device still works for who has left");
        end.send(()).unwrap();
        end.send(()).unwrap();
        assert!(attester.identity(WHO, None).await.is_ok());
        assert_eq!(attester.device.available_permits(), 1);
    }

    // T-6
    #[tokio::test(start_paused = true)]
    async fn challenges_have_a_rate_that_the_enclave_itself_does_not() {
        let attester = Attester::new(Arc::new(Echo));
        let mut answered = 0;
        for n in 0..200 {
            answered += u32::from(attester.challenge(WHO, &nonce(n)).await.is_ok());
        }
        assert_eq!(answered, 20);
        let limited = attester.challenge(WHO, &nonce(201)).await;
        assert_eq!(limited, Err(ChallengeError::Attest(AttestError::Limited)));
        assert!(attester.identity(WHO, None).await.is_ok());
        tokio::time::advance(Duration::from_millis(50)).await;
        assert!(attester.challenge(WHO, &nonce(202)).await.is_ok());
    }
}
