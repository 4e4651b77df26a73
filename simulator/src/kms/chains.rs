//! Chains of attestation documents that were verified, kept until they expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use adyton_verifier::attestation::{ChainId, ChainMemory, VerifiedChain};

/// Most chains at once. Each enclave has one at a time; 256 of them at about 1 KiB.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Chains(Mutex<HashMap<ChainId, VerifiedChain>>);

impl ChainMemory for Chains {
    fn recall(&self, id: ChainId) -> Option<VerifiedChain> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn remember(&self, chain: &VerifiedChain) {
        let mut chains = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if chains.len() >= MOST {
            let first = chains.values().min_by_key(|chain| chain.not_after()).map(VerifiedChain::id);
            first.and_then(|id| chains.remove(&id));
        }
        chains.insert(chain.id(), chain.clone());
    }
}
