//! Credentials for KMS: asked of the parent, kept until shortly before they expire.
//!
//! They let the enclave call KMS and nothing more: what a key policy demands of the enclave itself
//! is in the attestation document.

use std::sync::{Arc, PoisonError, RwLock};

use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::message::{self, CREDENTIALS_PORT, Credentials, FromParent, ToParent};
use tokio::sync::Mutex;
use tokio::time::Duration;
use zeroize::Zeroizing;

use super::error::KeyError;
use crate::platform::{Dial, TimeSource};

const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(10), frame: Duration::from_secs(5) };
/// Credentials with less than this left are renewed, in milliseconds.
const RENEWAL_SLACK_MS: u64 = 5 * 60 * 1000;
/// Long-lived credentials are asked for again after this, in milliseconds: they may be rotated.
const UNLIMITED_LIFE_MS: u64 = 15 * 60 * 1000;

pub(super) struct CredentialSource {
    dial: Arc<dyn Dial>,
    time: Arc<dyn TimeSource>,
    held: RwLock<Option<Arc<Held>>>,
    /// Held while the parent is asked: one question at a time.
    asking: Mutex<()>,
}

struct Held {
    credentials: Credentials,
    renew_from: u64,
    expires: u64,
}

impl CredentialSource {
    pub(super) fn new(dial: Arc<dyn Dial>, time: Arc<dyn TimeSource>) -> Self {
        Self { dial, time, held: RwLock::default(), asking: Mutex::default() }
    }

    /// Runs `use_them` on current credentials.
    pub(super) async fn with<T>(
        &self,
        use_them: impl FnOnce(&Credentials) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        use_them(&self.current().await?.credentials)
    }

    /// Forgets credentials that KMS did not accept.
    pub(super) fn forget(&self) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn current(&self) -> Result<Arc<Held>, KeyError> {
        if let Some(held) = self.held(|held, now| now < held.renew_from) {
            return Ok(held);
        }
        let _asking = self.asking.lock().await;
        if let Some(held) = self.held(|held, now| now < held.renew_from) {
            return Ok(held);
        }
        match self.ask().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&fresh));
                Ok(fresh)
            }
            // Early renewal failed: what is held is good until it expires.
            Err(error) => self.held(|held, now| now < held.expires).ok_or(error),
        }
    }

    fn held(&self, good: impl FnOnce(&Held, u64) -> bool) -> Option<Arc<Held>> {
        let now = self.time.unix_millis();
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone();
        held.filter(|held| good(held, now))
    }

    async fn ask(&self) -> Result<Held, KeyError> {
        match self.converse().await {
            Some(FromParent::Credentials(credentials)) => {
                let now = self.time.unix_millis();
                let unlimited = now.saturating_add(UNLIMITED_LIFE_MS);
                let expires = credentials.expires_unix_ms.unwrap_or(u64::MAX);
                let life = expires.saturating_sub(now);
                // Very short-lived ones are used for nine tenths of their life.
                let slack = RENEWAL_SLACK_MS.min(life.checked_div(10).unwrap_or_default());
                let renew_from = expires.saturating_sub(slack).min(unlimited);
                if expires <= now {
                    return Err(KeyError::CredentialsUnavailable);
                }
                Ok(Held { credentials, renew_from, expires })
            }
            Some(FromParent::Unavailable {}) | None => Err(KeyError::CredentialsUnavailable),
        }
    }

    async fn converse(&self) -> Option<FromParent> {
        let stream =
            tokio::time::timeout(DEADLINES.frame, self.dial.dial(CREDENTIALS_PORT)).await.ok()?.ok()?;
        let (read, write) = tokio::io::split(stream);
        let question = message::encode(&ToParent::Want {}).ok()?;
        FrameWriter::new(write, DEADLINES).send(Kind::Control, &question).await.ok()?;
        let mut answer = Zeroizing::new(Vec::with_capacity(16 * 1024));
        match FrameReader::new(read, DEADLINES).next(&mut answer).await.ok()? {
            Kind::Control => message::decode(&answer).ok(),
            Kind::Data | Kind::End => None,
        }
    }
}
