//! What a caller demands: image, debug mode, nonce, freshness (V-6, V-11, V-12, T-2).

use std::collections::BTreeMap;
use std::time::Duration;

use adyton_verifier::attestation::{
    AttestationError, Challenge, Expectations, Pcr, UnixMillis, verify, verify_archived,
};

use crate::common::NOW;
use crate::common::cbor::{bytes, null, unsigned};
use crate::common::chain::Chain;
use crate::common::document::{Draft, pcr, pcrs};

fn expecting(pcrs: impl IntoIterator<Item = (u8, [u8; 48])>) -> Expectations {
    Expectations::pcrs(BTreeMap::from_iter(pcrs)).unwrap()
}

/// The image of a good document.
fn image() -> Expectations {
    expecting([(0, pcr(0)), (1, pcr(1)), (2, pcr(2))])
}

fn judge(draft: &Draft, chain: &Chain, expectations: &Expectations) -> Result<(), AttestationError> {
    verify(&draft.sign(chain), &chain.anchor(), NOW, expectations).map(drop)
}

// V-12
#[test]
fn an_empty_set_of_pcrs_is_an_error_and_not_a_pass() {
    assert_eq!(Expectations::pcrs(BTreeMap::new()).unwrap_err(), AttestationError::NoExpectations);
}

// V-12
#[test]
fn accepts_the_expected_image_and_refuses_another() {
    let chain = Chain::nitro();
    let good = Draft::good(&chain);
    assert_eq!(judge(&good, &chain, &image()), Ok(()));
    for index in 0..16 {
        let mut wrong = pcr(index);
        wrong[47] ^= 1;
        let (expected, found) = (Pcr::from(wrong), Pcr::from(pcr(index)));
        let refused = AttestationError::PcrMismatch { index, expected, found };
        assert_eq!(judge(&good, &chain, &expecting([(index, wrong)])), Err(refused));
    }
}

// V-12
#[test]
fn refuses_an_expected_pcr_that_the_document_does_not_have() {
    let chain = Chain::nitro();
    let good = Draft::good(&chain);
    for index in [16, 31, 32, 255] {
        for value in [[0; 48], pcr(16)] {
            let expectations = expecting([(0, pcr(0)), (index, value)]);
            assert_eq!(judge(&good, &chain, &expectations), Err(AttestationError::PcrAbsent { index }));
        }
    }
}

// V-12: a value that only begins with the expected one.
#[test]
fn refuses_pcrs_of_another_length_than_the_expected_one() {
    let chain = Chain::nitro();
    for length in [32, 64] {
        let value = vec![4; length];
        let entries = [pcrs(0..3), vec![(unsigned(3), bytes(&value))]].concat();
        let draft = Draft::good(&chain).with_pcrs(&entries);
        let refused = judge(&draft, &chain, &expecting([(3, [4; 48])])).unwrap_err();
        assert_eq!(refused.code(), "pcr_mismatch");
    }
}

// V-6
#[test]
fn refuses_debug_mode_on_every_path() {
    let chain = Chain::nitro();
    let zeroed = |indices: &[u8]| {
        let entries: Vec<_> = (0..16)
            .map(|index| {
                let value = if indices.contains(&index) { [0; 48] } else { pcr(index) };
                (unsigned(u64::from(index)), bytes(&value))
            })
            .collect();
        Draft::good(&chain).with_pcrs(&entries)
    };
    let expectations = |indices: &[u8]| {
        [
            Expectations::any_image(),
            expecting(indices.iter().map(|index| (*index, [0; 48]))),
            expecting([(8, pcr(8))]),
        ]
    };
    for indices in [&[0u8][..], &[1], &[2], &[0, 1, 2], &[1, 2]] {
        let document = zeroed(indices).sign(&chain);
        for expectations in expectations(indices) {
            let refused = AttestationError::DebugMode { index: indices[0] };
            let judged = verify(&document, &chain.anchor(), NOW, &expectations);
            assert_eq!(judged, Err(refused.clone()), "{indices:?}");
            assert_eq!(verify_archived(&document, &chain.anchor(), &expectations), Err(refused));
            let allowed = expectations.danger_allow_debug();
            assert!(verify(&document, &chain.anchor(), NOW, &allowed).is_ok(), "{indices:?}");
        }
    }
    // Other PCRs are zero in every document that does not use them.
    assert_eq!(judge(&zeroed(&[3, 5, 15]), &chain, &Expectations::any_image()), Ok(()));
}

