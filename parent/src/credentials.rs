//! Hands the parent's short-lived AWS credentials to the enclave.
//!
//! They come from `aws-config`'s default chain: environment, profile, web identity, ECS, EKS Pod
//! Identity, instance metadata (IMDSv2). The parent could use them itself in any case; what makes
//! KMS release a key is the enclave's attestation document.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::message::{self, Credentials, FromParent, ToParent};
use aws_config::BehaviorVersion;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use crate::dial::Stream;
use crate::listen::PortListener;

const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(10), frame: Duration::from_secs(5) };
/// For the chain: it may have to time out on instance metadata.
const CHAIN_DEADLINE: Duration = Duration::from_secs(8);
/// A chain is asked anew after this: files and roles change.
const MAX_AGE: Duration = Duration::from_secs(30);
const MAX_CONNECTIONS: usize = 16;
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Where credentials come from.
pub struct CredentialService {
    chain: Mutex<Option<(SharedCredentialsProvider, Instant)>>,
}

impl Default for CredentialService {
    fn default() -> Self {
        Self::new()
    }
}

impl CredentialService {
    /// Uses the default chain.
    pub fn new() -> Self {
        Self { chain: Mutex::default() }
    }

    /// Serves for ever.
    pub async fn serve(self, listener: PortListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let service = Arc::new(self);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok(stream) => {
                    let service = Arc::clone(&service);
                    tokio::spawn(async move {
                        let answered = service.answer(stream).await;
                        tracing::debug!(answered = answered.is_some(), "credentials were asked for");
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the credential service could not accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn answer(&self, stream: Stream) -> Option<()> {
        let (read, write) = tokio::io::split(stream);
        let mut question = Vec::new();
        if FrameReader::new(read, DEADLINES).next(&mut question).await.ok()? != Kind::Control {
            return None;
        }
        let ToParent::Want {} = message::decode(&question).ok()?;
        let answer = match self.current().await {
            Some(credentials) => FromParent::Credentials(credentials),
            None => {
                tracing::warn!(
                    "no AWS credentials; the chain is environment, profile, web identity, container, instance"
                );
                FromParent::Unavailable {}
            }
        };
        let answer = Zeroizing::new(message::encode(&answer).ok()?);
        FrameWriter::new(write, DEADLINES).send(Kind::Control, &answer).await.ok()
    }

    /// What the chain has now.
    async fn current(&self) -> Option<Credentials> {
        let provider = self.provider().await?;
        let found = timeout(CHAIN_DEADLINE, provider.provide_credentials()).await.ok()?;
        let found = found.map_err(|error| tracing::debug!(%error, "the chain has no credentials")).ok()?;
        let millis = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok())
        };
        Some(Credentials {
            access_key_id: found.access_key_id().to_owned(),
            secret_access_key: found.secret_access_key().to_owned(),
            session_token: found.session_token().map(str::to_owned),
            expires_unix_ms: found.expiry().and_then(millis),
        })
    }

    /// The chain keeps what it found; a new one looks again.
    async fn provider(&self) -> Option<SharedCredentialsProvider> {
        let mut chain = self.chain.lock().await;
        if let Some((provider, since)) = &*chain
            && since.elapsed() < MAX_AGE
        {
            return Some(provider.clone());
        }
        let config =
            timeout(CHAIN_DEADLINE, aws_config::load_defaults(BehaviorVersion::latest())).await.ok()?;
        let provider = config.credentials_provider()?;
        *chain = Some((provider.clone(), Instant::now()));
        Some(provider)
    }
}
