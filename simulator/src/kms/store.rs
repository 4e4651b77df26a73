//! What survives a restart: keys, aliases, grants, users and their policies in an embedded database.
//!
//! Every change is one transaction that is on the disk before the call is answered, so a killed
//! process loses nothing it has promised. Secrets are sealed (see `master.rs`); the rest is JSON,
//! readable for whoever debugs.

mod authority;
mod key_stores;
mod whole;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{
    Database, MultimapTableDefinition, ReadableDatabase, ReadableMultimapTable, ReadableTable,
    ReadableTableMetadata, TableDefinition,
};
use serde::{Serialize, de::DeserializeOwned};

use super::KmsError;
use super::key::{AliasRecord, KeyRecord, Millis, alias_arn};
use super::master::RootKey;
use super::material::{Held, MaterialId, MaterialRecord, Secret};
use super::sts::Role;
use super::usage::LastUse;
use super::user::{SealedUser, User};

/// Key ARN to [`KeyRecord`]. ARNs begin with region and account, so a range holds the keys of both.
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// Alias ARN to [`AliasRecord`].
const ALIASES: TableDefinition<&str, &[u8]> = TableDefinition::new("aliases");
/// Key ARN to the names of its aliases.
const NAMES: MultimapTableDefinition<&str, &str> = MultimapTableDefinition::new("names");
/// `REGION/MATERIAL` to the ARN of the key that has this material in this region.
const MATERIALS: TableDefinition<&str, &str> = TableDefinition::new("materials");
/// When something happens to a key by itself, and the key's ARN.
const DUE: TableDefinition<(Millis, &str), ()> = TableDefinition::new("due");
/// Key ARN to [`LastUse`].
const USES: TableDefinition<&str, &[u8]> = TableDefinition::new("uses");
/// Access key id to [`SealedUser`].
const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");
/// Role ARN to [`Role`].
const ROLES: TableDefinition<&str, &[u8]> = TableDefinition::new("roles");
/// Facts about the database itself.
const META: TableDefinition<&str, &str> = TableDefinition::new("meta");

const FORMAT: &str = "3";
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The database and the key to its secrets.
pub(super) struct Store {
    database: Database,
    root: RootKey,
    /// Not later than the first entry of [`DUE`]. Lowered and raised only inside transactions.
    next_due: AtomicU64,
}

