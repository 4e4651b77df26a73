//! Kinds of keys: what each spec can be used for, with which algorithms, up to which sizes.
//!
//! Source: AWS KMS API reference, `CreateKey` and `KeyMetadata`; developer guide, "Key spec reference".

use serde::{Deserialize, Serialize};

/// Enums that are on the wire and in the database by their names in the API.
macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) enum $type {
            $(#[serde(rename = $name)] $variant,)*
        }

        impl $type {
            /// In the order of the API's model, as error texts list them.
            pub(super) const NAMES: &[&'static str] = &[$($name,)*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(super) fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

names! {
    /// `KeySpec`.
    KeySpec {
        Rsa2048 = "RSA_2048",
        Rsa3072 = "RSA_3072",
        Rsa4096 = "RSA_4096",
        EccNistP256 = "ECC_NIST_P256",
        EccNistP384 = "ECC_NIST_P384",
        EccNistP521 = "ECC_NIST_P521",
        EccSecgP256k1 = "ECC_SECG_P256K1",
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        Hmac224 = "HMAC_224",
        Hmac256 = "HMAC_256",
        Hmac384 = "HMAC_384",
        Hmac512 = "HMAC_512",
        Sm2 = "SM2",
        MlDsa44 = "ML_DSA_44",
        MlDsa65 = "ML_DSA_65",
        MlDsa87 = "ML_DSA_87",
        EccNistEdwards25519 = "ECC_NIST_EDWARDS25519",
        MlKem512 = "ML_KEM_512",
        MlKem768 = "ML_KEM_768",
        MlKem1024 = "ML_KEM_1024",
    }
}

names! {
    /// `KeyUsage`.
    KeyUsage {
        SignVerify = "SIGN_VERIFY",
        EncryptDecrypt = "ENCRYPT_DECRYPT",
        GenerateVerifyMac = "GENERATE_VERIFY_MAC",
        KeyAgreement = "KEY_AGREEMENT",
        KeyEncapsulation = "KEY_ENCAPSULATION",
    }
}

names! {
    /// `Origin`.
    Origin {
        AwsKms = "AWS_KMS",
        External = "EXTERNAL",
        AwsCloudHsm = "AWS_CLOUDHSM",
        ExternalKeyStore = "EXTERNAL_KEY_STORE",
    }
}

/// The three types of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Symmetric,
    Hmac,
    Asymmetric,
}

const RSA_ENCRYPTION: &[&str] = &["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"];
const RSA_SIGNING: &[&str] = &[
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
];

impl KeySpec {
    /// Whether keys of this spec can be made here.
    pub(super) fn is_available(self) -> bool {
        !matches!(
            self,
            Self::Sm2
                | Self::MlDsa44
                | Self::MlDsa65
                | Self::MlDsa87
                | Self::MlKem512
                | Self::MlKem768
                | Self::MlKem1024
        )
    }

    /// The usages that a key of this spec can be made for.
    pub(super) fn usages(self) -> &'static [KeyUsage] {
        use KeyUsage::{EncryptDecrypt, GenerateVerifyMac, KeyAgreement, KeyEncapsulation, SignVerify};
        match self {
            Self::SymmetricDefault => &[EncryptDecrypt],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => &[EncryptDecrypt, SignVerify],
            Self::EccNistP256 | Self::EccNistP384 | Self::EccNistP521 => &[SignVerify, KeyAgreement],
            Self::EccSecgP256k1
            | Self::EccNistEdwards25519
            | Self::MlDsa44
            | Self::MlDsa65
            | Self::MlDsa87 => &[SignVerify],
            Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => &[GenerateVerifyMac],
            Self::Sm2 => &[EncryptDecrypt, SignVerify, KeyAgreement],
            Self::MlKem512 | Self::MlKem768 | Self::MlKem1024 => &[KeyEncapsulation],
        }
    }

    /// The algorithms of a key of this spec under one of its usages.
    pub(super) fn algorithms(self, usage: KeyUsage) -> &'static [&'static str] {
        match (self, usage) {
            (Self::SymmetricDefault, KeyUsage::EncryptDecrypt) => &["SYMMETRIC_DEFAULT"],
            (Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096, KeyUsage::EncryptDecrypt) => RSA_ENCRYPTION,
            (Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096, KeyUsage::SignVerify) => RSA_SIGNING,
            (Self::EccNistP256 | Self::EccSecgP256k1, KeyUsage::SignVerify) => &["ECDSA_SHA_256"],
            (Self::EccNistP384, KeyUsage::SignVerify) => &["ECDSA_SHA_384"],
            (Self::EccNistP521, KeyUsage::SignVerify) => &["ECDSA_SHA_512"],
            (Self::EccNistEdwards25519, KeyUsage::SignVerify) => &["ED25519_SHA_512", "ED25519_PH_SHA_512"],
            (_, KeyUsage::KeyAgreement) => &["ECDH"],
            (Self::Hmac224, _) => &["HMAC_SHA_224"],
            (Self::Hmac256, _) => &["HMAC_SHA_256"],
            (Self::Hmac384, _) => &["HMAC_SHA_384"],
            (Self::Hmac512, _) => &["HMAC_SHA_512"],
            _ => &[],
        }
    }

    /// Whether it is a symmetric, an HMAC or an asymmetric key.
    pub(super) fn family(self) -> Family {
        match self {
            Self::SymmetricDefault => Family::Symmetric,
            Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => Family::Hmac,
            _ => Family::Asymmetric,
        }
    }

    /// Whether keys of this spec have a public half.
    pub(super) fn is_key_pair(self) -> bool {
        self.secret_bytes().is_none()
    }

    /// Length of an RSA key's modulus, in bytes; zero for other kinds.
    pub(super) fn modulus_bytes(self) -> usize {
        match self {
            Self::Rsa2048 => 256,
            Self::Rsa3072 => 384,
            Self::Rsa4096 => 512,
            _ => 0,
        }
    }

    /// Length of the secret, in bytes, where it is nothing but random bytes.
    pub(super) fn secret_bytes(self) -> Option<usize> {
        match self {
            Self::SymmetricDefault | Self::Hmac256 => Some(32),
            Self::Hmac224 => Some(28),
            Self::Hmac384 => Some(48),
            Self::Hmac512 => Some(64),
            _ => None,
        }
    }
}

impl KeyUsage {
    /// The member of `KeyMetadata` that lists the algorithms of this usage.
    pub(super) fn algorithms_member(self) -> &'static str {
        match self {
            Self::EncryptDecrypt => "EncryptionAlgorithms",
            Self::SignVerify => "SigningAlgorithms",
            Self::GenerateVerifyMac => "MacAlgorithms",
            Self::KeyAgreement => "KeyAgreementAlgorithms",
            Self::KeyEncapsulation => "EncapsulationAlgorithms",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_spec_has_algorithms_for_each_of_its_usages() {
        for spec in KeySpec::NAMES.iter().filter_map(|name| KeySpec::of(name)).filter(|s| s.is_available()) {
            for usage in spec.usages() {
                assert!(!spec.algorithms(*usage).is_empty(), "{spec:?} {usage:?}");
            }
        }
    }
}
