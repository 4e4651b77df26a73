//! `CiphertextForRecipient`: what KMS really wrote opens, and nothing else does.
//!
//! The vectors are described in `vectors/cms/README.md`. Everything else is built here, part by
//! part, so that each part can be wrong.

use adyton_enclave::cms::{CmsError, EnvelopedData, MAX_ENVELOPE_BYTES};
use adyton_shared::id::Sha256Digest;
use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const KMS_12: &[u8] = include_bytes!("vectors/cms/kms-12-bytes.ber");
const KMS_12_KEY: &[u8] = include_bytes!("vectors/cms/kms-12-bytes.key.der");
const KMS_32: &[u8] = include_bytes!("vectors/cms/kms-32-bytes.ber");
const KMS_32_KEY: &[u8] = include_bytes!("vectors/cms/kms-32-bytes.key.der");
const DEFINITE: &[u8] = include_bytes!("vectors/cms/openssl-definite.der");
const TWO_CHUNKS: &[u8] = include_bytes!("vectors/cms/openssl-two-chunks.ber");
const OPENSSL_CONTENT: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A recipient as the enclave is one.
struct Recipient {
    private: OaepPrivateDecryptingKey,
    public: OaepPublicEncryptingKey,
    id: [u8; 32],
}

impl Recipient {
    fn from_pkcs8(key: &[u8]) -> Self {
        let key = PrivateDecryptingKey::from_pkcs8(key).unwrap();
        let id = *Sha256Digest::of(key.public_key().as_der().unwrap().as_ref()).as_bytes();
        let public = OaepPublicEncryptingKey::new(key.public_key()).unwrap();
        Self { private: OaepPrivateDecryptingKey::new(key).unwrap(), public, id }
    }

    fn of_vectors() -> Self {
        Self::from_pkcs8(KMS_32_KEY)
    }

    fn open(&self, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        EnvelopedData::parse(envelope)?.open(&self.id, |encrypted| {
            let mut buffer = vec![0; self.private.min_output_size()];
            let plain = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut buffer, None).ok()?;
            Some(Zeroizing::new(plain.to_vec()))
        })
    }
}

#[test]
fn what_kms_wrote_opens_with_the_key_it_was_sealed_to() {
    let (first, second) = (Recipient::from_pkcs8(KMS_12_KEY), Recipient::of_vectors());
    assert_eq!(**first.open(KMS_12).unwrap(), *b"Hello, World");
    assert_eq!(second.open(KMS_32).unwrap().len(), 32);
    assert_eq!(first.open(KMS_32), Err(CmsError::OtherRecipient));
    assert_eq!(second.open(KMS_12), Err(CmsError::OtherRecipient));
}

#[test]
fn what_openssl_wrote_opens_in_both_of_its_forms() {
    let recipient = Recipient::of_vectors();
    for envelope in [DEFINITE, TWO_CHUNKS] {
        assert_eq!(**recipient.open(envelope).unwrap(), *OPENSSL_CONTENT);
    }
}

#[test]
fn the_key_identifier_is_the_hash_of_the_whole_public_key() {
    assert_eq!(*EnvelopedData::parse(KMS_32).unwrap().key_id(), Recipient::of_vectors().id);
}

#[test]
fn every_truncation_and_every_byte_too_many_is_refused() {
    for envelope in [KMS_12, KMS_32, DEFINITE, TWO_CHUNKS] {
        for length in 0..envelope.len() {
            let cut = EnvelopedData::parse(&envelope[..length]);
            assert!(matches!(cut, Err(CmsError::Malformed(_))), "{length}");
        }
        for more in [&b"\0"[..], b"\0\0", envelope] {
            let longer = [envelope, more].concat();
            assert!(matches!(EnvelopedData::parse(&longer), Err(CmsError::Malformed(_))));
        }
    }
}

#[test]
fn no_flipped_bit_leaves_an_envelope_that_opens_to_the_same() {
    let recipient = Recipient::of_vectors();
    for envelope in [KMS_32, DEFINITE] {
        let content = recipient.open(envelope).unwrap();
        for bit in 0..envelope.len() * 8 {
            let mut flipped = envelope.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // CBC authenticates nothing: a flipped vector opens to another key, which opens no message.
            assert_ne!(recipient.open(&flipped).as_ref(), Ok(&content), "bit {bit}");
        }
    }
}

/// An envelope of which every part can be replaced.
#[derive(Clone)]
struct Parts {
    content_type: &'static str,
    version: u8,
    before_recipients: Vec<u8>,
    recipients: Vec<Vec<u8>>,
    inner_type: &'static str,
    content_algorithm: Vec<u8>,
    content: Vec<u8>,
    after_content: Vec<u8>,
    indefinite: [bool; 4],
}

