//! What the writer writes, the reader reads; what the reader would not read is not written.

use adyton_shared::context::{ContextError, PUBLIC_KEY_PAIR};
use adyton_shared::envelope::{Draft, EncryptedDataKey, SealError, Suite};
use adyton_shared::limits::{MAX_CONTEXT_BYTES, MAX_MESSAGE_FRAME_BYTES};
use adyton_shared::{EncryptionContext, KeyArn};
use proptest::prelude::*;

use crate::support::{Message, WRAPPED, data_key, header, open, open_chunked};

const WRITTEN: [Suite; 2] = [Suite::Aes256Commit, Suite::Aes256CommitSigned];

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_payload_comes_back_in_any_chunks(
        suite in prop::sample::select(&WRITTEN[..]),
        frame_length in prop::sample::select(&[1_u32, 3, 16, 4096, 65_536][..]),
        frames in 0_usize..4,
        extra in any::<prop::sample::Index>(),
        chunk in 1_usize..100_000,
        key in any::<[u8; 32]>(),
    ) {
        let frame = frame_length as usize;
        let plaintext = pattern(frames * frame + extra.index(frame));
        let message = Message::seal(suite, &data_key(&key), &plaintext, frame_length);
        prop_assert_eq!(open_chunked(&message.bytes(), &data_key(&key), chunk), Ok(plaintext));
    }
}

#[test]
fn empty_payloads_and_exact_multiples_come_back_byte_by_byte() {
    let key = data_key(&[3; 32]);
    for suite in WRITTEN {
        for (length, frame_length) in
            [(0, 1), (1, 1), (5, 1), (0, 4096), (4096, 4096), (8192, 4096), (65_536, 65_536)]
        {
            let plaintext = pattern(length);
            let message = Message::seal(suite, &key, &plaintext, frame_length).bytes();
            assert_eq!(open_chunked(&message, &key, 1), Ok(plaintext), "{suite} {length} {frame_length}");
        }
    }
}

#[test]
fn an_exact_multiple_may_end_in_an_empty_frame() {
    let key = data_key(&[3; 32]);
    for suite in WRITTEN {
        let draft = Draft::new(suite, EncryptionContext::default()).unwrap();
        let (mut sealer, mut message) = draft.seal_with(&key, &[WRAPPED], 4).unwrap();
        sealer.seal_frame(b"abcd", &mut message).unwrap();
        sealer.finish(b"", &mut message).unwrap();
        assert_eq!(open(&message, &key).as_deref(), Ok(&b"abcd"[..]));
    }
}

#[test]
fn the_header_says_what_the_writer_was_told() {
    let arn = KeyArn::parse(std::str::from_utf8(WRAPPED.information).unwrap()).unwrap();
    let other = KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/other").unwrap();
    let foreign = EncryptedDataKey { provider: "raw", information: WRAPPED.information, ciphertext: b"raw" };
    let unlisted = EncryptedDataKey { information: b"arn:aws:kms:eu-west-1:111122223333:alias/a", ..WRAPPED };
    let second =
        EncryptedDataKey { information: other.as_str().as_bytes(), ciphertext: b"second", ..WRAPPED };
    let pairs = EncryptionContext::from_pairs([("tenant", "acme")]).unwrap();
    for suite in WRITTEN {
        let draft = Draft::new(suite, pairs.clone()).unwrap();
        let context = draft.context().clone();
        let keys = [foreign, unlisted, WRAPPED, second];
        let (_, bytes) = draft.seal_with(&data_key(&[1; 32]), &keys, 512).unwrap();
        let (header, length) = header(&bytes).unwrap();
        assert_eq!((length, header.suite()), (bytes.len(), suite));
        assert_eq!(header.context(), &context);
        assert_eq!(header.context().value(PUBLIC_KEY_PAIR).is_some(), suite.is_signed());
        assert_eq!(header.frame_length().map(u32::from), Some(512));
        assert!(header.encrypted_data_keys().eq(keys));
        // The first listed one in the message's order, whatever the order of the list.
        let allowed = [other.clone(), arn.clone()];
        assert_eq!(header.select_kms_key(&allowed), Some((arn.clone(), WRAPPED.ciphertext)));
        assert_eq!(header.select_kms_key(&allowed[..1]), Some((other.clone(), second.ciphertext)));
        assert_eq!(header.select_kms_key(&[]), None);
    }
}

#[test]
fn no_two_messages_share_an_id_or_a_signing_key() {
    let ids = || Draft::new(Suite::Aes256CommitSigned, EncryptionContext::default()).unwrap();
    let key = data_key(&[1; 32]);
    let (one, two) = (ids(), ids());
    assert_ne!(one.context(), two.context());
    let (_, one) = one.seal_with(&key, &[WRAPPED], 1).unwrap();
    let (_, two) = two.seal_with(&key, &[WRAPPED], 1).unwrap();
    assert_ne!(header(&one).unwrap().0.message_id(), header(&two).unwrap().0.message_id());
}

