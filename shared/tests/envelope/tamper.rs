//! Messages that were cut, changed, rearranged or put together from others.

use adyton_shared::envelope::{HeaderError, OpenError, Step, Suite};
use adyton_shared::limits::MAX_MESSAGE_FRAME_BYTES;
use adyton_shared::{EncryptionContext, ErrorCode};

use crate::forge::Forger;
use crate::support::{Message, Refusal, data_key, header, open, open_chunked};

const WRITTEN: [Suite; 2] = [Suite::Aes256Commit, Suite::Aes256CommitSigned];
const KEY: [u8; 32] = [5; 32];
const FRAME_LENGTH: u32 = 10;
const PLAINTEXT: &[u8] = b"a first frame of ten, more frames, and a rest";

/// The frames of a message, to be rearranged.
type Frames = Vec<Vec<u8>>;

fn sealed(suite: Suite) -> Message {
    Message::seal(suite, &data_key(&KEY), PLAINTEXT, FRAME_LENGTH)
}

fn opened(message: &[u8]) -> Result<Vec<u8>, Refusal> {
    open(message, &data_key(&KEY))
}

fn refused(message: &[u8]) -> OpenError {
    match opened(message) {
        Err(Refusal::Open(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_refusal_has_a_code_of_its_own() {
    let codes = [
        (OpenError::Tampered, ErrorCode::PayloadTampered),
        (OpenError::Truncated, ErrorCode::PayloadTruncated),
        (OpenError::Malformed, ErrorCode::PayloadMalformed),
        (OpenError::Signature, ErrorCode::PayloadSignature),
        (OpenError::FrameTooLarge { announced: 1 }, ErrorCode::PayloadFrameTooLarge),
        (OpenError::Trailing, ErrorCode::PayloadTrailing),
    ];
    for (error, code) in codes {
        assert_eq!(ErrorCode::from(&error), code);
    }
}

#[test]
fn a_message_cut_anywhere_is_truncated() {
    for suite in WRITTEN {
        let message = sealed(suite);
        let bytes = message.bytes();
        for end in 0..bytes.len() {
            for chunk in [1, bytes.len()] {
                let cut = open_chunked(&bytes[..end], &data_key(&KEY), chunk);
                let expected = if end < message.header.len() {
                    Refusal::HeaderTruncated
                } else {
                    Refusal::Open(OpenError::Truncated)
                };
                assert_eq!(cut, Err(expected), "{suite} cut at {end}");
            }
        }
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    for suite in WRITTEN {
        let message = sealed(suite);
        let bytes = message.bytes();
        let mut expectations = vec![Expected::Header; message.header.len()];
        let (last, regular) = message.frames.split_last().unwrap();
        for frame in regular {
            expectations.extend([Expected::Sequence; 4]);
            expectations.extend(vec![Expected::Sealed; frame.len() - 4]);
        }
        expectations.extend([Expected::Sequence; 8]);
        expectations.extend([Expected::Sealed; 12]);
        expectations.extend([Expected::Length; 4]);
        expectations.extend(vec![Expected::Sealed; last.len() - 24]);
        if suite.is_signed() {
            expectations.extend([Expected::FooterLength; 2]);
            expectations.extend(vec![Expected::Signature; message.footer.len() - 2]);
        }
        assert_eq!(expectations.len(), bytes.len());
        for (position, expected) in expectations.into_iter().enumerate() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[position] ^= 1 << bit;
                let refusal = opened(&flipped).expect_err("a changed message opened");
                assert!(expected.allows(&refusal), "{suite}, {position}: {refusal:?}");
            }
        }
    }
}

/// What a flipped bit may lead to, by where it is.
#[derive(Clone, Copy)]
enum Expected {
    Header,
    Sequence,
    Sealed,
    Length,
    FooterLength,
    Signature,
}

impl Expected {
    fn allows(self, refusal: &Refusal) -> bool {
        use OpenError::{Malformed, Signature, Tampered, Truncated};
        match (self, refusal) {
            (Self::Header, Refusal::Header(_) | Refusal::HeaderTruncated) => true,
            (Self::Header, Refusal::Open(error)) => matches!(error, Tampered | Signature),
            (Self::Sequence, Refusal::Open(error)) => *error == Malformed,
            (Self::Sealed, Refusal::Open(error)) => *error == Tampered,
            // Too long for a frame, longer than what is there, or a tag in the wrong place.
            (Self::Length, Refusal::Open(error)) => matches!(error, Malformed | Truncated | Tampered),
            (Self::FooterLength, Refusal::Open(error)) => matches!(error, Signature | Truncated),
            (Self::Signature, Refusal::Open(error)) => *error == Signature,
            _ => false,
        }
    }
}

#[test]
fn a_frame_that_does_not_verify_leaves_no_plaintext_behind() {
    let key = data_key(&KEY);
    let message = sealed(Suite::Aes256Commit);
    let (header, _) = header(&message.header).unwrap();
    let mut opener = header.verify(&key, &EncryptionContext::default()).unwrap();
    let mut buffer = message.frames[0].clone();
    *buffer.last_mut().unwrap() ^= 1;
    assert_eq!(opener.next(&mut buffer), Err(OpenError::Tampered));
    assert_eq!(buffer[16..26], [0; 10]);
    // Even the untouched frame is refused now.
    assert_eq!(opener.next(&mut message.frames[0].clone()), Err(OpenError::Tampered));
}

#[test]
fn frames_out_of_order_repeated_or_missing_are_malformed() {
    for suite in WRITTEN {
        let count = sealed(suite).frames.len();
        let arrangements: [&dyn Fn(&mut Frames); 6] = [
            &|frames| frames.swap(0, 1),
            &|frames| frames.swap(count - 2, count - 1),
            &|frames| frames.insert(1, frames[0].clone()),
            &|frames| drop(frames.remove(0)),
            &|frames| drop(frames.remove(count - 2)),
            &|frames| drop(frames.drain(..count - 1)),
        ];
        for (number, arrange) in arrangements.into_iter().enumerate() {
            let mut message = sealed(suite);
            arrange(&mut message.frames);
            assert_eq!(refused(&message.bytes()), OpenError::Malformed, "{suite} {number}");
        }
    }
}

#[test]
fn a_message_without_its_final_frame_or_footer_is_truncated() {
    let mut message = sealed(Suite::Aes256Commit);
    message.frames.pop();
    assert_eq!(refused(&message.bytes()), OpenError::Truncated);
    let mut message = sealed(Suite::Aes256CommitSigned);
    message.footer.clear();
    assert_eq!(refused(&message.bytes()), OpenError::Truncated);
}

#[test]
fn whatever_follows_the_end_is_trailing() {
    for suite in WRITTEN {
        let message = sealed(suite);
        let bytes = message.bytes();
        let twice = [bytes.clone(), bytes.clone()].concat();
        let byte = [bytes.as_slice(), &[0]].concat();
        for (more, chunk) in [(&twice, twice.len()), (&twice, 1), (&byte, byte.len()), (&byte, bytes.len())] {
            let opened = open_chunked(more, &data_key(&KEY), chunk);
            assert_eq!(opened, Err(Refusal::Open(OpenError::Trailing)), "{suite} {chunk}");
        }
    }
    // Frames after the final one, too.
    let mut message = sealed(Suite::Aes256Commit);
    let last = message.frames.last().unwrap().clone();
    message.frames.push(last);
    assert_eq!(refused(&message.bytes()), OpenError::Trailing);
}

#[test]
fn a_regular_frame_cannot_pass_for_the_final_one_nor_the_other_way_round() {
    let mut shortened = sealed(Suite::Aes256Commit);
    let frame = shortened.frames[1].clone();
    let (iv, sealed_content) = frame[4..].split_at(12);
    shortened.frames.truncate(1);
    shortened.frames.push([b"\xff\xff\xff\xff\0\0\0\x02", iv, b"\0\0\0\x0a", sealed_content].concat());
    assert_eq!(refused(&shortened.bytes()), OpenError::Tampered);

    let key = data_key(&KEY);
    let whole = Message::seal(Suite::Aes256Commit, &key, b"ten bytes.", FRAME_LENGTH);
    let last = &whole.frames[0];
    let regular = [b"\0\0\0\x01", &last[8..20], &last[24..]].concat();
    assert_eq!(refused(&[whole.header.clone(), regular].concat()), OpenError::Tampered);
}

// K-7
#[test]
fn ciphertext_moved_from_another_message_under_the_same_key_is_refused() {
    for suite in WRITTEN {
        let (one, mut two) = (sealed(suite), sealed(suite));
        for frame in 0..one.frames.len() {
            let mut moved = sealed(suite);
            moved.frames[frame] = one.frames[frame].clone();
            assert_eq!(refused(&moved.bytes()), OpenError::Tampered, "{suite} frame {frame}");
        }
        two.header = one.header;
        assert_eq!(refused(&two.bytes()), OpenError::Tampered, "{suite} header");
    }
}

#[test]
fn the_signature_of_another_message_is_refused() {
    let (one, mut two) = (sealed(Suite::Aes256CommitSigned), sealed(Suite::Aes256CommitSigned));
    two.footer = one.footer;
    assert_eq!(refused(&two.bytes()), OpenError::Signature);
    two.footer = vec![0, 0];
    assert_eq!(refused(&two.bytes()), OpenError::Signature);
    two.footer = vec![0xff, 0xff];
    assert_eq!(refused(&two.bytes()), OpenError::Signature);
}

#[test]
fn a_signed_message_cannot_be_made_an_unsigned_one() {
    let mut message = sealed(Suite::Aes256CommitSigned);
    message.header[1..3].copy_from_slice(&Suite::Aes256Commit.id().to_be_bytes());
    message.footer.clear();
    assert_eq!(refused(&message.bytes()), OpenError::Signature);
}

// K-8
#[test]
fn another_commitment_or_another_key_is_refused() {
    let message = sealed(Suite::Aes256Commit);
    let bytes = message.bytes();
    for key in [&[6; 32][..], &[5; 16], &[5; 24]] {
        assert_eq!(open(&bytes, &data_key(key)), Err(Refusal::Open(OpenError::Tampered)));
    }
    let mut other = bytes;
    let commitment = message.header.len() - 48;
    other[commitment..commitment + 32].fill(0);
    assert_eq!(refused(&other), OpenError::Tampered);
}

#[test]
fn a_final_frame_longer_than_the_frame_length_is_malformed_though_it_verifies() {
    let forger = Forger::new(&KEY);
    let message = |plaintext: &[u8]| [forger.header(4), forger.last(1, plaintext)].concat();
    assert_eq!(opened(&message(b"four")).as_deref(), Ok(&b"four"[..]));
    assert_eq!(refused(&message(b"fives")), OpenError::Malformed);
}

#[test]
fn sequence_numbers_start_at_one_though_the_frame_verifies() {
    let forger = Forger::new(&KEY);
    for (sequence, error) in [(0, OpenError::Malformed), (2, OpenError::Malformed)] {
        assert_eq!(refused(&[forger.header(4), forger.regular(sequence, b"four")].concat()), error);
        assert_eq!(refused(&[forger.header(4), forger.last(sequence, b"four")].concat()), error);
    }
}

#[test]
fn the_longest_frame_length_costs_no_memory() {
    let forger = Forger::new(&KEY);
    // A short message of one final frame is none the worse for it.
    let short = [forger.header(u32::MAX), forger.last(1, b"short")].concat();
    assert_eq!(opened(&short).as_deref(), Ok(&b"short"[..]));
    let long = [forger.header(u32::MAX), forger.regular(1, b"start of a frame")].concat();
    assert_eq!(refused(&long), OpenError::FrameTooLarge { announced: u32::MAX.into() });
}

#[test]
fn an_unframed_body_is_one_frame_up_to_the_limit() {
    let forger = Forger::new(&KEY);
    let largest = vec![1; MAX_MESSAGE_FRAME_BYTES];
    let message = [forger.header(0), forger.unframed(&largest)].concat();
    assert!(opened(&message) == Ok(largest));
    let mut over = [forger.header(0), forger.unframed(b"")].concat();
    for announced in [MAX_MESSAGE_FRAME_BYTES as u64 + 1, u64::MAX] {
        let length = over.len() - 24;
        over[length..length + 8].copy_from_slice(&announced.to_be_bytes());
        assert_eq!(refused(&over), OpenError::FrameTooLarge { announced });
    }
}

#[test]
fn asks_for_the_prefix_then_for_the_whole_frame() {
    let key = data_key(&KEY);
    let message = sealed(Suite::Aes256Commit);
    let (header, _) = header(&message.header).unwrap();
    let mut opener = header.verify(&key, &EncryptionContext::default()).unwrap();
    let mut frame = message.frames[0].clone();
    assert_eq!(opener.next(&mut []), Ok(Step::Need(4)));
    assert_eq!(opener.next(&mut frame[..4]), Ok(Step::Need(16)));
    assert_eq!(opener.next(&mut frame[..16]), Ok(Step::Need(42)));
    assert_eq!(opener.next(&mut frame), Ok(Step::Frame { consumed: 42, plaintext: 16..26 }));
    assert_eq!(frame[16..26], PLAINTEXT[..10]);
}

#[test]
fn a_tampered_frame_length_is_caught_by_the_header_tag() {
    let mut message = sealed(Suite::Aes256Commit);
    let frame_length = message.header.len() - 52;
    assert_eq!(message.header[frame_length..frame_length + 4], FRAME_LENGTH.to_be_bytes());
    message.header[frame_length + 3] = 9;
    assert_eq!(refused(&message.bytes()), OpenError::Tampered);
    message.header[frame_length + 3] = 0;
    assert_eq!(opened(&message.bytes()), Err(Refusal::Header(HeaderError::Malformed)));
}