#[derive(Clone)]
struct Ktri {
    version: u8,
    id: Vec<u8>,
    algorithm: Vec<u8>,
    encrypted_key: Vec<u8>,
}

const ENVELOPED: &str = "06092a864886f70d010703";
const DATA: &str = "06092a864886f70d010701";
const SHA_256: &str = "300d06096086480165030402010500";
const SHA_1: &str = "300906052b0e03021a0500";
const IV: [u8; 16] = [0x44; 16];
const CONTENT_KEY: [u8; 32] = [0x33; 32];

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..=0x7f => vec![u8::try_from(short).unwrap()],
        long @ 0x80..=0xff => vec![0x81, u8::try_from(long).unwrap()],
        longer => [&[0x82][..], &u16::try_from(longer).unwrap().to_be_bytes()].concat(),
    };
    [&[tag][..], &length, content].concat()
}

fn indefinite(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x80][..], content, &[0, 0]].concat()
}

fn framed(is_indefinite: bool, tag: u8, content: &[u8]) -> Vec<u8> {
    if is_indefinite { indefinite(tag, content) } else { element(tag, content) }
}

fn oaep(hash: &str, mask_hash: &str, more: &str) -> Vec<u8> {
    let mgf1 = element(0x30, &[hex("06092a864886f70d010108"), hex(mask_hash)].concat());
    let parameters = [element(0xa0, &hex(hash)), element(0xa1, &mgf1), hex(more)].concat();
    element(0x30, &[hex("06092a864886f70d010107"), element(0x30, &parameters)].concat())
}

fn cbc(content: &[u8]) -> Vec<u8> {
    let key = UnboundCipherKey::new(&AES_256, &CONTENT_KEY).unwrap();
    let mut ciphertext = content.to_vec();
    let iv = EncryptionContext::Iv128(FixedLength::from(IV));
    PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap().less_safe_encrypt(&mut ciphertext, iv).unwrap();
    ciphertext
}

fn ktri(recipient: &Recipient, content_key: &[u8]) -> Ktri {
    let mut encrypted_key = vec![0; recipient.public.ciphertext_size()];
    recipient.public.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut encrypted_key, None).unwrap();
    Ktri { version: 2, id: recipient.id.to_vec(), algorithm: oaep(SHA_256, SHA_256, ""), encrypted_key }
}

impl Ktri {
    fn to_der(&self) -> Vec<u8> {
        let Self { version, id, algorithm, encrypted_key } = self;
        let parts =
            [element(0x02, &[*version]), element(0x80, id), algorithm.clone(), element(0x04, encrypted_key)];
        element(0x30, &parts.concat())
    }
}

impl Parts {
    /// As KMS writes it, in its second form: the content as one primitive string.
    fn good(recipient: &Recipient, content: &[u8]) -> Self {
        Self {
            content_type: ENVELOPED,
            version: 2,
            before_recipients: Vec::new(),
            recipients: vec![ktri(recipient, &CONTENT_KEY).to_der()],
            inner_type: DATA,
            content_algorithm: [hex("060960864801650304012a"), element(0x04, &IV)].concat(),
            content: element(0x80, &cbc(content)),
            after_content: Vec::new(),
            indefinite: [true; 4],
        }
    }

    fn to_ber(&self) -> Vec<u8> {
        let [outer, explicit, enveloped, inner] = self.indefinite;
        let content = [hex(self.inner_type), element(0x30, &self.content_algorithm), self.content.clone()];
        let data = [
            element(0x02, &[self.version]),
            self.before_recipients.clone(),
            element(0x31, &self.recipients.concat()),
            framed(inner, 0x30, &content.concat()),
            self.after_content.clone(),
        ];
        let data = framed(enveloped, 0x30, &data.concat());
        framed(outer, 0x30, &[hex(self.content_type), framed(explicit, 0xa0, &data)].concat())
    }
}

fn with(change: impl FnOnce(&mut Parts, &Recipient)) -> Vec<u8> {
    let recipient = Recipient::of_vectors();
    let mut parts = Parts::good(&recipient, &[7; 32]);
    change(&mut parts, &recipient);
    parts.to_ber()
}

fn with_ktri(change: impl FnOnce(&mut Ktri)) -> Vec<u8> {
    with(|parts, recipient| {
        let mut one = ktri(recipient, &CONTENT_KEY);
        change(&mut one);
        parts.recipients = vec![one.to_der()];
    })
}

