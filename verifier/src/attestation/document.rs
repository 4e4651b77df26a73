//! The signed payload and its fields (V-4).
//!
//! Field names, types and limits are those of AWS's `attestation_process.md`.
//! Optional fields are null in real documents; leaving them out is what AWS's
//! CDDL says, so both are read and which one it was is remembered.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use subtle::ConstantTimeEq;

use super::cbor::{CborError, CborProblem, Entries, Reader};
use super::chain;
use super::error::{AttestationError, Part};
use super::time::UnixMillis;

/// Indices that a Nitro security module has.
pub(super) const MAX_PCRS: usize = 32;
/// Longest `nonce` and `user_data`, in bytes.
const MAX_USER_BYTES: usize = 512;
/// Longest `public_key` and certificate, in bytes.
const MAX_KEY_BYTES: usize = 1024;
/// Most certificates of the bundle that are read; the path itself is shorter.
const MAX_BUNDLE: usize = 32;
/// Longest `module_id`, in bytes; AWS's are below 50 and it documents no limit.
const MAX_MODULE_ID_BYTES: usize = 256;

/// What a document says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Document {
    /// Name of the security module: instance and enclave, such as `i-0368fa67e156d6d23-enc019b8596b1a9dad6`.
    pub module_id: String,
    /// When the document was made, by the hypervisor's clock.
    pub timestamp: UnixMillis,
    /// The digest that made the PCRs.
    pub digest: Digest,
    /// The platform configuration registers that were locked, by index.
    pub pcrs: BTreeMap<u8, Pcr>,
    /// A key that the enclave wants vouched for, as it passed it in.
    #[serde(serialize_with = "optional_hex")]
    pub public_key: Option<Vec<u8>>,
    /// Data that the enclave wants vouched for.
    #[serde(serialize_with = "optional_hex")]
    pub user_data: Option<Vec<u8>>,
    /// The challenger's nonce.
    #[serde(serialize_with = "optional_hex")]
    pub nonce: Option<Vec<u8>>,
    /// When the signing certificate expires: no cache may keep the document longer (T-7).
    pub leaf_not_after: UnixMillis,
    /// The signing certificate, DER.
    #[serde(serialize_with = "bytes_hex")]
    pub certificate: Vec<u8>,
    /// The issuing certificates, DER, root first.
    #[serde(serialize_with = "hex_list")]
    pub cabundle: Vec<Vec<u8>>,
}

impl Document {
    /// The first of PCR0 to PCR2 that is all zero: the enclave runs in debug mode (V-6).
    pub fn debug_pcr(&self) -> Option<u8> {
        (0..=2).find(|index| self.pcrs.get(index).is_some_and(Pcr::is_zero))
    }

    /// Whether the document repeats exactly this nonce. How long the answer takes does not tell where they
    /// differ.
    pub fn answers(&self, nonce: &[u8]) -> bool {
        self.nonce.as_deref().is_some_and(|own| own.ct_eq(nonce).into())
    }
}

/// The digest that makes PCRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Digest {
    /// FIPS 180-4.
    #[serde(rename = "SHA384")]
    Sha384,
}

/// The value of one platform configuration register: 32, 48 or 64 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pcr(Vec<u8>);

impl Pcr {
    pub(super) fn new(value: &[u8]) -> Option<Self> {
        matches!(value.len(), 32 | 48 | 64).then(|| Self(value.to_vec()))
    }

    /// The value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether nothing was ever measured into it.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

impl From<[u8; 48]> for Pcr {
    fn from(value: [u8; 48]) -> Self {
        Self(value.to_vec())
    }
}

impl fmt::Display for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Pcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pcr({self})")
    }
}

impl Serialize for Pcr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn bytes_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn optional_hex<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.as_ref().map(hex::encode).serialize(serializer)
}

fn hex_list<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(hex::encode))
}

/// A field of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    ModuleId,
    Digest,
    Timestamp,
    Pcrs,
    Certificate,
    Cabundle,
    PublicKey,
    UserData,
    Nonce,
}

impl Field {
    const ALL: [Self; 9] = [
        Self::ModuleId,
        Self::Digest,
        Self::Timestamp,
        Self::Pcrs,
        Self::Certificate,
        Self::Cabundle,
        Self::PublicKey,
        Self::UserData,
        Self::Nonce,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ModuleId => "module_id",
            Self::Digest => "digest",
            Self::Timestamp => "timestamp",
            Self::Pcrs => "pcrs",
            Self::Certificate => "certificate",
            Self::Cabundle => "cabundle",
            Self::PublicKey => "public_key",
            Self::UserData => "user_data",
            Self::Nonce => "nonce",
        }
    }

    const fn is_optional(self) -> bool {
        matches!(self, Self::PublicKey | Self::UserData | Self::Nonce)
    }

    fn check(self, length: usize, least: usize, most: usize) -> Result<(), AttestationError> {
        if (least..=most).contains(&length) {
            return Ok(());
        }
        Err(AttestationError::FieldLength { field: self.name(), length, least, most })
    }
}

/// A parsed payload, with what its encoding leaves to the sender.
pub(super) struct Payload {
    document: Document,
    /// Fields in the order received; absent ones are not in it.
    order: Vec<Field>,
    /// Whether the outermost map is of indefinite length.
    open: bool,
}

