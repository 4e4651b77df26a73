//! Documents that AWS signed: genuine at their own time, refused today, and refused after any change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use adyton_verifier::attestation::{
    AttestationError, CertificatePlace, Expectations, TrustAnchor, UnixMillis, parse_unverified, verify,
    verify_archived,
};

/// A day on which all of them have expired: 2026-02-01T00:00:00Z.
const LATER: UnixMillis = UnixMillis(1_769_904_000_000);

const GENUINE: [&str; 8] = [
    "2021-03-24-us-east-2-anjuna-publickey",
    "2022-08-04-us-east-2-nitriding",
    "2022-10-13-us-east-1-evervault",
    "2022-11-09-eu-west-1-veracruz",
    "2023-09-28-ap-southeast-1-sparsity",
    "2024-12-13-ap-south-1-oyster",
    "2025-04-15-us-east-1-nautilus",
    "2026-01-03-us-east-1-base",
];
const DEBUG: &str = "2022-10-12-us-east-1-evervault-debug";

fn vector(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/attestation")
        .join(format!("{name}.cbor"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn aws() -> TrustAnchor {
    TrustAnchor::aws().unwrap()
}

/// The PCRs 0 to 4 that a document claims.
fn claimed_pcrs(document: &[u8]) -> BTreeMap<u8, [u8; 48]> {
    let claimed = parse_unverified(document).unwrap();
    (0..=4).map(|index| (index, claimed.pcrs[&index].as_bytes().try_into().unwrap())).collect()
}

// V-1, V-2, V-3, V-4
#[test]
fn accepts_every_genuine_document_at_its_own_time() {
    for name in GENUINE {
        let bytes = vector(name);
        let at = parse_unverified(&bytes).unwrap().timestamp;
        let expectations = Expectations::pcrs(claimed_pcrs(&bytes)).unwrap();
        let document =
            verify(&bytes, &aws(), at, &expectations).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(document.timestamp, at);
        assert_eq!(verify_archived(&bytes, &aws(), &expectations).as_ref(), Ok(&document));
    }
}

// V-3
#[test]
fn refuses_every_genuine_document_once_its_leaf_has_expired() {
    for name in GENUINE.into_iter().chain([DEBUG]) {
        let error = verify(&vector(name), &aws(), LATER, &Expectations::any_image()).unwrap_err();
        assert!(
            matches!(error, AttestationError::Expired { place: CertificatePlace::Leaf, at: LATER, .. }),
            "{name}: {error:?}"
        );
        assert_eq!(error.code(), "expired");
    }
}

// V-3
#[test]
fn validity_ends_with_the_second_of_not_after_and_begins_with_the_millisecond_of_not_before() {
    let bytes = vector("2026-01-03-us-east-1-base");
    let leaf_not_after = parse_unverified(&bytes).unwrap().leaf_not_after;
    let at = |millis| verify(&bytes, &aws(), UnixMillis(millis), &Expectations::any_image()).map(drop);
    assert_eq!(leaf_not_after.to_string(), "2026-01-03T23:40:28Z");
    assert_eq!(at(leaf_not_after.0 + 999), Ok(()));
    assert_eq!(at(leaf_not_after.0 + 1000).unwrap_err().code(), "expired");
    let not_before = leaf_not_after.0 - (3 * 60 * 60 + 3) * 1000;
    assert_eq!(at(not_before), Ok(()));
    assert_eq!(at(not_before - 1).unwrap_err().code(), "not_yet_valid");
}

// V-6
#[test]
fn refuses_debug_mode_unless_it_is_allowed() {
    let bytes = vector(DEBUG);
    let zero = || Expectations::pcrs(claimed_pcrs(&bytes)).unwrap();
    for expectations in [Expectations::any_image(), zero()] {
        let refused = verify_archived(&bytes, &aws(), &expectations);
        assert_eq!(refused, Err(AttestationError::DebugMode { index: 0 }));
        let allowed = verify_archived(&bytes, &aws(), &expectations.danger_allow_debug()).unwrap();
        assert_eq!(allowed.debug_pcr(), Some(0));
    }
}

// V-2
#[test]
fn refuses_a_document_with_a_forged_signature() {
    let bytes = vector("invalid-2022-11-09-eu-west-1-veracruz-bad-signature");
    assert_eq!(verify_archived(&bytes, &aws(), &Expectations::any_image()), Err(AttestationError::Signature));
}

// V-3
#[test]
fn refuses_a_document_of_a_self_made_root() {
    let bytes = vector("invalid-2024-12-13-oyster-custom-root");
    let error = verify_archived(&bytes, &aws(), &Expectations::any_image()).unwrap_err();
    assert_eq!(error.code(), "wrong_root");
}

// V-11
#[test]
fn an_archived_document_cannot_be_asked_to_be_fresh() {
    let fresh = Expectations::any_image().fresh(Duration::from_mins(1), Duration::from_secs(5));
    let refused = verify_archived(&vector(GENUINE[0]), &aws(), &fresh);
    assert_eq!(refused, Err(AttestationError::ArchiveIsNotFresh));
}
