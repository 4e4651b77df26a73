//! How long a refusal takes does not tell what was wrong.
//!
//! Each comparison is tried against its own positive control: the same measurement of a comparison
//! that stops at the first difference must find the leak, or the test could not fail.

mod welch;

use std::sync::{Mutex, MutexGuard, PoisonError};

use adyton_enclave::cms::{CmsError, EnvelopedData};
use adyton_shared::envelope::{
    Draft, EncryptedDataKey, KMS_PROVIDER, OpenError, Opener, Parsed, Suite, UnverifiedHeader,
};
use adyton_shared::id::Sha256Digest;
use adyton_shared::{DataKey, EncryptionContext};
use adyton_verifier::attestation::{Document, parse_unverified};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use zeroize::Zeroizing;

use welch::{Class, leaks};

/// One measurement at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What nobody should write: it stops where the difference is.
#[inline(never)]
fn leaky_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| std::hint::black_box(*a) == *b)
}

const NONCE_BYTES: usize = 512;

/// A document and two nonces that it does not answer: one differs at its start, one at its end.
fn nonces() -> (Document, [Vec<u8>; 2]) {
    let received = include_bytes!("../../vectors/attestation/2026-01-03-us-east-1-base.cbor");
    let mut document = parse_unverified(received).expect("a document");
    let own = vec![0x5a; NONCE_BYTES];
    let nonces = [0, NONCE_BYTES - 1].map(|at| {
        let mut nonce = own.clone();
        nonce[at] ^= 1;
        nonce
    });
    document.nonce = Some(own);
    (document, nonces)
}

fn nonce_leaks(equal: impl Fn(&Document, &[u8]) -> bool) -> bool {
    let (document, [first, last]) = nonces();
    let prepare = |class| if class == Class::A { first.clone() } else { last.clone() };
    leaks(10_000, prepare, |nonce| assert!(!equal(&document, nonce)))
}

// X-1, T-2
#[test]
fn where_a_nonce_differs_does_not_show() {
    let _alone = alone();
    assert!(!nonce_leaks(Document::answers));
    let leaky =
        |document: &Document, nonce: &[u8]| leaky_equal(document.nonce.as_deref().unwrap_or_default(), nonce);
    assert!(nonce_leaks(leaky), "the control must be found");
}

/// A message of one frame, its header's length and its key.
fn message() -> (Vec<u8>, usize, DataKey) {
    let key = DataKey::copy_from(&[0x77; 32]).expect("a key");
    let context = EncryptionContext::from_pairs([("tenant", "acme")]).expect("a context");
    let draft = Draft::new(Suite::from_id(0x0478).expect("a suite"), context).expect("a draft");
    let edk = EncryptedDataKey { provider: KMS_PROVIDER, information: b"key", ciphertext: b"wrapped" };
    let (sealer, mut message) = draft.seal_with(&key, &[edk], 4096).expect("a header");
    let header = message.len();
    sealer.finish(&[7; 64], &mut message).expect("a frame");
    (message, header, key)
}

