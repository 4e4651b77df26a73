//! Custom key stores, and the objects in HSMs that belong to no key.

use redb::{ReadableTable, TableDefinition};

use super::{Store, read, write};
use crate::kms::KmsError;
use crate::kms::error::Answer;
use crate::kms::hsm::Password;
use crate::kms::key::KeyRecord;
use crate::kms::key_store::{KeyStoreRecord, LooseObject, not_found};

/// [`KeyStoreRecord::place`] to [`KeyStoreRecord`].
pub(super) const KEY_STORES: TableDefinition<&str, &[u8]> = TableDefinition::new("key stores");
/// Place and object id to [`LooseObject`].
pub(super) const LOOSE: TableDefinition<&str, &[u8]> = TableDefinition::new("loose objects");

impl Store {
    pub(in crate::kms) fn key_store(&self, place: &str) -> Result<Option<KeyStoreRecord>, KmsError> {
        self.record(KEY_STORES, place)
    }

    /// The key stores whose places begin like this.
    pub(in crate::kms) fn key_stores(&self, place: &str) -> Result<Vec<KeyStoreRecord>, KmsError> {
        self.records(KEY_STORES, place)
    }

    /// Changes the list of all key stores in one step; they are few. `edit` may refuse.
    pub(in crate::kms) fn edit_key_stores<T>(
        &self,
        edit: impl FnOnce(&mut Vec<KeyStoreRecord>) -> Answer<T>,
    ) -> Answer<T> {
        let transaction = self.database.begin_write().map_err(KmsError::from)?;
        let mut stores = all(&transaction)?;
        let done = edit(&mut stores)?;
        replace(&transaction, &stores)?;
        transaction.commit().map_err(KmsError::from)?;
        Ok(done)
    }

    /// Seals a password for its store.
    pub(in crate::kms) fn seal_password(&self, place: &str, password: &Password) -> Option<Vec<u8>> {
        self.root.seal(&password_identity(place), password.as_bytes())
    }

    pub(in crate::kms) fn password(&self, store: &KeyStoreRecord) -> Result<Password, KmsError> {
        let identity = password_identity(&store.place());
        let bytes = self.root.open_sealed(&identity, &store.password).ok_or(KmsError::Sealed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| KmsError::Record)?;
        Ok(Password::new(text.to_owned()))
    }

    pub(in crate::kms) fn note_loose(&self, loose: &LooseObject) -> Result<(), KmsError> {
        self.change(|transaction| note(transaction, loose))
    }

    /// The noted objects of the store at this place.
    pub(in crate::kms) fn loose(&self, place: &str) -> Result<Vec<LooseObject>, KmsError> {
        self.records(LOOSE, &format!("{place}/"))
    }

    pub(in crate::kms) fn forget_loose(&self, loose: &LooseObject) -> Result<(), KmsError> {
        self.change(|transaction| {
            transaction.open_table(LOOSE)?.remove(loose_id(loose).as_str())?;
            Ok(())
        })
    }

    /// Adds a key whose object is in the HSM, if its store is still connected.
    pub(in crate::kms) fn insert_key_in_store(&self, key: &KeyRecord, object: &LooseObject) -> Answer<()> {
        self.edit(|change| {
            let stores = all(change.transaction)?;
            let store = stores.iter().find(|store| store.place() == object.place);
            store.ok_or_else(not_found)?.require_connected()?;
            change.put(key)?;
            let mut table = change.transaction.open_table(LOOSE).map_err(KmsError::from)?;
            table.remove(loose_id(object).as_str()).map_err(KmsError::from)?;
            Ok(())
        })
    }
}

/// Notes the objects of a key that is being removed.
pub(super) fn let_go(transaction: &redb::WriteTransaction, key: &KeyRecord) -> Result<(), KmsError> {
    let Some(inside) = &key.custom_key_store else { return Ok(()) };
    let place = crate::kms::key_store::place(&key.region, &key.account, &inside.store);
    for material in &key.materials {
        let id = material.id.to_vec();
        note(transaction, &LooseObject { place: place.clone(), key_arn: key.arn.clone(), id })?;
    }
    Ok(())
}

fn note(transaction: &redb::WriteTransaction, loose: &LooseObject) -> Result<(), KmsError> {
    transaction.open_table(LOOSE)?.insert(loose_id(loose).as_str(), write(loose)?.as_slice())?;
    Ok(())
}

fn all(transaction: &redb::WriteTransaction) -> Result<Vec<KeyStoreRecord>, KmsError> {
    let table = transaction.open_table(KEY_STORES)?;
    let mut stores = Vec::new();
    for entry in table.iter()? {
        stores.push(read(entry?.1.value())?);
    }
    Ok(stores)
}

fn replace(transaction: &redb::WriteTransaction, stores: &[KeyStoreRecord]) -> Result<(), KmsError> {
    let mut table = transaction.open_table(KEY_STORES)?;
    table.retain(|_, _| false)?;
    for store in stores {
        table.insert(store.place().as_str(), write(store)?.as_slice())?;
    }
    Ok(())
}

fn loose_id(loose: &LooseObject) -> String {
    format!("{}/{}", loose.place, hex::encode(&loose.id))
}

/// What a sealed password is bound to.
fn password_identity(place: &str) -> String {
    format!("key-store/{place}")
}
