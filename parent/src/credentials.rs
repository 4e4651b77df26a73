//! Hands short-lived AWS credentials to enclaves, on port 8001.
//!
//! They come from the SDK's default chain: environment, profile, web identity (IRSA), ECS and EKS Pod
//! Identity, `IMDSv2`. They are kept until shortly before they expire and never logged. The enclave can
//! do with them what this role can; so can this machine, which is why they are no secret from it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adyton_shared::message::{Credentials, FromParent, ToParent};
use aws_config::BehaviorVersion;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use crate::answer::{ConverseError, answer};
use crate::counters::Counters;
use crate::listen::{self, Accept};

/// Conversations at once; each needs a descriptor and 8 KiB.
const MAX_CONNECTIONS: usize = 64;
/// For the whole chain: its slowest link asks IMDS, several times, where there may be none.
const CHAIN_DEADLINE: Duration = Duration::from_secs(8);
/// New credentials are asked for when the old ones have less time left than this.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// How long credentials without an end are kept: a profile can be changed.
const KEEP_ENDLESS: Duration = Duration::from_mins(1);
/// How long a failure is kept, so that many who ask do not all wait for the chain.
const KEEP_FAILURE: Duration = Duration::from_secs(1);

/// Serves credentials.
pub struct CredentialService {
    /// Without one, the default chain is set up for each question: it reads profiles once in its life.
    provider: Option<SharedCredentialsProvider>,
    latest: Mutex<Option<Latest>>,
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// The chain's latest answer.
struct Latest {
    credentials: Option<aws_credential_types::Credentials>,
    /// When to ask again.
    until: Instant,
}

impl CredentialService {
    /// A service for the default chain.
    pub fn new() -> Self {
        Self {
            provider: None,
            latest: Mutex::new(None),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            counters: Arc::default(),
        }
    }

    /// A service for this provider.
    pub fn from_provider(provider: impl ProvideCredentials + 'static) -> Self {
        Self { provider: Some(SharedCredentialsProvider::new(provider)), ..Self::new() }
    }

    /// What it has done so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves for ever.
    pub async fn serve(self: Arc<Self>, listener: impl Accept) {
        let (places, counters) = (Arc::clone(&self.places), self.counters());
        let handle = |stream| {
            let service = Arc::clone(&self);
            async move {
                if let Err(error) = service.converse(stream).await {
                    service.counters.fail();
                    tracing::debug!(%error, "a request for credentials failed");
                }
            }
        };
        listen::serve(listener, places, counters, handle).await;
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite) -> Result<(), ConverseError> {
        answer(stream, |ToParent::Want {}| self.answer()).await
    }

    /// What to tell an enclave now.
    pub async fn answer(&self) -> FromParent {
        match self.current().await {
            Some(credentials) => FromParent::Credentials(Credentials {
                access_key_id: credentials.access_key_id().to_owned(),
                secret_access_key: credentials.secret_access_key().to_owned(),
                session_token: credentials.session_token().map(str::to_owned),
                expires_unix_ms: credentials.expiry().map(unix_millis),
            }),
            None => FromParent::Unavailable {},
        }
    }

    /// Waiters share one question: while the lock is held, the others wait for its answer.
    async fn current(&self) -> Option<aws_credential_types::Credentials> {
        let mut latest = self.latest.lock().await;
        if let Some(Latest { credentials, until }) = latest.as_ref()
            && Instant::now() < *until
        {
            return credentials.clone();
        }
        let old =
            latest.take().and_then(|latest| latest.credentials).filter(|old| time_left(old) > Duration::ZERO);
        let (credentials, keep) = match self.ask().await {
            Ok(new) => {
                let keep = match new.expiry() {
                    None => KEEP_ENDLESS,
                    // Those that live shorter than that are asked for again and again, not at once.
                    Some(_) => time_left(&new).saturating_sub(RENEW_BEFORE).max(KEEP_FAILURE),
                };
                (Some(new), keep)
            }
            Err(error) => {
                tracing::warn!(%error, "no credentials for the enclave");
                (old, KEEP_FAILURE)
            }
        };
        *latest = Some(Latest { credentials: credentials.clone(), until: Instant::now() + keep });
        credentials
    }

