//! The database as a whole: emptied for the next test.

use redb::{MultimapTableHandle as _, TableHandle as _};

use super::{Store, make_tables};
use crate::kms::KmsError;

/// Tables that a reset leaves: who may call is not what a test made.
const KEPT: [&str; 6] = ["meta", "users", "roles", "identity-policies", "key stores", "loose objects"];

impl Store {
    /// Removes keys and all that belongs to them; users, roles, their policies and custom key stores stay.
    pub(in crate::kms) fn reset(&self) -> Result<(), KmsError> {
        // Notes the objects in HSMs that are to be destroyed.
        let in_hsms = self.keys()?.into_iter().filter(|key| key.custom_key_store.is_some());
        self.edit(|change| in_hsms.into_iter().try_for_each(|key| change.remove(&key)))?;
        self.change(|transaction| {
            for table in transaction.list_tables()?.filter(|table| !is_kept(table.name())).collect::<Vec<_>>()
            {
                transaction.delete_table(table)?;
            }
            let tables = transaction.list_multimap_tables()?.filter(|table| !is_kept(table.name()));
            for table in tables.collect::<Vec<_>>() {
                transaction.delete_multimap_table(table)?;
            }
            make_tables(transaction)
        })
    }
}

fn is_kept(table: &str) -> bool {
    KEPT.contains(&table)
}
