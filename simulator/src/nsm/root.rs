//! The simulator's root certificate and its key: made once, kept in the state folder.
//!
//! The key file decides what this simulator's verifiers trust, and nothing else: no real key
//! policy ever names this root. Certificates below it are made anew by each device.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
};
use rustix::fs::{FlockOperation, flock};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// The organisation in every simulated certificate, where real ones say "Amazon".
pub const SIMULATOR_MARK: &str = "Adyton simulator";

/// How long a root lives: 30 years, like AWS's.
const ROOT_LIFE: Duration = Duration::from_hours(30 * 365 * 24);
/// A root is valid from a little before it was made, so that a small step back of the clock
/// does not make yesterday's state unusable.
const ROOT_BACKDATE: Duration = Duration::from_hours(24);

/// Why a simulated device could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NsmError {
    /// The state folder cannot be read or written; the source names the file.
    #[error("the simulator's state folder is not usable")]
    State(#[from] io::Error),
    /// The root certificate is there, its key is not: documents could not be signed for it.
    #[error("{} is missing; remove the folder around it to start with a new root", path.display())]
    RootKeyMissing {
        /// Where the key should be.
        path: PathBuf,
    },
    /// The root's files do not belong together or are damaged.
    #[error("{} does not hold what the simulator wrote; remove the folder around it to start with a new root", path.display())]
    RootDamaged {
        /// The file that is wrong.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("could not make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The system's random source or the cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
    /// The clock shows a time that certificates cannot carry.
    #[error("the clock is before 1970 or out of range")]
    Clock,
    /// The configuration sets a register that only the enclave itself extends.
    #[error("PCR{index} is not set at boot; the registers set at boot are 0 to 15")]
    NotMeasuredAtBoot {
        /// The register.
        index: u16,
    },
}

/// The simulator's trust anchor, with the means to sign under it.
pub struct SimulatedRoot {
    pem: String,
    der: Vec<u8>,
    instance_id: String,
    issuer: Issuer<'static, KeyPair>,
}

impl SimulatedRoot {
    /// Reads the root from `<state_dir>/nsm`, or makes it there. Several processes may do this
    /// at once: one makes it, all get the same.
    ///
    /// # Errors
    /// [`NsmError`] if the folder cannot be used or its content is incomplete.
    pub fn open(state_dir: &Path, now: SystemTime) -> Result<Self, NsmError> {
        let folder = state_dir.join("nsm");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| named(&folder, &error))?;
        let _lock = lock(&folder.join("lock"))?;
        let certificate = folder.join("root.pem");
        let key = folder.join("root.key");
        let instance = folder.join("instance-id");
        if !certificate.try_exists()? {
            make(&certificate, &key, &instance, now)?;
        } else if !key.try_exists()? {
            return Err(NsmError::RootKeyMissing { path: key });
        }
        load(&certificate, &key, &instance)
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The id of the simulated parent instance, `i-<17 hex digits>`.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

impl fmt::Debug for SimulatedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedRoot").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

/// Makes root and instance id. The certificate is written last: while it is absent nobody can
/// have trusted it, so what an interrupted start left behind is simply replaced.
fn make(certificate: &Path, key: &Path, instance: &Path, now: SystemTime) -> Result<(), NsmError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let mut params = params();
    params.not_before = before(now, ROOT_BACKDATE)?.into();
    params.not_after = after(now, ROOT_LIFE)?.into();
    let root = params.self_signed(&pair)?;
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|_| NsmError::Crypto)?;
    let id = format!("i-0{}", hex::encode(id));
    write_whole(key, Zeroizing::new(pair.serialize_pem()).as_bytes(), 0o600)?;
    write_whole(instance, id.as_bytes(), 0o644)?;
    write_whole(certificate, root.pem().as_bytes(), 0o644)?;
    Ok(())
}

fn load(certificate: &Path, key: &Path, instance: &Path) -> Result<SimulatedRoot, NsmError> {
    let damaged = |path: &Path| NsmError::RootDamaged { path: path.to_owned() };
    let pem = fs_err::read_to_string(certificate)?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged(certificate))?;
    let secret = Zeroizing::new(fs_err::read_to_string(key)?);
    let pair =
        KeyPair::from_pkcs8_pem_and_sign_algo(&secret, &PKCS_ECDSA_P384_SHA384).map_err(|_| damaged(key))?;
    let public = pair.public_key_raw();
    if !der.windows(public.len()).any(|window| window == public) {
        return Err(damaged(key));
    }
    let instance_id = fs_err::read_to_string(instance)?;
    let digits = instance_id.strip_prefix("i-").unwrap_or_default();
    if digits.len() != 17 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(damaged(instance));
    }
    Ok(SimulatedRoot { der: der.as_ref().to_vec(), pem, instance_id, issuer: Issuer::new(params(), pair) })
}

/// Name and extensions of AWS's root, with the simulator's organisation.
fn params() -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, country());
    name.push(DnType::OrganizationName, SIMULATOR_MARK);
    name.push(DnType::OrganizationalUnitName, "NSM");
    name.push(DnType::CommonName, "aws.nitro-enclaves");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The country as a `PrintableString`, which is how the real chain has it.
pub(super) fn country() -> DnValue {
    "US".try_into().map_or_else(|_| DnValue::from("US"), DnValue::PrintableString)
}

pub(super) fn before(now: SystemTime, span: Duration) -> Result<SystemTime, NsmError> {
    now.checked_sub(span).ok_or(NsmError::Clock)
}

pub(super) fn after(now: SystemTime, span: Duration) -> Result<SystemTime, NsmError> {
    now.checked_add(span).ok_or(NsmError::Clock)
}

/// Holds off other processes that start at the same moment, until dropped.
fn lock(path: &Path) -> io::Result<std::fs::File> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| named(path, &error))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Writes under another name and renames, so that a reader sees all of it or nothing.
fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
