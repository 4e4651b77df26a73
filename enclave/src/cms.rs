//! `CiphertextForRecipient`: CMS `EnvelopedData` (RFC 5652 §6) as KMS writes it.
//!
//! KMS answers in BER with indefinite lengths; its content comes in one or more
//! OCTET STRINGs or as one primitive string. These forms and strict DER are read
//! and nothing else: exactly one recipient, named by its key, RSAES-OAEP with
//! SHA-256 spelled out, AES-256-CBC. The depth is that of this code, not of the
//! input. Nothing here is authenticated by itself: the caller trusts the TLS
//! session to KMS, and the data key proves itself by opening its message.
//!
//! ```text
//! ContentInfo            30  06 id-envelopedData
//!  └ [0]                 a0
//!     └ EnvelopedData    30  02 01 02
//!        ├ SET of one    31
//!        │  └ ktri       30  02 01 02 · 80 key id · 30 OAEP · 04 encrypted key
//!        └ content       30  06 id-data · 30 AES-256-CBC, IV · a0 {04 …} or 80 …
//! ```

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

/// Longest envelope that is read, in bytes; the KMS API allows 6144 for `CiphertextForRecipient`.
pub const MAX_ENVELOPE_BYTES: usize = 6144;

/// Length of a key encrypted to an RSA-2048 recipient, in bytes.
const ENCRYPTED_KEY_BYTES: usize = 256;
/// Length of the AES-256 content key, in bytes.
const CONTENT_KEY_BYTES: usize = 32;
const AES_BLOCK_BYTES: usize = 16;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const NULL: [u8; 2] = [0x05, 0x00];
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0_PRIMITIVE: u8 = 0x80;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;
const INDEFINITE: u8 = 0x80;
const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// 1.2.840.113549.1.7.3 (RFC 5652 §6.1)
const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
/// 1.2.840.113549.1.7.1 (RFC 5652 §4)
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.1.7 (RFC 4055 §4.1)
const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
/// 1.2.840.113549.1.1.8 (RFC 4055 §2.2)
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
/// 2.16.840.1.101.3.4.2.1 (RFC 4055 §2.1)
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 2.16.840.1.101.3.4.1.42 (RFC 3565 §4.1)
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

/// Why an envelope was not read or not opened. All become one code outside (X-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmsError {
    /// Longer than [`MAX_ENVELOPE_BYTES`].
    #[error("an envelope of {bytes} bytes is over the limit of {MAX_ENVELOPE_BYTES}")]
    TooLarge {
        /// Length in bytes.
        bytes: usize,
    },
    /// Not one of the forms that are read.
    #[error("the envelope is not in a form that KMS writes: {0}")]
    Malformed(&'static str),
    /// Addressed to another key.
    #[error("the envelope is for another recipient key")]
    OtherRecipient,
    /// The content key or the content could not be decrypted; which one is not said.
    #[error("the envelope could not be opened")]
    Unopened,
}

/// An envelope that has been read and not yet opened.
#[derive(Debug)]
pub struct EnvelopedData<'a> {
    key_id: [u8; 32],
    encrypted_key: &'a [u8],
    iv: [u8; AES_BLOCK_BYTES],
    ciphertext: Vec<u8>,
}

