//! The enclave's identity: its receipt key, the key that requests are sealed to, and the document
//! that vouches for both.
//!
//! The keys are made at start and never stored (T-1). The document is renewed every few minutes,
//! long before the certificate that signed it can expire (T-7), and each renewal corrects the clock.

use std::sync::{Arc, PoisonError, RwLock};

use adyton_shared::id::{EnclaveId, PolicyDigest};
use adyton_shared::message::SealedRequest;
use adyton_shared::sealed_request::{OpenedRequest, OpeningKey, SealError};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use tokio::time::{Duration, Instant};

use crate::attest::{Attester, Identified, own_document_time};
use crate::clock::{Correction, EnclaveClock};
use crate::event::{Event, Events};
use crate::platform::{AttestError, TimeSource};

/// How often the document is renewed.
const RENEWAL: Duration = Duration::from_mins(5);
/// How old a document may be when a receipt uses it. Leaf certificates live three hours.
const MAX_AGE: Duration = Duration::from_mins(30);
/// A clock difference below this is the time that the device took, in milliseconds.
const NOTABLE_DRIFT_MS: u64 = 1000;

/// The enclave's keys and their document.
pub struct Identity {
    id: EnclaveId,
    key: Ed25519KeyPair,
    opening: OpeningKey,
    policy: PolicyDigest,
    current: RwLock<Current>,
}

struct Current {
    document: Arc<[u8]>,
    at: Instant,
}

impl Identity {
    /// Makes the keys and has them attested; starts the clock by the document's time.
    ///
    /// # Errors
    /// [`AttestError`].
    pub async fn create(
        attester: &Attester,
        policy: PolicyDigest,
    ) -> Result<(Self, EnclaveClock), AttestError> {
        let key = Ed25519KeyPair::generate().map_err(|_| AttestError::Unavailable)?;
        let id = EnclaveId::try_from(key.public_key().as_ref()).map_err(|_| AttestError::Unavailable)?;
        let opening = OpeningKey::generate().map_err(|_| AttestError::Unavailable)?;
        let document = attester.identity(Identified { id, sealing: opening.public(), policy }, None).await?;
        let clock = EnclaveClock::starting_at(own_document_time(&document)?);
        let current = RwLock::new(Current { document: document.into(), at: Instant::now() });
        Ok((Self { id, key, opening, policy, current }, clock))
    }

    /// What identity documents say.
    pub fn identified(&self) -> Identified {
        Identified { id: self.id, sealing: self.opening.public(), policy: self.policy }
    }

    /// Opens a request that was sealed to this run of the enclave.
    ///
    /// # Errors
    /// [`SealError::Unopenable`].
    pub fn open(&self, sealed: &SealedRequest) -> Result<OpenedRequest, SealError> {
        self.opening.open(self.id, sealed)
    }

    /// The enclave's id.
    pub fn id(&self) -> EnclaveId {
        self.id
    }

    /// The key that signs receipts.
    pub fn key(&self) -> &Ed25519KeyPair {
        &self.key
    }

    /// The document that goes with receipts.
    ///
    /// # Errors
    /// [`AttestError::Unavailable`] if it could not be renewed for too long.
    pub fn document(&self) -> Result<Arc<[u8]>, AttestError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if current.at.elapsed() > MAX_AGE {
            Err(AttestError::Unavailable)
        } else {
            Ok(current.document.clone())
        }
    }

    /// Renews the document from time to time, for ever.
    pub async fn keep_fresh(&self, attester: &Attester, clock: &EnclaveClock, events: &dyn Events) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            if self.renew(attester, clock, events).await.is_err() {
                events.emit(Event::IdentityNotRenewed);
            }
        }
    }

    async fn renew(
        &self,
        attester: &Attester,
        clock: &EnclaveClock,
        events: &dyn Events,
    ) -> Result<(), AttestError> {
        let before = clock.unix_millis();
        let document = attester.identity(self.identified(), None).await?;
        let time = own_document_time(&document)?;
        // The NSM read its time at some moment since `before`; only what lies outside is drift.
        let waited = clock.unix_millis().saturating_sub(before);
        match clock.correct(time) {
            Correction::Forwards(ahead) if ahead > NOTABLE_DRIFT_MS => {
                events.emit(Event::ClockCorrected(ahead));
            }
            Correction::Backwards(behind) if behind > waited.saturating_add(NOTABLE_DRIFT_MS) => {
                events.emit(Event::ClockWentBack(behind));
            }
            _ => {}
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Current { document: document.into(), at: Instant::now() };
        Ok(())
    }
}