fn open(header: &[u8], key: &DataKey) -> Result<Opener, OpenError> {
    let Ok(Parsed::Complete { header, .. }) = UnverifiedHeader::parse(header) else { panic!("a header") };
    header.verify(key, &EncryptionContext::default())
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

//
#[test]
fn where_the_tag_of_a_frame_differs_does_not_show() {
    let _alone = alone();
    let (message, header, key) = message();
    let body = &message[header..];
    let tag = body.len() - 16;
    let (first, last) = (flipped(body, tag), flipped(body, body.len() - 1));
    let mut prepare = |class| {
        let opener = open(&message[..header], &key).expect("the header is good");
        (opener, if class == Class::A { first.clone() } else { last.clone() })
    };
    let refuse = |(opener, body): &mut (Opener, Vec<u8>)| {
        assert_eq!(opener.next(body), Err(OpenError::Tampered));
    };
    assert!(!leaks(12_000, &mut prepare, refuse));
    // The control compares the tag once more, as somebody could who does not know better.
    let good = body[tag..].to_vec();
    let leaky = |(opener, body): &mut (Opener, Vec<u8>)| {
        let equal = leaky_equal(&body[tag..], &good);
        assert_eq!(opener.next(body), Err(OpenError::Tampered));
        equal
    };
    assert!(leaks(12_000, &mut prepare, leaky), "the control must be found");
}

// X-1, K-8
#[test]
fn where_a_commitment_differs_does_not_show() {
    const COMMITMENT_BYTES: usize = 32;
    const TAG_BYTES: usize = 16;
    let _alone = alone();
    let (message, header, key) = message();
    let header = &message[..header];
    let commitment = header.len() - TAG_BYTES - COMMITMENT_BYTES;
    let (first, last) = (flipped(header, commitment), flipped(header, commitment + COMMITMENT_BYTES - 1));
    let prepare = |class| {
        let header = if class == Class::A { first.clone() } else { last.clone() };
        let Ok(Parsed::Complete { header, .. }) = UnverifiedHeader::parse(&header) else {
            panic!("a header")
        };
        Some(header)
    };
    let refuse = |header: &mut Option<Box<UnverifiedHeader>>| {
        let header = header.take().expect("a header");
        assert!(matches!(header.verify(&key, &EncryptionContext::default()), Err(OpenError::Tampered)));
    };
    assert!(!leaks(12_000, prepare, refuse));
}

const ENVELOPE: &[u8] = include_bytes!("../../../enclave/tests/vectors/cms/kms-32-bytes.ber");
const RECIPIENT: &[u8] = include_bytes!("../../../enclave/tests/vectors/cms/kms-32-bytes.key.der");

/// The envelope of the vector with another encrypted content key.
fn envelope(encrypted_key: &[u8]) -> Vec<u8> {
    let announced = b"\x04\x82\x01\x00";
    let at = ENVELOPE.windows(4).position(|window| window == announced).expect("an encrypted key") + 4;
    [&ENVELOPE[..at], encrypted_key, &ENVELOPE[at + 256..]].concat()
}

//
#[test]
fn what_was_wrong_in_an_envelope_is_one_error_and_where_its_padding_failed_does_not_show() {
    let _alone = alone();
    let private = PrivateDecryptingKey::from_pkcs8(RECIPIENT).expect("a key");
    let id = *Sha256Digest::of(private.public_key().as_der().expect("its encoding").as_ref()).as_bytes();
    let public = OaepPublicEncryptingKey::new(private.public_key()).expect("a key");
    let private = OaepPrivateDecryptingKey::new(private).expect("a key");
    let open = |envelope: &[u8]| {
        EnvelopedData::parse(envelope)?.open(&id, |encrypted| {
            let mut buffer = vec![0; private.min_output_size()];
            let plain = private.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut buffer, None).ok()?;
            Some(Zeroizing::new(plain.to_vec()))
        })
    };
    assert_eq!(open(ENVELOPE).expect("the vector opens").len(), 32);
    let encrypt = |content_key: &[u8], label: Option<&[u8]>| {
        let mut encrypted = vec![0; public.ciphertext_size()];
        public.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut encrypted, label).expect("encrypted");
        envelope(&encrypted)
    };
    // No OAEP at all: almost surely its first byte is not zero. OAEP with another label: only its hash is wrong.
    let no_padding = envelope(&[0x11; 256]);
    let other_label = encrypt(&[9; 32], Some(b"another label"));
    for (what, envelope) in [
        ("no OAEP", &no_padding),
        ("OAEP with another label", &other_label),
        ("another content key, so that the padding of CBC is wrong", &encrypt(&[9; 32], None)),
        ("a content key of 16 bytes", &encrypt(&[9; 16], None)),
        ("an empty content key", &encrypt(&[], None)),
    ] {
        assert_eq!(open(envelope), Err(CmsError::Unopened), "{what}");
    }
    let prepare = |class| if class == Class::A { no_padding.clone() } else { other_label.clone() };
    assert!(!leaks(400, prepare, |envelope| assert!(open(envelope).is_err())));
}