#[test]
fn refuses_to_write_without_key_commitment() {
    for suite in Suite::ALL.into_iter().filter(|suite| !WRITTEN.contains(suite)) {
        let refused = Draft::new(suite, EncryptionContext::default());
        assert_eq!(refused.unwrap_err(), SealError::Suite(suite));
    }
}

#[test]
fn refuses_pairs_that_cannot_be_stored() {
    let reserved = EncryptionContext::from_pairs([("aws-crypto-public-key", "mine")]).unwrap();
    for suite in WRITTEN {
        assert_eq!(Draft::new(suite, reserved.clone()).unwrap_err(), SealError::ReservedPair);
    }
    let full = EncryptionContext::from_pairs([("k", "v".repeat(MAX_CONTEXT_BYTES - 7))]).unwrap();
    assert!(Draft::new(Suite::Aes256Commit, full.clone()).is_ok());
    let refused = Draft::new(Suite::Aes256CommitSigned, full).unwrap_err();
    assert!(matches!(refused, SealError::Context(ContextError::TooLarge { .. })));
}

#[test]
fn refuses_to_write_what_the_reader_would_refuse() {
    let draft = || Draft::new(Suite::Aes256Commit, EncryptionContext::default()).unwrap();
    let key = data_key(&[1; 32]);
    let refusal = |keys: &[_], frame_length| draft().seal_with(&key, keys, frame_length).unwrap_err();
    let too_long = u32::try_from(MAX_MESSAGE_FRAME_BYTES).unwrap() + 1;
    assert_eq!(refusal(&[WRAPPED], 0), SealError::FrameLength { bytes: 0 });
    assert_eq!(refusal(&[WRAPPED], too_long), SealError::FrameLength { bytes: too_long });
    assert_eq!(refusal(&[], 1), SealError::KeyCount { count: 0 });
    assert_eq!(refusal(&[WRAPPED; 17], 1), SealError::KeyCount { count: 17 });
    let long = vec![0; 65_536];
    let longer = EncryptedDataKey { ciphertext: &long, ..WRAPPED };
    assert_eq!(refusal(&[longer], 1), SealError::HeaderTooLarge { bytes: 65_536 });
    let fitting = EncryptedDataKey { ciphertext: &long[1..], ..WRAPPED };
    assert!(matches!(refusal(&[fitting; 3], 1), SealError::HeaderTooLarge { .. }));
    let short_key = draft().seal_with(&data_key(&[1; 16]), &[WRAPPED], 1).unwrap_err();
    assert_eq!(short_key, SealError::Cryptography);
}

#[test]
fn refuses_frames_of_another_length_and_writes_nothing_of_them() {
    let draft = Draft::new(Suite::Aes256Commit, EncryptionContext::default()).unwrap();
    let (mut sealer, _) = draft.seal_with(&data_key(&[1; 32]), &[WRAPPED], 4).unwrap();
    let mut out = Vec::new();
    for length in [0, 3, 5] {
        let refused = sealer.seal_frame(&vec![0; length], &mut out);
        assert_eq!(refused, Err(SealError::PlaintextLength { bytes: length }));
    }
    assert_eq!(sealer.finish(&[0; 5], &mut out), Err(SealError::PlaintextLength { bytes: 5 }));
    assert!(out.is_empty());
}

#[test]
fn neither_plaintext_nor_keys_can_be_read_off_what_is_written_or_printed() {
    let secret = b"canary 4111-1111";
    let key = data_key(b"0123456789abcdefghijklmnopqrstuv");
    for suite in WRITTEN {
        let draft = Draft::new(suite, EncryptionContext::default()).unwrap();
        let mut shown = format!("{draft:?}").into_bytes();
        let (mut sealer, mut message) = draft.seal_with(&key, &[WRAPPED], 16).unwrap();
        sealer.seal_frame(secret, &mut message).unwrap();
        shown.extend(format!("{sealer:?}").bytes());
        sealer.finish(b"", &mut message).unwrap();
        let (header, length) = header(&message).unwrap();
        let mut opener = header.verify(&key, &EncryptionContext::default()).unwrap();
        shown.extend(format!("{opener:?}").bytes());
        shown.extend(format!("{:?}", opener.next(&mut message.clone()[length..]).unwrap()).bytes());
        shown.extend(message);
        for hidden in [&secret[..], key.expose()] {
            assert!(!shown.windows(hidden.len()).any(|window| window == hidden));
        }
    }
}
