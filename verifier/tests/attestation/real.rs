//! Documents that AWS signed: genuine at their own time, refused today, and refused after any change.

use std::collections::BTreeMap;
use std::time::Duration;

use adyton_verifier::attestation::{
    AttestationError, CborError, CborProblem, CertificatePlace, Expectations, Part, TrustAnchor, UnixMillis,
    parse_unverified, verify, verify_archived,
};

use crate::common::{GENUINE, vector};

/// A day on which all of them have expired: 2026-02-01T00:00:00Z.
const LATER: UnixMillis = UnixMillis(1_769_904_000_000);

const DEBUG: &str = "2022-10-12-us-east-1-evervault-debug";

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

/// Every document judged at its own time, byte for byte and bit for bit.
fn verifies(document: &[u8], at: UnixMillis) -> bool {
    verify(document, &aws(), at, &Expectations::any_image()).is_ok()
}

// V-2
#[test]
fn refuses_every_truncation() {
    for name in GENUINE {
        let bytes = vector(name);
        let at = parse_unverified(&bytes).unwrap().timestamp;
        for length in 0..bytes.len() {
            assert!(!verifies(&bytes[..length], at), "{name} cut to {length} bytes");
        }
    }
}

// V-2
#[test]
fn refuses_bytes_after_the_document() {
    for name in GENUINE {
        let mut bytes = vector(name);
        bytes.push(0xf6);
        let refused = verify_archived(&bytes, &aws(), &Expectations::any_image()).unwrap_err();
        assert!(
            matches!(
                refused,
                AttestationError::Malformed {
                    part: Part::Envelope,
                    error: CborError { problem: CborProblem::Trailing, offset },
                } if offset == bytes.len() - 1
            ),
            "{name}: {refused:?}"
        );
    }
}

// V-2: one bit of every byte of a document of either form, and every bit of the envelope.
#[test]
fn refuses_every_flipped_bit() {
    for name in ["2025-04-15-us-east-1-nautilus", "2026-01-03-us-east-1-base"] {
        let good = vector(name);
        let at = parse_unverified(&good).unwrap().timestamp;
        assert!(verifies(&good, at));
        let signature = good.len() - 98;
        for position in 0..good.len() {
            let envelope = position < 16 || position >= signature;
            for bit in (0..8).filter(|bit| envelope || *bit == position % 8) {
                let mut bytes = good.clone();
                bytes[position] ^= 1 << bit;
                assert!(!verifies(&bytes, at), "{name}: byte {position}, bit {bit}");
            }
        }
    }
}

// V-2
#[test]
fn a_spliced_payload_is_refused() {
    // The payload of one document with the envelope and signature of another one of the same length.
    let (one, other) = (vector("2022-11-09-eu-west-1-veracruz"), vector("2025-04-15-us-east-1-nautilus"));
    let mut spliced = one[..8].to_vec();
    spliced[6..8].copy_from_slice(&other[6..8]);
    spliced.extend_from_slice(&other[8..other.len() - 98]);
    spliced.extend_from_slice(&one[one.len() - 98..]);
    let refused = verify_archived(&spliced, &aws(), &Expectations::any_image());
    assert_eq!(refused, Err(AttestationError::Signature));
}

// V-1: RFC 9052 allows the tag, the device leaves it out.
#[test]
fn accepts_the_tag_of_cose_sign1_and_no_other() {
    let bytes = vector("2026-01-03-us-east-1-base");
    let tagged =
        |tag: &[u8]| verify_archived(&[tag, &bytes].concat(), &aws(), &Expectations::any_image()).map(drop);
    assert_eq!(tagged(&[0xd2]), Ok(()));
    for tag in [&[0xd1][..], &[0xd2, 0xd2], &[0xd8, 18], &[0xd8, 98], &[0xd9, 0xd9, 0xf7]] {
        assert_eq!(tagged(tag).unwrap_err().code(), "malformed", "{tag:02x?}");
    }
}

#[test]
fn describes_a_document_in_json() {
    let document =
        verify_archived(&vector("2026-01-03-us-east-1-base"), &aws(), &Expectations::any_image()).unwrap();
    let json = serde_json::to_value(&document).unwrap();
    assert_eq!(json["module_id"], "i-0368fa67e156d6d23-enc019b8596b1a9dad6");
    assert_eq!(json["timestamp"], "2026-01-03T20:41:07.402Z");
    assert_eq!(json["leaf_not_after"], "2026-01-03T23:40:28Z");
    assert_eq!(json["digest"], "SHA384");
    assert!(json["pcrs"]["0"].as_str().unwrap().starts_with("4b8d4cf2a99e05ce"));
    assert_eq!(json["pcrs"].as_object().unwrap().len(), 16);
    assert_eq!(json["user_data"].as_str().unwrap().len(), 40);
    assert_eq!(json["nonce"], serde_json::Value::Null);
    assert_eq!(json["cabundle"].as_array().unwrap().len(), 4);
}
