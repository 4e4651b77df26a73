//! The envelope and the encoding of the payload (V-1, V-2).

use adyton_verifier::attestation::{
    AttestationError, CborError, CborProblem, Document, Expectations, Part, Verified, verify,
};

use crate::common::NOW;
use crate::common::cbor::{array, bytes, head, map, negative, null, open_map, text, unsigned, wide_head};
use crate::common::chain::Chain;
use crate::common::document::{Draft, ES384, pcr, pcrs};

fn judge(chain: &Chain, document: &[u8]) -> Result<Verified<Document>, AttestationError> {
    verify(document, &chain.anchor(), NOW, &Expectations::any_image())
}

/// The problem of a draft whose payload is malformed.
fn problem(chain: &Chain, draft: &Draft) -> CborProblem {
    match judge(chain, &draft.sign(chain)) {
        Err(AttestationError::Malformed { part: Part::Payload, error: CborError { problem, .. } }) => problem,
        other => panic!("{other:?}"),
    }
}

// V-1, V-2
#[test]
fn accepts_a_good_document_with_and_without_tag_and_in_both_map_forms() {
    let chain = Chain::nitro();
    for (open, prefix) in [(false, vec![]), (false, vec![0xd2]), (true, vec![]), (true, vec![0xd2])] {
        let draft = Draft { open, prefix, ..Draft::good(&chain) };
        let document = judge(&chain, &draft.sign(&chain)).unwrap();
        assert_eq!(document.pcrs[&3].as_bytes(), pcr(3));
        assert_eq!(document.public_key.as_deref(), Some(&b"key"[..]));
        assert_eq!(document.user_data, None);
    }
}

// V-1: the algorithm is ours, never the sender's.
#[test]
fn refuses_every_other_protected_header() {
    let chain = Chain::nitro();
    let algorithm = (unsigned(1), negative(34)); // -35, ES384
    let headers = [
        ("ES256", map(&[(unsigned(1), negative(6))])),
        ("ES512", map(&[(unsigned(1), negative(35))])),
        ("EdDSA", map(&[(unsigned(1), negative(7))])),
        ("HS384", map(&[(unsigned(1), unsigned(6))])),
        ("a name", map(&[(unsigned(1), text("ES384"))])),
        ("null", map(&[(unsigned(1), null())])),
        ("no algorithm", map(&[])),
        ("nothing", vec![]),
        ("a content type", map(&[algorithm.clone(), (unsigned(3), unsigned(0))])),
        ("a critical header", map(&[algorithm.clone(), (unsigned(2), array(&[unsigned(1)]))])),
        ("a key id", map(&[algorithm.clone(), (unsigned(4), bytes(b"key"))])),
        ("the algorithm twice", map(&[algorithm.clone(), algorithm.clone()])),
        ("an open map", open_map(&[algorithm])),
        ("a wide integer", [&[0xa1, 0x01], wide_head(1, 34, 2).as_slice()].concat()),
        ("a trailing byte", [ES384, &[0]].concat()),
    ];
    for (name, header) in headers {
        let draft = Draft { protected: bytes(&header), ..Draft::good(&chain) };
        assert_eq!(judge(&chain, &draft.sign(&chain)), Err(AttestationError::ProtectedHeader), "{name}");
    }
}

// V-1
#[test]
fn refuses_an_algorithm_outside_the_protected_header() {
    let chain = Chain::nitro();
    let algorithm = map(&[(unsigned(1), negative(34))]);
    let unprotected = Draft { unprotected: algorithm.clone(), ..Draft::good(&chain) };
    assert_eq!(judge(&chain, &unprotected.sign(&chain)), Err(AttestationError::UnprotectedHeader));
    let moved = Draft { protected: bytes(b""), unprotected: algorithm, ..Draft::good(&chain) };
    assert_eq!(judge(&chain, &moved.sign(&chain)), Err(AttestationError::ProtectedHeader));
}

// V-1
#[test]
fn refuses_anything_in_the_unprotected_header() {
    let chain = Chain::nitro();
    for header in [map(&[(unsigned(4), bytes(b"key"))]), map(&[(text("note"), text("hello"))])] {
        let draft = Draft { unprotected: header, ..Draft::good(&chain) };
        assert_eq!(judge(&chain, &draft.sign(&chain)), Err(AttestationError::UnprotectedHeader));
    }
    for header in [open_map(&[]), null(), array(&[]), bytes(b""), wide_head(5, 0, 1)] {
        let draft = Draft { unprotected: header.clone(), ..Draft::good(&chain) };
        let refused = judge(&chain, &draft.sign(&chain)).unwrap_err();
        assert_eq!(refused.code(), "malformed", "{header:02x?}");
    }
}