// V-6: allowing debug mode does not allow another image.
#[test]
fn debug_mode_is_still_held_to_the_expected_pcrs() {
    let chain = Chain::nitro();
    let zero: Vec<_> = (0..3).map(|index| (unsigned(index), bytes(&[0; 48]))).collect();
    let draft = Draft::good(&chain).with_pcrs(&zero);
    let refused = judge(&draft, &chain, &image().danger_allow_debug()).unwrap_err();
    assert_eq!(refused.code(), "pcr_mismatch");
}

// V-6, V-12: what is not there cannot show that debug mode is off.
#[test]
fn refuses_a_document_without_the_pcrs_of_its_image() {
    let chain = Chain::nitro();
    for index in 0..3 {
        let draft = Draft::good(&chain).with_pcrs(&pcrs((0..16).filter(|other| *other != index)));
        let refused = AttestationError::PcrAbsent { index };
        assert_eq!(judge(&draft, &chain, &Expectations::any_image()), Err(refused));
    }
}

// V-11
#[test]
fn demands_exactly_the_expected_nonce() {
    let chain = Chain::nitro();
    let expectations = image().nonce(&[7; 32]).unwrap();
    let judged = |nonce: Vec<u8>| judge(&Draft::good(&chain).set("nonce", nonce), &chain, &expectations);
    assert_eq!(judged(bytes(&[7; 32])), Ok(()));
    for other in [vec![], vec![7; 31], vec![7; 33], vec![8; 32], [vec![7; 31], vec![6]].concat()] {
        assert_eq!(judged(bytes(&other)), Err(AttestationError::NonceMismatch), "{other:?}");
    }
    assert_eq!(judged(null()), Err(AttestationError::NonceAbsent));
    let left_out = Draft::good(&chain).without("nonce");
    assert_eq!(judge(&left_out, &chain, &expectations), Err(AttestationError::NonceAbsent));
    // A nonce elsewhere does not count.
    let elsewhere = left_out.set("user_data", bytes(&[7; 32]));
    assert_eq!(judge(&elsewhere, &chain, &expectations), Err(AttestationError::NonceAbsent));
}

// T-2
#[test]
fn takes_nonces_of_16_to_512_bytes_only() {
    let chain = Chain::nitro();
    for length in [16, 32, 512] {
        let nonce = vec![5; length];
        let draft = Draft::good(&chain).set("nonce", bytes(&nonce));
        assert_eq!(judge(&draft, &chain, &image().nonce(&nonce).unwrap()), Ok(()));
    }
    for length in [0, 1, 15, 513] {
        let refused = image().nonce(&vec![5; length]).unwrap_err();
        assert_eq!(refused, AttestationError::NonceLength { bytes: length });
    }
}

// T-2: that a second use does not compile is a test in the documentation of `Challenge`.
#[test]
fn a_challenge_is_answered_by_its_own_nonce_alone() {
    let chain = Chain::nitro();
    let answer = |nonce: &[u8]| Draft::good(&chain).set("nonce", bytes(nonce)).sign(&chain);
    let challenge = Challenge::from_random([9; 32]);
    let document = answer(challenge.nonce());
    assert!(challenge.verify(&document, &chain.anchor(), NOW, image()).is_ok());
    let replayed = Challenge::from_random([10; 32]).verify(&document, &chain.anchor(), NOW, image());
    assert_eq!(replayed, Err(AttestationError::NonceMismatch));
    // It does not matter what nonce the expectations had.
    let expectations = image().nonce(&[9; 32]).unwrap();
    let replayed = Challenge::from_random([10; 32]).verify(&document, &chain.anchor(), NOW, expectations);
    assert_eq!(replayed, Err(AttestationError::NonceMismatch));
}

