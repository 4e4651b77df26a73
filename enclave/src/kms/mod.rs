//! The enclave's own KMS client: asks for data keys, attested, and keeps them for a while.
//!
//! ```text
//! data_key ─▶ cache ─▶ flight (one per request) ─▶ recipient key, document ─▶ sign ─▶ link, TLS ─▶ KMS
//!                                                                          credentials ◀─ parent
//! ```
//!
//! It trusts KMS at the other end of a TLS session that ends here, and the NSM. The parent forwards
//! bytes and hands out credentials; what it does wrong becomes a [`KeyError`]. Every call carries a
//! Recipient, and an answer with a plaintext is refused (K-1). There is no Encrypt here (K-15): data keys
//! for what leaves are made by an attested `GenerateDataKey`.

mod answer;
mod cache;
mod credentials;
mod decrypt;
mod error;
mod flight;
mod generate;
mod link;
mod recipient;
mod refusal;
mod retry;
mod sign;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use adyton_shared::id::{PolicyDigest, Sha256Digest};
use adyton_shared::policy::{Cache, Policy};
use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_shared::{EncryptionContext, KeyArn};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

pub use cache::{CacheLimits, Lease};
pub use error::{AnswerFault, KeyError};
pub use generate::FreshKey;
pub use tls::RootsError;

use crate::platform::{Attest, AttestError, Dial, TimeSource};
use cache::{KeyCache, Released};
use credentials::Wallet;
use flight::Flights;
use link::{Answer, LinkError, Links};
use recipient::{RecipientKey, Recipients};
use refusal::Refusal;
use retry::Attempts;
use sign::Endpoint;
use tls::Tls;

/// Calls under way at once. Each has a connection: 16 × 64 KiB of buffers = 1 MiB at worst.
const MAX_CALLS: usize = 16;

/// What the measured policy says about KMS.
#[derive(Debug, Clone)]
pub struct KmsConfig {
    /// The region that requests are signed for.
    pub region: String,
    /// The endpoint's host name, as its certificate must have it.
    pub host: String,
    /// Trust anchors for the endpoint's certificate in PEM, instead of Amazon's.
    pub roots: Option<String>,
    /// Stands in every attestation document that asks for a key.
    pub policy: PolicyDigest,
    /// Bounds on keeping data keys.
    pub cache: CacheLimits,
    /// For one data key, all attempts included.
    pub deadline: Duration,
}

impl From<&Policy> for KmsConfig {
    fn from(policy: &Policy) -> Self {
        let Cache { entries, age_seconds, messages, bytes } = policy.cache;
        Self {
            region: policy.kms.region.clone(),
            host: policy.kms.host.clone(),
            roots: policy.kms.roots.clone(),
            policy: policy.digest,
            cache: CacheLimits { entries, age: Duration::from_secs(age_seconds), messages, bytes },
            deadline: Duration::from_secs(policy.kms.deadline_seconds),
        }
    }
}

/// Releases data keys to jobs.
pub struct KeyService {
    inner: Arc<Inner>,
    flights: Flights<Sha256Digest, Result<Arc<Released>, KeyError>>,
}

struct Inner {
    endpoint: Endpoint,
    deadline: Duration,
    policy: PolicyDigest,
    attest: Arc<dyn Attest>,
    time: Arc<dyn TimeSource>,
    wallet: Wallet,
    links: Links,
    recipients: Arc<Recipients>,
    cache: KeyCache,
    calls: Semaphore,
}

/// One request for a data key.
struct Wanted {
    key: KeyArn,
    ciphertext: Vec<u8>,
    context: EncryptionContext,
    digest: Sha256Digest,
}