/// Several changes in one transaction: all of them are made, or none.
pub(super) struct Change<'a> {
    pub(super) store: &'a Store,
    transaction: &'a redb::WriteTransaction,
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self, KmsError> {
        let path = folder.join("kms.redb");
        let root = RootKey::open(&folder.join("root.key"), !path.try_exists()?)?;
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(redb::Error::from)?;
        let store = Self { database, root, next_due: AtomicU64::new(0) };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables, so that readers find them, and refuses another format.
    fn prepare(&self) -> Result<(), KmsError> {
        self.change(|transaction| {
            make_tables(transaction)?;
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

    /// The records whose ids begin with `prefix`, sorted by id.
    fn records<T: DeserializeOwned>(
        &self,
        table: TableDefinition<&str, &[u8]>,
        prefix: &str,
    ) -> Result<Vec<T>, KmsError> {
        let table = self.database.begin_read()?.open_table(table)?;
        let mut records = Vec::new();
        for entry in table.range(prefix..)? {
            let (id, bytes) = entry?;
            if !id.value().starts_with(prefix) {
                break;
            }
            records.push(read(bytes.value())?);
        }
        Ok(records)
    }

    // Keys.

    pub(super) fn key(&self, arn: &str) -> Result<Option<KeyRecord>, KmsError> {
        self.record(KEYS, arn)
    }

    /// All keys of all accounts and regions, by ARN.
    pub(super) fn keys(&self) -> Result<Vec<KeyRecord>, KmsError> {
        self.records(KEYS, "")
    }

    /// The keys of an account in a region, by ARN.
    pub(super) fn keys_in(&self, region: &str, account: &str) -> Result<Vec<KeyRecord>, KmsError> {
        self.records(KEYS, &format!("arn:aws:kms:{region}:{account}:"))
    }

    pub(super) fn count_keys(&self) -> Result<u64, KmsError> {
        Ok(self.database.begin_read()?.open_table(KEYS)?.len()?)
    }

    /// The ARN of the key that has this material in this region.
    pub(super) fn key_of_material(
        &self,
        region: &str,
        material: &MaterialId,
    ) -> Result<Option<String>, KmsError> {
        let table = self.database.begin_read()?.open_table(MATERIALS)?;
        Ok(table.get(material_place(region, material).as_str())?.map(|arn| arn.value().to_owned()))
    }

    /// Seals the secret of a material for its record.
    pub(super) fn seal_secret(&self, key_arn: &str, material: &MaterialId, secret: &[u8]) -> Option<Held> {
        self.root.seal(&secret_identity(key_arn, material), secret).map(Held::Sealed)
    }

    /// Opens the secret of one of the key's materials.
    pub(super) fn secret(&self, key: &KeyRecord, material: &MaterialRecord) -> Result<Secret, KmsError> {
        let Held::Sealed(sealed) = &material.sealed else { return Err(KmsError::InHsm) };
        self.root.open_sealed(&secret_identity(&key.arn, &material.id), sealed).ok_or(KmsError::Sealed)
    }

    /// Seals an import token for a key.
    pub(super) fn seal_token(&self, key_arn: &str, token: &[u8]) -> Option<Vec<u8>> {
        self.root.seal(&token_identity(key_arn), token)
    }

    /// Opens an import token; `None` if it is not one for this key.
    pub(super) fn open_token(&self, key_arn: &str, sealed: &[u8]) -> Option<Secret> {
        self.root.open_sealed(&token_identity(key_arn), sealed)
    }

    pub(super) fn insert_key(&self, key: &KeyRecord) -> Result<(), KmsError> {
        self.edit(|change| change.put(key))
    }

    /// Makes several changes in one durable transaction. Reading and writing are one step, so that two
    /// calls cannot undo each other; `work` may refuse, and then nothing is changed.
    pub(super) fn edit<T, E: From<KmsError>>(
        &self,
        work: impl FnOnce(&Change<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.database.begin_write().map_err(KmsError::from)?;
        let done = work(&Change { store: self, transaction: &transaction })?;
        transaction.commit().map_err(|error| {
            self.next_due.store(0, Ordering::Release);
            KmsError::from(error)
        })?;
        Ok(done)
    }

    /// Changes one key.
    pub(super) fn edit_key<T, E: From<KmsError>>(
        &self,
        arn: &str,
        edit: impl FnOnce(&mut KeyRecord) -> Result<T, E>,
    ) -> Result<T, E> {
        self.edit(|change| {
            let mut key = change.key(arn)?.ok_or(KmsError::Gone)?;
            let done = edit(&mut key)?;
            change.put(&key)?;
            Ok(done)
        })
    }

    /// Whether something has to happen to some key by now.
    pub(super) fn is_due(&self, now: Millis) -> bool {
        self.next_due.load(Ordering::Acquire) <= now
    }

    pub(super) fn last_use(&self, key_arn: &str) -> Result<Option<LastUse>, KmsError> {
        self.record(USES, key_arn)
    }

    /// Writes down uses of keys that still exist.
    pub(super) fn put_last_uses(&self, uses: &HashMap<String, LastUse>) -> Result<(), KmsError> {
        self.change(|transaction| {
            let keys = transaction.open_table(KEYS)?;
            let mut table = transaction.open_table(USES)?;
            for (arn, last) in uses {
                if keys.get(arn.as_str())?.is_some() {
                    table.insert(arn.as_str(), write(last)?.as_slice())?;
                }
            }
            Ok(())
        })
    }

    // Aliases.

    pub(super) fn alias(&self, arn: &str) -> Result<Option<AliasRecord>, KmsError> {
        self.record(ALIASES, arn)
    }

    /// The aliases of an account in a region, by ARN.
    pub(super) fn aliases_in(&self, region: &str, account: &str) -> Result<Vec<AliasRecord>, KmsError> {
        self.records(ALIASES, &format!("arn:aws:kms:{region}:{account}:"))
    }

    /// The names of a key's aliases, sorted.
    pub(super) fn names_of(&self, key_arn: &str) -> Result<Vec<String>, KmsError> {
        let table = self.database.begin_read()?.open_multimap_table(NAMES)?;
        table.get(key_arn)?.map(|name| Ok(name?.value().to_owned())).collect()
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
        let users: Vec<SealedUser> = self.records(USERS, "")?;
        users.into_iter().map(|sealed| self.unseal(sealed)).collect()
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

    // Roles and sessions.

    pub(super) fn role(&self, arn: &str) -> Result<Option<Role>, KmsError> {
        self.record(ROLES, arn)
    }

    pub(super) fn roles(&self) -> Result<Vec<Role>, KmsError> {
        self.records(ROLES, "")
    }

    /// Adds a role, or replaces the one with the same ARN.
    pub(super) fn put_role(&self, role: &Role) -> Result<(), KmsError> {
        self.change(|transaction| {
            transaction.open_table(ROLES)?.insert(role.arn.as_str(), write(role)?.as_slice())?;
            Ok(())
        })
    }

    pub(super) fn remove_role(&self, arn: &str) -> Result<bool, KmsError> {
        self.change(|transaction| Ok(transaction.open_table(ROLES)?.remove(arn)?.is_some()))
    }

    /// Seals what leaves the database under the root key.
    pub(super) fn seal(&self, identity: &str, plain: &[u8]) -> Option<Vec<u8>> {
        self.root.seal(identity, plain)
    }

    pub(super) fn open_sealed(&self, identity: &str, sealed: &[u8]) -> Option<Secret> {
        self.root.open_sealed(identity, sealed)
    }

    fn unseal(&self, sealed: SealedUser) -> Result<User, KmsError> {
        sealed.open(|identity, bytes| self.root.open_sealed(identity, bytes)).ok_or(KmsError::Sealed)
    }
}

/// Makes what is missing, so that readers find it.
fn make_tables(transaction: &redb::WriteTransaction) -> Result<(), KmsError> {
    transaction.open_table(KEYS)?;
    transaction.open_table(ALIASES)?;
    transaction.open_multimap_table(NAMES)?;
    transaction.open_table(MATERIALS)?;
    transaction.open_table(DUE)?;
    transaction.open_table(USES)?;
    transaction.open_table(USERS)?;
    transaction.open_table(ROLES)?;
    transaction.open_table(key_stores::KEY_STORES)?;
    transaction.open_table(key_stores::LOOSE)?;
    authority::prepare(transaction)
}

impl Change<'_> {
    pub(super) fn key(&self, arn: &str) -> Result<Option<KeyRecord>, KmsError> {
        let table = self.transaction.open_table(KEYS)?;
        table.get(arn)?.map(|bytes| read(bytes.value())).transpose()
    }

    /// The records of a key in all its regions.
    pub(super) fn family(&self, key: &KeyRecord) -> Result<Vec<KeyRecord>, KmsError> {
        key.family().iter().map(|arn| self.key(arn)?.ok_or(KmsError::Gone)).collect()
    }

    /// Writes a key, where its materials lead, and when something happens to it.
    pub(super) fn put(&self, key: &KeyRecord) -> Result<(), KmsError> {
        let arn = key.arn.as_str();
        let mut keys = self.transaction.open_table(KEYS)?;
        let mut due = self.transaction.open_table(DUE)?;
        if let Some(old) = keys.insert(arn, write(key)?.as_slice())?
            && let Some(at) = read::<KeyRecord>(old.value())?.due()
        {
            due.remove((at, arn))?;
        }
        if let Some(at) = key.due() {
            due.insert((at, arn), ())?;
            self.store.next_due.fetch_min(at, Ordering::AcqRel);
        }
        let mut materials = self.transaction.open_table(MATERIALS)?;
        for material in &key.materials {
            materials.insert(material_place(&key.region, &material.id).as_str(), arn)?;
        }
        Ok(())
    }

    /// Removes a key for good, with its aliases.
    pub(super) fn remove(&self, key: &KeyRecord) -> Result<(), KmsError> {
        let arn = key.arn.as_str();
        authority::purge(self.transaction, std::slice::from_ref(&key.arn))?;
        key_stores::let_go(self.transaction, key)?;
        self.transaction.open_table(KEYS)?.remove(arn)?;
        self.transaction.open_table(USES)?.remove(arn)?;
        if let Some(at) = key.due() {
            self.transaction.open_table(DUE)?.remove((at, arn))?;
        }
        let mut materials = self.transaction.open_table(MATERIALS)?;
        for material in &key.materials {
            materials.remove(material_place(&key.region, &material.id).as_str())?;
        }
        let mut aliases = self.transaction.open_table(ALIASES)?;
        for name in self.transaction.open_multimap_table(NAMES)?.remove_all(arn)? {
            aliases.remove(alias_arn(&key.region, &key.account, name?.value()).as_str())?;
        }
        Ok(())
    }

    /// The key to which something has to happen first, if that is by now. Knows afterwards when the
    /// next look is worth it.
    pub(super) fn first_due(&self, now: Millis) -> Result<Option<String>, KmsError> {
        let due = self.transaction.open_table(DUE)?;
        let first = due.first()?.map(|(place, _)| {
            let (at, arn) = place.value();
            (at, arn.to_owned())
        });
        self.store.next_due.store(first.as_ref().map_or(Millis::MAX, |(at, _)| *at), Ordering::Release);
        Ok(first.filter(|(at, _)| *at <= now).map(|(_, arn)| arn))
    }

    // Aliases.

    pub(super) fn alias(&self, arn: &str) -> Result<Option<AliasRecord>, KmsError> {
        let table = self.transaction.open_table(ALIASES)?;
        table.get(arn)?.map(|bytes| read(bytes.value())).transpose()
    }

    /// How many aliases a key has.
    pub(super) fn aliases_of(&self, key_arn: &str) -> Result<u64, KmsError> {
        Ok(self.transaction.open_multimap_table(NAMES)?.get(key_arn)?.len())
    }

    /// Adds an alias, or replaces the one of that name.
    pub(super) fn put_alias(&self, alias: &AliasRecord) -> Result<(), KmsError> {
        self.remove_alias(&alias.arn)?;
        let bytes = write(alias)?;
        self.transaction.open_table(ALIASES)?.insert(alias.arn.as_str(), bytes.as_slice())?;
        let mut names = self.transaction.open_multimap_table(NAMES)?;
        names.insert(alias.key_arn.as_str(), alias.name.as_str())?;
        Ok(())
    }

    pub(super) fn remove_alias(&self, arn: &str) -> Result<(), KmsError> {
        let mut aliases = self.transaction.open_table(ALIASES)?;
        let Some(old) = aliases.remove(arn)? else { return Ok(()) };
        let old: AliasRecord = read(old.value())?;
        let mut names = self.transaction.open_multimap_table(NAMES)?;
        names.remove(old.key_arn.as_str(), old.name.as_str())?;
        Ok(())
    }
}

/// One key inside a transaction.
fn key_in(transaction: &redb::WriteTransaction, arn: &str) -> Result<KeyRecord, KmsError> {
    let table = transaction.open_table(KEYS)?;
    let bytes = table.get(arn)?.ok_or(KmsError::Gone)?;
    read(bytes.value())
}

fn material_place(region: &str, material: &MaterialId) -> String {
    format!("{region}/{}", hex::encode(material))
}

/// What a sealed secret is bound to.
fn secret_identity(key_arn: &str, material: &MaterialId) -> String {
    format!("{key_arn}/{}", hex::encode(material))
}

fn token_identity(key_arn: &str) -> String {
    format!("import/{key_arn}")
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, KmsError> {
    serde_json::from_slice(bytes).map_err(|_| KmsError::Record)
}

fn write<T: Serialize>(record: &T) -> Result<Vec<u8>, KmsError> {
    serde_json::to_vec(record).map_err(|_| KmsError::Record)
}