#[test]
fn a_primitive_content_opens_in_either_framing() {
    let recipient = Recipient::of_vectors();
    for indefinite in [[true; 4], [false; 4]] {
        let envelope = with(|parts, _| parts.indefinite = indefinite);
        assert_eq!(**recipient.open(&envelope).unwrap(), [7; 32]);
    }
}

#[test]
fn hash_parameters_may_be_null_or_absent() {
    let bare = "300b0609608648016503040201";
    let envelope = with_ktri(|ktri| ktri.algorithm = oaep(bare, bare, ""));
    assert_eq!(**Recipient::of_vectors().open(&envelope).unwrap(), [7; 32]);
}

// K-19
#[test]
fn other_versions_and_other_recipients_are_refused() {
    for (what, envelope) in [
        ("version 0", with(|parts, _| parts.version = 0)),
        ("version 3", with(|parts, _| parts.version = 3)),
        ("recipient version 0", with_ktri(|ktri| ktri.version = 0)),
        ("no recipient", with(|parts, _| parts.recipients.clear())),
        ("the recipient twice", with(|parts, _| parts.recipients.push(parts.recipients[0].clone()))),
        (
            "a decoy before it",
            with(|parts, _| {
                let decoy = ktri(&Recipient::from_pkcs8(KMS_12_KEY), &CONTENT_KEY).to_der();
                parts.recipients.insert(0, decoy);
            }),
        ),
        (
            "issuer and serial number",
            with(|parts, recipient| {
                let one = ktri(recipient, &CONTENT_KEY);
                let name = element(0x30, &[element(0x30, &[]), element(0x02, &[1])].concat());
                let body = [element(0x02, &[0]), name, one.algorithm, element(0x04, &one.encrypted_key)];
                parts.recipients = vec![element(0x30, &body.concat())];
            }),
        ),
        ("key agreement", with(|parts, _| parts.recipients[0][0] = 0xa1)),
        ("SHA-1 key identifier", with_ktri(|ktri| ktri.id.truncate(20))),
        ("originator", with(|parts, _| parts.before_recipients = element(0xa0, &[]))),
        ("attributes", with(|parts, _| parts.after_content = element(0xa1, &[]))),
    ] {
        assert!(matches!(EnvelopedData::parse(&envelope), Err(CmsError::Malformed(_))), "{what}");
    }
}

// K-11
#[test]
fn other_algorithms_are_refused() {
    let rsa = |parameters: &str| element(0x30, &[hex("06092a864886f70d010107"), hex(parameters)].concat());
    let aes = |oid: &str| [hex(oid), element(0x04, &IV)].concat();
    for (what, envelope) in [
        ("OAEP by default, SHA-1", with_ktri(|ktri| ktri.algorithm = rsa("3000"))),
        ("OAEP without parameters", with_ktri(|ktri| ktri.algorithm = rsa(""))),
        ("OAEP with NULL", with_ktri(|ktri| ktri.algorithm = rsa("0500"))),
        ("OAEP with SHA-1", with_ktri(|ktri| ktri.algorithm = oaep(SHA_1, SHA_256, ""))),
        ("MGF1 with SHA-1", with_ktri(|ktri| ktri.algorithm = oaep(SHA_256, SHA_1, ""))),
        (
            "a label",
            with_ktri(|ktri| {
                ktri.algorithm = oaep(SHA_256, SHA_256, "a210300e06092a864886f70d0101090401aa");
            }),
        ),
        ("PKCS#1 1.5", with_ktri(|ktri| ktri.algorithm = hex("300d06092a864886f70d0101010500"))),
        ("RSA-3072", with_ktri(|ktri| ktri.encrypted_key = vec![1; 384])),
        ("AES-128", with(|parts, _| parts.content_algorithm = aes("0609608648016503040102"))),
        ("AES-256-GCM", with(|parts, _| parts.content_algorithm = aes("060960864801650304012e"))),
        (
            "a short vector",
            with(|parts, _| {
                parts.content_algorithm = [hex("060960864801650304012a"), element(0x04, &[1; 15])].concat();
            }),
        ),
        ("signed data", with(|parts, _| parts.content_type = "06092a864886f70d010702")),
        ("nested envelope", with(|parts, _| parts.inner_type = ENVELOPED)),
    ] {
        assert!(matches!(EnvelopedData::parse(&envelope), Err(CmsError::Malformed(_))), "{what}");
    }
}