impl KeyService {
    /// A service that has asked nobody yet. Within a runtime, recipient keys are made at once.
    ///
    /// # Errors
    /// [`RootsError`] if the trust anchors or the host name cannot be used.
    pub fn new(
        config: KmsConfig,
        dial: Arc<dyn Dial>,
        attest: Arc<dyn Attest>,
        time: Arc<dyn TimeSource>,
    ) -> Result<Self, RootsError> {
        let KmsConfig { region, host, roots, policy, cache, deadline } = config;
        let tls = Tls::new(&host, roots.as_deref(), Arc::clone(&time))?;
        let recipients = Arc::new(Recipients::default());
        recipients.refill();
        let inner = Inner {
            endpoint: Endpoint { region, host },
            deadline,
            policy,
            attest,
            wallet: Wallet::new(Arc::clone(&dial), Arc::clone(&time)),
            links: Links::new(dial, tls),
            time,
            recipients,
            cache: KeyCache::new(cache),
            calls: Semaphore::new(MAX_CALLS),
        };
        Ok(Self { inner: Arc::new(inner), flights: Flights::default() })
    }

    /// The data key in `ciphertext`, which `key` wrapped under `context`, for one message.
    ///
    /// # Errors
    /// [`KeyError`]; a failure is remembered by nobody.
    pub async fn data_key(
        &self,
        key: &KeyArn,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Lease, KeyError> {
        let digest = release_digest(decrypt::OPERATION, key, ciphertext, context);
        let inner = &self.inner;
        if let Some(lease) = inner.cache.lease(&digest, inner.time.unix_millis()) {
            return Ok(lease);
        }
        let wanted =
            || Wanted { key: key.clone(), ciphertext: ciphertext.to_vec(), context: context.clone(), digest };
        if !inner.cache.limits().keep_any() {
            return inner.release(&wanted()).await.map(Lease::sole);
        }
        loop {
            let work = || Arc::clone(inner).fetch(wanted());
            let released = self.flights.join(digest, work).await.unwrap_or(Err(KeyError::Internal))?;
            // More may have waited than one release may open; they ask again together.
            match Lease::another(Arc::clone(&released), inner.cache.limits()) {
                Some(lease) => return Ok(lease),
                None => inner.cache.forget(&digest, &released),
            }
        }
    }
}

impl KeyService {
    /// A fresh data key under `key` and `context`, for one message that this enclave writes.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn fresh_key(&self, key: &KeyArn, context: &EncryptionContext) -> Result<FreshKey, KeyError> {
        let digest = release_digest(generate::OPERATION, key, &[], context);
        let question = |document: &[u8]| generate::question(key, context, document);
        let read = |answer: &Answer, recipient: &RecipientKey| generate::fresh_key(answer, key, recipient);
        self.inner.attested(generate::OPERATION, &digest, question, read).await
    }
}

impl Inner {
    async fn fetch(self: Arc<Self>, wanted: Wanted) -> Result<Arc<Released>, KeyError> {
        // A flight may have landed between the caller's look into the cache and this one's start.
        if let Some(released) = self.cache.find(&wanted.digest, self.time.unix_millis()) {
            return Ok(released);
        }
        let released = self.release(&wanted).await?;
        if self.cache.keep(wanted.digest, Arc::clone(&released), self.time.unix_millis()) {
            self.sweep_while_needed();
        }
        Ok(released)
    }

