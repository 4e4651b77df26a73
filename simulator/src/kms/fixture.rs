//! A whole state as one file, to share as a fixture.
//!
//! The file is JSON: every table of the database as it is, with secrets sealed under the root key,
//! and the root key itself sealed under a key that the user keeps in a file of its own. The seal
//! covers the tables, so an edited file is refused. What is no secret (policies, names, tags, ARNs)
//! can be read by everybody who has the file.
//!
//! Not in it: the audit log, TLS certificates, quotas, and what lies in an HSM.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redb::{
    Database, MultimapTableDefinition, MultimapTableHandle as _, ReadableDatabase, ReadableTable,
    TableDefinition, TableHandle as _,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KmsError;
use super::master::{RootKey, write_whole};

const FORMAT: &str = "adyton-kms-state/1";
const KEY_BYTES: usize = 32;
const DATABASE: &str = "kms.redb";
const ROOT_KEY: &str = "root.key";
/// What a state folder holds that is not empty.
const STATE: [&str; 4] = [DATABASE, ROOT_KEY, "audit.ndjson", "audit.head"];

/// Why a state is not exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FixtureError {
    /// A file cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The database cannot be used.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// No local KMS was ever started in this state folder.
    #[error("there is no state to export")]
    NoState,
    /// The state folder holds something already.
    #[error("the state folder of the local KMS is not empty: it has {0}; import into another, or remove it")]
    NotEmpty(&'static str),
    /// A table of the database that this version cannot write to a file.
    #[error("the table {0:?} of the database cannot be exported")]
    Table(String),
    /// Not 64 hexadecimal digits.
    #[error("a key file holds 64 hexadecimal digits")]
    KeyFile,
    /// Not a file that `export` made.
    #[error("this is not an exported state")]
    Shape,
    /// The key is another, or the file was changed.
    #[error("the exported state does not open: the key is another one, or the file was changed")]
    Sealed,
}

macro_rules! database_errors {
    ($($source:ty),*) => {$(
        impl From<$source> for FixtureError {
            fn from(error: $source) -> Self {
                Self::Kms(KmsError::from(error))
            }
        }
    )*};
}

database_errors!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// The key that an exported state's root key is sealed under.
pub struct FixtureKey(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for FixtureKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FixtureKey(..)")
    }
}

impl FixtureKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`FixtureError::KeyFile`] if it is none.
    pub fn read(path: &Path) -> Result<Self, FixtureError> {
        let text = Zeroizing::new(fs_err::read_to_string(path)?);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text.trim(), key.as_mut_slice()).map_err(|_| FixtureError::KeyFile)?;
        Ok(Self(key))
    }

    /// Makes a key file that only the owner can read; an existing file is never overwritten.
    ///
    /// # Errors
    /// [`FixtureError::Io`].
    pub fn make(path: &Path) -> Result<Self, FixtureError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(|_| KmsError::Crypto)?;
        let text = Zeroizing::new(format!("{}\n", hex::encode(key.as_slice())));
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(named)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(Self(key))
    }

    fn sealing(&self) -> Result<RootKey, FixtureError> {
        RootKey::from_bytes(self.0.as_slice()).ok_or(FixtureError::KeyFile)
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    format: String,
    /// The root key, sealed and bound to the tables.
    root_key: String,
    tables: BTreeMap<String, Table>,
}

/// A table, by its kind. Bytes are text where they are UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Table {
    Records(BTreeMap<String, Bytes>),
    Texts(BTreeMap<String, String>),
    Lists(BTreeMap<String, Vec<String>>),
    /// Times in milliseconds since 1970, and what is due then.
    Times(Vec<(u64, String)>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Base64 { base64: String },
}

/// Writes the state of a folder to a file. The local KMS must not be running.
///
/// # Errors
/// [`FixtureError`]; a file that is there is never overwritten.
pub fn export_state(state_dir: &Path, file: &Path, key: &FixtureKey) -> Result<(), FixtureError> {
    let path = state_dir.join(DATABASE);
    if !path.try_exists()? {
        return Err(FixtureError::NoState);
    }
    let tables = read_tables(&Database::open(&path)?)?;
    let root = Zeroizing::new(fs_err::read(state_dir.join(ROOT_KEY))?);
    let sealed = key.sealing()?.seal(&identity(&tables)?, &root).ok_or(KmsError::Crypto)?;
    let fixture = Fixture { format: FORMAT.into(), root_key: STANDARD.encode(sealed), tables };
    let mut text = serde_json::to_vec_pretty(&fixture).map_err(|_| KmsError::Record)?;
    text.push(b'\n');
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let mut out =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(named)?;
    out.write_all(&text)?;
    out.sync_all()?;
    Ok(())
}

