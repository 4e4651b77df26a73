//! Chains of certificates in the shape of AWS's: root, regional, zonal, instance, leaf.

use adyton_verifier::attestation::TrustAnchor;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
};
use time::{Duration, OffsetDateTime};

use super::NOW;

/// Places in a chain of AWS's length.
pub(crate) const ROOT: usize = 0;
pub(crate) const REGIONAL: usize = 1;
pub(crate) const ZONAL: usize = 2;
pub(crate) const INSTANCE: usize = 3;
pub(crate) const LEAF: usize = 4;

/// One certificate to be, with its key.
pub(crate) struct Link {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
}

/// Links from the root to the leaf; each one is issued by the one before.
pub(crate) struct Plan(pub(crate) Vec<Link>);

/// An issued chain.
pub(crate) struct Chain {
    /// DER, root first, leaf last.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// The leaf's key.
    pub(crate) key: EcdsaKeyPair,
}

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(NOW.0 / 1000).unwrap()).unwrap()
}

impl Link {
    pub(crate) fn new(name: &str, is_ca: IsCa, usages: &[KeyUsagePurpose]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = is_ca;
        params.key_usages = usages.to_vec();
        params.not_before = now() - Duration::hours(1);
        params.not_after = now() + Duration::hours(3);
        Self { params, key: KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap() }
    }

    pub(crate) fn authority(name: &str, constraints: BasicConstraints) -> Self {
        Self::new(name, IsCa::Ca(constraints), &[KeyUsagePurpose::KeyCertSign])
    }

    pub(crate) fn leaf(name: &str) -> Self {
        Self::new(name, IsCa::ExplicitNoCa, &[KeyUsagePurpose::DigitalSignature])
    }
}

impl Plan {
    /// What AWS makes.
    pub(crate) fn nitro() -> Self {
        Self(vec![
            Link::authority("root", BasicConstraints::Unconstrained),
            Link::authority("regional", BasicConstraints::Constrained(2)),
            Link::authority("zonal", BasicConstraints::Constrained(1)),
            Link::authority("instance", BasicConstraints::Constrained(0)),
            Link::leaf("leaf"),
        ])
    }

    /// Changes one certificate.
    #[must_use]
    pub(crate) fn with(mut self, place: usize, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.0[place].params);
        self
    }

    /// Gives one certificate a key of another kind.
    #[must_use]
    pub(crate) fn with_key(mut self, place: usize, algorithm: &'static SignatureAlgorithm) -> Self {
        self.0[place].key = KeyPair::generate_for(algorithm).unwrap();
        self
    }

    pub(crate) fn issue(&self) -> Chain {
        let root = &self.0[0];
        let mut certificates = vec![root.params.self_signed(&root.key).unwrap().der().to_vec()];
        for pair in self.0.windows(2) {
            let issuer = Issuer::from_params(&pair[0].params, &pair[0].key);
            certificates.push(pair[1].params.signed_by(&pair[1].key, &issuer).unwrap().der().to_vec());
        }
        Chain { certificates, key: self.signing_key() }
    }

    /// The leaf's key; another P-384 key where the leaf's is of another kind.
    fn signing_key(&self) -> EcdsaKeyPair {
        let leaf = &self.0.last().unwrap().key;
        let read =
            |key: &KeyPair| EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &key.serialize_der());
        read(leaf).unwrap_or_else(|_| read(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()).unwrap())
    }
}

impl Chain {
    pub(crate) fn nitro() -> Self {
        Plan::nitro().issue()
    }

    pub(crate) fn anchor(&self) -> TrustAnchor {
        TrustAnchor::from_der(&self.certificates[0]).unwrap()
    }

    pub(crate) fn bundle(&self) -> &[Vec<u8>] {
        self.certificates.split_last().unwrap().1
    }

    pub(crate) fn leaf(&self) -> &[u8] {
        self.certificates.last().unwrap()
    }
}
