//! What the caller demands of a document, beyond being genuine.
//!
//! There is no default: either PCRs are named, or it is said in words that any
//! image will do (V-12). An all-zero PCR0, 1 or 2 is refused on every path
//! unless debug mode is allowed, whatever the expected values are (V-6).

use std::collections::BTreeMap;
use std::time::Duration;

use adyton_shared::limits::{MAX_NONCE_BYTES, MIN_NONCE_BYTES};

use super::document::{Document, Pcr};
use super::error::AttestationError;
use super::time::UnixMillis;

/// The PCRs that together name an image: EIF sections are hashed without
/// separators, so one of them alone can be equal for two images (V-5).
const IMAGE_PCRS: [u8; 3] = [0, 1, 2];

/// What a document has to say.
#[derive(Clone, Debug)]
pub struct Expectations {
    image: Image,
    nonce: Option<Vec<u8>>,
    freshness: Option<Freshness>,
    allow_debug: bool,
}

#[derive(Clone, Debug)]
enum Image {
    Any,
    Pcrs(BTreeMap<u8, [u8; 48]>),
}

/// How old a document may be, and how far clocks may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Oldest age.
    pub max_age: Duration,
    /// How far the document's clock may be off, in either direction.
    pub skew: Duration,
}

impl Expectations {
    /// Demands these PCRs, by index.
    ///
    /// # Errors
    /// [`AttestationError::NoExpectations`] if there are none: nothing would be checked.
    pub fn pcrs(pcrs: BTreeMap<u8, [u8; 48]>) -> Result<Self, AttestationError> {
        if pcrs.is_empty() {
            return Err(AttestationError::NoExpectations);
        }
        Ok(Self::of(Image::Pcrs(pcrs)))
    }

    /// Demands no particular image: any enclave on AWS passes, the attacker's too.
    pub fn any_image() -> Self {
        Self::of(Image::Any)
    }

    fn of(image: Image) -> Self {
        Self { image, nonce: None, freshness: None, allow_debug: false }
    }

    /// Demands exactly this nonce (V-11).
    ///
    /// # Errors
    /// [`AttestationError::NonceLength`] unless it has 16 to 512 bytes (T-2).
    pub fn nonce(mut self, nonce: &[u8]) -> Result<Self, AttestationError> {
        if !(MIN_NONCE_BYTES..=MAX_NONCE_BYTES).contains(&nonce.len()) {
            return Err(AttestationError::NonceLength { bytes: nonce.len() });
        }
        self.nonce = Some(nonce.to_vec());
        Ok(self)
    }

    /// Demands that the document is not older than `max_age`, give or take `skew` (V-11).
    #[must_use]
    pub fn fresh(mut self, max_age: Duration, skew: Duration) -> Self {
        self.freshness = Some(Freshness { max_age, skew });
        self
    }

    /// Accepts enclaves in debug mode, whose memory the host can read. For tests only.
    #[must_use]
    pub fn danger_allow_debug(mut self) -> Self {
        self.allow_debug = true;
        self
    }

    pub(super) fn freshness(&self) -> Option<Freshness> {
        self.freshness
    }

    /// The demanded PCRs, by index; none if any image will do.
    pub(super) fn expected_pcrs(&self) -> impl Iterator<Item = (&u8, &[u8; 48])> {
        let pcrs = match &self.image {
            Image::Any => None,
            Image::Pcrs(pcrs) => Some(pcrs),
        };
        pcrs.into_iter().flatten()
    }

    pub(super) fn check(&self, document: &Document, at: UnixMillis) -> Result<(), AttestationError> {
        let Self { image, nonce, freshness, allow_debug } = self;
        if !allow_debug {
            check_debug(document)?;
        }
        if let Image::Pcrs(pcrs) = image {
            check_pcrs(pcrs, document)?;
        }
        if let Some(nonce) = nonce {
            check_nonce(nonce, document)?;
        }
        if let Some(freshness) = freshness {
            freshness.check(document.timestamp, at)?;
        }
        Ok(())
    }
}

/// Refuses debug mode (V-6). A missing image PCR cannot show that it is off.
fn check_debug(document: &Document) -> Result<(), AttestationError> {
    if let Some(index) = document.debug_pcr() {
        return Err(AttestationError::DebugMode { index });
    }
    match IMAGE_PCRS.into_iter().find(|index| !document.pcrs.contains_key(index)) {
        Some(index) => Err(AttestationError::PcrAbsent { index }),
        None => Ok(()),
    }
}

pub(super) fn check_pcrs(
    expected: &BTreeMap<u8, [u8; 48]>,
    document: &Document,
) -> Result<(), AttestationError> {
    for (&index, expected) in expected {
        let found = document.pcrs.get(&index).ok_or(AttestationError::PcrAbsent { index })?;
        if found.as_bytes() != expected {
            let (expected, found) = (Pcr::from(*expected), found.clone());
            return Err(AttestationError::PcrMismatch { index, expected, found });
        }
    }
    Ok(())
}

fn check_nonce(expected: &[u8], document: &Document) -> Result<(), AttestationError> {
    if document.nonce.is_none() {
        return Err(AttestationError::NonceAbsent);
    }
    if document.answers(expected) { Ok(()) } else { Err(AttestationError::NonceMismatch) }
}

impl Freshness {
    /// Both edges are inside.
    fn check(self, timestamp: UnixMillis, at: UnixMillis) -> Result<(), AttestationError> {
        if timestamp.since(at).is_some_and(|ahead| ahead > self.skew) {
            return Err(AttestationError::FromTheFuture { timestamp, at });
        }
        let oldest = self.max_age.saturating_add(self.skew);
        if at.since(timestamp).is_some_and(|age| age > oldest) {
            return Err(AttestationError::Stale { timestamp, at });
        }
        Ok(())
    }
}
