//! Which group of calls an operation counts against, and AWS's figures for each.
//!
//! Source: KMS Developer Guide, "Request quotas".

use crate::kms::spec::KeySpec;

/// A group of calls with a bucket of its own: its name in `quota.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::kms) struct Group(pub(super) &'static str);

pub(in crate::kms) const SYMMETRIC: Group = Group("symmetric");
pub(super) const RSA: Group = Group("rsa");
pub(super) const ECC: Group = Group("ecc");
pub(super) const ML: Group = Group("ml");

/// What a call counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kms) enum Counts {
    /// This group, whatever the key.
    Against(Group),
    /// The group of the key's spec; of each key, if there are two of different kinds.
    AgainstTheKeysGroup,
}

/// What this operation counts against; `pair_spec` is the request's `KeyPairSpec`.
pub(in crate::kms) fn counts(operation: &'static str, pair_spec: Option<&str>) -> Counts {
    Counts::Against(match operation {
        "Encrypt" | "Decrypt" | "ReEncrypt" | "Sign" | "Verify" => return Counts::AgainstTheKeysGroup,
        "GenerateDataKey"
        | "GenerateDataKeyWithoutPlaintext"
        | "GenerateMac"
        | "VerifyMac"
        | "GenerateRandom" => SYMMETRIC,
        "DeriveSharedSecret" => ECC,
        "Encapsulate" | "Decapsulate" => ML,
        "GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext" => {
            // A spec that does not exist ends in a validation error, which counts as well.
            let pair = PAIRS.iter().find(|(spec, _)| Some(*spec) == pair_spec);
            pair.map_or(SYMMETRIC, |(_, group)| *group)
        }
        other => Group(other),
    })
}

/// The group of cryptographic operations with keys of this spec.
pub(in crate::kms) fn group_of(spec: KeySpec) -> Group {
    match spec {
        KeySpec::SymmetricDefault
        | KeySpec::Hmac224
        | KeySpec::Hmac256
        | KeySpec::Hmac384
        | KeySpec::Hmac512 => SYMMETRIC,
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => RSA,
        KeySpec::EccNistP256
        | KeySpec::EccNistP384
        | KeySpec::EccNistP521
        | KeySpec::EccSecgP256k1
        | KeySpec::EccNistEdwards25519
        | KeySpec::Sm2 => ECC,
        KeySpec::MlDsa44
        | KeySpec::MlDsa65
        | KeySpec::MlDsa87
        | KeySpec::MlKem512
        | KeySpec::MlKem768
        | KeySpec::MlKem1024 => ML,
    }
}

const PAIRS: [(&str, Group); 9] = [
    ("RSA_2048", Group("data-key-pair-RSA_2048")),
    ("RSA_3072", Group("data-key-pair-RSA_3072")),
    ("RSA_4096", Group("data-key-pair-RSA_4096")),
    ("ECC_NIST_P256", Group("data-key-pair-ECC_NIST_P256")),
    ("ECC_NIST_P384", Group("data-key-pair-ECC_NIST_P384")),
    ("ECC_NIST_P521", Group("data-key-pair-ECC_NIST_P521")),
    ("ECC_SECG_P256K1", Group("data-key-pair-ECC_SECG_P256K1")),
    ("ECC_NIST_EDWARDS25519", Group("data-key-pair-ECC_NIST_EDWARDS25519")),
    ("SM2", Group("data-key-pair-SM2")),
];

/// Every group with AWS's calls per second in thousandths. The symmetric figure is that of most regions.
pub(super) const AWS: [(&str, u64); 54] = [
    ("symmetric", 20_000_000),
    ("rsa", 1_000_000),
    ("ecc", 1_000_000),
    ("ml", 1_000_000),
    ("data-key-pair-ECC_NIST_P256", 25_000),
    ("data-key-pair-ECC_NIST_P384", 10_000),
    ("data-key-pair-ECC_NIST_P521", 5_000),
    ("data-key-pair-ECC_SECG_P256K1", 25_000),
    ("data-key-pair-ECC_NIST_EDWARDS25519", 25_000),
    ("data-key-pair-RSA_2048", 1_000),
    ("data-key-pair-RSA_3072", 500),
    ("data-key-pair-RSA_4096", 100),
    ("data-key-pair-SM2", 25_000),
    ("CancelKeyDeletion", 5_000),
    ("ConnectCustomKeyStore", 5_000),
    ("CreateAlias", 5_000),
    ("CreateCustomKeyStore", 5_000),
    ("CreateGrant", 50_000),
    ("CreateKey", 5_000),
    ("DeleteAlias", 15_000),
    ("DeleteCustomKeyStore", 5_000),
    ("DeleteImportedKeyMaterial", 15_000),
    ("DescribeCustomKeyStores", 5_000),
    ("DescribeKey", 2_000_000),
    ("DisableKey", 5_000),
    ("DisableKeyRotation", 5_000),
    ("DisconnectCustomKeyStore", 5_000),
    ("EnableKey", 5_000),
    ("EnableKeyRotation", 15_000),
    ("GetKeyLastUsage", 5_000),
    ("GetKeyPolicy", 1_000_000),
    ("GetKeyRotationStatus", 1_000_000),
    ("GetParametersForImport", 250),
    ("GetPublicKey", 2_000_000),
    ("ImportKeyMaterial", 15_000),
    ("ListAliases", 500_000),
    ("ListGrants", 100_000),
    ("ListKeyPolicies", 100_000),
    ("ListKeyRotations", 100_000),
    ("ListKeys", 500_000),
    ("ListResourceTags", 2_000_000),
    ("ListRetirableGrants", 100_000),
    ("PutKeyPolicy", 15_000),
    ("ReplicateKey", 5_000),
    ("RetireGrant", 30_000),
    ("RevokeGrant", 30_000),
    ("RotateKeyOnDemand", 5_000),
    ("ScheduleKeyDeletion", 15_000),
    ("TagResource", 10_000),
    ("UntagResource", 5_000),
    ("UpdateAlias", 5_000),
    ("UpdateCustomKeyStore", 5_000),
    ("UpdateKeyDescription", 5_000),
    ("UpdatePrimaryRegion", 5_000),
];