    /// Wipes what has become too old even when nobody asks any more.
    fn sweep_while_needed(self: &Arc<Self>) {
        let (inner, age) = (Arc::downgrade(self), self.cache.limits().age);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(age).await;
                let Some(inner) = inner.upgrade() else { return };
                if !inner.cache.sweep(inner.time.unix_millis()) {
                    return;
                }
            }
        });
    }

    async fn release(&self, wanted: &Wanted) -> Result<Arc<Released>, KeyError> {
        let Wanted { key, ciphertext, context, digest } = wanted;
        let question = |document: &[u8]| decrypt::question(key, ciphertext, context, document);
        let read = |answer: &Answer, recipient: &RecipientKey| decrypt::data_key(answer, key, recipient);
        self.attested(decrypt::OPERATION, digest, question, read).await.map(Released::new)
    }

    /// Asks KMS with a document for this one question, however often it takes and the deadline allows.
    async fn attested<T>(
        &self,
        operation: &'static str,
        digest: &Sha256Digest,
        question: impl FnOnce(&[u8]) -> Result<Bytes, KeyError>,
        read: impl FnOnce(&Answer, &RecipientKey) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        // Made here, so it cannot hang on anybody: the deadline begins after it.
        let recipient = self.recipients.take().await?;
        let mut attempts = Attempts::within(self.deadline);
        let deadline = attempts.deadline();
        let permit = timeout_at(deadline, self.calls.acquire()).await;
        let permit = permit.map_err(|_| given_up(Refusal::Failing, &attempts))?;
        let _permit = permit.map_err(|_| KeyError::Internal)?;
        let document = timeout_at(deadline, self.document(digest, recipient.public()))
            .await
            .map_err(|_| AttestError::Unavailable)??;
        let answer = self.ask(operation, &question(&document)?, &mut attempts).await?;
        read(&answer, &recipient)
    }

    /// The document says what it is for and which request it belongs to (K-13, T-3).
    async fn document(&self, digest: &Sha256Digest, public_key: &[u8]) -> Result<Vec<u8>, AttestError> {
        let statement =
            Statement { purpose: Purpose::Release, subject: *digest.as_bytes(), policy: self.policy };
        self.attest.document(statement.to_bytes(), public_key.to_vec(), None).await
    }

    async fn ask(
        &self,
        operation: &'static str,
        question: &Bytes,
        attempts: &mut Attempts,
    ) -> Result<Answer, KeyError> {
        let mut renewed = false;
        // What to say when the deadline comes in the middle of an attempt: what was the matter before.
        let mut matter = Refusal::Failing;
        loop {
            let outcome = timeout_at(attempts.deadline(), self.attempt(operation, question)).await;
            let refusal = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refusal)) => refusal,
                Err(_) => return Err(given_up(matter, attempts)),
            };
            match refusal {
                Refusal::Final(error) => return Err(error),
                Refusal::Credentials if renewed => return Err(KeyError::CredentialsRejected),
                Refusal::Credentials => renewed = true,
                Refusal::Throttled | Refusal::Failing => {
                    matter = refusal;
                    if !attempts.another().await {
                        return Err(given_up(matter, attempts));
                    }
                }
            }
        }
    }

    /// One signed question and its answer.
    async fn attempt(&self, operation: &'static str, question: &Bytes) -> Result<Answer, Refusal> {
        let held = self.wallet.current().await.map_err(Refusal::Final)?;
        let now_ms = self.time.unix_millis();
        let request = self
            .endpoint
            .request(operation, question.clone(), &held.credentials, now_ms)
            .map_err(Refusal::Final)?;
        let answer = self.links.call(&request).await.map_err(|error| match error {
            LinkError::Rejected => Refusal::Final(KeyError::TlsRejected),
            LinkError::Broken => Refusal::Failing,
            LinkError::TooLarge => Refusal::Final(AnswerFault::TooLarge.into()),
            LinkError::Malformed => Refusal::Final(AnswerFault::Malformed.into()),
        })?;
        match refusal::read(&answer) {
            None => Ok(answer),
            Some(refusal) => {
                if refusal == Refusal::Credentials {
                    self.wallet.forget(&held);
                }
                Err(refusal)
            }
        }
    }
}

fn given_up(matter: Refusal, attempts: &Attempts) -> KeyError {
    let retry_after = attempts.hint();
    if matter == Refusal::Throttled {
        KeyError::Throttled { retry_after }
    } else {
        KeyError::Unavailable { retry_after }
    }
}

impl std::fmt::Debug for KeyService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyService").field("host", &self.inner.endpoint.host).finish_non_exhaustive()
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<KeyService>();
    shared::<Lease>();
};
