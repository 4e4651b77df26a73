//! Mutations of a good document, field by field (V-4, V-12).

use adyton_verifier::attestation::{AttestationError, Document, Expectations, Verified, verify};

use crate::common::NOW;
use crate::common::cbor::{array, bytes, map, null, text, unsigned};
use crate::common::chain::Chain;
use crate::common::document::{Draft, pcr, pcrs};

fn judge(chain: &Chain, draft: &Draft) -> Result<Verified<Document>, AttestationError> {
    verify(&draft.sign(chain), &chain.anchor(), NOW, &Expectations::any_image())
}

const MANDATORY: [&str; 6] = ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"];
const OPTIONAL: [&str; 3] = ["public_key", "user_data", "nonce"];

// V-4
#[test]
fn refuses_a_document_without_a_mandatory_field() {
    let chain = Chain::nitro();
    for field in MANDATORY {
        for open in [false, true] {
            let draft = Draft { open, ..Draft::good(&chain) }.without(field);
            assert_eq!(judge(&chain, &draft), Err(AttestationError::FieldMissing { field }));
        }
    }
    let empty = Draft { fields: vec![], ..Draft::good(&chain) };
    assert_eq!(judge(&chain, &empty), Err(AttestationError::FieldMissing { field: "certificate" }));
}

// V-4, V-12
#[test]
fn refuses_null_in_a_mandatory_field() {
    let chain = Chain::nitro();
    for field in MANDATORY {
        let draft = Draft::good(&chain).set(field, null());
        assert_eq!(judge(&chain, &draft), Err(AttestationError::FieldNull { field }));
    }
}

// V-4: real documents say null; AWS's grammar says that the key may be missing.
#[test]
fn accepts_optional_fields_that_are_null_or_left_out() {
    let chain = Chain::nitro();
    for field in OPTIONAL {
        for open in [false, true] {
            let good = Draft { open, ..Draft::good(&chain) };
            assert!(judge(&chain, &good.clone().set(field, null())).is_ok(), "{field} null");
            assert!(judge(&chain, &good.without(field)).is_ok(), "{field} left out");
        }
    }
    let none = OPTIONAL.into_iter().fold(Draft::good(&chain), Draft::without);
    let document = judge(&chain, &none).unwrap();
    assert_eq!((&document.public_key, &document.user_data, &document.nonce), (&None, &None, &None));
}

// V-4
#[test]
fn holds_every_field_to_its_length() {
    let chain = Chain::nitro();
    let limits = [
        ("module_id", 1, 256),
        ("public_key", 1, 1024),
        ("user_data", 0, 512),
        ("nonce", 0, 512),
        ("certificate", 1, 1024),
    ];
    let value = |field: &str, length: usize| match field {
        "module_id" => text(&"i".repeat(length)),
        _ => bytes(&vec![0x5a; length]),
    };
    for (field, least, most) in limits {
        let judged = |length| judge(&chain, &Draft::good(&chain).set(field, value(field, length)));
        if field != "certificate" {
            assert!(judged(least).is_ok(), "{field} of {least}");
            assert!(judged(most).is_ok(), "{field} of {most}");
        }
        let outside = [least.checked_sub(1), Some(most + 1)];
        for length in outside.into_iter().flatten() {
            let refused = AttestationError::FieldLength { field, length, least, most };
            assert_eq!(judged(length), Err(refused));
        }
    }
}

// V-4
#[test]
fn holds_the_bundle_to_its_length() {
    let chain = Chain::nitro();
    let bundle = |certificates: &[Vec<u8>]| judge(&chain, &Draft::good(&chain).with_bundle(certificates));
    let refused =
        |length, least, most| Err(AttestationError::FieldLength { field: "cabundle", length, least, most });
    assert_eq!(bundle(&[]), refused(0, 1, 32));
    assert_eq!(bundle(&vec![vec![1]; 33]), refused(33, 1, 32));
    assert_eq!(bundle(&[chain.bundle()[0].clone(), vec![]]), refused(0, 1, 1024));
    assert_eq!(bundle(&[chain.bundle()[0].clone(), vec![0x30; 1025]]), refused(1025, 1, 1024));
}

