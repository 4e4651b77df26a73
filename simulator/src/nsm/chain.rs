//! The certificates below the root: regional, zonal, instance, and the leaf that signs documents.
//!
//! Names, lifetimes, serial numbers and extensions follow the real chain of 2026-01-03. As there,
//! the leaf lives three hours and is replaced some time before it ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SerialNumber,
};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use super::NsmError;
use super::root::{SIMULATOR_MARK, SimulatedRoot, after, before, country};

const HOUR: Duration = Duration::from_hours(1);
const REGIONAL_LIFE: Duration = Duration::from_hours(20 * 24);
const ZONAL_LIFE: Duration = Duration::from_hours(6 * 24);
const INSTANCE_LIFE: Duration = Duration::from_hours(24);
const LEAF_LIFE: Duration = Duration::from_hours(3);
/// A leaf with less than this left is replaced, so that a document can still be used.
const LEAF_SLACK: Duration = Duration::from_mins(15);
/// Real leaves are valid from three seconds before they are made.
const LEAF_BACKDATE: Duration = Duration::from_secs(3);
/// Stands where real names have a region.
const REGION: &str = "local";

/// Object identifiers of RFC 5280 §4.2.1.9 and §4.2.1.3.
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];

/// The names of this module and its parent instance.
#[derive(Clone)]
pub(super) struct ModuleName {
    instance: String,
    enclave: [u8; 8],
    module: String,
}

impl ModuleName {
    /// A new enclave's name: real ones are made of the start in milliseconds and two more bytes.
    pub(super) fn new(instance: &str, now: SystemTime) -> Result<Self, NsmError> {
        let millis = now
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok())
            .ok_or(NsmError::Clock)?;
        let mut enclave = (millis << 16).to_be_bytes();
        getrandom::fill(&mut enclave[6..]).map_err(|_| NsmError::Crypto)?;
        Ok(Self {
            module: format!("{instance}-enc{}", hex::encode(enclave)),
            instance: instance.to_owned(),
            enclave,
        })
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn module(&self) -> &str {
        &self.module
    }
}

/// What signs documents at present.
pub(super) struct Leaf {
    /// DER.
    pub(super) certificate: Vec<u8>,
    pub(super) key: EcdsaKeyPair,
    validity: Validity,
}

/// A chain that renews itself from the root.
pub(super) struct Chain {
    root: SimulatedRoot,
    name: ModuleName,
    authorities: Authorities,
    leaf: Leaf,
}

impl Chain {
    pub(super) fn issue(root: SimulatedRoot, name: ModuleName, now: SystemTime) -> Result<Self, NsmError> {
        let authorities = Authorities::issue(&root, &name, now)?;
        let leaf = Leaf::issue(&authorities, &name, now)?;
        Ok(Self { root, name, authorities, leaf })
    }

    /// The leaf to use now and the bundle above it, root first, renewed as needed.
    pub(super) fn current(&mut self, now: SystemTime) -> Result<(&Leaf, &[ByteBuf]), NsmError> {
        if !self.leaf.validity.lasts(now, LEAF_SLACK) {
            if !self.authorities.validity.lasts(now, LEAF_LIFE) {
                self.authorities = Authorities::issue(&self.root, &self.name, now)?;
            }
            self.leaf = Leaf::issue(&self.authorities, &self.name, now)?;
        }
        Ok((&self.leaf, &self.authorities.bundle))
    }
}

impl Leaf {
    fn issue(authorities: &Authorities, name: &ModuleName, now: SystemTime) -> Result<Self, NsmError> {
        let validity = Validity { from: before(now, LEAF_BACKDATE)?, until: after(now, LEAF_LIFE)? };
        let mut params = CertificateParams::default();
        validity.write(&mut params);
        params.serial_number = Some(leaf_serial(name, now));
        params.distinguished_name = instance_shape(format!("{}.{REGION}.aws", name.module()));
        // Written by hand because the real leaf has just these two, the second not critical.
        params.is_ca = IsCa::NoCa;
        let mut constraints = CustomExtension::from_oid_content(BASIC_CONSTRAINTS, vec![0x30, 0]);
        constraints.set_criticality(true);
        let usage = CustomExtension::from_oid_content(KEY_USAGE, vec![0x03, 0x02, 0x06, 0xc0]);
        params.custom_extensions = vec![constraints, usage];

        let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let certificate = params.signed_by(&pair, &authorities.instance)?;
        let secret = Zeroizing::new(pair.serialize_der());
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &secret)
            .map_err(|_| NsmError::Crypto)?;
        Ok(Self { certificate: certificate.der().to_vec(), key, validity })
    }
}