impl<'a> EnvelopedData<'a> {
    /// Reads an envelope; every byte must be accounted for.
    ///
    /// # Errors
    /// [`CmsError::TooLarge`] and [`CmsError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CmsError> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(CmsError::TooLarge { bytes: bytes.len() });
        }
        let framing = if bytes.get(1) == Some(&INDEFINITE) { Framing::Indefinite } else { Framing::Definite };
        let mut reader = Reader { rest: bytes };
        let envelope = reader.framed(framing, SEQUENCE, |info| {
            info.oid(ENVELOPED_DATA)?;
            info.framed(framing, CONTEXT_0, |explicit| {
                explicit.framed(framing, SEQUENCE, |enveloped| {
                    enveloped.version_2()?;
                    let (key_id, encrypted_key) = enveloped.only_recipient()?;
                    let (iv, ciphertext) = enveloped.content(framing)?;
                    Ok(Self { key_id, encrypted_key, iv, ciphertext })
                })
            })
        })?;
        reader.end("bytes after the envelope")?;
        Ok(envelope)
    }

    /// SHA-256 of the recipient's `SubjectPublicKeyInfo`, as the envelope names it.
    pub fn key_id(&self) -> &[u8; 32] {
        &self.key_id
    }

    /// Opens the content with the recipient's private key behind `unwrap`, which
    /// turns the RSA-OAEP ciphertext into the content key or nothing.
    ///
    /// # Errors
    /// [`CmsError::OtherRecipient`], or [`CmsError::Unopened`] for whatever else fails: a wrong
    /// OAEP padding, a wrong content key and a wrong CBC padding are one error.
    pub fn open(
        self,
        key_id: &[u8; 32],
        unwrap: impl FnOnce(&[u8]) -> Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        if self.key_id != *key_id {
            return Err(CmsError::OtherRecipient);
        }
        let content_key = unwrap(self.encrypted_key)
            .filter(|key| key.len() == CONTENT_KEY_BYTES)
            .ok_or(CmsError::Unopened)?;
        let mut content = Zeroizing::new(self.ciphertext);
        let length = decrypt_cbc(&content_key, self.iv, &mut content).ok_or(CmsError::Unopened)?;
        content.truncate(length);
        Ok(content)
    }
}

/// Decrypts in place and returns the length without padding.
fn decrypt_cbc(key: &[u8], iv: [u8; AES_BLOCK_BYTES], in_out: &mut [u8]) -> Option<usize> {
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
    let context = DecryptionContext::Iv128(FixedLength::from(&iv));
    key.decrypt(in_out, context).ok().map(|plaintext| plaintext.len())
}

/// How the four outer elements give their length: all alike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Definite,
    Indefinite,
}

struct Reader<'a> {
    rest: &'a [u8],
}

