//! Messages that official AWS Encryption SDKs wrote; `tests/vectors/esdk/README.md` says which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use adyton_shared::envelope::{EncryptedDataKey, OpenError, Suite, UnverifiedHeader};
use adyton_shared::{DataKey, EncryptionContext};
use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rsa;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::support::{Refusal, data_key, esdk, header, open, open_chunked, open_with};

#[derive(Deserialize)]
struct Vector {
    id: String,
    suite: String,
    frame: u32,
    edks: usize,
    file: String,
    plaintext: String,
    key: WrappingKey,
    context: BTreeMap<String, String>,
    expect: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum WrappingKey {
    Aes { bytes: String, namespace: String, name: String },
    Rsa { padding: String, pem: String, namespace: String, name: String },
}

impl WrappingKey {
    fn unwrap(&self, header: &UnverifiedHeader, extra: &EncryptionContext) -> DataKey {
        let mut keys = header.encrypted_data_keys();
        keys.find_map(|key| self.unwrap_one(&key, header, extra)).expect("a key that unwraps")
    }

    fn unwrap_one(
        &self,
        key: &EncryptedDataKey<'_>,
        header: &UnverifiedHeader,
        extra: &EncryptionContext,
    ) -> Option<DataKey> {
        match self {
            Self::Aes { bytes, namespace, name } if key.provider == namespace => {
                let iv =
                    key.information.strip_prefix(name.as_bytes())?.strip_prefix(b"\0\0\0\x80\0\0\0\x0c")?;
                let pairs = header.context().pairs().chain(extra.pairs());
                let aad = EncryptionContext::from_pairs(pairs).unwrap().serialize_canonical();
                let bytes = hex::decode(bytes).unwrap();
                let algorithm = match bytes.len() {
                    16 => &AES_128_GCM,
                    24 => &AES_192_GCM,
                    _ => &AES_256_GCM,
                };
                let cipher = LessSafeKey::new(UnboundKey::new(algorithm, &bytes).unwrap());
                let nonce = Nonce::try_assume_unique_for_key(iv).ok()?;
                let mut sealed = key.ciphertext.to_vec();
                cipher.open_in_place(nonce, Aad::from(aad), &mut sealed).ok().map(|key| data_key(key))
            }
            Self::Rsa { padding, pem, namespace, name }
                if key.provider == namespace && key.information == name.as_bytes() =>
            {
                Some(data_key(&rsa_decrypt(pem, padding, key.ciphertext)))
            }
            _ => None,
        }
    }
}

fn rsa_decrypt(pem: &str, padding: &str, ciphertext: &[u8]) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = rsa::PrivateDecryptingKey::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
    let mut out = vec![0; key.key_size_bytes()];
    let algorithm = match padding {
        "pkcs1" => {
            let key = rsa::Pkcs1PrivateDecryptingKey::new(key).unwrap();
            return key.decrypt(ciphertext, &mut out).unwrap().to_vec();
        }
        "oaep-sha1" => &rsa::OAEP_SHA1_MGF1SHA1,
        "oaep-sha256" => &rsa::OAEP_SHA256_MGF1SHA256,
        "oaep-sha384" => &rsa::OAEP_SHA384_MGF1SHA384,
        "oaep-sha512" => &rsa::OAEP_SHA512_MGF1SHA512,
        other => panic!("unknown padding {other}"),
    };
    let key = rsa::OaepPrivateDecryptingKey::new(key).unwrap();
    key.decrypt(algorithm, ciphertext, &mut out, None).unwrap().to_vec()
}

fn vectors() -> Vec<Vector> {
    serde_json::from_slice(&fs::read(esdk().join("vectors.json")).unwrap()).unwrap()
}

/// Chunks in which a message arrives: byte by byte, odd, more than it has.
const CHUNKS: [usize; 4] = [1, 7, 4099, 1 << 20];

#[test]
fn every_listed_message_opens_or_is_refused_as_listed() {
    let mut suites = BTreeSet::new();
    let vectors = vectors();
    for vector in &vectors {
        let message = fs::read(esdk().join(&vector.file)).unwrap();
        let plaintext = fs::read(esdk().join(&vector.plaintext)).unwrap();
        let extra = EncryptionContext::from_pairs(vector.context.clone()).unwrap();
        for chunk in CHUNKS {
            let unwrap = |header: &UnverifiedHeader| {
                suites.insert(header.suite());
                assert_eq!(format!("{:04x}", header.suite().id()), vector.suite);
                assert_eq!(header.frame_length().map_or(0, u32::from), vector.frame);
                assert_eq!(header.encrypted_data_keys().count(), vector.edks);
                vector.key.unwrap(header, &extra)
            };
            let opened = open_with(&message, unwrap, &extra, chunk);
            match vector.expect.as_str() {
                "ok" => assert!(opened.is_ok_and(|opened| opened == plaintext), "{}", vector.id),
                // These were written with a wrong header tag.
                "reject" => assert_eq!(opened, Err(Refusal::Open(OpenError::Tampered)), "{}", vector.id),
                other => panic!("{}: unknown expectation {other}", vector.id),
            }
        }
    }
    assert_eq!(vectors.len(), 176);
    assert!(suites.into_iter().eq(Suite::ALL), "a suite has no message");
}