/// The three authorities between root and leaf.
struct Authorities {
    bundle: Vec<ByteBuf>,
    instance: CertifiedIssuer<'static, KeyPair>,
    validity: Validity,
}

impl Authorities {
    fn issue(root: &SimulatedRoot, name: &ModuleName, now: SystemTime) -> Result<Self, NsmError> {
        let signing =
            [KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut regional_name = DistinguishedName::new();
        regional_name.push(DnType::CountryName, country());
        regional_name.push(DnType::OrganizationName, SIMULATOR_MARK);
        regional_name.push(DnType::OrganizationalUnitName, "NSM");
        regional_name.push(DnType::CommonName, format!("{}.{REGION}.aws.nitro-enclaves", random_label()?));
        let regional =
            authority(regional_name, Validity::authority(now, REGIONAL_LIFE)?, 2, &signing, root.issuer())?;

        let mut zonal_name = DistinguishedName::new();
        zonal_name.push(DnType::CommonName, format!("{}.zonal.{REGION}.aws.nitro-enclaves", random_label()?));
        zonal_name.push(DnType::OrganizationalUnitName, "NSM");
        zonal_name.push(DnType::OrganizationName, SIMULATOR_MARK);
        zonal_name.push(DnType::CountryName, country());
        zonal_name.push(DnType::StateOrProvinceName, "WA");
        zonal_name.push(DnType::LocalityName, "Seattle");
        let zonal = authority(zonal_name, Validity::authority(now, ZONAL_LIFE)?, 1, &signing, &regional)?;

        let validity = Validity::authority(now, INSTANCE_LIFE)?;
        let instance = authority(
            instance_shape(format!("{}.{REGION}.aws.nitro-enclaves", name.instance())),
            validity,
            0,
            &[KeyUsagePurpose::KeyCertSign],
            &zonal,
        )?;
        let bundle = [root.der(), regional.der(), zonal.der(), instance.der()]
            .map(|der| ByteBuf::from(der.to_vec()))
            .to_vec();
        Ok(Self { bundle, instance, validity })
    }
}

fn authority(
    name: DistinguishedName,
    validity: Validity,
    path_length: u8,
    usages: &[KeyUsagePurpose],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<CertifiedIssuer<'static, KeyPair>, NsmError> {
    let mut params = CertificateParams::default();
    validity.write(&mut params);
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    Ok(CertifiedIssuer::signed_by(params, pair, issuer)?)
}

/// The order of attributes that instance and leaf certificates share.
fn instance_shape(common_name: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, country());
    name.push(DnType::StateOrProvinceName, "Washington");
    name.push(DnType::LocalityName, "Seattle");
    name.push(DnType::OrganizationName, SIMULATOR_MARK);
    name.push(DnType::OrganizationalUnitName, "NSM");
    name.push(DnType::CommonName, common_name);
    name
}

/// The enclave's eight bytes, then the time in seconds as eight more.
fn leaf_serial(name: &ModuleName, now: SystemTime) -> SerialNumber {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    SerialNumber::from([name.enclave, seconds.to_be_bytes()].concat())
}

fn random_label() -> Result<String, NsmError> {
    let mut label = [0; 8];
    getrandom::fill(&mut label).map_err(|_| NsmError::Crypto)?;
    Ok(hex::encode(label))
}

#[derive(Clone, Copy)]
struct Validity {
    from: SystemTime,
    until: SystemTime,
}

impl Validity {
    /// Authorities are made ahead of their use; an hour is the simulator's choice.
    fn authority(now: SystemTime, life: Duration) -> Result<Self, NsmError> {
        Ok(Self { from: before(now, HOUR)?, until: after(now, life)? })
    }

    /// Whether the certificate is valid now and will be for `span` more. A clock that went back
    /// counts as well: a document must never be older than the leaf that signed it.
    fn lasts(&self, now: SystemTime, span: Duration) -> bool {
        self.from <= now && now.checked_add(span).is_some_and(|end| end <= self.until)
    }

    fn write(&self, params: &mut CertificateParams) {
        params.not_before = self.from.into();
        params.not_after = self.until.into();
    }
}