// K-19
#[test]
fn odd_contents_and_odd_encodings_are_refused() {
    let ciphertext = cbc(&[7; 32]);
    let chunk = element(0x04, &ciphertext);
    for (what, content) in [
        ("none", Vec::new()),
        ("empty", element(0x80, &[])),
        ("half a block", element(0x80, &ciphertext[..40])),
        ("two strings", [element(0x80, &ciphertext), element(0x80, &ciphertext)].concat()),
        ("no chunk", indefinite(0xa0, &[])),
        ("an empty chunk", indefinite(0xa0, &[element(0x04, &[]), chunk.clone()].concat())),
        ("chunks within chunks", indefinite(0xa0, &indefinite(0x24, &chunk))),
        ("a definite shell", element(0xa0, &chunk)),
        ("a longer length than needed", [&[0x80, 0x81, 48][..], &ciphertext].concat()),
        ("a length with a leading zero", [&[0x80, 0x82, 0, 48][..], &ciphertext].concat()),
        ("a length of four bytes", [&[0x80, 0x84, 0, 0, 0, 48][..], &ciphertext].concat()),
        ("a length past the end", [&[0x80, 0x82, 0xff, 0xff][..], &ciphertext].concat()),
    ] {
        let envelope = with(|parts, _| parts.content = content);
        assert!(matches!(EnvelopedData::parse(&envelope), Err(CmsError::Malformed(_))), "{what}");
    }
    for bits in 1..15 {
        let mixed = [0, 1, 2, 3].map(|at| bits >> at & 1 == 1);
        let envelope = with(|parts, _| parts.indefinite = mixed);
        assert!(matches!(EnvelopedData::parse(&envelope), Err(CmsError::Malformed(_))), "{mixed:?}");
    }
}

#[test]
fn more_than_kms_can_send_is_not_looked_at() {
    let long = vec![0x30; MAX_ENVELOPE_BYTES + 1];
    let error = EnvelopedData::parse(&long).unwrap_err();
    assert_eq!(error, CmsError::TooLarge { bytes: MAX_ENVELOPE_BYTES + 1 });
}

//
#[test]
fn whatever_fails_inside_is_one_error() {
    let recipient = Recipient::of_vectors();
    let sealed_key = |content_key: &[u8]| {
        with(|parts, recipient| parts.recipients = vec![ktri(recipient, content_key).to_der()])
    };
    for (what, envelope) in [
        ("no OAEP at all", with_ktri(|ktri| ktri.encrypted_key = vec![1; 256])),
        ("a number above the modulus", with_ktri(|ktri| ktri.encrypted_key = vec![0xff; 256])),
        ("another content key", sealed_key(&[9; 32])),
        ("a content key of 16 bytes", sealed_key(&[9; 16])),
        ("an empty content key", sealed_key(&[])),
        ("bad padding", with(|parts, _| parts.content = element(0x80, &[0x5a; 48]))),
    ] {
        assert_eq!(recipient.open(&envelope), Err(CmsError::Unopened), "{what}");
    }
}

#[test]
fn an_envelope_prints_none_of_the_content_key() {
    let text = format!("{:?}", EnvelopedData::parse(KMS_12).unwrap());
    assert!(!text.contains("Hello"), "{text}");
}

proptest! {
    // K-19
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = EnvelopedData::parse(&bytes);
    }

    // K-19
    #[test]
    fn damaged_envelopes_never_panic(
        which in 0..4_usize,
        edits in proptest::collection::vec((0..500_usize, any::<u8>(), 0..4_u8), 1..8),
    ) {
        let mut bytes = [KMS_12, KMS_32, DEFINITE, TWO_CHUNKS][which].to_vec();
        for (at, byte, edit) in edits {
            let at = at % bytes.len();
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Ok(envelope) = EnvelopedData::parse(&bytes) {
            let id = *envelope.key_id();
            let _ = envelope.open(&id, |_| Some(Zeroizing::new(vec![1; 32])));
        }
    }

    #[test]
    fn any_content_comes_back_in_any_form(
        content in proptest::collection::vec(any::<u8>(), 0..4097),
        cuts in proptest::collection::vec(1..4096_usize, 0..4),
        form in 0..3_u8,
    ) {
        let mut parts = Parts::good(&Recipient::of_vectors(), &content);
        let mut rest = cbc(&content);
        match form {
            0 => parts.indefinite = [false; 4],
            1 => {}
            _ => {
                let mut chunks = Vec::new();
                for cut in cuts.into_iter().filter(|cut| *cut < 2048) {
                    if cut < rest.len() {
                        let tail = rest.split_off(cut);
                        chunks.extend(element(0x04, &rest));
                        rest = tail;
                    }
                }
                chunks.extend(element(0x04, &rest));
                parts.content = indefinite(0xa0, &chunks);
            }
        }
        prop_assert_eq!(&**Recipient::of_vectors().open(&parts.to_ber()).unwrap(), &content);
    }
}