// V-11
#[test]
fn the_window_of_freshness_has_both_edges_inside() {
    let chain = Chain::nitro();
    let (max_age, skew) = (Duration::from_mins(5), Duration::from_secs(30));
    let document = Draft::good(&chain).sign(&chain);
    let fresh = image().fresh(max_age, skew);
    let at = |millis: i64| {
        let at = UnixMillis(NOW.0.checked_add_signed(millis).unwrap());
        (at, verify(&document, &chain.anchor(), at, &fresh).map(drop))
    };
    for inside in [-30_000, -1, 0, 1, 300_000, 330_000] {
        assert_eq!(at(inside).1, Ok(()), "{inside} ms");
    }
    for before in [-30_001, -60_000, -3_000_000] {
        let (at, judged) = at(before);
        assert_eq!(judged, Err(AttestationError::FromTheFuture { timestamp: NOW, at }), "{before} ms");
    }
    for after in [330_001, 3_600_000] {
        let (at, judged) = at(after);
        assert_eq!(judged, Err(AttestationError::Stale { timestamp: NOW, at }), "{after} ms");
    }
}

// V-11: freshness is the nonce *and* the time.
#[test]
fn neither_nonce_nor_time_makes_up_for_the_other() {
    let chain = Chain::nitro();
    let document = Draft::good(&chain).sign(&chain);
    let fresh = |nonce: &[u8]| image().nonce(nonce).unwrap().fresh(Duration::from_mins(5), Duration::ZERO);
    let later = UnixMillis(NOW.0 + 600_000);
    let right_nonce = verify(&document, &chain.anchor(), later, &fresh(&[7; 32]));
    assert_eq!(right_nonce.unwrap_err().code(), "stale");
    let right_time = verify(&document, &chain.anchor(), NOW, &fresh(&[8; 32]));
    assert_eq!(right_time.unwrap_err().code(), "nonce_mismatch");
}

// V-11
#[test]
fn a_replayed_document_verifies_after_its_leaf_only_in_the_archive() {
    let chain = Chain::nitro();
    let document = Draft::good(&chain).sign(&chain);
    let next_day = UnixMillis(NOW.0 + 86_400_000);
    let live = verify(&document, &chain.anchor(), next_day, &image());
    assert_eq!(live.unwrap_err().code(), "expired");
    assert_eq!(verify_archived(&document, &chain.anchor(), &image()).unwrap().timestamp, NOW);
}

// V-11: a document cannot choose a time at which its chain was not valid.
#[test]
fn the_archive_judges_the_chain_at_the_documents_time() {
    let chain = Chain::nitro();
    let day = 86_400_000;
    for (timestamp, code) in [
        (NOW.0 - day, "not_yet_valid"),
        (NOW.0 + day, "expired"),
        (0, "not_yet_valid"),
        (u64::MAX, "expired"),
    ] {
        let document = Draft::good(&chain).set("timestamp", unsigned(timestamp)).sign(&chain);
        let refused = verify_archived(&document, &chain.anchor(), &image());
        assert_eq!(refused.unwrap_err().code(), code, "{timestamp}");
    }
}

#[test]
fn no_time_overflows() {
    let chain = Chain::nitro();
    let document = Draft::good(&chain).sign(&chain);
    let widest = image().fresh(Duration::MAX, Duration::MAX);
    assert!(verify(&document, &chain.anchor(), NOW, &widest).is_ok());
    for (at, code) in [(0, "not_yet_valid"), (u64::MAX, "expired")] {
        let refused = verify(&document, &chain.anchor(), UnixMillis(at), &widest);
        assert_eq!(refused.unwrap_err().code(), code);
    }
}
