//! Chains that are remembered: as good as new while they last, and no longer.

use std::cell::RefCell;
use std::collections::HashMap;

use adyton_verifier::attestation::{
    AttestationError, CertificatePlace, ChainId, ChainMemory, Document, Expectations, UnixMillis, Verified,
    VerifiedChain, verify_remembering,
};
use time::Duration;

use crate::common::NOW;
use crate::common::chain::{Chain, LEAF, Plan, REGIONAL, now};
use crate::common::document::Draft;

#[derive(Default)]
struct Memory {
    chains: RefCell<HashMap<ChainId, VerifiedChain>>,
    recalled: RefCell<usize>,
}

impl ChainMemory for Memory {
    fn recall(&self, id: ChainId) -> Option<VerifiedChain> {
        let known = self.chains.borrow().get(&id).cloned();
        *self.recalled.borrow_mut() += usize::from(known.is_some());
        known
    }

    fn remember(&self, chain: &VerifiedChain) {
        self.chains.borrow_mut().insert(chain.id(), chain.clone());
    }
}

/// Always hands out what it was given, whatever it is asked for.
struct Liar(VerifiedChain);

impl ChainMemory for Liar {
    fn recall(&self, _: ChainId) -> Option<VerifiedChain> {
        Some(self.0.clone())
    }

    fn remember(&self, _: &VerifiedChain) {}
}

fn judge(
    document: &[u8],
    chain: &Chain,
    at: UnixMillis,
    memory: &impl ChainMemory,
) -> Result<Verified<Document>, AttestationError> {
    verify_remembering(document, &chain.anchor(), at, &Expectations::any_image(), memory)
}

#[test]
fn a_remembered_chain_gives_the_same_verdict() {
    let chain = Chain::nitro();
    let document = Draft::good(&chain).sign(&chain);
    let memory = Memory::default();
    let first = judge(&document, &chain, NOW, &memory).unwrap();
    assert_eq!(*memory.recalled.borrow(), 0);
    assert_eq!(judge(&document, &chain, NOW, &memory).unwrap(), first);
    assert_eq!(*memory.recalled.borrow(), 1);
    assert_eq!(memory.chains.borrow().len(), 1);
}

// V-3
#[test]
fn a_remembered_chain_vouches_for_no_other_signature() {
    let chain = Chain::nitro();
    let memory = Memory::default();
    judge(&Draft::good(&chain).sign(&chain), &chain, NOW, &memory).unwrap();
    let mut forged = Draft::good(&chain).sign(&chain);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(judge(&forged, &chain, NOW, &memory), Err(AttestationError::Signature));
}

// V-3
#[test]
fn a_remembered_chain_expires_with_the_first_of_its_certificates() {
    for index in [REGIONAL, LEAF] {
        let chain = Plan::nitro().with(index, |params| params.not_after = now()).issue();
        let document = Draft::good(&chain).sign(&chain);
        let memory = Memory::default();
        judge(&document, &chain, NOW, &memory).unwrap();
        let end = UnixMillis(NOW.0 / 1000 * 1000);
        assert_eq!(memory.chains.borrow().values().next().unwrap().not_after(), end);
        judge(&document, &chain, UnixMillis(end.0 + 999), &memory).unwrap();
        let place = if index == LEAF { CertificatePlace::Leaf } else { CertificatePlace::Bundle(index) };
        let at = UnixMillis(end.0 + 1000);
        let expired = AttestationError::Expired { place, not_after: end, at };
        assert_eq!(judge(&document, &chain, at, &memory), Err(expired));
    }
}

// V-3
#[test]
fn a_remembered_chain_is_not_valid_before_its_certificates() {
    let chain = Plan::nitro().with(LEAF, |params| params.not_before = now() - Duration::seconds(5)).issue();
    let document = Draft::good(&chain).sign(&chain);
    let memory = Memory::default();
    judge(&document, &chain, NOW, &memory).unwrap();
    let not_before = UnixMillis(NOW.0 / 1000 * 1000 - 5000);
    let at = UnixMillis(not_before.0 - 1);
    let refused = AttestationError::NotYetValid { place: CertificatePlace::Leaf, not_before, at };
    assert_eq!(judge(&document, &chain, at, &memory), Err(refused));
}

// V-3
#[test]
fn a_chain_handed_out_for_another_is_not_taken() {
    let (chain, other) = (Chain::nitro(), Chain::nitro());
    let memory = Memory::default();
    judge(&Draft::good(&chain).sign(&chain), &chain, NOW, &memory).unwrap();
    let liar = Liar(memory.chains.borrow().values().next().unwrap().clone());
    // The document of another chain is judged by its own, and still accepted or refused on its own.
    judge(&Draft::good(&other).sign(&other), &other, NOW, &liar).unwrap();
    let crossed = Draft::good(&other).sign(&chain);
    assert_eq!(judge(&crossed, &other, NOW, &liar), Err(AttestationError::Signature));
    let foreign = Draft::good(&chain).sign(&chain);
    let refused = AttestationError::WrongRoot { found: chain.anchor().sha256() };
    assert_eq!(judge(&foreign, &other, NOW, &liar), Err(refused));
}