    async fn ask(&self) -> Result<aws_credential_types::Credentials, NoCredentials> {
        timeout(CHAIN_DEADLINE, async {
            let provider = match &self.provider {
                Some(provider) => provider.clone(),
                None => default_chain().await?,
            };
            provider.provide_credentials().await.map_err(|error| NoCredentials::from(&error))
        })
        .await
        .unwrap_or(Err(NoCredentials::Deadline))
    }
}

impl Default for CredentialService {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CredentialService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialService").field("counters", &self.counters).finish_non_exhaustive()
    }
}

async fn default_chain() -> Result<SharedCredentialsProvider, NoCredentials> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    config.credentials_provider().ok_or(NoCredentials::NotFound)
}

/// Why there are none. The SDK's own errors can quote what a provider answered, so they are not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum NoCredentials {
    #[error("no source of the default chain has any (environment, profile, role)")]
    NotFound,
    #[error("a source is configured wrongly")]
    Configuration,
    #[error("the source failed")]
    Source,
    #[error("no answer within {CHAIN_DEADLINE:?}")]
    Deadline,
}

impl From<&CredentialsError> for NoCredentials {
    fn from(error: &CredentialsError) -> Self {
        match error {
            CredentialsError::CredentialsNotLoaded(_) => Self::NotFound,
            CredentialsError::InvalidConfiguration(_) => Self::Configuration,
            CredentialsError::ProviderTimedOut(_) => Self::Deadline,
            _ => Self::Source,
        }
    }
}

fn time_left(credentials: &aws_credential_types::Credentials) -> Duration {
    match credentials.expiry() {
        Some(expiry) => expiry.duration_since(SystemTime::now()).unwrap_or_default(),
        None => Duration::MAX,
    }
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::provider::future;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Gives credentials that live for the first duration, then for the second, and so on; then fails.
    #[derive(Debug)]
    struct Script(Vec<u64>, Arc<AtomicUsize>);

    impl ProvideCredentials for Script {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let asked = self.1.fetch_add(1, Ordering::Relaxed);
            future::ProvideCredentials::ready(match self.0.get(asked) {
                Some(seconds) => {
                    let expiry = SystemTime::now() + Duration::from_secs(*seconds);
                    let id = format!("AKIA{asked}");
                    Ok(aws_credential_types::Credentials::new(id, "s3cret", None, Some(expiry), "test"))
                }
                None => Err(CredentialsError::provider_error("s3cret")),
            })
        }
    }

    fn service(script: &[u64]) -> (CredentialService, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        (CredentialService::from_provider(Script(script.to_vec(), Arc::clone(&asked))), asked)
    }

    async fn id(service: &CredentialService) -> Option<String> {
        match service.answer().await {
            FromParent::Credentials(credentials) => Some(credentials.access_key_id.clone()),
            FromParent::Unavailable {} => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_kept_and_renewed_before_they_expire() {
        let (service, asked) = service(&[3600, 3600]);
        for _ in 0..10 {
            assert_eq!(id(&service).await.unwrap(), "AKIA0");
        }
        tokio::time::advance(Duration::from_hours(1).saturating_sub(RENEW_BEFORE)).await;
        assert_eq!(id(&service).await.unwrap(), "AKIA1");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn old_ones_are_used_while_renewal_fails_and_none_after_their_end() {
        let (service, asked) = service(&[60]);
        assert_eq!(id(&service).await.unwrap(), "AKIA0");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(id(&service).await.unwrap(), "AKIA0");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let (service, _) = self::service(&[]);
        assert_eq!(id(&service).await, None);
    }

    #[tokio::test]
    async fn many_askers_make_one_question_and_nothing_secret_is_printable() {
        let (service, asked) = service(&[3600]);
        let service = Arc::new(service);
        let askers: Vec<_> = (0..20)
            .map(|_| {
                tokio::spawn({
                    let s = Arc::clone(&service);
                    async move { id(&s).await }
                })
            })
            .collect();
        for asker in askers {
            assert_eq!(asker.await.unwrap().unwrap(), "AKIA0");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let error = CredentialsError::provider_error("s3cret");
        let text = format!("{service:?} {:?} {}", service.answer().await, NoCredentials::from(&error));
        assert!(!text.contains("s3cret"), "{text}");
    }
}
