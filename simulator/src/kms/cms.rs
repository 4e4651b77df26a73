//! Writes `CiphertextForRecipient`: CMS `EnvelopedData` (RFC 5652 §6) byte for byte as AWS KMS does.
//!
//! ```text
//! 30 80 ContentInfo · 06 id-envelopedData
//!  a0 80 · 30 80 EnvelopedData · 02 01 02
//!   31 82 SET · 30 82 ktri · 02 01 02
//!      80 20 SHA-256 of the SubjectPublicKeyInfo · 30 3c RSAES-OAEP · 04 82 encrypted key
//!   30 80 · 06 id-data · 30 1d AES-256-CBC, IV · a0 80 {04 len chunk} 00 00
//!  00 00 · 00 00 · 00 00 · 00 00
//! ```
//!
//! KMS has been seen to write the content in other forms too, and a reader has to take all of
//! them, so the form is a parameter.

use aws_lc_rs::cipher::{AES_256, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The encoding of `CiphertextForRecipient`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CmsForm {
    /// BER, indefinite lengths, content in one OCTET STRING inside a constructed `[0]`: what KMS writes today.
    #[default]
    Constructed,
    /// The same frame with the content as a primitive `[0]`, as KMS has been seen to write since 2022.
    Primitive,
    /// As `Constructed`, with the content in OCTET STRINGs of so many bytes.
    Chunks(u16),
    /// Strict DER: every length definite, primitive content.
    Der,
}

/// How the content key is encrypted to the recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyEncryption {
    /// RSAES-OAEP with SHA-256, as the request asks.
    #[default]
    OaepSha256,
    /// RSAES-OAEP with SHA-1, which nobody asked for. A fault.
    OaepSha1,
}

/// The recipient's key cannot be encrypted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its public_key is not an RSA key of 2048, 3072 or 4096 bits in DER")]
pub(super) struct NotAnRsaKey;

/// The enclave's key, named by the hash of its encoding.
pub(super) struct RecipientKey {
    oaep: OaepPublicEncryptingKey,
    identifier: Vec<u8>,
}

const INDEFINITE: u8 = 0x80;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OCTET_STRING: u8 = 0x04;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_0_PRIMITIVE: u8 = 0x80;
const END_OF_CONTENTS: [u8; 2] = [0, 0];
const VERSION_2: [u8; 3] = [0x02, 0x01, 0x02];

/// 1.2.840.113549.1.7.3 (RFC 5652 §6.1)
const ENVELOPED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03";
/// 1.2.840.113549.1.7.1 (RFC 5652 §4)
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
/// 1.2.840.113549.1.1.7 (RFC 4055 §4.1)
const RSAES_OAEP: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07";
/// 1.2.840.113549.1.1.8 (RFC 4055 §2.2)
const MGF1: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08";
/// 2.16.840.1.101.3.4.2.1 with NULL parameters (RFC 4055 §2.1)
const SHA_256: &[u8] = b"\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00";
/// 2.16.840.1.101.3.4.1.42 (RFC 3565 §4.1)
const AES_256_CBC: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a";

impl RecipientKey {
    /// Reads a `SubjectPublicKeyInfo` in DER.
    pub(super) fn parse(spki: &[u8]) -> Result<Self, NotAnRsaKey> {
        let key = PublicEncryptingKey::from_der(spki).map_err(|_| NotAnRsaKey)?;
        if !matches!(key.key_size_bits(), 2048 | 3072 | 4096) {
            return Err(NotAnRsaKey);
        }
        Ok(Self {
            oaep: OaepPublicEncryptingKey::new(key).map_err(|_| NotAnRsaKey)?,
            identifier: digest(&SHA256, spki).as_ref().to_vec(),
        })
    }

