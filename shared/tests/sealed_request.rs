//! Sealed requests: against another implementation of HPKE, and against whoever carries them.
//!
//! The layout is written down here a second time, from `docs/protocol.md` §5.1, so that a change of
//! ours alone is noticed.

use adyton_shared::id::{EnclaveId, SealingKey};
use adyton_shared::message::{self, Done, SealedRequest, ToEnclave};
use adyton_shared::sealed_request::{OpenedRequest, OpeningKey, SealError, seal};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::hpke::{DH_KEM_X25519_HKDF_SHA256_AES_128, DH_KEM_X25519_HKDF_SHA256_AES_256};
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey};
use serde_bytes::ByteBuf;

const ID: EnclaveId = EnclaveId::new([7; 32]);
const AAD: &[u8] = b"adyton protocol\0\x01";

fn info(id: EnclaveId) -> Vec<u8> {
    [&b"adyton sealed request 1\0"[..], id.as_bytes()].concat()
}

/// Seals any plaintext with the other implementation.
fn peer_seal(to: SealingKey, info: &[u8], aad: &[u8], plain: &[u8]) -> SealedRequest {
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to.as_bytes()).unwrap();
    let (encapsulated, sealed) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        info,
        plain,
        aad,
    )
    .unwrap();
    SealedRequest {
        encapsulated: encapsulated.to_bytes().as_slice().try_into().unwrap(),
        sealed: ByteBuf::from(sealed),
    }
}

/// The plaintext as §5.1 lays it out.
fn plain(reply: u8, request: &[u8]) -> Vec<u8> {
    let mut plain = vec![reply; 32];
    plain.extend_from_slice(&u32::try_from(request.len()).unwrap().to_be_bytes());
    plain.extend_from_slice(request);
    plain.resize(plain.len().next_multiple_of(1024), 0);
    plain
}

fn opened(key: &OpeningKey, sealed: &SealedRequest) -> Result<Vec<u8>, SealError> {
    key.open(ID, sealed).map(|OpenedRequest { signed, .. }| signed.to_vec())
}

// S-12
#[test]
fn what_another_implementation_seals_opens_here() {
    let key = OpeningKey::generate().unwrap();
    for length in [0, 1, 988, 989, 2000, 95 * 1024 - 36] {
        let request = vec![0xA5; length];
        let sealed = peer_seal(key.public(), &info(ID), AAD, &plain(1, &request));
        assert_eq!(opened(&key, &sealed), Ok(request), "{length}");
    }
}

// S-12
#[test]
fn what_is_sealed_here_another_implementation_opens() {
    let (private, public) = X25519HkdfSha256::gen_keypair();
    let to = SealingKey::try_from(public.to_bytes().as_slice()).unwrap();
    let (sealed, _) = seal(b"the request", ID, to).unwrap();
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed.encapsulated).unwrap();
    let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        &info(ID),
        &sealed.sealed,
        AAD,
    )
    .unwrap();
    assert_eq!(opened[32..], plain(0, b"the request")[32..]);
}

/// RFC 9180 appendix A.1.1. The appendix has no vector for AES-256-GCM with this KEM; KEM and key
/// schedule are the same code, and the tests above compare the rest with another implementation.
#[test]
fn the_vector_of_the_rfc_opens() {
    let bytes = |text| hex::decode(text).unwrap();
    let private =
        HpkePrivateKey::from(bytes("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"));
    let encapsulated =
        EncapsulatedSecret(bytes("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"));
    let sealed =
        bytes("f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a");
    let info = bytes("4f6465206f6e2061204772656369616e2055726e");
    let open = |sealed: &[u8]| {
        DH_KEM_X25519_HKDF_SHA256_AES_128.open(&encapsulated, &info, b"Count-0", sealed, &private)
    };
    assert_eq!(open(&sealed).unwrap(), b"Beauty is truth, truth beauty");
    let other = DH_KEM_X25519_HKDF_SHA256_AES_256.open(&encapsulated, &info, b"Count-0", &sealed, &private);
    assert!(other.is_err(), "the suite is part of the key schedule");
}

