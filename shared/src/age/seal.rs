//! Writes an age file for one X25519 recipient, chunk by chunk.
//!
//! ```text
//! age-encryption.org/v1
//! -> X25519 EPHEMERAL-SHARE
//! WRAPPED-FILE-KEY
//! --- MAC
//! nonce (16) | chunk of 64 KiB + tag (16) | … | last chunk + tag
//! ```
//!
//! Every file has a file key, an ephemeral key and a nonce of its own; all keys are wiped or live in
//! the cipher that they were made for. Source: C2SP `age.md`, "Header", "X25519 recipient stanza", "Payload".

use std::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{self, HKDF_SHA256, Salt};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::AgeRecipient;
use crate::chunks::Chunks;

/// Length of every chunk of plaintext but the last.
const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;
const FILE_KEY_BYTES: usize = 16;
const PAYLOAD_NONCE_BYTES: usize = 16;
const VERSION_LINE: &str = "age-encryption.org/v1\n";
const WRAP_LABEL: &[u8] = b"age-encryption.org/v1/X25519";

/// The random source or the cipher failed, or the recipient's key has no secret half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the age file could not be written")]
pub struct AgeError;

impl From<Unspecified> for AgeError {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// Seals one file.
pub struct AgeSealer {
    cipher: LessSafeKey,
    counter: u64,
    chunks: Chunks,
}

impl AgeSealer {
    /// Appends the header to `out`.
    ///
    /// # Errors
    /// [`AgeError`].
    pub fn new(recipient: &AgeRecipient, out: &mut Vec<u8>) -> Result<Self, AgeError> {
        let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
        rand::fill(file_key.as_mut_slice())?;
        out.extend_from_slice(header(recipient, &file_key)?.as_bytes());
        let mut nonce = [0; PAYLOAD_NONCE_BYTES];
        rand::fill(&mut nonce)?;
        out.extend_from_slice(&nonce);
        let salt = Salt::new(HKDF_SHA256, &nonce);
        let cipher = derive_cipher(&salt, file_key.as_slice(), b"payload")?;
        Ok(Self { cipher, counter: 0, chunks: Chunks::new(CHUNK_BYTES) })
    }

    /// Takes plaintext and appends what is sealed of it.
    ///
    /// # Errors
    /// [`AgeError`].
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), AgeError> {
        let Self { cipher, counter, chunks } = self;
        chunks.push(plaintext, |chunk| {
            seal(cipher, *counter, Last::No, chunk, out)?;
            *counter = counter.checked_add(1).ok_or(AgeError)?;
            Ok(())
        })
    }

    /// Appends the last chunk, which is empty only if the whole file is.
    ///
    /// # Errors
    /// [`AgeError`].
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), AgeError> {
        let Self { cipher, counter, chunks } = self;
        seal(&cipher, counter, Last::Yes, &chunks.finish(), out)
    }
}

#[derive(Clone, Copy)]
enum Last {
    No,
    Yes,
}

/// STREAM: the nonce is the chunk's number in 11 bytes and whether it is the last.
fn seal(
    cipher: &LessSafeKey,
    counter: u64,
    last: Last,
    chunk: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), AgeError> {
    let last = u128::from(matches!(last, Last::Yes));
    let nonce = (u128::from(counter) << 8 | last).to_be_bytes();
    let nonce = nonce.last_chunk::<12>().ok_or(AgeError)?;
    let start = out.len();
    out.resize(start.saturating_add(chunk.len()).saturating_add(TAG_BYTES), 0);
    let sealed = out.get_mut(start..).and_then(|sealed| sealed.split_at_mut_checked(chunk.len()));
    let (ciphertext, tag) = sealed.ok_or(AgeError)?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    Ok(cipher.seal_out_of_place_scatter(nonce, Aad::empty(), chunk, ciphertext, &[], tag)?)
}

/// The header with its MAC.
fn header(recipient: &AgeRecipient, file_key: &[u8; FILE_KEY_BYTES]) -> Result<String, AgeError> {
    let ephemeral = PrivateKey::generate(&X25519)?;
    let share = ephemeral.compute_public_key()?;
    let salt = [share.as_ref(), recipient.key()].concat();
    let peer = UnparsedPublicKey::new(&X25519, recipient.key());
    // Fails for a shared secret of zeros, too (RFC 7748 §6.1).
    let wrapping = agree(&ephemeral, peer, AgeError, |shared| {
        derive_cipher(&Salt::new(HKDF_SHA256, &salt), shared, WRAP_LABEL)
    })?;
    let mut wrapped = vec![0; FILE_KEY_BYTES.saturating_add(TAG_BYTES)];
    let (ciphertext, tag) = wrapped.split_at_mut_checked(FILE_KEY_BYTES).ok_or(AgeError)?;
    // The wrapping key is used once, so its nonce is zero.
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    wrapping.seal_out_of_place_scatter(nonce, Aad::empty(), file_key, ciphertext, &[], tag)?;

    let (share, wrapped) = (STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(wrapped));
    let mut header = format!("{VERSION_LINE}-> X25519 {share}\n{wrapped}\n---");
    let mut mac_key = Zeroizing::new([0; 32]);
    expand(&Salt::none(HKDF_SHA256), file_key, b"header", mac_key.as_mut_slice())?;
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, mac_key.as_slice()), header.as_bytes());
    header.push(' ');
    header.push_str(&STANDARD_NO_PAD.encode(mac));
    header.push('\n');
    Ok(header)
}

