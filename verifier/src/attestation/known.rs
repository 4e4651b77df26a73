//! Chains that were verified before, so that the next document of the same enclave costs one
//! signature instead of five.
//!
//! What is remembered is the outcome for these very bytes under this very anchor: the id is a hash
//! of all of them. It holds only while every certificate is valid; outside of that time the chain is
//! verified anew, and its refusal names what has expired. Who keeps the memory decides how much is
//! kept, and can do no worse than forget: nobody but the verifier makes a [`VerifiedChain`], and one
//! that is handed out for another id is not taken.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use super::document::Document;
use super::envelope::LeafKey;
use super::time::UnixMillis;

/// Names the certificates of a chain and the anchor that they lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId([u8; 32]);

impl ChainId {
    pub(super) fn of(document: &Document, anchor: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        let chain = document.cabundle.iter().map(Vec::as_slice);
        for part in [anchor, &document.certificate].into_iter().chain(chain) {
            // Lengths, so that no byte can move from one certificate to the next.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(id)
    }
}

/// A chain that passed every check at some time between its limits.
#[derive(Clone)]
pub struct VerifiedChain {
    pub(super) id: ChainId,
    pub(super) key: Arc<LeafKey>,
    pub(super) not_before: UnixMillis,
    pub(super) not_after: UnixMillis,
}

impl VerifiedChain {
    /// What it is looked up by.
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// When the first of its certificates expires; nothing is gained by keeping it longer.
    pub fn not_after(&self) -> UnixMillis {
        self.not_after
    }

    /// Whether it answers for this chain at this time.
    pub(super) fn holds(&self, id: ChainId, at: UnixMillis) -> bool {
        // As in the check of a single certificate, the end counts whole seconds.
        self.id == id && at >= self.not_before && UnixMillis::from(at.whole_seconds()) <= self.not_after
    }
}

impl fmt::Debug for VerifiedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedChain")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Where verified chains are kept between documents.
pub trait ChainMemory {
    /// The chain of this id, if it is remembered.
    fn recall(&self, id: ChainId) -> Option<VerifiedChain>;

    /// Takes note of a chain, or does not.
    fn remember(&self, chain: &VerifiedChain);
}

/// Remembers nothing.
pub(super) struct NoMemory;

impl ChainMemory for NoMemory {
    fn recall(&self, _: ChainId) -> Option<VerifiedChain> {
        None
    }

    fn remember(&self, _: &VerifiedChain) {}
}