// S-7, S-12
#[test]
fn a_request_opens_with_its_own_key_for_its_own_enclave_and_protocol_only() {
    let (key, other) = (OpeningKey::generate().unwrap(), OpeningKey::generate().unwrap());
    let (sealed, _) = seal(b"request", ID, key.public()).unwrap();
    assert_eq!(opened(&key, &sealed), Ok(b"request".to_vec()));
    // The key of an enclave that is gone, and a document of one enclave under the id of another.
    assert_eq!(opened(&other, &sealed), Err(SealError::Unopenable));
    assert_eq!(key.open(EnclaveId::new([8; 32]), &sealed).err(), Some(SealError::Unopenable));
    let plain = plain(1, b"request");
    for (info, aad) in [
        (info(ID), &b"adyton protocol\0\x02"[..]),
        (info(ID), b""),
        ([&b"adyton sealed request 2\0"[..], &[7; 32]].concat(), AAD),
        (Vec::new(), AAD),
    ] {
        let sealed = peer_seal(key.public(), &info, aad, &plain);
        assert_eq!(opened(&key, &sealed), Err(SealError::Unopenable));
    }
}

#[test]
fn a_plaintext_has_one_form() {
    let key = OpeningKey::generate().unwrap();
    let good = plain(1, b"request");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let bad = [
        ("empty", Vec::new()),
        ("a reply key alone", vec![1; 32]),
        ("not padded", good[..32 + 4 + 7].to_vec()),
        ("one size class too many", changed(&|bytes| bytes.resize(2048, 0))),
        ("a byte short", changed(&|bytes| bytes.truncate(1023))),
        ("padding that says something", changed(&|bytes| bytes[1023] = 1)),
        ("longer than it is", changed(&|bytes| bytes[32..36].copy_from_slice(&u32::MAX.to_be_bytes()))),
        ("as long as all", changed(&|bytes| bytes[32..36].copy_from_slice(&1024_u32.to_be_bytes()))),
    ];
    for (what, plain) in bad {
        let sealed = peer_seal(key.public(), &info(ID), AAD, &plain);
        assert_eq!(opened(&key, &sealed), Err(SealError::Unopenable), "{what}");
    }
    let sealed = peer_seal(key.public(), &info(ID), AAD, &good);
    assert_eq!(opened(&key, &sealed), Ok(b"request".to_vec()));
}

#[test]
fn every_changed_bit_and_every_shorter_one_is_refused() {
    let key = OpeningKey::generate().unwrap();
    let (good, _) = seal(b"request", ID, key.public()).unwrap();
    for at in 0..good.sealed.len() {
        let mut sealed = good.clone();
        sealed.sealed[at] ^= 1 << (at % 8);
        assert_eq!(opened(&key, &sealed), Err(SealError::Unopenable), "byte {at}");
        sealed.sealed.truncate(at);
        assert_eq!(opened(&key, &sealed), Err(SealError::Unopenable), "{at} bytes");
    }
    for bit in 0..255 {
        let mut sealed = good.clone();
        sealed.encapsulated[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&key, &sealed), Err(SealError::Unopenable), "bit {bit} of the key");
    }
    // RFC 7748 §6.1: points of small order would make a secret that everybody knows.
    for point in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let sealed = SealedRequest { encapsulated: point, ..good.clone() };
        assert_eq!(opened(&key, &sealed), Err(SealError::Unopenable));
        assert_eq!(seal(b"request", ID, SealingKey::new(point)).err(), Some(SealError::Unsealed));
    }
}

