//! An enclave's signatures under a root of the test's own: documents, receipts, sealed results.

use std::time::{SystemTime, UNIX_EPOCH};

use adyton_shared::id::{EnclaveId, PolicyDigest};
use adyton_shared::sealed_request::OpeningKey;
use adyton_shared::statement::{Purpose, Statement};
use adyton_verifier::attestation::{Expectations, TrustAnchor};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coset::cbor::Value;
use coset::{CborSerializable, CoseSign1Builder, HeaderBuilder, iana};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384,
};
use time::{Duration, OffsetDateTime};

/// The policy of every forged enclave.
pub(crate) const POLICY: PolicyDigest = PolicyDigest::new([0x42; 48]);

/// A hypervisor: a root, and a leaf that signs documents.
pub(crate) struct Forge {
    now: OffsetDateTime,
    root: Vec<u8>,
    leaf: Vec<u8>,
    key: EcdsaKeyPair,
}

/// An enclave with a receipt key of its own.
pub(crate) struct Enclave<'a> {
    forge: &'a Forge,
    pub(crate) key: Ed25519KeyPair,
    /// Opens what is sealed to it.
    pub(crate) opening: OpeningKey,
}

/// What a document says.
pub(crate) struct Says {
    pub(crate) statement: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) pcr0: u8,
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

impl Forge {
    pub(crate) fn new() -> Self {
        Self::at(OffsetDateTime::now_utc())
    }

    /// A hypervisor at that time: its leaf has expired three hours later.
    pub(crate) fn at(now: OffsetDateTime) -> Self {
        let (root, root_key) = certificate("root", IsCa::Ca(BasicConstraints::Unconstrained), now);
        let (leaf, leaf_key) = certificate("leaf", IsCa::ExplicitNoCa, now);
        let issuer = Issuer::from_params(&root, &root_key);
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &leaf_key.serialize_der());
        Self {
            now,
            root: root.self_signed(&root_key).unwrap().der().to_vec(),
            leaf: leaf.signed_by(&leaf_key, &issuer).unwrap().der().to_vec(),
            key: key.unwrap(),
        }
    }

    /// Its time, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.now.unix_timestamp_nanos() / 1_000_000).unwrap()
    }

    pub(crate) fn anchor(&self) -> TrustAnchor {
        TrustAnchor::from_der(&self.root).unwrap()
    }

    /// The root as a file for `--root`.
    pub(crate) fn root_pem(&self) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&self.root))
    }

    pub(crate) fn enclave(&self) -> Enclave<'_> {
        Enclave {
            forge: self,
            key: Ed25519KeyPair::generate().unwrap(),
            opening: OpeningKey::generate().unwrap(),
        }
    }

    /// Signs a document as an NSM would.
    pub(crate) fn document(&self, says: Says) -> Vec<u8> {
        let Says { statement, public_key, nonce, pcr0 } = says;
        let pcr =
            |index: u8| (Value::from(index), Value::Bytes(vec![if index == 0 { pcr0 } else { index }; 48]));
        let entry = |name: &str, value| (Value::Text(name.to_owned()), value);
        let payload = Value::Map(vec![
            entry("module_id", Value::Text("i-0-enc0".to_owned())),
            entry("digest", Value::Text("SHA384".to_owned())),
            entry("timestamp", Value::from(self.now_ms())),
            entry("pcrs", Value::Map((0..3).map(pcr).collect())),
            entry("certificate", Value::Bytes(self.leaf.clone())),
            entry("cabundle", Value::Array(vec![Value::Bytes(self.root.clone())])),
            entry("public_key", Value::Bytes(public_key)),
            entry("user_data", Value::Bytes(statement)),
            entry("nonce", nonce.map_or(Value::Null, Value::Bytes)),
        ]);
        CoseSign1Builder::new()
            .protected(HeaderBuilder::new().algorithm(iana::Algorithm::ES384).build())
            .payload(payload.to_vec().unwrap())
            .create_signature(b"", |message| {
                self.key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            })
            .build()
            .to_vec()
            .unwrap()
    }
}

impl Enclave<'_> {
    pub(crate) fn id(&self) -> EnclaveId {
        EnclaveId::new(self.key.public_key().as_ref().try_into().unwrap())
    }

    /// What its identity document says.
    pub(crate) fn identity(&self, nonce: Option<Vec<u8>>) -> Says {
        let id = *self.id().as_bytes();
        let statement = Statement { purpose: Purpose::Identity, subject: id, policy: POLICY };
        Says {
            statement: statement.to_bytes(),
            public_key: self.opening.public().as_bytes().to_vec(),
            nonce,
            pcr0: 7,
        }
    }

    pub(crate) fn document(&self, nonce: Option<Vec<u8>>) -> Vec<u8> {
        self.forge.document(self.identity(nonce))
    }
}

/// Demands the image of every forged enclave.
pub(crate) fn its_image() -> Expectations {
    Expectations::pcrs([(0, [7; 48])].into()).unwrap()
}

fn certificate(name: &str, is_ca: IsCa, now: OffsetDateTime) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let usage = if is_ca == IsCa::ExplicitNoCa {
        KeyUsagePurpose::DigitalSignature
    } else {
        KeyUsagePurpose::KeyCertSign
    };
    params.key_usages = vec![usage];
    params.is_ca = is_ca;
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::hours(3);
    (params, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap())
}
