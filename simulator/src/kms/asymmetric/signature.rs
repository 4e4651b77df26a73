//! Signatures: RSASSA-PKCS1-v1_5 and RSASSA-PSS (RFC 8017 §8), ECDSA in DER (RFC 3279 §2.2.3), and
//! Ed25519 with its pre-hashed variant (RFC 8032 §5.1).
//!
//! Salts of PSS are as long as the hash. ECDSA and RSA sign a digest that the caller brings as it
//! is; Ed25519ph hashes what the caller brings once more, as AWS KMS documents for it.

use aws_lc_rs::digest::{Algorithm, Digest, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::encoding::Curve25519SeedBin;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1,
    ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, RsaKeyPair, RsaSignatureEncoding, UnparsedPublicKey, VerificationAlgorithm,
};
use ed25519_dalek::{Digest as _, Sha512, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::kms::spec::KeySpec;

/// A signing algorithm together with the key spec that it is used with.
#[derive(Clone, Copy)]
pub(in crate::kms) struct Scheme(Kind);

#[derive(Clone, Copy)]
enum Kind {
    Rsa {
        hash: &'static Algorithm,
        signing: &'static RsaSignatureEncoding,
        verifying: &'static dyn VerificationAlgorithm,
    },
    Ecdsa {
        hash: &'static Algorithm,
        signing: &'static EcdsaSigningAlgorithm,
        verifying: &'static dyn VerificationAlgorithm,
    },
    Ed25519,
    Ed25519ph,
}

/// What is signed.
#[derive(Clone, Copy)]
pub(in crate::kms) enum Message<'a> {
    Raw(&'a [u8]),
    /// Already hashed by the caller.
    Digest(&'a [u8]),
}

impl Scheme {
    /// The scheme of an algorithm by its name in the API; `None` if keys of this spec do not have it.
    pub(in crate::kms) fn of(spec: KeySpec, algorithm: &str) -> Option<Self> {
        use KeySpec::{EccNistEdwards25519, EccNistP256, EccNistP384, EccNistP521, EccSecgP256k1};
        let kind = match (spec, algorithm) {
            (KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096, name) => rsa(name)?,
            (EccNistP256, "ECDSA_SHA_256") => {
                ecdsa(&SHA256, &ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_ASN1)
            }
            (EccSecgP256k1, "ECDSA_SHA_256") => {
                ecdsa(&SHA256, &ECDSA_P256K1_SHA256_ASN1_SIGNING, &ECDSA_P256K1_SHA256_ASN1)
            }
            (EccNistP384, "ECDSA_SHA_384") => {
                ecdsa(&SHA384, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1)
            }
            (EccNistP521, "ECDSA_SHA_512") => {
                ecdsa(&SHA512, &ECDSA_P521_SHA512_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1)
            }
            (EccNistEdwards25519, "ED25519_SHA_512") => Kind::Ed25519,
            (EccNistEdwards25519, "ED25519_PH_SHA_512") => Kind::Ed25519ph,
            _ => return None,
        };
        Some(Self(kind))
    }

    /// Whether it signs whole messages.
    pub(in crate::kms) fn takes_raw(self) -> bool {
        !matches!(self.0, Kind::Ed25519ph)
    }

    /// Length of the digests that it takes instead of messages, in bytes; `None` if it takes none.
    pub(in crate::kms) fn digest_bytes(self) -> Option<usize> {
        match self.0 {
            Kind::Rsa { hash, .. } | Kind::Ecdsa { hash, .. } => Some(hash.output_len()),
            Kind::Ed25519ph => Some(SHA512.output_len()),
            Kind::Ed25519 => None,
        }
    }
}

fn rsa(algorithm: &str) -> Option<Kind> {
    let (hash, signing, verifying): (_, _, &'static dyn VerificationAlgorithm) = match algorithm {
        "RSASSA_PKCS1_V1_5_SHA_256" => {
            (&SHA256, &signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256)
        }
        "RSASSA_PKCS1_V1_5_SHA_384" => {
            (&SHA384, &signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384)
        }
        "RSASSA_PKCS1_V1_5_SHA_512" => {
            (&SHA512, &signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512)
        }
        "RSASSA_PSS_SHA_256" => (&SHA256, &signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
        "RSASSA_PSS_SHA_384" => (&SHA384, &signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
        "RSASSA_PSS_SHA_512" => (&SHA512, &signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
        _ => return None,
    };
    Some(Kind::Rsa { hash, signing, verifying })
}

fn ecdsa(
    hash: &'static Algorithm,
    signing: &'static EcdsaSigningAlgorithm,
    verifying: &'static dyn VerificationAlgorithm,
) -> Kind {
    Kind::Ecdsa { hash, signing, verifying }
}

impl Message<'_> {
    fn digest(self, hash: &'static Algorithm) -> Option<Digest> {
        match self {
            Self::Raw(message) => Some(digest(hash, message)),
            Self::Digest(bytes) => Digest::import_less_safe(bytes, hash).ok(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Raw(bytes) | Self::Digest(bytes) => bytes,
        }
    }
}

/// Signs; `None` if the library fails or the digest has the wrong length.
pub(in crate::kms) fn sign(scheme: Scheme, pkcs8: &[u8], message: Message<'_>) -> Option<Vec<u8>> {
    match scheme.0 {
        Kind::Rsa { hash, signing, .. } => {
            let key = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
            let mut signed = vec![0; key.public_modulus_len()];
            key.sign_digest(signing, &message.digest(hash)?, &mut signed).ok()?;
            Some(signed)
        }
        Kind::Ecdsa { hash, signing, .. } => {
            let key = EcdsaKeyPair::from_pkcs8(signing, pkcs8).ok()?;
            Some(key.sign_digest(&message.digest(hash)?).ok()?.as_ref().to_vec())
        }
        Kind::Ed25519 => {
            let key = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
            Some(key.try_sign(message.bytes()).ok()?.as_ref().to_vec())
        }
        Kind::Ed25519ph => {
            let seed = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?.seed().ok()?;
            let seed: Curve25519SeedBin = seed.as_be_bytes().ok()?;
            let seed = Zeroizing::new(*seed.as_ref().first_chunk::<32>()?);
            let hashed = Sha512::new_with_prefix(message.bytes());
            let signed = SigningKey::from_bytes(&seed).sign_prehashed(hashed, None).ok()?;
            Some(signed.to_bytes().to_vec())
        }
    }
}

/// Whether the signature is one of this message under this public key.
pub(in crate::kms) fn verify(scheme: Scheme, spki: &[u8], message: Message<'_>, signed: &[u8]) -> bool {
    match scheme.0 {
        Kind::Rsa { hash, verifying, .. } | Kind::Ecdsa { hash, verifying, .. } => {
            let Some(digest) = message.digest(hash) else { return false };
            UnparsedPublicKey::new(verifying, spki).verify_digest(&digest, signed).is_ok()
        }
        Kind::Ed25519 => {
            UnparsedPublicKey::new(&signature::ED25519, spki).verify(message.bytes(), signed).is_ok()
        }
        Kind::Ed25519ph => {
            // The point is the last field of the encoding.
            let key = spki.last_chunk::<32>().and_then(|point| VerifyingKey::from_bytes(point).ok());
            let signed = ed25519_dalek::Signature::from_slice(signed).ok();
            let (Some(key), Some(signed)) = (key, signed) else { return false };
            let hashed = Sha512::new_with_prefix(message.bytes());
            key.verify_prehashed(hashed, None, &signed).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{generate, import};
    use super::*;

    const EVERY: [(KeySpec, &str); 10] = [
        (KeySpec::Rsa2048, "RSASSA_PKCS1_V1_5_SHA_256"),
        (KeySpec::Rsa2048, "RSASSA_PKCS1_V1_5_SHA_384"),
        (KeySpec::Rsa2048, "RSASSA_PKCS1_V1_5_SHA_512"),
        (KeySpec::Rsa2048, "RSASSA_PSS_SHA_256"),
        (KeySpec::Rsa2048, "RSASSA_PSS_SHA_384"),
        (KeySpec::Rsa2048, "RSASSA_PSS_SHA_512"),
        (KeySpec::EccNistP256, "ECDSA_SHA_256"),
        (KeySpec::EccNistP384, "ECDSA_SHA_384"),
        (KeySpec::EccNistP521, "ECDSA_SHA_512"),
        (KeySpec::EccSecgP256k1, "ECDSA_SHA_256"),
    ];

    #[test]
    fn a_signature_of_a_message_is_one_of_its_digest_and_of_nothing_else() {
        for (spec, algorithm) in EVERY {
            let scheme = Scheme::of(spec, algorithm).unwrap();
            let (Kind::Rsa { hash, .. } | Kind::Ecdsa { hash, .. }) = scheme.0 else { unreachable!() };
            let key = generate(spec).unwrap();
            let hashed = digest(hash, b"message");
            let hashed = Message::Digest(hashed.as_ref());
            for message in [Message::Raw(b"message"), hashed] {
                let mut signed = sign(scheme, &key.secret, message).unwrap();
                assert!(verify(scheme, &key.public, Message::Raw(b"message"), &signed), "{algorithm}");
                assert!(verify(scheme, &key.public, hashed, &signed), "{algorithm}");
                assert!(!verify(scheme, &key.public, Message::Raw(b"Message"), &signed));
                let last = signed.len() - 1;
                signed[last] ^= 1;
                assert!(!verify(scheme, &key.public, hashed, &signed));
            }
            assert!(sign(scheme, &key.secret, Message::Digest(b"short")).is_none());
        }
    }

    /// RFC 8032 §7.3, whose message is the bytes that are hashed once more.
    #[test]
    fn ed25519ph_gives_the_signature_of_the_rfc() {
        let seed = hex::decode("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42").unwrap();
        let pkcs8 = [&hex::decode("302e020100300506032b657004220420").unwrap()[..], &seed].concat();
        let key = import(KeySpec::EccNistEdwards25519, &pkcs8).unwrap();
        let scheme = Scheme::of(KeySpec::EccNistEdwards25519, "ED25519_PH_SHA_512").unwrap();
        let signed = sign(scheme, &key.secret, Message::Digest(b"abc")).unwrap();
        assert_eq!(
            hex::encode(&signed),
            "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e63\
             6062aaad11c2a26083406"
        );
        assert!(verify(scheme, &key.public, Message::Digest(b"abc"), &signed));
        assert!(!verify(scheme, &key.public, Message::Digest(b"abd"), &signed));
    }

    /// RFC 8032 §7.1, TEST 2.
    #[test]
    fn ed25519_gives_the_signature_of_the_rfc() {
        let seed = hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
        let pkcs8 = [&hex::decode("302e020100300506032b657004220420").unwrap()[..], &seed].concat();
        let key = import(KeySpec::EccNistEdwards25519, &pkcs8).unwrap();
        let scheme = Scheme::of(KeySpec::EccNistEdwards25519, "ED25519_SHA_512").unwrap();
        let signed = sign(scheme, &key.secret, Message::Raw(&[0x72])).unwrap();
        assert_eq!(
            hex::encode(&signed),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb43\
             02aeeb00d291612bb0c00"
        );
        assert!(verify(scheme, &key.public, Message::Raw(&[0x72]), &signed));
        assert!(!verify(scheme, &key.public, Message::Raw(&[0x73]), &signed));
    }
}
