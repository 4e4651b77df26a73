//! The keys and algorithms that material is wrapped with on its way into the service.
//!
//! Sources: API reference, `GetParametersForImport`; RFC 8017 §7.1 (OAEP), RFC 5649 (AES key wrap
//! with padding). Whatever does not unwrap is one `None`: why it does not is nobody's business.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use zeroize::Zeroizing;

use super::key::Millis;
use super::material::{Fresh, Secret};

/// `WrappingAlgorithm`, in the order of the model.
pub(super) const ALGORITHMS: &[&str] = &[
    "RSAES_PKCS1_V1_5",
    "RSAES_OAEP_SHA_1",
    "RSAES_OAEP_SHA_256",
    "RSA_AES_KEY_WRAP_SHA_1",
    "RSA_AES_KEY_WRAP_SHA_256",
    "SM2PKE",
];
/// `WrappingKeySpec`, in the order of the model.
pub(super) const KEY_SPECS: &[&str] = &["RSA_2048", "RSA_3072", "RSA_4096", "SM2"];

const TOKEN_VERSION: u8 = 1;

/// How the material is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrapping {
    sha256: bool,
    /// The RSA key wraps an AES key, and that one the material: for what RSA has no room for.
    two_steps: bool,
}

impl Wrapping {
    /// `None` for what is not here: AWS gave up `RSAES_PKCS1_V1_5` in 2023, `SM2PKE` is for China.
    pub(super) fn of(algorithm: &str) -> Option<Self> {
        let (sha256, two_steps) = match algorithm {
            "RSAES_OAEP_SHA_1" => (false, false),
            "RSAES_OAEP_SHA_256" => (true, false),
            "RSA_AES_KEY_WRAP_SHA_1" => (false, true),
            "RSA_AES_KEY_WRAP_SHA_256" => (true, true),
            _ => return None,
        };
        Some(Self { sha256, two_steps })
    }

    fn code(self) -> u8 {
        u8::from(self.sha256) | u8::from(self.two_steps) << 1
    }

    fn of_code(code: u8) -> Option<Self> {
        (code < 4).then_some(Self { sha256: code & 1 != 0, two_steps: code & 2 != 0 })
    }
}

/// Makes a wrapping key: private in PKCS#8, public as `SubjectPublicKeyInfo`.
pub(super) fn generate(spec: &str) -> Option<Fresh> {
    let size = match spec {
        "RSA_2048" => KeySize::Rsa2048,
        "RSA_3072" => KeySize::Rsa3072,
        "RSA_4096" => KeySize::Rsa4096,
        _ => return None,
    };
    let pair = PrivateDecryptingKey::generate(size).ok()?;
    let private: Pkcs8V1Der = pair.as_der().ok()?;
    let public = pair.public_key();
    let public: PublicKeyX509Der = public.as_der().ok()?;
    Some(Fresh { secret: Zeroizing::new(private.as_ref().to_vec()), public: public.as_ref().to_vec() })
}

/// What an import token says: `01 | wrapping | time, 8 | PKCS#8`. It leaves the service only sealed.
pub(super) struct Token {
    pub(super) wrapping: Wrapping,
    pub(super) valid_to: Millis,
    pub(super) private: Secret,
}

impl Token {
    pub(super) fn encode(&self) -> Secret {
        let mut bytes = Zeroizing::new(Vec::with_capacity(10 + self.private.len()));
        bytes.extend_from_slice(&[TOKEN_VERSION, self.wrapping.code()]);
        bytes.extend_from_slice(&self.valid_to.to_be_bytes());
        bytes.extend_from_slice(&self.private);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let ([version, code], rest) = bytes.split_first_chunk::<2>()?;
        let (valid_to, private) = rest.split_first_chunk::<8>()?;
        let wrapping = Wrapping::of_code(*code).filter(|_| *version == TOKEN_VERSION)?;
        let private = Zeroizing::new(private.to_vec());
        Some(Self { wrapping, valid_to: Millis::from_be_bytes(*valid_to), private })
    }

    /// Unwraps material.
    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Option<Secret> {
        let pair = PrivateDecryptingKey::from_pkcs8(&self.private).ok()?;
        let key = OaepPrivateDecryptingKey::new(pair).ok()?;
        if !self.wrapping.two_steps {
            return self.open(&key, wrapped);
        }
        let (wrapped_key, wrapped) = wrapped.split_at_checked(key.key_size_bytes())?;
        let kek = self.open(&key, wrapped_key)?;
        let kek = AesKek::new(&AES_256, &kek).ok()?;
        let mut material = Zeroizing::new(vec![0; wrapped.len()]);
        let length = kek.unwrap_with_padding(wrapped, &mut material).ok()?.len();
        material.truncate(length);
        Some(material)
    }

    fn open(&self, key: &OaepPrivateDecryptingKey, wrapped: &[u8]) -> Option<Secret> {
        let oaep = if self.wrapping.sha256 { &OAEP_SHA256_MGF1SHA256 } else { &OAEP_SHA1_MGF1SHA1 };
        let mut material = Zeroizing::new(vec![0; key.min_output_size()]);
        let length = key.decrypt(oaep, wrapped, &mut material, None).ok()?.len();
        material.truncate(length);
        Some(material)
    }
}
