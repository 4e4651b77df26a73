//! Asymmetric keys: making them, reading them, and what each can do.
//!
//! A private key is PKCS#8 (RFC 5958), its public half a `SubjectPublicKeyInfo` (RFC 5280) byte for
//! byte as AWS KMS answers it. Nothing here decides who may use a key or for what; that is the
//! operations' part. A failure of the library on a key of our own is `None`, which callers answer
//! as an internal error.

mod agreement;
mod encryption;
mod signature;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use zeroize::Zeroizing;

pub(super) use agreement::{Agreement, agree};
pub(super) use encryption::{Decryption, Oaep, decrypt, encrypt};
pub(super) use signature::{Message, Scheme, sign, verify};

use super::material::{Fresh, Secret};
use super::spec::KeySpec;

/// The families of keys that differ in how they are made and read.
enum Family {
    Rsa(KeySize),
    Curve(&'static EcdsaSigningAlgorithm),
    Edwards25519,
}

impl Family {
    fn of(spec: KeySpec) -> Option<Self> {
        Some(match spec {
            KeySpec::Rsa2048 => Self::Rsa(KeySize::Rsa2048),
            KeySpec::Rsa3072 => Self::Rsa(KeySize::Rsa3072),
            KeySpec::Rsa4096 => Self::Rsa(KeySize::Rsa4096),
            KeySpec::EccNistP256 => Self::Curve(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeySpec::EccNistP384 => Self::Curve(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeySpec::EccNistP521 => Self::Curve(&ECDSA_P521_SHA512_ASN1_SIGNING),
            KeySpec::EccSecgP256k1 => Self::Curve(&ECDSA_P256K1_SHA256_ASN1_SIGNING),
            KeySpec::EccNistEdwards25519 => Self::Edwards25519,
            _ => return None,
        })
    }
}

/// Makes a key pair; `None` for specs that are not key pairs, or if the library fails.
pub(super) fn generate(spec: KeySpec) -> Option<Fresh> {
    match Family::of(spec)? {
        Family::Rsa(size) => rsa_pair(&PrivateDecryptingKey::generate(size).ok()?),
        Family::Curve(curve) => curve_pair(&EcdsaKeyPair::generate(curve).ok()?),
        Family::Edwards25519 => edwards_pair(&Ed25519KeyPair::generate().ok()?),
    }
}

/// Reads a private key in PKCS#8 that somebody else made; `None` if it is not one of this spec.
/// What comes back is in the encoding of [`generate`].
pub(super) fn import(spec: KeySpec, pkcs8: &[u8]) -> Option<Fresh> {
    match Family::of(spec)? {
        Family::Rsa(size) => {
            let pair = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
            if pair.key_size_bits() == size.len() * 8 { rsa_pair(&pair) } else { None }
        }
        Family::Curve(curve) => curve_pair(&EcdsaKeyPair::from_pkcs8(curve, pkcs8).ok()?),
        Family::Edwards25519 => edwards_pair(&Ed25519KeyPair::from_pkcs8(pkcs8).ok()?),
    }
}

fn rsa_pair(pair: &PrivateDecryptingKey) -> Option<Fresh> {
    let secret: Pkcs8V1Der = pair.as_der().ok()?;
    let public = pair.public_key();
    let public: PublicKeyX509Der = public.as_der().ok()?;
    Some(Fresh { secret: wiped(secret.as_ref()), public: public.as_ref().to_vec() })
}

fn curve_pair(pair: &EcdsaKeyPair) -> Option<Fresh> {
    let secret = pair.to_pkcs8v1().ok()?;
    let public: PublicKeyX509Der = pair.public_key().as_der().ok()?;
    Some(Fresh { secret: wiped(secret.as_ref()), public: public.as_ref().to_vec() })
}

fn edwards_pair(pair: &Ed25519KeyPair) -> Option<Fresh> {
    let secret = pair.to_pkcs8v1().ok()?;
    let public: PublicKeyX509Der = pair.public_key().as_der().ok()?;
    Some(Fresh { secret: wiped(secret.as_ref()), public: public.as_ref().to_vec() })
}

fn wiped(secret: &[u8]) -> Secret {
    // The library wipes its own copies.
    Zeroizing::new(secret.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: [KeySpec; 6] = [
        KeySpec::Rsa2048,
        KeySpec::EccNistP256,
        KeySpec::EccNistP384,
        KeySpec::EccNistP521,
        KeySpec::EccSecgP256k1,
        KeySpec::EccNistEdwards25519,
    ];

    #[test]
    fn public_keys_have_the_sizes_that_their_specs_have_in_der() {
        let sizes = SMALL.map(|spec| generate(spec).unwrap().public.len());
        assert_eq!(sizes, [294, 91, 120, 158, 88, 44]);
    }

    #[test]
    fn reads_what_it_makes_and_nothing_of_another_spec() {
        for spec in SMALL {
            let made = generate(spec).unwrap();
            for other in SMALL {
                let read = import(other, &made.secret);
                assert_eq!(read.is_some(), other == spec, "{spec:?} as {other:?}");
                if let Some(read) = read {
                    assert_eq!(read.public, made.public);
                    assert_eq!(read.secret, made.secret);
                }
            }
            assert!(import(spec, &made.public).is_none());
            assert!(import(spec, b"").is_none());
        }
        assert!(generate(KeySpec::SymmetricDefault).is_none());
    }
}