// V-1: the signature covers the header that was received, not a constant that happens to equal it.
#[test]
fn refuses_a_signature_over_another_protected_header() {
    let chain = Chain::nitro();
    let draft = Draft { signed_protected: Some(bytes(&[0xa1, 0x01, 0x26])), ..Draft::good(&chain) };
    assert_eq!(judge(&chain, &draft.sign(&chain)), Err(AttestationError::Signature));
}

// V-1
#[test]
fn refuses_another_number_of_parts_and_another_signature_length() {
    let chain = Chain::nitro();
    let draft = Draft::good(&chain);
    let part = |signature: usize| {
        [
            draft.protected.clone(),
            draft.unprotected.clone(),
            bytes(&draft.payload()),
            bytes(&vec![1; signature]),
        ]
    };
    for length in [0, 64, 95, 97, 132] {
        let document = array(&part(length));
        assert_eq!(judge(&chain, &document), Err(AttestationError::SignatureLength { bytes: length }));
    }
    assert_eq!(judge(&chain, &array(&part(96)[..3])), Err(AttestationError::NotSign1));
    assert_eq!(judge(&chain, &array(&[&part(96)[..], &[null()]].concat())), Err(AttestationError::NotSign1));
}

// V-2: a detached payload, which COSE allows, is no document.
#[test]
fn refuses_a_detached_payload() {
    let chain = Chain::nitro();
    let draft = Draft::good(&chain);
    let document = array(&[draft.protected, draft.unprotected, null(), bytes(&[1; 96])]);
    assert_eq!(judge(&chain, &document).unwrap_err().code(), "malformed");
}

// V-1
#[test]
fn refuses_what_is_longer_than_a_device_answers() {
    let chain = Chain::nitro();
    let at_limit = [vec![0x84], vec![0; 16 * 1024 - 1]].concat();
    assert_eq!(judge(&chain, &at_limit).unwrap_err().code(), "malformed");
    let over = [at_limit, vec![0]].concat();
    assert_eq!(judge(&chain, &over), Err(AttestationError::Oversize { bytes: 16 * 1024 + 1 }));
    let suffix = vec![0; 16 * 1024];
    let padded = Draft { suffix, ..Draft::good(&chain) }.sign(&chain);
    assert_eq!(judge(&chain, &padded), Err(AttestationError::Oversize { bytes: padded.len() }));
}

// V-2
#[test]
fn refuses_bytes_after_the_document_and_after_the_payload() {
    let chain = Chain::nitro();
    let good = Draft::good(&chain);
    for suffix in [vec![0], vec![0xf6], vec![0xff], good.sign(&chain)] {
        let refused = judge(&chain, &Draft { suffix, ..good.clone() }.sign(&chain)).unwrap_err();
        let AttestationError::Malformed { part: Part::Envelope, error } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(error.problem, CborProblem::Trailing);
    }
    for (open, suffix) in [(false, 0xff), (true, 0xff), (false, 0xf6), (true, 0x00)] {
        let mut payload = Draft { open, ..good.clone() }.payload();
        payload.push(suffix);
        let refused = judge(&chain, &good.sign_payload(&chain, &payload)).unwrap_err();
        let AttestationError::Malformed { part: Part::Payload, error } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(error, CborError { problem: CborProblem::Trailing, offset: payload.len() - 1 });
    }
}

// V-2
#[test]
fn refuses_duplicate_keys() {
    let chain = Chain::nitro();
    let good = Draft::good(&chain);
    for (key, value) in good.fields.clone() {
        for open in [false, true] {
            let draft = Draft { open, ..good.clone() }.and(key.clone(), value.clone());
            assert_eq!(problem(&chain, &draft), CborProblem::DuplicateKey);
        }
    }
    // The second one may differ, and a parser that keeps the last one would take it.
    let other_pcrs = map(&[(unsigned(0), bytes(&[9; 48]))]);
    assert_eq!(problem(&chain, &good.clone().and(text("pcrs"), other_pcrs)), CborProblem::DuplicateKey);
    let twice = [pcrs(0..16), pcrs([0])].concat();
    assert_eq!(problem(&chain, &good.clone().with_pcrs(&twice)), CborProblem::DuplicateKey);
    let nulls = good.and(text("nonce"), null());
    assert_eq!(problem(&chain, &nulls), CborProblem::DuplicateKey);
}

