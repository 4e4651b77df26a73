//! What each operation's request is made of.

/// A kind of field, with what fits into it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Names a key: id, ARN, alias, alias ARN.
    Key,
    Alias,
    Text,
    /// Base64 of up to about so many bytes.
    Blob(usize),
    /// A public key in DER.
    PublicKey,
    One(&'static [&'static str]),
    Many(&'static [&'static str]),
    Number(i64),
    Flag,
    Pairs,
    Texts,
    Tags,
    Policy,
    Recipient,
    Constraints,
    Time,
    Principal,
    Region,
    Credential,
}

use Kind::{
    Alias, Blob, Constraints, Credential, Flag, Key, Many, Number, One, Pairs, Policy, Principal, PublicKey,
    Recipient, Region, Tags, Text, Texts, Time,
};

/// A field by its name.
pub(super) type Field = (&'static str, Kind);

const ENCRYPTION: Kind = One(&["SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"]);
const SIGNING: Kind = One(&[
    "RSASSA_PSS_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "ECDSA_SHA_256",
    "ECDSA_SHA_384",
    "ED25519_SHA_512",
    "ED25519_PH_SHA_512",
    "ML_DSA_SHAKE_256",
    "SM2DSA",
]);
const MESSAGE: Kind = One(&["RAW", "DIGEST", "EXTERNAL_MU"]);
const MAC: Kind = One(&["HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"]);
/// Without RSA, whose keys take their time to find.
const SPECS: Kind = One(&[
    "SYMMETRIC_DEFAULT",
    "ECC_NIST_P256",
    "ECC_NIST_P384",
    "ECC_SECG_P256K1",
    "ECC_NIST_EDWARDS25519",
    "HMAC_256",
    "SM2",
    "ML_DSA_44",
    "ML_KEM_512",
]);
const PAIRS: Kind =
    One(&["ECC_NIST_P256", "ECC_NIST_P384", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "SM2", "ML_KEM_768"]);
const GRANTED: Kind = Many(&["Encrypt", "Decrypt", "Sign", "DescribeKey", "CreateGrant", "RetireGrant"]);
const DRY: Field = ("DryRun", Flag);
const TOKENS: Field = ("GrantTokens", Texts);
const KEY: Field = ("KeyId", Key);
const CONTEXT: Field = ("EncryptionContext", Pairs);
const IGNORE: Field = ("DryRunModifiers", Many(&["IGNORE_CIPHERTEXT"]));
const LIMIT: Field = ("Limit", Number(1000));
const MARKER: Field = ("Marker", Text);
const STORE: Field = ("CustomKeyStoreId", Text);
const BYPASS: Field = ("BypassPolicyLockoutSafetyCheck", Flag);
const ASKS: Field = ("Recipient", Recipient);

/// All operations of the service model, in an order in which the earlier ones leave the later ones
/// something to work with: those that change nothing, those that change keys, those that make many,
/// and last the one that can lock everybody out.
pub(super) const OPERATIONS: [(&str, &[Field]); 56] = [
    ("Encrypt", &[KEY, ("Plaintext", Blob(200)), CONTEXT, ("EncryptionAlgorithm", ENCRYPTION), DRY, TOKENS]),
    (
        "Decrypt",
        &[
            ("CiphertextBlob", Blob(256)),
            KEY,
            CONTEXT,
            ("EncryptionAlgorithm", ENCRYPTION),
            DRY,
            IGNORE,
            TOKENS,
            ASKS,
        ],
    ),
    (
        "ReEncrypt",
        &[
            ("CiphertextBlob", Blob(256)),
            ("SourceKeyId", Key),
            ("SourceEncryptionContext", Pairs),
            ("SourceEncryptionAlgorithm", ENCRYPTION),
            ("DestinationKeyId", Key),
            ("DestinationEncryptionContext", Pairs),
            ("DestinationEncryptionAlgorithm", ENCRYPTION),
            DRY,
            IGNORE,
            TOKENS,
        ],
    ),
    (
        "GenerateDataKey",
        &[
            KEY,
            ("KeySpec", One(&["AES_256", "AES_128"])),
            ("NumberOfBytes", Number(1024)),
            CONTEXT,
            DRY,
            TOKENS,
            ASKS,
        ],
    ),
    (
        "GenerateDataKeyWithoutPlaintext",
        &[
            KEY,
            ("KeySpec", One(&["AES_256", "AES_128"])),
            ("NumberOfBytes", Number(1024)),
            CONTEXT,
            DRY,
            TOKENS,
        ],
    ),
    ("GenerateDataKeyPair", &[KEY, ("KeyPairSpec", PAIRS), CONTEXT, DRY, TOKENS, ASKS]),
    ("GenerateDataKeyPairWithoutPlaintext", &[KEY, ("KeyPairSpec", PAIRS), CONTEXT, DRY, TOKENS]),
    ("GenerateRandom", &[("NumberOfBytes", Number(1024)), STORE, ASKS]),
    (
        "DeriveSharedSecret",
        &[KEY, ("KeyAgreementAlgorithm", One(&["ECDH"])), ("PublicKey", PublicKey), DRY, TOKENS, ASKS],
    ),
    ("GenerateMac", &[KEY, ("Message", Blob(64)), ("MacAlgorithm", MAC), DRY, TOKENS]),
    ("VerifyMac", &[KEY, ("Message", Blob(64)), ("MacAlgorithm", MAC), ("Mac", Blob(64)), DRY, TOKENS]),
    (
        "Sign",
        &[KEY, ("Message", Blob(64)), ("MessageType", MESSAGE), ("SigningAlgorithm", SIGNING), DRY, TOKENS],
    ),
    (
        "Verify",
        &[
            KEY,
            ("Message", Blob(64)),
            ("MessageType", MESSAGE),
            ("SigningAlgorithm", SIGNING),
            ("Signature", Blob(256)),
            DRY,
            TOKENS,
        ],
    ),
    ("Encapsulate", &[KEY, ("EncapsulationAlgorithm", One(&["ML_KEM"])), DRY, TOKENS]),
    (
        "Decapsulate",
        &[
            KEY,
            ("EncapsulationAlgorithm", One(&["ML_KEM"])),
            ("SharedSecretCiphertextBlob", Blob(768)),
            DRY,
            TOKENS,
        ],
    ),
    ("GetPublicKey", &[KEY, TOKENS]),
    ("DescribeKey", &[KEY, TOKENS]),
    ("GetKeyPolicy", &[KEY, ("PolicyName", One(&["default"]))]),
    ("GetKeyRotationStatus", &[KEY]),
    ("GetKeyLastUsage", &[KEY]),
    (
        "GetParametersForImport",
        &[
            KEY,
            (
                "WrappingAlgorithm",
                One(&["RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_256", "RSAES_PKCS1_V1_5"]),
            ),
            ("WrappingKeySpec", One(&["SM2"])),
        ],
    ),
    ("ListKeys", &[LIMIT, MARKER, ("ResourceOwners", Many(&["SELF"]))]),
    ("ListAliases", &[KEY, LIMIT, MARKER]),
    (
        "ListGrants",
        &[
            KEY,
            LIMIT,
            MARKER,
            ("GrantId", Text),
            ("GranteePrincipal", Principal),
            ("GranteeServicePrincipal", Text),
        ],
    ),
    (
        "ListRetirableGrants",
        &[("RetiringPrincipal", Principal), LIMIT, MARKER, ("RetiringServicePrincipal", Text)],
    ),
    ("ListKeyPolicies", &[KEY, LIMIT, MARKER]),
    ("ListResourceTags", &[KEY, LIMIT, MARKER]),
    (
        "ListKeyRotations",
        &[KEY, LIMIT, MARKER, ("IncludeKeyMaterial", One(&["ALL_KEY_MATERIAL", "ROTATIONS_ONLY"]))],
    ),
    ("DescribeCustomKeyStores", &[STORE, ("CustomKeyStoreName", Text), LIMIT, MARKER]),
    ("ConnectCustomKeyStore", &[STORE]),
    ("DisconnectCustomKeyStore", &[STORE]),
    (
        "CreateCustomKeyStore",
        &[
            ("CustomKeyStoreName", Text),
            ("CloudHsmClusterId", Text),
            ("TrustAnchorCertificate", Text),
            ("KeyStorePassword", Text),
            ("CustomKeyStoreType", One(&["AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"])),
            ("XksProxyUriEndpoint", Text),
            ("XksProxyUriPath", Text),
            ("XksProxyAuthenticationCredential", Credential),
            ("XksProxyConnectivity", One(&["PUBLIC_ENDPOINT", "VPC_ENDPOINT_SERVICE"])),
        ],
    ),
    (
        "UpdateCustomKeyStore",
        &[
            STORE,
            ("NewCustomKeyStoreName", Text),
            ("KeyStorePassword", Text),
            ("CloudHsmClusterId", Text),
            ("XksProxyUriEndpoint", Text),
            ("XksProxyAuthenticationCredential", Credential),
        ],
    ),
    ("DeleteCustomKeyStore", &[STORE]),
    ("EnableKey", &[KEY]),
    ("CancelKeyDeletion", &[KEY]),
    ("UpdateKeyDescription", &[KEY, ("Description", Text)]),
    ("TagResource", &[KEY, ("Tags", Tags)]),
    ("UntagResource", &[KEY, ("TagKeys", Texts)]),
    ("EnableKeyRotation", &[KEY, ("RotationPeriodInDays", Number(2560))]),
    ("RotateKeyOnDemand", &[KEY]),
    ("DisableKeyRotation", &[KEY]),
    (
        "ImportKeyMaterial",
        &[
            KEY,
            ("ImportToken", Blob(64)),
            ("EncryptedKeyMaterial", Blob(256)),
            ("ValidTo", Time),
            ("ExpirationModel", One(&["KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE"])),
            ("ImportType", One(&["NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL"])),
            ("KeyMaterialDescription", Text),
            ("KeyMaterialId", Text),
        ],
    ),
    ("DeleteImportedKeyMaterial", &[KEY, ("KeyMaterialId", Text)]),
    ("UpdatePrimaryRegion", &[KEY, ("PrimaryRegion", Region)]),
    (
        "ReplicateKey",
        &[KEY, ("ReplicaRegion", Region), ("Policy", Policy), BYPASS, ("Description", Text), ("Tags", Tags)],
    ),
    ("CreateAlias", &[("AliasName", Alias), ("TargetKeyId", Key)]),
    ("UpdateAlias", &[("AliasName", Alias), ("TargetKeyId", Key)]),
    ("DeleteAlias", &[("AliasName", Alias)]),
    (
        "CreateGrant",
        &[
            KEY,
            ("GranteePrincipal", Principal),
            ("RetiringPrincipal", Principal),
            ("Operations", GRANTED),
            ("Constraints", Constraints),
            ("Name", Text),
            DRY,
            TOKENS,
        ],
    ),
    ("RetireGrant", &[("GrantToken", Text), KEY, ("GrantId", Text), DRY]),
    ("RevokeGrant", &[KEY, ("GrantId", Text), DRY]),
    (
        "CreateKey",
        &[
            ("Policy", Policy),
            ("Description", Text),
            ("KeyUsage", One(&["ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"])),
            ("KeySpec", SPECS),
            ("CustomerMasterKeySpec", SPECS),
            ("Origin", One(&["AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"])),
            STORE,
            BYPASS,
            ("Tags", Tags),
            ("MultiRegion", Flag),
            ("XksKeyId", Text),
        ],
    ),
    ("DisableKey", &[KEY]),
    ("ScheduleKeyDeletion", &[KEY, ("PendingWindowInDays", Number(30))]),
    ("PutKeyPolicy", &[KEY, ("PolicyName", One(&["default"])), ("Policy", Policy), BYPASS]),
];
