//! Key release: the enclave's own KMS client.
//!
//! TLS, signatures and answers begin and end here; the parent forwards bytes. Every call carries
//! the full key ARN, the encryption context and an attestation document whose `user_data` names
//! the very call (K-13), and the answer is compared with all of it.

mod backoff;
mod cache;
mod credentials;
mod decrypt;
mod endpoint;
mod error;
mod recipient;
mod sign;
mod tls;

use std::sync::Arc;

use adyton_shared::id::{PolicyDigest, Sha256Digest};
use adyton_shared::policy::Policy;
use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_shared::{DataKey, EncryptionContext, KeyArn};
use tokio::time::Duration;

pub use cache::{CacheLimits, Lease};
pub use error::KeyError;
pub use tls::RootsError;

use crate::platform::{Attest, Dial, TimeSource};
use backoff::Backoff;
use cache::KeyCache;
use credentials::CredentialSource;
use decrypt::Failure;
use endpoint::Endpoint;
use recipient::RecipientKeys;
use sign::{Scope, sign_call};
use tls::Tls;

/// How long one release may take, attempts and pauses together.
const RELEASE_DEADLINE: Duration = Duration::from_secs(30);

/// Where KMS is and how much is kept of what it releases.
#[derive(Debug, Clone)]
pub struct KmsConfig {
    /// The region that requests are signed for.
    pub region: String,
    /// The endpoint's host name.
    pub host: String,
    /// Trust anchors in PEM instead of Amazon's.
    pub roots: Option<String>,
    /// Digest of the measured policy, for attestation statements.
    pub policy: PolicyDigest,
    /// Bounds on keeping data keys.
    pub cache: CacheLimits,
    /// How long one release may take.
    pub deadline: Duration,
}

impl From<&Policy> for KmsConfig {
    fn from(policy: &Policy) -> Self {
        let cache = policy.cache;
        Self {
            region: policy.kms.region.clone(),
            host: policy.kms.host.clone(),
            roots: policy.kms.roots.clone(),
            policy: policy.digest,
            cache: CacheLimits {
                entries: cache.entries,
                age_ms: cache.age_seconds.saturating_mul(1000),
                messages: cache.messages,
                bytes: cache.bytes,
            },
            deadline: RELEASE_DEADLINE,
        }
    }
}

/// Releases data keys.
pub struct KeyService {
    cache: Arc<KeyCache>,
    client: Arc<Client>,
}

struct Client {
    region: String,
    host: String,
    policy: PolicyDigest,
    deadline: Duration,
    endpoint: Endpoint,
    credentials: CredentialSource,
    recipients: RecipientKeys,
    attest: Arc<dyn Attest>,
    time: Arc<dyn TimeSource>,
}

impl KeyService {
    /// Must be called inside a tokio runtime: recipient keys are made from now on.
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
        Ok(Self {
            cache: Arc::new(KeyCache::new(cache, Arc::clone(&time))),
            client: Arc::new(Client {
                region,
                host,
                policy,
                deadline,
                endpoint: Endpoint::new(tls, Arc::clone(&dial)),
                credentials: CredentialSource::new(dial, Arc::clone(&time)),
                recipients: RecipientKeys::start(),
                attest,
                time,
            }),
        })
    }

    /// The data key in `ciphertext`, wrapped under `key` with `context`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn data_key(
        &self,
        key: &KeyArn,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Lease, KeyError> {
        // The call's own digest names the entry: the same question has the same answer.
        let name = release_digest(decrypt::OPERATION, key, ciphertext, context);
        self.cache
            .get(name, || {
                let (client, key) = (Arc::clone(&self.client), key.clone());
                let (ciphertext, context) = (ciphertext.to_vec(), context.clone());
                async move { client.release(name, &key, &ciphertext, &context).await }
            })
            .await
    }
}

impl Client {
    /// Asks until there is an answer, a final no, or no time left.
    async fn release(
        &self,
        name: Sha256Digest,
        key: &KeyArn,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<DataKey, KeyError> {
        let mut backoff = Backoff::within(self.deadline);
        let mut fresh_credentials = false;
        loop {
            let last = match self.attempt(name, key, ciphertext, context).await {
                Ok(key) => return Ok(key),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(error)) => error,
                Err(Failure::Credentials) if fresh_credentials => return Err(KeyError::CredentialsRejected),
                Err(Failure::Credentials) => {
                    fresh_credentials = true;
                    self.credentials.forget();
                    continue;
                }
            };
            if !backoff.wait().await {
                return Err(last);
            }
        }
    }

    async fn attempt(
        &self,
        name: Sha256Digest,
        key: &KeyArn,
        ciphertext: &[u8],
        context: &EncryptionContext,
    ) -> Result<DataKey, Failure> {
        let transient = |error| match error {
            KeyError::Unavailable => Failure::Transient(error),
            final_one => Failure::Final(final_one),
        };
        let recipient = self.recipients.take().await.map_err(Failure::Final)?;
        let statement =
            Statement { purpose: Purpose::Release, subject: *name.as_bytes(), policy: self.policy };
        let document = self
            .attest
            .document(statement.to_bytes(), recipient.spki().to_vec(), None)
            .await
            .map_err(|error| Failure::Final(error.into()))?;
        let body = decrypt::question(key, ciphertext, context, &document).map_err(Failure::Final)?;
        let scope = Scope { host: &self.host, region: &self.region, now: self.time.unix_millis() };
        let signed = self
            .credentials
            .with(|credentials| sign_call(&scope, credentials, decrypt::OPERATION, body))
            .await
            .map_err(Failure::Final)?;
        let answer = self.endpoint.post(&signed).await.map_err(transient)?;
        decrypt::read(&answer, key, &recipient)
    }
}