// V-4
#[test]
fn refuses_other_digests() {
    let chain = Chain::nitro();
    for digest in ["", "SHA256", "SHA512", "SHA-384", "sha384", "SHA384 "] {
        let draft = Draft::good(&chain).set("digest", text(digest));
        assert_eq!(judge(&chain, &draft), Err(AttestationError::Digest), "{digest:?}");
    }
}

// V-4
#[test]
fn accepts_one_to_thirty_two_pcrs_and_no_other_number() {
    let chain = Chain::nitro();
    let judged = |entries: &[(Vec<u8>, Vec<u8>)]| judge(&chain, &Draft::good(&chain).with_pcrs(entries));
    for count in [3, 16, 32] {
        assert_eq!(judged(&pcrs(0..count)).unwrap().pcrs.len(), usize::from(count));
    }
    let refused = |length| Err(AttestationError::FieldLength { field: "pcrs", length, least: 1, most: 32 });
    assert_eq!(judged(&[]), refused(0));
    assert_eq!(judged(&pcrs(0..33)), refused(33));
    // A count that no machine could hold is refused before anything is made for it.
    let endless = [vec![0xbb], vec![0xff; 8]].concat();
    assert_eq!(judge(&chain, &Draft::good(&chain).set("pcrs", endless)), refused(usize::MAX));
}

// V-2, V-4
#[test]
fn refuses_pcr_indices_that_no_device_has() {
    let chain = Chain::nitro();
    for index in [32, 33, 255, 256, 257, 65_536, 1 << 32, u64::MAX] {
        let entries = [pcrs(0..3), vec![(unsigned(index), bytes(&pcr(0)))]].concat();
        let draft = Draft::good(&chain).with_pcrs(&entries);
        assert_eq!(judge(&chain, &draft), Err(AttestationError::PcrIndex { index }));
    }
}

// V-4
#[test]
fn holds_pcr_values_to_the_lengths_of_digests() {
    let chain = Chain::nitro();
    let judged = |length: usize| {
        let entries = [pcrs(0..3), vec![(unsigned(3), bytes(&vec![1; length]))]].concat();
        judge(&chain, &Draft::good(&chain).with_pcrs(&entries))
    };
    for length in [32, 48, 64] {
        assert_eq!(judged(length).unwrap().pcrs[&3].as_bytes().len(), length);
    }
    for length in [0, 1, 20, 31, 33, 47, 49, 63, 65, 128] {
        assert_eq!(judged(length), Err(AttestationError::PcrLength { index: 3, bytes: length }));
    }
}

// V-4, V-12
#[test]
fn refuses_null_inside_pcrs_and_bundle() {
    let chain = Chain::nitro();
    let in_pcrs = Draft::good(&chain).set("pcrs", map(&[(unsigned(0), null())]));
    assert_eq!(judge(&chain, &in_pcrs).unwrap_err().code(), "malformed");
    let in_bundle = Draft::good(&chain).set("cabundle", array(&[bytes(&chain.bundle()[0]), null()]));
    assert_eq!(judge(&chain, &in_bundle).unwrap_err().code(), "malformed");
}

#[test]
fn a_refusal_has_a_stable_code_and_a_sentence_for_people() {
    let codes = AttestationError::CODES;
    for (place, code) in codes.iter().enumerate() {
        assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        assert!(!codes[..place].contains(code), "{code} twice");
    }
    let refused = AttestationError::FieldLength { field: "nonce", length: 513, least: 0, most: 512 };
    assert_eq!(refused.code(), "field_length");
    assert_eq!(
        refused.to_string(),
        "the field nonce has a length of 513, allowed are 0 to 512; do not trust the sender"
    );
}
