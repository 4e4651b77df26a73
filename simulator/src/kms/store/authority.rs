//! Identity policies and grants in the database.

use redb::{ReadableTable, TableDefinition};

use super::super::KmsError;
use super::super::error::{Answer, ApiError};
use super::super::grants::GrantRecord;
use super::super::iam::IdentityPolicyRecord;
use super::{Store, key_in, read, write};

/// `PRINCIPAL\nNAME` to [`IdentityPolicyRecord`].
const IDENTITIES: TableDefinition<&str, &[u8]> = TableDefinition::new("identity-policies");
/// `KEY ARN/GRANT ID` to [`GrantRecord`].
const GRANTS: TableDefinition<&str, &[u8]> = TableDefinition::new("grants");
/// SHA-256 of a grant token in hexadecimal to the grant's place.
const TOKENS: TableDefinition<&str, &str> = TableDefinition::new("grant-tokens");

/// Most grants of one key (AWS's quota).
const GRANTS_PER_KEY: usize = 50_000;

pub(super) fn prepare(transaction: &redb::WriteTransaction) -> Result<(), KmsError> {
    transaction.open_table(IDENTITIES)?;
    transaction.open_table(GRANTS)?;
    transaction.open_table(TOKENS)?;
    Ok(())
}

/// Removes what belongs to keys that are gone.
pub(super) fn purge(transaction: &redb::WriteTransaction, arns: &[String]) -> Result<(), KmsError> {
    let of_gone =
        |place: &str| arns.iter().any(|arn| place.rsplit_once('/').is_some_and(|(key, _)| key == arn));
    transaction.open_table(GRANTS)?.retain(|place, _| !of_gone(place))?;
    transaction.open_table(TOKENS)?.retain(|_, place| !of_gone(place))?;
    Ok(())
}

fn attached_place(principal: &str, name: &str) -> String {
    format!("{principal}\n{name}")
}

impl Store {
    // Identity policies.

    /// The policies of a principal, by name.
    pub(in super::super) fn identity_policies(
        &self,
        principal: &str,
    ) -> Result<Vec<IdentityPolicyRecord>, KmsError> {
        self.records(IDENTITIES, &attached_place(principal, ""))
    }

    /// Attaches a policy or replaces the one of its name, unless `check` refuses it beside the others.
    pub(in super::super) fn put_identity_policy(
        &self,
        policy: &IdentityPolicyRecord,
        check: impl FnOnce(&[IdentityPolicyRecord]) -> Result<(), KmsError>,
    ) -> Result<(), KmsError> {
        self.change(|transaction| {
            let mut table = transaction.open_table(IDENTITIES)?;
            let prefix = attached_place(&policy.principal, "");
            let mut others = Vec::new();
            for entry in table.range(prefix.as_str()..)? {
                let (place, bytes) = entry?;
                if !place.value().starts_with(&prefix) {
                    break;
                }
                let other: IdentityPolicyRecord = read(bytes.value())?;
                if other.name != policy.name {
                    others.push(other);
                }
            }
            check(&others)?;
            let place = attached_place(&policy.principal, &policy.name);
            table.insert(place.as_str(), write(policy)?.as_slice())?;
            Ok(())
        })
    }

    pub(in super::super) fn remove_identity_policy(
        &self,
        principal: &str,
        name: &str,
    ) -> Result<bool, KmsError> {
        self.change(|transaction| {
            let place = attached_place(principal, name);
            Ok(transaction.open_table(IDENTITIES)?.remove(place.as_str())?.is_some())
        })
    }

    // Grants.

    /// The grants of a key.
    pub(in super::super) fn grants_of(&self, key_arn: &str) -> Result<Vec<GrantRecord>, KmsError> {
        self.records(GRANTS, &format!("{key_arn}/"))
    }

    /// The grants of the keys of an account in a region.
    pub(in super::super) fn grants_in(
        &self,
        region: &str,
        account: &str,
    ) -> Result<Vec<GrantRecord>, KmsError> {
        self.records(GRANTS, &format!("arn:aws:kms:{region}:{account}:"))
    }

    pub(in super::super) fn grant(&self, key_arn: &str, id: &str) -> Result<Option<GrantRecord>, KmsError> {
        self.record(GRANTS, &format!("{key_arn}/{id}"))
    }

    /// The grant that a token stands for, by the token's digest.
    pub(in super::super) fn grant_of_token(&self, digest: &str) -> Result<Option<GrantRecord>, KmsError> {
        use redb::ReadableDatabase as _;
        let place = {
            let table = self.database.begin_read()?.open_table(TOKENS)?;
            table.get(digest)?.map(|place| place.value().to_owned())
        };
        place.map_or(Ok(None), |place| self.record(GRANTS, &place))
    }

    /// Adds a grant with its first token, or one more token to the grant that `same` finds. The
    /// grant's id.
    pub(in super::super) fn insert_grant(
        &self,
        grant: GrantRecord,
        token: &str,
        same: impl Fn(&GrantRecord) -> bool,
    ) -> Answer<String> {
        let transaction = self.database.begin_write().map_err(KmsError::from)?;
        // Gone meanwhile, and its grants with it.
        key_in(&transaction, &grant.key_arn)?;
        let mut existing = None;
        let mut count = 0_usize;
        {
            let table = transaction.open_table(GRANTS).map_err(KmsError::from)?;
            let prefix = format!("{}/", grant.key_arn);
            for entry in table.range(prefix.as_str()..).map_err(KmsError::from)? {
                let (place, bytes) = entry.map_err(KmsError::from)?;
                if !place.value().starts_with(&prefix) {
                    break;
                }
                count += 1;
                if grant.name.is_some() && existing.is_none() {
                    existing = Some(read::<GrantRecord>(bytes.value())?).filter(&same);
                }
            }
        }
        if existing.is_none() && count >= GRANTS_PER_KEY {
            let text = format!("A key has at most {GRANTS_PER_KEY} grants.");
            return Err(ApiError::new("LimitExceededException", text));
        }
        let mut grant = existing.unwrap_or(grant);
        let forgotten = grant.add_token(token.to_owned());
        put_grant(&transaction, &grant, token, forgotten.as_deref())?;
        transaction.commit().map_err(KmsError::from)?;
        Ok(grant.id)
    }

    /// Removes a grant and its tokens; `false` if it is gone already.
    pub(in super::super) fn remove_grant(&self, key_arn: &str, id: &str) -> Result<bool, KmsError> {
        self.change(|transaction| {
            let removed = {
                let mut table = transaction.open_table(GRANTS)?;
                let removed = table.remove(format!("{key_arn}/{id}").as_str())?;
                removed.map(|bytes| read::<GrantRecord>(bytes.value())).transpose()?
            };
            let Some(grant) = removed else { return Ok(false) };
            let mut tokens = transaction.open_table(TOKENS)?;
            for token in grant.tokens {
                tokens.remove(token.as_str())?;
            }
            Ok(true)
        })
    }
}

fn put_grant(
    transaction: &redb::WriteTransaction,
    grant: &GrantRecord,
    token: &str,
    forgotten: Option<&str>,
) -> Result<(), KmsError> {
    let place = format!("{}/{}", grant.key_arn, grant.id);
    transaction.open_table(GRANTS)?.insert(place.as_str(), write(grant)?.as_slice())?;
    let mut tokens = transaction.open_table(TOKENS)?;
    tokens.insert(token, place.as_str())?;
    if let Some(forgotten) = forgotten {
        tokens.remove(forgotten)?;
    }
    Ok(())
}