type Read<T> = Result<T, CmsError>;

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(CmsError::Malformed("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Read<u8> {
        self.take(1)?.first().copied().ok_or(CmsError::Malformed("it ends too early"))
    }

    fn exact(&mut self, expected: &[u8], part: &'static str) -> Read<()> {
        if self.take(expected.len())? == expected { Ok(()) } else { Err(CmsError::Malformed(part)) }
    }

    fn end(&self, part: &'static str) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(CmsError::Malformed(part)) }
    }

    /// The contents of an element of this tag, whose length is definite and shortest (X.690 §10.1).
    fn definite(&mut self, tag: u8) -> Read<&'a [u8]> {
        if self.byte()? != tag {
            return Err(CmsError::Malformed("unexpected element"));
        }
        let length = match self.byte()? {
            short @ 0..=0x7f => usize::from(short),
            0x81 => match self.byte()? {
                long @ 0x80.. => usize::from(long),
                _ => return Err(CmsError::Malformed("a length is not in its shortest form")),
            },
            0x82 => match (self.byte()?, self.byte()?) {
                (0, _) => return Err(CmsError::Malformed("a length is not in its shortest form")),
                (high, low) => usize::from(u16::from_be_bytes([high, low])),
            },
            _ => return Err(CmsError::Malformed("a length is indefinite or impossible")),
        };
        self.take(length)
    }

    /// Reads the inside of a constructed element to its end.
    fn within<T>(&mut self, tag: u8, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        let mut inner = Reader { rest: self.definite(tag)? };
        let value = read(&mut inner)?;
        inner.end("an element has more parts than it may")?;
        Ok(value)
    }

    fn framed<T>(&mut self, framing: Framing, tag: u8, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if framing == Framing::Definite {
            return self.within(tag, read);
        }
        self.exact(&[tag, INDEFINITE], "unexpected element")?;
        let value = read(self)?;
        self.exact(&END_OF_CONTENTS, "an element has more parts than it may")?;
        Ok(value)
    }

    fn oid(&mut self, expected: &[u8]) -> Read<()> {
        if self.definite(OID)? == expected {
            Ok(())
        } else {
            Err(CmsError::Malformed("another algorithm or type"))
        }
    }

    fn version_2(&mut self) -> Read<()> {
        // Both versions are 2 exactly when the recipient is named by its key (RFC 5652 §6.1, §6.2.1).
        self.exact(&[INTEGER, 1, 2], "another version")
    }

    fn only_recipient(&mut self) -> Read<([u8; 32], &'a [u8])> {
        // A second recipient would be a decoy: KMS seals to the one key of the document.
        self.within(SET, |set| {
            set.within(SEQUENCE, |ktri| {
                ktri.version_2()?;
                let key_id = ktri.definite(CONTEXT_0_PRIMITIVE)?;
                let key_id =
                    key_id.try_into().map_err(|_| CmsError::Malformed("recipient's key identifier"))?;
                ktri.oaep_with_sha256()?;
                let encrypted_key = ktri.definite(OCTET_STRING)?;
                if encrypted_key.len() != ENCRYPTED_KEY_BYTES {
                    return Err(CmsError::Malformed("length of the encrypted key"));
                }
                Ok((key_id, encrypted_key))
            })
        })
    }

    /// Left out, either parameter would mean SHA-1 (RFC 4055 §4.1).
    fn oaep_with_sha256(&mut self) -> Read<()> {
        self.within(SEQUENCE, |algorithm| {
            algorithm.oid(RSAES_OAEP)?;
            algorithm.within(SEQUENCE, |parameters| {
                parameters.within(CONTEXT_0, Self::sha256)?;
                parameters.within(CONTEXT_1, |mask| {
                    mask.within(SEQUENCE, |mgf| {
                        mgf.oid(MGF1)?;
                        mgf.sha256()
                    })
                })
            })
        })
    }

    /// Parameters are NULL or absent, and both must be accepted (RFC 4055 §2.1).
    fn sha256(&mut self) -> Read<()> {
        self.within(SEQUENCE, |algorithm| {
            algorithm.oid(SHA_256)?;
            if algorithm.rest.is_empty() { Ok(()) } else { algorithm.exact(&NULL, "parameters of SHA-256") }
        })
    }

    fn content(&mut self, framing: Framing) -> Read<([u8; AES_BLOCK_BYTES], Vec<u8>)> {
        self.framed(framing, SEQUENCE, |content| {
            content.oid(DATA)?;
            let iv = content.within(SEQUENCE, |algorithm| {
                algorithm.oid(AES_256_CBC)?;
                algorithm.definite(OCTET_STRING)
            })?;
            let iv = iv.try_into().map_err(|_| CmsError::Malformed("initialisation vector"))?;
            let ciphertext = content.ciphertext(framing)?;
            if ciphertext.is_empty() || ciphertext.len() % AES_BLOCK_BYTES != 0 {
                return Err(CmsError::Malformed("length of the content"));
            }
            Ok((iv, ciphertext))
        })
    }

    /// One primitive string, or with indefinite framing also OCTET STRINGs to be joined.
    fn ciphertext(&mut self, framing: Framing) -> Read<Vec<u8>> {
        if framing == Framing::Definite || self.rest.first() == Some(&CONTEXT_0_PRIMITIVE) {
            return Ok(self.definite(CONTEXT_0_PRIMITIVE)?.to_vec());
        }
        // Sized once: the chunks cannot be longer than what is left.
        let mut joined = Vec::with_capacity(self.rest.len());
        self.framed(framing, CONTEXT_0, |chunks| {
            while chunks.rest.first() == Some(&OCTET_STRING) {
                let chunk = chunks.definite(OCTET_STRING)?;
                if chunk.is_empty() {
                    return Err(CmsError::Malformed("an empty chunk"));
                }
                joined.extend_from_slice(chunk);
            }
            Ok(())
        })?;
        Ok(joined)
    }
}