/// Makes the state of an exported file in a folder that has none: all of it, or nothing.
///
/// # Errors
/// [`FixtureError`].
pub fn import_state(state_dir: &Path, file: &Path, key: &FixtureKey) -> Result<(), FixtureError> {
    let fixture: Fixture = serde_json::from_slice(&fs_err::read(file)?).map_err(|_| FixtureError::Shape)?;
    let Fixture { format, root_key, tables } = fixture;
    if format != FORMAT {
        return Err(FixtureError::Shape);
    }
    let sealed = STANDARD.decode(root_key).map_err(|_| FixtureError::Shape)?;
    let root = key.sealing()?.open_sealed(&identity(&tables)?, &sealed).ok_or(FixtureError::Sealed)?;
    super::make_folder(state_dir)?;
    for name in STATE {
        if state_dir.join(name).try_exists()? {
            return Err(FixtureError::NotEmpty(name));
        }
    }
    // The database appears under its name only when it is whole; a root key alone is no state.
    let scratch = tempfile::tempdir_in(state_dir)?;
    let path = scratch.path().join(DATABASE);
    write_tables(&Database::create(&path)?, &tables)?;
    write_whole(&state_dir.join(ROOT_KEY), &root, 0o600)?;
    std::fs::rename(&path, state_dir.join(DATABASE))?;
    fs_err::File::open(state_dir)?.sync_all()?;
    Ok(())
}

/// What the root key is bound to.
fn identity(tables: &BTreeMap<String, Table>) -> Result<String, FixtureError> {
    let text = serde_json::to_vec(tables).map_err(|_| KmsError::Record)?;
    Ok(format!("{FORMAT}/{}", hex::encode(digest(&SHA256, &text).as_ref())))
}

fn read_tables(database: &Database) -> Result<BTreeMap<String, Table>, FixtureError> {
    let transaction = database.begin_read()?;
    let mut tables = BTreeMap::new();
    for handle in transaction.list_tables()? {
        let name = handle.name().to_owned();
        let records = TableDefinition::<&str, &[u8]>::new(&name);
        let texts = TableDefinition::<&str, &str>::new(&name);
        let table = if let Ok(table) = transaction.open_table(records) {
            let mut rows = BTreeMap::new();
            for row in table.iter()? {
                let (id, value) = row?;
                rows.insert(id.value().to_owned(), Bytes::of(value.value()));
            }
            Table::Records(rows)
        } else if let Ok(table) = transaction.open_table(texts) {
            let mut rows = BTreeMap::new();
            for row in table.iter()? {
                let (id, value) = row?;
                rows.insert(id.value().to_owned(), value.value().to_owned());
            }
            Table::Texts(rows)
        } else if let Ok(table) = transaction.open_table(TableDefinition::<(u64, &str), ()>::new(&name)) {
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (id, _) = row?;
                let (time, what) = id.value();
                rows.push((time, what.to_owned()));
            }
            Table::Times(rows)
        } else {
            return Err(FixtureError::Table(name));
        };
        tables.insert(name, table);
    }
    for handle in transaction.list_multimap_tables()? {
        let name = handle.name().to_owned();
        let definition = MultimapTableDefinition::<&str, &str>::new(&name);
        let Ok(table) = transaction.open_multimap_table(definition) else {
            return Err(FixtureError::Table(name));
        };
        let mut rows = BTreeMap::new();
        for row in redb::ReadableMultimapTable::iter(&table)? {
            let (id, values) = row?;
            let mut list = Vec::new();
            for value in values {
                list.push(value?.value().to_owned());
            }
            rows.insert(id.value().to_owned(), list);
        }
        tables.insert(name, Table::Lists(rows));
    }
    Ok(tables)
}

fn write_tables(database: &Database, tables: &BTreeMap<String, Table>) -> Result<(), FixtureError> {
    let transaction = database.begin_write()?;
    for (name, table) in tables {
        match table {
            Table::Records(rows) => {
                let mut table = transaction.open_table(TableDefinition::<&str, &[u8]>::new(name))?;
                for (id, value) in rows {
                    table.insert(id.as_str(), value.decoded()?.as_slice())?;
                }
            }
            Table::Texts(rows) => {
                let mut table = transaction.open_table(TableDefinition::<&str, &str>::new(name))?;
                for (id, value) in rows {
                    table.insert(id.as_str(), value.as_str())?;
                }
            }
            Table::Times(rows) => {
                let mut table = transaction.open_table(TableDefinition::<(u64, &str), ()>::new(name))?;
                for (time, what) in rows {
                    table.insert((*time, what.as_str()), ())?;
                }
            }
            Table::Lists(rows) => {
                let definition = MultimapTableDefinition::<&str, &str>::new(name);
                let mut table = transaction.open_multimap_table(definition)?;
                for (id, values) in rows {
                    for value in values {
                        table.insert(id.as_str(), value.as_str())?;
                    }
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64 { base64: STANDARD.encode(bytes) },
        }
    }

    fn decoded(&self) -> Result<Vec<u8>, FixtureError> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Base64 { base64 } => STANDARD.decode(base64).map_err(|_| FixtureError::Shape),
        }
    }
}