// V-2
#[test]
fn refuses_unknown_keys_and_keys_that_are_no_text() {
    let chain = Chain::nitro();
    for key in ["", "extra", "PCRS", "pcrs ", "modul", "module_id\0"] {
        let draft = Draft::good(&chain).and(text(key), unsigned(0));
        assert_eq!(problem(&chain, &draft), CborProblem::UnknownKey, "{key:?}");
    }
    for key in [unsigned(0), bytes(b"pcrs"), null(), negative(0)] {
        let draft = Draft::good(&chain).and(key, unsigned(0));
        assert_eq!(problem(&chain, &draft), CborProblem::WrongType("a text"));
    }
    let not_utf8 = Draft::good(&chain).and(vec![0x61, 0xff], unsigned(0));
    assert_eq!(problem(&chain, &not_utf8), CborProblem::NotUtf8);
}

// V-2
#[test]
fn refuses_wrong_types_in_every_field() {
    let chain = Chain::nitro();
    let values = [
        unsigned(1),
        negative(1),
        bytes(b"bytes"),
        text("text"),
        array(&[]),
        map(&[]),
        [vec![0xc1], unsigned(1)].concat(), // a tag
        vec![0xf4],                         // false
        vec![0xf7],                         // undefined
        vec![0xf9, 0x3c, 0x00],             // 1.0
        vec![0xff],                         // a break
    ];
    let fields = [
        ("module_id", 3),
        ("digest", 3),
        ("timestamp", 0),
        ("pcrs", 5),
        ("certificate", 2),
        ("cabundle", 4),
        ("public_key", 2),
        ("user_data", 2),
        ("nonce", 2),
    ];
    for (field, major) in fields {
        for value in values.iter().filter(|value| value[0] >> 5 != major) {
            for open in [false, true] {
                let draft = Draft { open, ..Draft::good(&chain) }.set(field, value.clone());
                let found = problem(&chain, &draft);
                assert!(matches!(found, CborProblem::WrongType(_)), "{field} = {value:02x?}: {found:?}");
            }
        }
    }
}

// V-2
#[test]
fn refuses_wrong_types_inside_pcrs_and_bundle() {
    let chain = Chain::nitro();
    let pcr_map = |key: Vec<u8>, value: Vec<u8>| Draft::good(&chain).with_pcrs(&[(key, value)]);
    let value = || bytes(&pcr(0));
    for key in [text("0"), bytes(&[0]), null(), negative(0), negative(255)] {
        let wrong = CborProblem::WrongType("an unsigned integer");
        assert_eq!(problem(&chain, &pcr_map(key, value())), wrong);
    }
    for value in [text(&"0".repeat(48)), null(), unsigned(0), array(&[])] {
        assert_eq!(problem(&chain, &pcr_map(unsigned(0), value)), CborProblem::WrongType("a byte string"));
    }
    let bundle = Draft::good(&chain).set("cabundle", array(&[text("certificate")]));
    assert_eq!(problem(&chain, &bundle), CborProblem::WrongType("a byte string"));
}

// V-2
#[test]
fn refuses_every_integer_and_length_that_is_not_in_its_shortest_form() {
    let chain = Chain::nitro();
    let good = Draft::good(&chain);
    let refused = |draft: &Draft| assert_eq!(problem(&chain, draft), CborProblem::NotCanonical);

    for width in [1, 2, 4, 8] {
        let index = |entry: Vec<u8>| [vec![0xa1], entry, bytes(&pcr(0))].concat();
        refused(&good.clone().set("pcrs", index(wide_head(0, 0, width))));
        refused(&good.clone().set("pcrs", index(wide_head(0, 23, width))));
        refused(&good.clone().set("timestamp", wide_head(0, 1, width)));
        refused(&good.clone().set("cabundle", [wide_head(4, 1, width), bytes(b"root")].concat()));
        refused(&good.clone().set("digest", [wide_head(3, 6, width), b"SHA384".to_vec()].concat()));
        let pcrs_of_one = [wide_head(5, 1, width), unsigned(0), bytes(&pcr(0))].concat();
        refused(&good.clone().set("pcrs", pcrs_of_one));
        refused(&good.clone().set("nonce", [wide_head(2, 16, width), vec![7; 16]].concat()));
    }
    for width in [2, 4, 8] {
        let value = [wide_head(2, 48, width), pcr(0).to_vec()].concat();
        refused(&good.clone().set("pcrs", map(&[(unsigned(0), value)])));
    }
    let mut key = wide_head(3, 9, 1);
    key.extend_from_slice(b"module_id");
    let mut draft = good.clone().without("module_id");
    draft.fields.insert(0, (key, text("i-0")));
    refused(&draft);

    // The payload's own head and that of the envelope.
    let entries = good.payload().split_off(1);
    let wide = [wide_head(5, 9, 1), entries].concat();
    let refusal = judge(&chain, &good.sign_payload(&chain, &wide)).unwrap_err();
    let AttestationError::Malformed { part: Part::Payload, error } = refusal else { panic!("{refusal:?}") };
    assert_eq!(error, CborError { problem: CborProblem::NotCanonical, offset: 0 });
    let document = [wide_head(4, 4, 1), good.sign(&chain).split_off(1)].concat();
    let refusal = judge(&chain, &document).unwrap_err();
    let AttestationError::Malformed { part: Part::Envelope, error } = refusal else { panic!("{refusal:?}") };
    assert_eq!(error, CborError { problem: CborProblem::NotCanonical, offset: 0 });
}

