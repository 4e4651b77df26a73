//! Headers from a hostile sender: each is refused as early as it can be, for its own reason.

use adyton_shared::ErrorCode;
use adyton_shared::envelope::{HeaderError, Parsed, UnverifiedHeader};
use proptest::prelude::*;

use crate::support::{Refusal, header};

/// Version, suite and message id of a version 2 header.
fn start(suite: u16) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(suite.to_be_bytes());
    bytes.extend([7; 32]);
    bytes
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A whole version 2 header with this context, these numbers of keys and this frame length.
fn whole(context: &[u8], keys: u16, frame_length: u32) -> Vec<u8> {
    let mut bytes = start(0x0478);
    bytes.extend(counted(context));
    bytes.extend(keys.to_be_bytes());
    for _ in 0..keys {
        bytes.extend([counted(b"aws-kms"), counted(b"arn"), counted(b"blob")].concat());
    }
    bytes.push(2);
    bytes.extend(frame_length.to_be_bytes());
    bytes.extend([0; 48]);
    bytes
}

fn refusal(bytes: &[u8]) -> HeaderError {
    match header(bytes) {
        Err(Refusal::Header(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn says_exactly_how_much_is_missing_until_the_header_is_whole() {
    let bytes = whole(b"\0\x01\0\x01a\0\x01b", 2, 4096);
    for end in 0..bytes.len() {
        match UnverifiedHeader::parse(&bytes[..end]).unwrap() {
            Parsed::Incomplete { need_at_least } => {
                assert!(need_at_least > end && need_at_least <= bytes.len(), "{end}: {need_at_least}");
            }
            Parsed::Complete { .. } => panic!("complete at {end} of {}", bytes.len()),
        }
    }
    let more = [bytes.as_slice(), b"body"].concat();
    let (header, length) = header(&more).unwrap();
    assert_eq!(length, bytes.len());
    assert_eq!(header.context().value("a"), Some("b"));
    assert_eq!(header.message_id(), [7; 32]);
}

#[test]
fn refuses_what_is_not_a_header_at_its_first_wrong_byte() {
    for bytes in [&b"\0"[..], b"\x03", b"\x80", b"AY", b"{", b"\x01\x00", b"\x01\x81"] {
        assert_eq!(refusal(bytes), HeaderError::Malformed, "{bytes:?}");
    }
    assert_eq!(ErrorCode::from(&HeaderError::Malformed), ErrorCode::HeaderMalformed);
}

#[test]
fn refuses_unknown_suites_and_those_of_the_other_version() {
    for id in [0x0000, 0x0015, 0x0079, 0x0479, 0xffff] {
        assert_eq!(refusal(&start(id)[..3]), HeaderError::UnknownSuite(id));
    }
    assert_eq!(ErrorCode::from(&HeaderError::UnknownSuite(0)), ErrorCode::SuiteRefused);
    assert_eq!(refusal(b"\x02\x01\x78"), HeaderError::Malformed);
    assert_eq!(refusal(b"\x01\x80\x04\x78"), HeaderError::Malformed);
}

#[test]
fn judges_the_number_of_keys_before_the_first_of_them() {
    let limit = whole(b"", 16, 1);
    assert!(header(&limit).is_ok());
    for announced in [17, u16::MAX] {
        let bytes = [start(0x0578), counted(b""), announced.to_be_bytes().to_vec()].concat();
        let error = HeaderError::TooManyKeys { announced };
        assert_eq!(refusal(&bytes), error);
        assert_eq!(ErrorCode::from(&error), ErrorCode::HeaderTooLarge);
    }
    assert_eq!(refusal(&whole(b"", 0, 1)), HeaderError::Malformed);
}

#[test]
fn reads_the_largest_context_and_refuses_keys_over_the_limit_when_announced() {
    let value = vec![b'v'; usize::from(u16::MAX) - 7];
    let context = [b"\0\x01\0\x01k".to_vec(), counted(&value)].concat();
    assert_eq!(context.len(), usize::from(u16::MAX));
    let (read, _) = header(&whole(&context, 1, 1)).unwrap();
    assert_eq!(read.context().value("k").map(str::len), Some(value.len()));

    let mut bytes = [start(0x0478), counted(&context), vec![0, 2]].concat();
    bytes.extend([counted(b"aws-kms"), counted(&vec![0; 65535]), vec![0xff, 0xff]].concat());
    let at_least = bytes.len() + 65535;
    assert_eq!(refusal(&bytes), HeaderError::TooLarge { bytes: at_least });
}

#[test]
fn refuses_a_context_of_more_pairs_than_are_kept() {
    let pairs = |count: u16| {
        let pairs =
            (0..count).flat_map(|number| [counted(number.to_string().as_bytes()), counted(b"")].concat());
        count.to_be_bytes().into_iter().chain(pairs).collect::<Vec<u8>>()
    };
    assert_eq!(refusal(&whole(&pairs(2), 1, 0)), HeaderError::Malformed);
    let error = HeaderError::TooManyPairs { announced: 7000 };
    assert_eq!(refusal(&whole(&pairs(7000), 1, 1)), error);
    assert_eq!(ErrorCode::from(&error), ErrorCode::HeaderTooLarge);
}

proptest! {
    // K-19
    #[test]
    fn any_bytes_become_a_header_a_refusal_or_a_wish_for_more(
        suite in prop::sample::select(&[0x0478_u16, 0x0578, 0x0014][..]),
        rest in prop::collection::vec(any::<u8>(), 0..400),
        change in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut changed = whole(b"\0\x01\0\x01a\0\x01b", 2, 4096);
        let position = change.index(changed.len());
        changed[position] = to;
        for bytes in [[start(suite), rest.clone()].concat(), rest, changed] {
            match UnverifiedHeader::parse(&bytes) {
                Ok(Parsed::Incomplete { need_at_least }) => prop_assert!(need_at_least > bytes.len()),
                Ok(Parsed::Complete { header, length }) => {
                    prop_assert!(length <= bytes.len());
                    // Its own bytes alone say the same.
                    let again = UnverifiedHeader::parse(&bytes[..length]);
                    let same = matches!(again, Ok(Parsed::Complete { length: again, .. }) if again == length);
                    prop_assert!(same);
                    prop_assert!(header.encrypted_data_keys().count() <= 16);
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn refuses_a_context_that_is_not_one() {
    for context in [
        &b"\0\0"[..],
        b"\0\x01\0\x01a\0\0\0",
        b"\0\x02\0\x01a\0\0\0\x01a\0\x01b",
        b"\0\x01\0\x01\xff\0\0",
        b"\0\x02\0\0\0\0",
        b"\0\x01\xff\xffa",
    ] {
        assert_eq!(refusal(&whole(context, 1, 1)), HeaderError::Malformed, "{context:?}");
    }
}

#[test]
fn refuses_a_frame_length_that_contradicts_the_content_type() {
    assert_eq!(refusal(&whole(b"", 1, 0)), HeaderError::Malformed);
    assert!(header(&whole(b"", 1, u32::MAX)).is_ok());
    let mut unframed = whole(b"", 1, 1);
    let content_type = unframed.len() - 48 - 5;
    unframed[content_type] = 1;
    assert_eq!(refusal(&unframed), HeaderError::Malformed);
    unframed[content_type + 4] = 0;
    assert_eq!(header(&unframed).unwrap().0.frame_length(), None);
    unframed[content_type] = 3;
    assert_eq!(refusal(&unframed), HeaderError::Malformed);
}

#[test]
fn refuses_other_values_of_version_1_constants() {
    let mut bytes = b"\x01\x80\x00\x78".to_vec();
    bytes.extend([7; 16]);
    bytes.extend([counted(b""), vec![0, 1], counted(b"p"), counted(b""), counted(b"")].concat());
    let constants = bytes.len();
    bytes.extend(b"\x02\0\0\0\0\x0c\0\0\x10\0");
    bytes.extend([0; 28]);
    assert!(header(&bytes).is_ok());
    for (offset, value) in [(0, 0), (0, 3), (1, 1), (4, 1), (5, 0), (5, 16)] {
        let mut other = bytes.clone();
        other[constants + offset] = value;
        assert_eq!(refusal(&other), HeaderError::Malformed, "{offset}");
    }
}

#[test]
fn a_provider_is_text() {
    let mut bytes = start(0x0478);
    bytes.extend([counted(b""), vec![0, 1], counted(b"\xff"), counted(b""), counted(b"")].concat());
    assert_eq!(refusal(&bytes), HeaderError::Malformed);
}