    /// Seals `plaintext` to this key; `None` if the cryptographic library fails.
    pub(super) fn seal(&self, plaintext: &[u8], form: CmsForm, encryption: KeyEncryption) -> Option<Vec<u8>> {
        let mut content_key = Zeroizing::new([0; 32]);
        getrandom::fill(content_key.as_mut_slice()).ok()?;
        let mut encrypted_key = vec![0; self.oaep.ciphertext_size()];
        let algorithm = match encryption {
            KeyEncryption::OaepSha256 => &OAEP_SHA256_MGF1SHA256,
            KeyEncryption::OaepSha1 => &OAEP_SHA1_MGF1SHA1,
        };
        self.oaep.encrypt(algorithm, content_key.as_slice(), &mut encrypted_key, None).ok()?;

        // Room for the padding, so that growing leaves no copy of the plaintext behind.
        let mut content = Vec::with_capacity(plaintext.len() + 16);
        content.extend_from_slice(plaintext);
        let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(
            UnboundCipherKey::new(&AES_256, content_key.as_slice()).ok()?,
        )
        .ok()?;
        let started = cipher.encrypt(&mut content).ok()?;
        let iv: &[u8] = (&started).try_into().ok()?;

        let recipient = recipient_info(&self.identifier, encryption, &encrypted_key);
        Some(enveloped(&recipient, iv, &content, form))
    }
}

fn recipient_info(identifier: &[u8], encryption: KeyEncryption, encrypted_key: &[u8]) -> Vec<u8> {
    let parameters = match encryption {
        KeyEncryption::OaepSha256 => {
            let mask = element(SEQUENCE, &[MGF1, SHA_256]);
            element(SEQUENCE, &[&element(CONTEXT_0, &[SHA_256]), &element(0xa1, &[&mask])])
        }
        // All of its parameters are the defaults, which DER leaves out.
        KeyEncryption::OaepSha1 => element(SEQUENCE, &[]),
    };
    element(
        SEQUENCE,
        &[
            &VERSION_2,
            &element(CONTEXT_0_PRIMITIVE, &[identifier]),
            &element(SEQUENCE, &[RSAES_OAEP, &parameters]),
            &element(OCTET_STRING, &[encrypted_key]),
        ],
    )
}

fn enveloped(recipient: &[u8], iv: &[u8], content: &[u8], form: CmsForm) -> Vec<u8> {
    let recipients = element(SET, &[recipient]);
    let cipher = element(SEQUENCE, &[AES_256_CBC, &element(OCTET_STRING, &[iv])]);
    if form == CmsForm::Der {
        let content = element(SEQUENCE, &[DATA, &cipher, &element(CONTEXT_0_PRIMITIVE, &[content])]);
        let enveloped = element(SEQUENCE, &[&VERSION_2, &recipients, &content]);
        return element(SEQUENCE, &[ENVELOPED_DATA, &element(CONTEXT_0, &[&enveloped])]);
    }
    let content = match form {
        CmsForm::Primitive | CmsForm::Der => element(CONTEXT_0_PRIMITIVE, &[content]),
        CmsForm::Constructed => indefinite(CONTEXT_0, &[&element(OCTET_STRING, &[content])]),
        CmsForm::Chunks(size) => {
            let chunks: Vec<Vec<u8>> = content
                .chunks(usize::from(size.max(1)))
                .map(|chunk| element(OCTET_STRING, &[chunk]))
                .collect();
            indefinite(CONTEXT_0, &[&chunks.concat()])
        }
    };
    let content = indefinite(SEQUENCE, &[DATA, &cipher, &content]);
    let enveloped = indefinite(SEQUENCE, &[&VERSION_2, &recipients, &content]);
    indefinite(SEQUENCE, &[ENVELOPED_DATA, &indefinite(CONTEXT_0, &[&enveloped])])
}

/// One element of definite length.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            // A `usize` has at most eight significant bytes.
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            out.extend(significant);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![tag, INDEFINITE];
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend(END_OF_CONTENTS);
    out
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};

    use super::*;

    fn key() -> RecipientKey {
        let pair = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let spki = pair.public_key().as_der().unwrap();
        RecipientKey::parse(spki.as_ref()).unwrap()
    }

    #[test]
    fn has_the_sizes_of_real_captures() {
        let key = key();
        for (plaintext, size) in [(32, 493), (12, 461)] {
            let blob =
                key.seal(&vec![7; plaintext], CmsForm::Constructed, KeyEncryption::OaepSha256).unwrap();
            assert_eq!(blob.len(), size);
            assert_eq!(hex::encode(&blob[..24]), "308006092a864886f70d010703a08030800201023182016b");
        }
    }

    #[test]
    fn refuses_keys_that_are_not_rsa() {
        assert!(RecipientKey::parse(b"").is_err());
        assert!(RecipientKey::parse(&[0x30, 0x00]).is_err());
    }
}