fn derive_cipher(salt: &Salt, secret: &[u8], label: &[u8]) -> Result<LessSafeKey, AgeError> {
    let mut key = Zeroizing::new([0; 32]);
    expand(salt, secret, label, key.as_mut_slice())?;
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_slice())?))
}

fn expand(salt: &Salt, secret: &[u8], label: &[u8], out: &mut [u8]) -> Result<(), Unspecified> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    salt.extract(secret).expand(&[label], Length(out.len()))?.fill(out)
}

impl fmt::Debug for AgeSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgeSealer").field("counter", &self.counter).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a file as the specification says, with the private key.
    #[expect(clippy::arithmetic_side_effects, reason = "positions in a small file, in a test")]
    fn open(private: &PrivateKey, file: &[u8]) -> Option<Vec<u8>> {
        let header_end = file.windows(4).position(|w| w == b"\n---")? + 1;
        let text = std::str::from_utf8(&file[..header_end]).ok()?;
        let mut lines = text.lines();
        assert_eq!(lines.next()?, "age-encryption.org/v1");
        let share = STANDARD_NO_PAD.decode(lines.next()?.strip_prefix("-> X25519 ")?).ok()?;
        let wrapped = STANDARD_NO_PAD.decode(lines.next()?).ok()?;
        assert_eq!(lines.next(), None);
        let own = private.compute_public_key().ok()?;
        let salt = Salt::new(HKDF_SHA256, &[share.as_slice(), own.as_ref()].concat());
        let peer = UnparsedPublicKey::new(&X25519, &share);
        let unwrap =
            agree(private, peer, AgeError, |shared| derive_cipher(&salt, shared, WRAP_LABEL)).ok()?;
        let mut file_key = wrapped;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let file_key = unwrap.open_in_place(nonce, Aad::empty(), &mut file_key).ok()?;
        let (mac, payload) = file[header_end + 4..].split_at(43);
        let mut key = [0; 32];
        expand(&Salt::none(HKDF_SHA256), file_key, b"header", &mut key).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::verify(&key, &file[..header_end + 3], &STANDARD_NO_PAD.decode(mac).ok()?).ok()?;
        let payload = payload.strip_prefix(b"\n")?;
        let (nonce, mut payload) = payload.split_at(16);
        let cipher = derive_cipher(&Salt::new(HKDF_SHA256, nonce), file_key, b"payload").ok()?;
        let (mut plain, mut number) = (Vec::new(), 0_u64);
        loop {
            let last = payload.len() <= CHUNK_BYTES + TAG_BYTES;
            let (chunk, rest) = payload.split_at(payload.len().min(CHUNK_BYTES + TAG_BYTES));
            let mut nonce = [0; 12];
            nonce[3..11].copy_from_slice(&number.to_be_bytes());
            nonce[11] = u8::from(last);
            let mut chunk = chunk.to_vec();
            let nonce = Nonce::assume_unique_for_key(nonce);
            let opened = cipher.open_in_place(nonce, Aad::empty(), &mut chunk).ok()?;
            assert!(!opened.is_empty() || number == 0, "an empty chunk ends a file that has others");
            plain.extend_from_slice(opened);
            if last {
                return Some(plain);
            }
            (payload, number) = (rest, number + 1);
        }
    }

    /// A recipient whose private key the test has.
    fn pair() -> (PrivateKey, AgeRecipient) {
        let private = PrivateKey::generate(&X25519).unwrap();
        let public = private.compute_public_key().unwrap();
        let text = super::super::recipient::tests::encode(public.as_ref().try_into().unwrap(), 0);
        (private, AgeRecipient::parse(&text).unwrap())
    }

    fn seal_file(recipient: &AgeRecipient, plaintext: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = AgeSealer::new(recipient, &mut out).unwrap();
        for part in plaintext.chunks(piece) {
            sealer.push(part, &mut out).unwrap();
        }
        sealer.finish(&mut out).unwrap();
        out
    }

    #[test]
    fn files_of_every_boundary_open_again() {
        let (private, recipient) = pair();
        for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073] {
            let plaintext: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            for piece in [1_000, 65_536, 200_000] {
                let file = seal_file(&recipient, &plaintext, piece);
                assert_eq!(
                    open(&private, &file).as_deref(),
                    Some(plaintext.as_slice()),
                    "{length} in {piece}"
                );
                assert_eq!(open(&pair().0, &file), None, "another identity");
            }
        }
    }

    #[test]
    fn no_two_files_share_a_key() {
        let (_, recipient) = pair();
        let (a, b) = (seal_file(&recipient, b"same", 9), seal_file(&recipient, b"same", 9));
        assert_eq!(a.len(), b.len());
        assert_ne!(a[30..90], b[30..90], "ephemeral shares");
        assert_ne!(a[a.len() - 20..], b[b.len() - 20..]);
        let windows: std::collections::HashSet<_> = a[22..].windows(16).collect();
        assert!(b[60..].windows(16).all(|window| !windows.contains(window)));
    }

    #[test]
    fn a_sealer_is_unprintable() {
        let mut out = Vec::new();
        let sealer = AgeSealer::new(&pair().1, &mut out).unwrap();
        assert_eq!(format!("{sealer:?}"), "AgeSealer { counter: 0, .. }");
    }
}
