//! Credentials for signing, as the parent hands them out.
//!
//! They come over a stream to the parent and are kept until shortly before they expire, by the
//! enclave's own clock. Whoever needs new ones at the same time shares one question. They open
//! nothing by themselves: the key policy releases keys to this image only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::message::{self, CREDENTIALS_PORT, FromParent, ToParent};
use aws_credential_types::Credentials;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::error::KeyError;
use super::flight::Flights;
use crate::platform::{Dial, TimeSource};

/// The parent may first have to ask a metadata service, which may first have to be asked for a token.
const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(10), frame: Duration::from_secs(5) };
/// For the whole conversation with the parent.
const CONVERSATION: Duration = Duration::from_secs(15);
/// Credentials are renewed at latest this long before they expire…
const SLACK_MS: u64 = 5 * 60 * 1000;
/// …or when this part of their remaining life is left, if that is shorter.
const SLACK_PART: u64 = 10;
/// Credentials without expiry are asked for again after this long, so that the parent can change them.
const LONG_LIVED_MS: u64 = 15 * 60 * 1000;
/// When the parent has no new ones, the old ones serve on and it is not asked again for so long.
const ASK_AGAIN_MS: u64 = 10 * 1000;
/// Longest key id, secret and token, in bytes; session tokens have no documented limit and are
/// in practice below 4 KiB.
const MAX_PARTS_BYTES: [usize; 3] = [128, 256, 12 * 1024];

/// Credentials in the form that signing takes. The secret parts are wiped on drop.
pub(super) struct Held {
    pub(super) credentials: Credentials,
    expires_ms: Option<u64>,
    renew_ms: u64,
}

impl Held {
    fn valid(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires| now_ms < expires)
    }
}

type Fetched = Result<Arc<Held>, KeyError>;

/// The credentials of the enclave.
pub(super) struct Wallet {
    shared: Arc<Shared>,
    flights: Flights<(), Fetched>,
}

struct Shared {
    dial: Arc<dyn Dial>,
    time: Arc<dyn TimeSource>,
    held: Mutex<Option<Arc<Held>>>,
}

impl Wallet {
    pub(super) fn new(dial: Arc<dyn Dial>, time: Arc<dyn TimeSource>) -> Self {
        Self { shared: Arc::new(Shared { dial, time, held: Mutex::default() }), flights: Flights::default() }
    }

    /// Credentials that are valid now.
    pub(super) async fn current(&self) -> Result<Arc<Held>, KeyError> {
        if let Some(held) = self.shared.fresh() {
            return Ok(held);
        }
        let shared = Arc::clone(&self.shared);
        let fetched = self.flights.join((), || async move {
            // Whoever was under way when we looked may have landed since.
            match shared.fresh() {
                Some(held) => Ok(held),
                None => shared.renew().await,
            }
        });
        fetched.await.unwrap_or(Err(KeyError::Internal))
    }

    /// Forgets credentials that KMS did not accept, unless newer ones have taken their place.
    pub(super) fn forget(&self, refused: &Arc<Held>) {
        let mut held = self.shared.lock();
        if held.as_ref().is_some_and(|current| Arc::ptr_eq(current, refused)) {
            *held = None;
        }
    }
}

impl Shared {
    fn fresh(&self) -> Option<Arc<Held>> {
        let now_ms = self.time.unix_millis();
        let held = self.lock();
        let held = held.as_ref().filter(|held| now_ms < held.renew_ms && held.valid(now_ms))?;
        Some(Arc::clone(held))
    }

