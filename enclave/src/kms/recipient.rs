//! Recipient keys: RSA-2048 pairs that KMS seals its answers to (T-1).
//!
//! Made by AWS-LC inside this process, never exported; its private operation is blinded and
//! constant-time, and its memory is cleansed when freed. Making one takes tens of milliseconds,
//! so a few are made ahead of need on a blocking thread.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adyton_shared::id::Sha256Digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use zeroize::Zeroizing;

use super::error::KeyError;
use crate::cms::{CmsError, EnvelopedData};

/// How many requests may name one key. Should a key ever leak, no more data keys than these leak
/// with it; and making one costs as much as some hundred unwraps, so it stays a small part of them.
const MAX_REQUESTS_PER_KEY: u32 = 64;
/// Keys made ahead of need: one for a burst that uses up the current one, one while that is replaced.
const READY: usize = 2;

/// One recipient key. Its private half cannot be read out.
pub(super) struct RecipientKey {
    private: OaepPrivateDecryptingKey,
    public: Vec<u8>,
    id: Sha256Digest,
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl RecipientKey {
    fn generate() -> Result<Self, Unspecified> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048)?;
        let public = private.public_key().as_der()?.as_ref().to_vec();
        let id = Sha256Digest::of(&public);
        Ok(Self { private: OaepPrivateDecryptingKey::new(private)?, public, id })
    }

    /// The public half as `SubjectPublicKeyInfo` in DER.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Opens what KMS sealed to this key.
    pub(super) fn open(&self, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        EnvelopedData::parse(envelope)?.open(self.id.as_bytes(), |encrypted| self.unwrap(encrypted))
    }

    fn unwrap(&self, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut content_key = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let length = self
            .private
            .decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut content_key, None)
            .ok()
            .map(|plaintext| plaintext.len())?;
        content_key.truncate(length);
        Some(content_key)
    }
}

/// The recipient keys of this process.
#[derive(Default)]
pub(super) struct Recipients {
    pool: Mutex<Pool>,
    /// Whoever holds it is making a key; fair, so that each key made wakes the next who waits.
    making: tokio::sync::Mutex<()>,
    filling: AtomicBool,
}

#[derive(Default)]
struct Pool {
    current: Option<Arc<RecipientKey>>,
    requests: u32,
    ready: Vec<RecipientKey>,
}

impl Pool {
    fn take(&mut self) -> Option<Arc<RecipientKey>> {
        if self.current.is_none() || self.requests >= MAX_REQUESTS_PER_KEY {
            self.current = Some(Arc::new(self.ready.pop()?));
            self.requests = 0;
        }
        self.requests = self.requests.saturating_add(1);
        self.current.clone()
    }
}

impl Recipients {
    /// A key for one request.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Arc<RecipientKey>, KeyError> {
        loop {
            let taken = self.lock().take();
            self.refill();
            if let Some(key) = taken {
                return Ok(key);
            }
            self.make(1).await?;
        }
    }

    /// Starts making keys ahead of need, unless that is under way or not needed.
    pub(super) fn refill(self: &Arc<Self>) {
        if self.lock().ready.len() >= READY {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.filling.swap(true, Ordering::AcqRel) {
            return;
        }
        let recipients = Arc::clone(self);
        runtime.spawn(async move {
            while recipients.lock().ready.len() < READY && recipients.make(READY).await.is_ok() {}
            recipients.filling.store(false, Ordering::Release);
        });
    }

    /// Makes one key on a blocking thread, unless `enough` are ready when it is our turn.
    async fn make(&self, enough: usize) -> Result<(), KeyError> {
        let _turn = self.making.lock().await;
        if self.lock().ready.len() >= enough {
            return Ok(());
        }
        let made = tokio::task::spawn_blocking(RecipientKey::generate).await;
        let key = made.map_err(|_| KeyError::Internal)?.map_err(|_| KeyError::Internal)?;
        self.lock().ready.push(key);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
