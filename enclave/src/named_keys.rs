//! Named keys: secrets that the policy names, fetched wrapped through the parent, opened by KMS.
//!
//! ```text
//! names of the job ─▶ policy: source, key, context ─▶ parent:8002: wrapped key ─▶ attested Decrypt
//! ```
//!
//! What the parent answers is a claim. It is opened under the key and the context that the measured
//! policy states, so what is swapped, stale or foreign does not open (K-7, K-14). Only secrets of 32
//! bytes are taken. They are cached like data keys, under the same limits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::id::KeyName;
use adyton_shared::limits::MAX_WRAPPED_KEY_BYTES;
use adyton_shared::message::{self, KEYS_PORT, KeyAnswer, KeyQuestion, Refusal};
use adyton_shared::policy::{NamedKey, Source};
use adyton_shared::{DataKey, ErrorCode};
use tokio::time::timeout;

use crate::kms::{KeyError, KeyService, Lease};
use crate::platform::{BoxFuture, Dial};

/// The parent reads a small file.
const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(5), frame: Duration::from_secs(5) };
/// For the whole conversation about one key.
const CONVERSATION: Duration = Duration::from_secs(10);
/// Length of every named key, in bytes: it keys HMAC-SHA-256.
const SECRET_BYTES: usize = 32;

/// Where wrapped keys come from. One port for all of them: the parent knows the schemes.
pub trait Sources: Send + Sync + 'static {
    /// What is there under this name; `None` if nothing can be had.
    fn wrapped<'a>(&'a self, name: &'a KeyName, source: &'a Source) -> BoxFuture<'a, Option<Vec<u8>>>;
}

/// Asks the parent.
pub struct ParentSources {
    dial: Arc<dyn Dial>,
}

impl ParentSources {
    /// Asks over this way to the host.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial }
    }

    async fn ask(&self, name: &KeyName, source: &Source) -> Option<Vec<u8>> {
        let stream = self.dial.dial(KEYS_PORT).await.ok()?;
        let (from, to) = tokio::io::split(stream);
        let question = KeyQuestion::Wrapped { name: name.clone(), source: source.clone() };
        let question = message::encode(&question).ok()?;
        FrameWriter::new(to, DEADLINES).send(Kind::Control, &question).await.ok()?;
        let mut answer = Vec::new();
        match FrameReader::new(from, DEADLINES).next(&mut answer).await {
            Ok(Kind::Control) => {}
            _ => return None,
        }
        match message::decode(&answer).ok()? {
            KeyAnswer::Wrapped { blob } => Some(blob.into_vec()),
            KeyAnswer::Missing {} => None,
        }
    }
}

impl Sources for ParentSources {
    fn wrapped<'a>(&'a self, name: &'a KeyName, source: &'a Source) -> BoxFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move { timeout(CONVERSATION, self.ask(name, source)).await.ok().flatten() })
    }
}

/// The named keys of one job, opened. Unprintable.
#[derive(Default)]
pub struct NamedKeys(BTreeMap<KeyName, Lease>);

impl NamedKeys {
    /// Fetches and opens the keys of these names.
    ///
    /// # Errors
    /// [`ErrorCode::KeyUnknown`] for a name that the policy has not,
    /// [`ErrorCode::NamedKeyUnavailable`], [`ErrorCode::NamedKeyRejected`], or what KMS says.
    pub async fn open<'a>(
        names: impl IntoIterator<Item = &'a KeyName>,
        policy: &BTreeMap<KeyName, NamedKey>,
        sources: &dyn Sources,
        kms: &KeyService,
    ) -> Result<Self, Refusal> {
        let mut opened = BTreeMap::new();
        for name in names {
            let NamedKey { source, key, context } = policy.get(name).ok_or(ErrorCode::KeyUnknown)?;
            let blob = sources.wrapped(name, source).await.ok_or(ErrorCode::NamedKeyUnavailable)?;
            if blob.is_empty() || blob.len() > MAX_WRAPPED_KEY_BYTES {
                return Err(ErrorCode::NamedKeyRejected.into());
            }
            let lease = kms.data_key(key, &blob, context).await.map_err(refusal)?;
            if lease.key().expose().len() != SECRET_BYTES {
                return Err(ErrorCode::NamedKeyRejected.into());
            }
            opened.insert(name.clone(), lease);
        }
        Ok(Self(opened))
    }

    /// The key of this name.
    pub fn key(&self, name: &KeyName) -> Option<&DataKey> {
        self.0.get(name).map(Lease::key)
    }

    /// The names and their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyName, &DataKey)> {
        self.0.iter().map(|(name, lease)| (name, lease.key()))
    }
}

/// KMS says that the blob is not for this key or context: the parent's doing, not the payload's.
fn refusal(error: KeyError) -> Refusal {
    let code = match error.code() {
        ErrorCode::WrappedKeyRejected => ErrorCode::NamedKeyRejected,
        code => code,
    };
    Refusal { retry_after_ms: error.retry_after_ms(), ..code.into() }
}

impl fmt::Debug for NamedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