    async fn renew(&self) -> Fetched {
        let asked = timeout(CONVERSATION, self.ask()).await;
        let now_ms = self.time.unix_millis();
        let credentials = asked.ok().flatten().filter(is_plausible);
        let new = credentials.and_then(|credentials| hold(&credentials, now_ms));
        let mut held = self.lock();
        let next = match (new, held.as_ref()) {
            (Some(new), _) => new,
            (None, Some(old)) if old.valid(now_ms) => Held {
                credentials: old.credentials.clone(),
                expires_ms: old.expires_ms,
                renew_ms: now_ms.saturating_add(ASK_AGAIN_MS),
            },
            (None, _) => {
                *held = None;
                return Err(KeyError::CredentialsUnavailable);
            }
        };
        let next = Arc::new(next);
        *held = Some(Arc::clone(&next));
        Ok(next)
    }

    async fn ask(&self) -> Option<message::Credentials> {
        let stream = self.dial.dial(CREDENTIALS_PORT).await.ok()?;
        let (from, to) = tokio::io::split(stream);
        let question = message::encode(&ToParent::Want {}).ok()?;
        FrameWriter::new(to, DEADLINES).send(Kind::Control, &question).await.ok()?;
        let mut answer = Zeroizing::new(Vec::new());
        match FrameReader::new(from, DEADLINES).next(&mut answer).await.ok()? {
            Kind::Control => match message::decode(&answer).ok()? {
                FromParent::Credentials(credentials) => Some(credentials),
                FromParent::Unavailable {} => None,
            },
            Kind::Data | Kind::End => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the parts can stand in a header line.
fn is_plausible(credentials: &message::Credentials) -> bool {
    let token = credentials.session_token.as_deref();
    let parts = [Some(credentials.access_key_id.as_str()), Some(&credentials.secret_access_key), token];
    parts.into_iter().zip(MAX_PARTS_BYTES).all(|(part, limit)| {
        part.is_none_or(|part| {
            !part.is_empty() && part.len() <= limit && part.bytes().all(|byte| byte.is_ascii_graphic())
        })
    })
}

/// `None` if they have expired.
fn hold(credentials: &message::Credentials, now_ms: u64) -> Option<Held> {
    let expires_ms = credentials.expires_unix_ms;
    let life_ms = expires_ms.map(|expires| expires.saturating_sub(now_ms));
    if life_ms == Some(0) {
        return None;
    }
    let use_ms = life_ms.map_or(LONG_LIVED_MS, |life| life.saturating_sub(SLACK_MS.min(life / SLACK_PART)));
    let expires = expires_ms.and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    let usable = Credentials::new(
        credentials.access_key_id.as_str(),
        credentials.secret_access_key.as_str(),
        credentials.session_token.clone(),
        expires,
        "parent",
    );
    Some(Held { credentials: usable, expires_ms, renew_ms: now_ms.saturating_add(use_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(expires_unix_ms: Option<u64>) -> message::Credentials {
        message::Credentials {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: "hidden/secret".into(),
            session_token: Some("hidden-token".into()),
            expires_unix_ms,
        }
    }

    #[test]
    fn they_are_renewed_five_minutes_or_a_tenth_before_they_expire() {
        let hour = 3_600_000;
        assert_eq!(hold(&credentials(Some(hour)), 0).unwrap().renew_ms, hour - SLACK_MS);
        assert_eq!(hold(&credentials(Some(60_000)), 0).unwrap().renew_ms, 54_000);
        assert_eq!(hold(&credentials(None), 7).unwrap().renew_ms, 7 + LONG_LIVED_MS);
        assert!(hold(&credentials(Some(hour)), hour).is_none(), "expired");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused() {
        assert!(is_plausible(&credentials(None)));
        for bad in ["", "two words", "line\r\nbreak", "ümlaut"] {
            let mut id = credentials(None);
            id.access_key_id = bad.into();
            let mut token = credentials(None);
            token.session_token = Some(bad.into());
            assert!(!is_plausible(&id) && !is_plausible(&token), "{bad}");
        }
    }

    #[test]
    fn they_do_not_print_their_secrets() {
        let text = format!("{:?}", hold(&credentials(None), 0).unwrap().credentials);
        assert!(!text.contains("hidden"), "{text}");
    }
}