#[test]
fn pairs_that_are_not_stored_must_be_given_exactly() {
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| !vector.context.is_empty() && vector.expect == "ok") {
        let message = fs::read(esdk().join(&vector.file)).unwrap();
        let extra = EncryptionContext::from_pairs(vector.context.clone()).unwrap();
        let other = EncryptionContext::from_pairs(vector.context.keys().map(|key| (key, "other"))).unwrap();
        for wrong in [EncryptionContext::default(), other, extra.clone().with("one", "more").unwrap()] {
            let unwrap = |header: &UnverifiedHeader| vector.key.unwrap(header, &extra);
            let opened = open_with(&message, unwrap, &wrong, message.len());
            assert_eq!(opened, Err(Refusal::Open(OpenError::Tampered)), "{}", vector.id);
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[derive(Deserialize)]
struct KnownAnswers {
    tests: Vec<KnownAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct KnownAnswer {
    ciphertext: String,
    decrypted_dek: String,
    exception: Option<String>,
    plaintext_frames: Option<Vec<String>>,
    status: bool,
    comment: String,
}

// K-8: the refused ones are one ciphertext that opens under two keys.
#[test]
fn messages_open_only_under_the_key_that_they_commit_to() {
    let answers: KnownAnswers =
        serde_json::from_slice(&fs::read(esdk().join("commitment_kat.json")).unwrap()).unwrap();
    let mut refused = 0;
    for answer in &answers.tests {
        let message = STANDARD.decode(&answer.ciphertext).unwrap();
        let key = data_key(&STANDARD.decode(&answer.decrypted_dek).unwrap());
        for chunk in CHUNKS {
            let opened = open_chunked(&message, &key, chunk);
            if answer.status {
                let expected: String = answer.plaintext_frames.iter().flatten().cloned().collect();
                assert_eq!(opened.as_deref(), Ok(expected.as_bytes()), "{}", answer.comment);
            } else {
                assert!(answer.exception.is_some());
                assert_eq!(opened, Err(Refusal::Open(OpenError::Tampered)), "{}", answer.comment);
            }
        }
        refused += usize::from(!answer.status);
    }
    assert_eq!((answers.tests.len(), refused), (46, 5));
}

#[test]
fn a_message_ends_where_it_ends() {
    let answers: KnownAnswers =
        serde_json::from_slice(&fs::read(esdk().join("commitment_kat.json")).unwrap()).unwrap();
    for answer in answers.tests.iter().filter(|answer| answer.status) {
        let message = STANDARD.decode(&answer.ciphertext).unwrap();
        let key = data_key(&STANDARD.decode(&answer.decrypted_dek).unwrap());
        let twice = [message.as_slice(), &message].concat();
        assert_eq!(open(&twice, &key), Err(Refusal::Open(OpenError::Trailing)), "{}", answer.comment);
        let short = &message[..message.len() - 1];
        assert_eq!(open(short, &key), Err(Refusal::Open(OpenError::Truncated)), "{}", answer.comment);
    }
}

#[test]
fn no_changed_byte_of_an_official_message_goes_unnoticed() {
    let mut seen = BTreeSet::new();
    for vector in vectors().iter().filter(|vector| vector.expect == "ok" && vector.context.is_empty()) {
        // One framed and one unframed message of each suite.
        if !seen.insert((vector.suite.clone(), vector.frame == 0)) {
            continue;
        }
        let message = fs::read(esdk().join(&vector.file)).unwrap();
        let (genuine, body) = header(&message).unwrap();
        let key = vector.key.unwrap(&genuine, &EncryptionContext::default());
        assert!(open(&message, &key).is_ok());
        // All of the header, the first frame's start, the last tag and the footer.
        let positions = (0..body + 64).chain(message.len() - 130..message.len());
        for position in positions {
            let mut changed = message.clone();
            changed[position] ^= 0x10;
            assert!(open(&changed, &key).is_err(), "{} {position}", vector.id);
        }
    }
    assert_eq!(seen.iter().filter(|(_, unframed)| !unframed).count(), Suite::ALL.len());
}