impl Payload {
    /// Parses the payload, strictly.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, AttestationError> {
        let mut reader = Reader::new(payload);
        let mut entries = reader.map().map_err(malformed)?;
        let open = entries == Entries::Open;
        let mut fields = Fields::default();
        let mut order = Vec::with_capacity(Field::ALL.len());
        while reader.next_entry(&mut entries).map_err(malformed)? {
            let key_error = |problem| malformed(reader.problem(problem));
            let (unknown, duplicate) =
                (key_error(CborProblem::UnknownKey), key_error(CborProblem::DuplicateKey));
            let key = reader.text().map_err(malformed)?;
            let field = Field::ALL.into_iter().find(|field| field.name() == key).ok_or(unknown)?;
            if order.contains(&field) {
                return Err(duplicate);
            }
            order.push(field);
            fields.read(field, &mut reader)?;
        }
        reader.end().map_err(malformed)?;
        Ok(Self { document: fields.finish()?, order, open })
    }

    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    pub(super) fn into_document(self) -> Document {
        self.document
    }

    pub(super) fn order(&self) -> &[Field] {
        &self.order
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }
}

fn malformed(error: CborError) -> AttestationError {
    AttestationError::Malformed { part: Part::Payload, error }
}

/// The fields met so far.
#[derive(Default)]
struct Fields {
    module_id: Option<String>,
    digest: Option<Digest>,
    timestamp: Option<UnixMillis>,
    pcrs: Option<BTreeMap<u8, Pcr>>,
    certificate: Option<Vec<u8>>,
    cabundle: Option<Vec<Vec<u8>>>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

impl Fields {
    fn read(&mut self, field: Field, reader: &mut Reader<'_>) -> Result<(), AttestationError> {
        if reader.optional_null().map_err(malformed)? {
            if field.is_optional() {
                return Ok(());
            }
            return Err(AttestationError::FieldNull { field: field.name() });
        }
        match field {
            Field::ModuleId => self.module_id = Some(read_module_id(reader)?),
            Field::Digest => self.digest = Some(read_digest(reader)?),
            Field::Timestamp => self.timestamp = Some(UnixMillis(reader.unsigned().map_err(malformed)?)),
            Field::Pcrs => self.pcrs = Some(read_pcrs(reader)?),
            Field::Certificate => self.certificate = Some(read_bytes(field, reader, 1, MAX_KEY_BYTES)?),
            Field::Cabundle => self.cabundle = Some(read_bundle(reader)?),
            Field::PublicKey => self.public_key = Some(read_bytes(field, reader, 1, MAX_KEY_BYTES)?),
            Field::UserData => self.user_data = Some(read_bytes(field, reader, 0, MAX_USER_BYTES)?),
            Field::Nonce => self.nonce = Some(read_bytes(field, reader, 0, MAX_USER_BYTES)?),
        }
        Ok(())
    }

    fn finish(self) -> Result<Document, AttestationError> {
        let missing = |field: Field| AttestationError::FieldMissing { field: field.name() };
        let Self { module_id, digest, timestamp, pcrs, certificate, cabundle, public_key, user_data, nonce } =
            self;
        let certificate = certificate.ok_or_else(|| missing(Field::Certificate))?;
        Ok(Document {
            module_id: module_id.ok_or_else(|| missing(Field::ModuleId))?,
            timestamp: timestamp.ok_or_else(|| missing(Field::Timestamp))?,
            digest: digest.ok_or_else(|| missing(Field::Digest))?,
            pcrs: pcrs.ok_or_else(|| missing(Field::Pcrs))?,
            public_key,
            user_data,
            nonce,
            leaf_not_after: chain::leaf_not_after(&certificate)?,
            certificate,
            cabundle: cabundle.ok_or_else(|| missing(Field::Cabundle))?,
        })
    }
}

fn read_module_id(reader: &mut Reader<'_>) -> Result<String, AttestationError> {
    let module_id = reader.text().map_err(malformed)?;
    Field::ModuleId.check(module_id.len(), 1, MAX_MODULE_ID_BYTES)?;
    Ok(module_id.to_owned())
}

fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, AttestationError> {
    match reader.text().map_err(malformed)? {
        "SHA384" => Ok(Digest::Sha384),
        _ => Err(AttestationError::Digest),
    }
}

fn read_bytes(
    field: Field,
    reader: &mut Reader<'_>,
    least: usize,
    most: usize,
) -> Result<Vec<u8>, AttestationError> {
    let bytes = reader.bytes().map_err(malformed)?;
    field.check(bytes.len(), least, most)?;
    Ok(bytes.to_vec())
}

fn read_bundle(reader: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, AttestationError> {
    let count = usize::try_from(reader.array().map_err(malformed)?).unwrap_or(usize::MAX);
    Field::Cabundle.check(count, 1, MAX_BUNDLE)?;
    (0..count).map(|_| read_bytes(Field::Cabundle, reader, 1, MAX_KEY_BYTES)).collect()
}

fn read_pcrs(reader: &mut Reader<'_>) -> Result<BTreeMap<u8, Pcr>, AttestationError> {
    let mut entries = reader.definite_map().map_err(malformed)?;
    if let Entries::Left(count) = entries {
        Field::Pcrs.check(usize::try_from(count).unwrap_or(usize::MAX), 1, MAX_PCRS)?;
    }
    let mut pcrs = BTreeMap::new();
    while reader.next_entry(&mut entries).map_err(malformed)? {
        let duplicate = malformed(reader.problem(CborProblem::DuplicateKey));
        let index = reader.unsigned().map_err(malformed)?;
        let index = u8::try_from(index)
            .ok()
            .filter(|index| usize::from(*index) < MAX_PCRS)
            .ok_or(AttestationError::PcrIndex { index })?;
        let value = reader.bytes().map_err(malformed)?;
        let pcr = Pcr::new(value).ok_or(AttestationError::PcrLength { index, bytes: value.len() })?;
        if pcrs.insert(index, pcr).is_some() {
            return Err(duplicate);
        }
    }
    Ok(pcrs)
}