// S-12
#[test]
fn the_length_tells_a_size_class_and_no_more() {
    let key = OpeningKey::generate().unwrap();
    let length = |request: usize| seal(&vec![1; request], ID, key.public()).unwrap().0.sealed.len();
    assert_eq!(length(0), 1024 + 16);
    assert_eq!(length(0), length(1024 - 36));
    assert_eq!(length(1024 - 35), 2048 + 16);
    assert_eq!(length(1024 - 35), length(2048 - 36));
    let most = 95 * 1024 - 36;
    let (sealed, _) = seal(&vec![1; most], ID, key.public()).unwrap();
    let message = message::encode(&ToEnclave::SealedJob(sealed)).unwrap();
    assert!(message.len() <= 96 * 1024, "{} bytes do not fit a control message", message.len());
    let more = seal(&vec![1; most + 1], ID, key.public()).err();
    assert_eq!(more, Some(SealError::TooLarge(most + 1)));
}

/// What an enclave says at the end of a job; its key can only be made by reading it.
fn done(receipt: &[u8]) -> Done {
    let mut bytes = b"\xa2\x63key\x58\x20".to_vec();
    bytes.extend([9; 32]);
    bytes.extend(b"\x67receipt");
    bytes.extend(serde_cbor::to_vec(&serde_bytes::Bytes::new(receipt)).unwrap());
    adyton_shared::cbor::decode(&bytes).unwrap()
}

// S-12
#[test]
fn an_answer_opens_with_the_key_of_its_own_request_only() {
    let key = OpeningKey::generate().unwrap();
    let exchange = || {
        let (sealed, ours) = seal(b"request", ID, key.public()).unwrap();
        (key.open(ID, &sealed).unwrap().reply, ours)
    };
    let (theirs, ours) = exchange();
    let answer = theirs.seal(&done(b"receipt")).unwrap();
    assert_eq!(answer.len(), 1024 + 16);
    assert_eq!(ours.open(&answer), Ok(done(b"receipt")));
    assert_eq!(exchange().1.open(&answer), Err(SealError::Unopenable));
    for at in 0..answer.len() {
        let (theirs, ours) = exchange();
        let mut answer = theirs.seal(&done(b"receipt")).unwrap();
        answer[at] ^= 1;
        assert_eq!(ours.open(&answer), Err(SealError::Unopenable), "byte {at}");
    }
    let (theirs, ours) = exchange();
    let answer = theirs.seal(&done(b"receipt")).unwrap();
    assert_eq!(ours.open(&answer[..answer.len() - 1]), Err(SealError::Unopenable));
}

#[test]
fn keys_are_unprintable() {
    let key = OpeningKey::generate().unwrap();
    let (sealed, reply) = seal(b"request", ID, key.public()).unwrap();
    assert_eq!(format!("{reply:?}"), "ReplyKey(..)");
    assert_eq!(format!("{key:?}"), format!("OpeningKey {{ public: {:?}, .. }}", key.public()));
    assert_eq!(format!("{:?}", key.open(ID, &sealed).unwrap()), "OpenedRequest(..)");
}

proptest! {
    #[test]
    fn any_request_comes_through(request in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let key = OpeningKey::generate().unwrap();
        let (sealed, _) = seal(&request, ID, key.public()).unwrap();
        prop_assert_eq!(sealed.sealed.len() % 1024, 16);
        prop_assert_eq!(opened(&key, &sealed), Ok(request));
    }

    #[test]
    fn no_bytes_make_it_fail_otherwise(
        encapsulated in any::<[u8; 32]>(), sealed in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let key = OpeningKey::generate().unwrap();
        let sealed = SealedRequest { encapsulated, sealed: ByteBuf::from(sealed) };
        prop_assert_eq!(opened(&key, &sealed), Err(SealError::Unopenable));
    }

    #[test]
    fn no_plaintext_makes_it_fail_otherwise(plain in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let key = OpeningKey::generate().unwrap();
        let sealed = peer_seal(key.public(), &info(ID), AAD, &plain);
        if let Ok(request) = opened(&key, &sealed) {
            prop_assert!(plain[36..].starts_with(&request));
        }
    }
}
