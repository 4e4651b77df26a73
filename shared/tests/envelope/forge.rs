//! A sender who holds the data key and still must not get an impossible message opened.

use adyton_shared::envelope::Suite;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};

struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

const MESSAGE_ID: [u8; 32] = [9; 32];

/// Seals whatever it is told, correctly, with suite 0x0478 and no context.
pub(crate) struct Forger {
    cipher: LessSafeKey,
    commitment: [u8; 32],
}

impl Forger {
    pub(crate) fn new(data_key: &[u8]) -> Self {
        let prk = Salt::new(HKDF_SHA512, &MESSAGE_ID).extract(data_key);
        let (mut key, mut commitment) = ([0; 32], [0; 32]);
        prk.expand(&[b"\x04\x78DERIVEKEY"], Bytes(32)).unwrap().fill(&mut key).unwrap();
        prk.expand(&[b"COMMITKEY"], Bytes(32)).unwrap().fill(&mut commitment).unwrap();
        Self { cipher: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap()), commitment }
    }

    /// A header with a frame length; zero is unframed.
    pub(crate) fn header(&self, frame_length: u32) -> Vec<u8> {
        let mut header = vec![2];
        header.extend(Suite::Aes256Commit.id().to_be_bytes());
        header.extend(MESSAGE_ID);
        header.extend(b"\0\0\0\x01\0\x01p\0\0\0\0");
        header.push(if frame_length == 0 { 1 } else { 2 });
        header.extend(frame_length.to_be_bytes());
        header.extend(self.commitment);
        let tag = self.seal([0; 12], &header, b"");
        header.extend(tag);
        header
    }

    pub(crate) fn regular(&self, sequence: u32, plaintext: &[u8]) -> Vec<u8> {
        let sealed = self.piece("Frame", sequence, plaintext);
        [&sequence.to_be_bytes(), &iv(sequence)[..], &sealed].concat()
    }

    pub(crate) fn last(&self, sequence: u32, plaintext: &[u8]) -> Vec<u8> {
        let sealed = self.piece("Final Frame", sequence, plaintext);
        let length = u32::try_from(plaintext.len()).unwrap().to_be_bytes();
        [&[0xff; 4], &sequence.to_be_bytes()[..], &iv(sequence), &length, &sealed].concat()
    }

    pub(crate) fn unframed(&self, plaintext: &[u8]) -> Vec<u8> {
        let sealed = self.piece("Single Block", 1, plaintext);
        [&iv(1), &(plaintext.len() as u64).to_be_bytes()[..], &sealed].concat()
    }

    fn piece(&self, label: &str, sequence: u32, plaintext: &[u8]) -> Vec<u8> {
        let mut aad = MESSAGE_ID.to_vec();
        aad.extend(format!("AWSKMSEncryptionClient {label}").bytes());
        aad.extend(sequence.to_be_bytes());
        aad.extend((plaintext.len() as u64).to_be_bytes());
        self.seal(iv(sequence), &aad, plaintext)
    }

    fn seal(&self, iv: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = plaintext.to_vec();
        let nonce = Nonce::assume_unique_for_key(iv);
        self.cipher.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).unwrap();
        sealed
    }
}

fn iv(sequence: u32) -> [u8; 12] {
    *u128::from(sequence).to_be_bytes().last_chunk().unwrap()
}
