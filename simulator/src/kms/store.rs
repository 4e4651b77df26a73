//! What survives a restart: keys, aliases and users in an embedded database.
//!
//! Every change is one transaction that is on the disk before the call is answered, so a killed
//! process loses nothing it has promised. Secrets are sealed (see `master.rs`); the rest is JSON,
//! readable for whoever debugs.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

use super::KmsError;
use super::blob::MaterialId;
use super::key::{AliasRecord, KeyRecord};
use super::master::{MasterKey, RootKey};
use super::user::{SealedUser, User};

/// Key id to [`KeyRecord`].
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// `ACCOUNT:alias/NAME` to [`AliasRecord`].
const ALIASES: TableDefinition<&str, &[u8]> = TableDefinition::new("aliases");
/// Key material id to key id.
const MATERIALS: TableDefinition<&[u8], &str> = TableDefinition::new("materials");
/// Access key id to [`SealedUser`].
const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");
/// Facts about the database itself.
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

const FORMAT: &str = "1";
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The database and the key to its secrets.
pub(super) struct Store {
    database: Database,
    root: RootKey,
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self, KmsError> {
        let path = folder.join("kms.redb");
        let root = RootKey::open(&folder.join("root.key"), !path.try_exists()?)?;
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(redb::Error::from)?;
        let store = Self { database, root };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables, so that readers find them, and refuses another format.
    fn prepare(&self) -> Result<(), KmsError> {
        self.change(|transaction| {
            transaction.open_table(KEYS)?;
            transaction.open_table(ALIASES)?;
            transaction.open_table(MATERIALS)?;
            transaction.open_table(USERS)?;
            let mut meta = transaction.open_table(META)?;
            let found = meta.get("format")?.map(|format| format.value().to_owned());
            match found.as_deref() {
                None => {
                    meta.insert("format", FORMAT)?;
                    Ok(())
                }
                Some(FORMAT) => Ok(()),
                Some(_) => Err(KmsError::Format),
            }
        })
    }

    /// Runs `work` in one durable transaction; an error undoes all of it.
    fn change<T>(
        &self,
        work: impl FnOnce(&redb::WriteTransaction) -> Result<T, KmsError>,
    ) -> Result<T, KmsError> {
        let transaction = self.database.begin_write()?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    fn record<T: DeserializeOwned>(
        &self,
        table: TableDefinition<&str, &[u8]>,
        id: &str,
    ) -> Result<Option<T>, KmsError> {
        let table = self.database.begin_read()?.open_table(table)?;
        table.get(id)?.map(|bytes| read(bytes.value())).transpose()
    }

    fn records<T: DeserializeOwned>(
        &self,
        table: TableDefinition<&str, &[u8]>,
    ) -> Result<Vec<(String, T)>, KmsError> {
        let table = self.database.begin_read()?.open_table(table)?;
        table
            .iter()?
            .map(|entry| {
                let (id, bytes) = entry?;
                Ok((id.value().to_owned(), read(bytes.value())?))
            })
            .collect()
    }

    // Keys.

    pub(super) fn key(&self, id: &str) -> Result<Option<KeyRecord>, KmsError> {
        self.record(KEYS, id)
    }

    /// All keys, by id.
    pub(super) fn keys(&self) -> Result<Vec<KeyRecord>, KmsError> {
        Ok(self.records(KEYS)?.into_iter().map(|(_, key)| key).collect())
    }

    /// The id of the key that a blob's material belongs to.
    pub(super) fn key_of_material(&self, material: &MaterialId) -> Result<Option<String>, KmsError> {
        let table = self.database.begin_read()?.open_table(MATERIALS)?;
        Ok(table.get(material.as_slice())?.map(|id| id.value().to_owned()))
    }

    pub(super) fn seal_master(&self, key_id: &str, master: &MasterKey) -> Option<Vec<u8>> {
        self.root.seal(&format!("keys/{key_id}"), master.expose())
    }

    pub(super) fn master(&self, key: &KeyRecord) -> Result<MasterKey, KmsError> {
        self.root
            .open_sealed(&format!("keys/{}", key.id), &key.sealed_master)
            .and_then(|bytes| MasterKey::from_bytes(&bytes))
            .ok_or(KmsError::Sealed)
    }

    pub(super) fn insert_key(&self, key: &KeyRecord) -> Result<(), KmsError> {
        self.change(|transaction| {
            transaction.open_table(KEYS)?.insert(key.id.as_str(), write(key)?.as_slice())?;
            transaction.open_table(MATERIALS)?.insert(key.material.as_slice(), key.id.as_str())?;
            Ok(())
        })
    }

    /// Changes one key. Reading and writing are one step, so that two changes cannot undo each
    /// other; `edit` may refuse, and then nothing is changed.
    pub(super) fn edit_key<T, E: From<KmsError>>(
        &self,
        id: &str,
        edit: impl FnOnce(&mut KeyRecord) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.database.begin_write().map_err(KmsError::from)?;
        let done = {
            let mut table = transaction.open_table(KEYS).map_err(KmsError::from)?;
            let bytes = table.get(id).map_err(KmsError::from)?.map(|bytes| bytes.value().to_vec());
            let mut key: KeyRecord = read(&bytes.ok_or(KmsError::Gone)?)?;
            let done = edit(&mut key)?;
            table.insert(id, write(&key)?.as_slice()).map_err(KmsError::from)?;
            done
        };
        transaction.commit().map_err(KmsError::from)?;
        Ok(done)
    }

    /// Removes keys for good, with their aliases.
    pub(super) fn purge(&self, ids: &[String]) -> Result<(), KmsError> {
        self.change(|transaction| {
            let mut keys = transaction.open_table(KEYS)?;
            let mut aliases = transaction.open_table(ALIASES)?;
            transaction.open_table(MATERIALS)?.retain(|_, id| !ids.iter().any(|gone| gone == id))?;
            for id in ids {
                keys.remove(id.as_str())?;
            }
            aliases.retain(|_, bytes| {
                read::<AliasRecord>(bytes).map_or(true, |alias| !ids.contains(&alias.key_id))
            })?;
            Ok(())
        })
    }

    // Aliases.

    pub(super) fn alias(&self, account: &str, name: &str) -> Result<Option<AliasRecord>, KmsError> {
        self.record(ALIASES, &format!("{account}:{name}"))
    }

    /// All aliases, by account and name.
    pub(super) fn aliases(&self) -> Result<Vec<AliasRecord>, KmsError> {
        Ok(self.records(ALIASES)?.into_iter().map(|(_, alias)| alias).collect())
    }

    /// Adds an alias; `false` if there is one of that name.
    pub(super) fn insert_alias(&self, alias: &AliasRecord) -> Result<bool, KmsError> {
        let id = format!("{}:{}", alias.account, alias.name);
        self.change(|transaction| {
            let mut table = transaction.open_table(ALIASES)?;
            if table.get(id.as_str())?.is_some() {
                return Ok(false);
            }
            table.insert(id.as_str(), write(alias)?.as_slice())?;
            Ok(true)
        })
    }

    pub(super) fn remove_alias(&self, account: &str, name: &str) -> Result<(), KmsError> {
        self.change(|transaction| {
            transaction.open_table(ALIASES)?.remove(format!("{account}:{name}").as_str())?;
            Ok(())
        })
    }

    // Users.

    pub(super) fn has_users(&self) -> Result<bool, KmsError> {
        Ok(!self.database.begin_read()?.open_table(USERS)?.is_empty()?)
    }

    pub(super) fn user(&self, access_key_id: &str) -> Result<Option<User>, KmsError> {
        let sealed: Option<SealedUser> = self.record(USERS, access_key_id)?;
        sealed.map(|sealed| self.unseal(sealed)).transpose()
    }

    pub(super) fn users(&self) -> Result<Vec<User>, KmsError> {
        self.records(USERS)?.into_iter().map(|(_, sealed)| self.unseal(sealed)).collect()
    }

    /// Adds a user, or replaces the one with the same access key id.
    pub(super) fn put_user(&self, user: &User) -> Result<(), KmsError> {
        let sealed =
            user.seal(|identity, secret| self.root.seal(identity, secret)).ok_or(KmsError::Crypto)?;
        self.change(|transaction| {
            transaction.open_table(USERS)?.insert(user.access_key_id.as_str(), write(&sealed)?.as_slice())?;
            Ok(())
        })
    }

    pub(super) fn remove_user(&self, access_key_id: &str) -> Result<bool, KmsError> {
        self.change(|transaction| Ok(transaction.open_table(USERS)?.remove(access_key_id)?.is_some()))
    }

    fn unseal(&self, sealed: SealedUser) -> Result<User, KmsError> {
        sealed.open(|identity, bytes| self.root.open_sealed(identity, bytes)).ok_or(KmsError::Sealed)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, KmsError> {
    serde_json::from_slice(bytes).map_err(|_| KmsError::Record)
}

fn write<T: Serialize>(record: &T) -> Result<Vec<u8>, KmsError> {
    serde_json::to_vec(record).map_err(|_| KmsError::Record)
}