// V-2: only the outermost map may be of indefinite length, as AWS's is.
#[test]
fn refuses_indefinite_lengths_inside() {
    let chain = Chain::nitro();
    let good = Draft::good(&chain);
    let chunked = |major: u8, chunk: Vec<u8>| [vec![major << 5 | 0x1f], chunk, vec![0xff]].concat();
    for (field, value) in [
        ("module_id", chunked(3, text("i-0"))),
        ("digest", chunked(3, text("SHA384"))),
        ("pcrs", open_map(&pcrs(0..16))),
        ("certificate", chunked(2, bytes(chain.leaf()))),
        ("cabundle", chunked(4, chain.bundle().iter().flat_map(|der| bytes(der)).collect())),
        ("nonce", chunked(2, bytes(&[7; 32]))),
        ("pcrs", map(&[(unsigned(0), chunked(2, bytes(&pcr(0))))])),
    ] {
        let draft = good.clone().set(field, value);
        assert_eq!(problem(&chain, &draft), CborProblem::NotCanonical, "{field}");
    }
}

// V-2: sorted PCRs are the one encoding that devices use; the second check sees any other.
#[test]
fn refuses_pcrs_that_are_not_sorted() {
    let chain = Chain::nitro();
    let draft = Draft::good(&chain).with_pcrs(&pcrs((0..16).rev()));
    assert_eq!(judge(&chain, &draft.sign(&chain)), Err(AttestationError::Rebuild));
}

// V-2: AWS documents no order of fields, so none is demanded.
#[test]
fn accepts_fields_in_any_order() {
    let chain = Chain::nitro();
    let mut draft = Draft::good(&chain);
    draft.fields.reverse();
    assert!(judge(&chain, &draft.sign(&chain)).is_ok());
}

// V-2
#[test]
fn refuses_a_map_that_announces_more_or_fewer_entries_than_it_has() {
    let chain = Chain::nitro();
    let good = Draft::good(&chain);
    let entries = good.payload().split_off(1);
    for (count, expected) in [(0, "malformed"), (8, "malformed"), (10, "malformed"), (u64::MAX, "malformed")]
    {
        let payload = [head(5, count), entries.clone()].concat();
        let refused = judge(&chain, &good.sign_payload(&chain, &payload)).unwrap_err();
        assert_eq!(refused.code(), expected, "{count} entries announced");
    }
    let unended = [vec![0xbf], entries].concat();
    assert_eq!(judge(&chain, &good.sign_payload(&chain, &unended)).unwrap_err().code(), "malformed");
}

#[test]
fn refuses_payloads_that_are_no_map() {
    let chain = Chain::nitro();
    for payload in [vec![], null(), array(&[]), text("map"), vec![0x9f, 0xff], vec![0xff]] {
        let refused = judge(&chain, &Draft::good(&chain).sign_payload(&chain, &payload)).unwrap_err();
        assert_eq!(refused.code(), "malformed", "{payload:02x?}");
    }
}

// V-2
#[test]
fn refuses_a_document_signed_by_another_key() {
    let (chain, other) = (Chain::nitro(), Chain::nitro());
    let document = Draft::good(&chain).sign(&other);
    assert_eq!(judge(&chain, &document), Err(AttestationError::Signature));
}
