//! The ways to name a key: id, key ARN, alias, alias ARN.

use super::Service;
use super::call::Caller;
use super::error::{Answer, ApiError};
use super::key::{KeyRecord, Millis};

/// A key that a request named, and how.
pub(super) struct Named {
    pub(super) key: KeyRecord,
    /// The alias in the request, for the condition key `kms:RequestAlias`.
    pub(super) alias: Option<String>,
}

/// Which names an operation takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Cryptographic operations and `DescribeKey`: all four.
    All,
    /// Management operations: key id and key ARN.
    KeysOnly,
}

impl Service {
    /// Finds the key that a request names.
    ///
    /// # Errors
    /// `NotFoundException` with AWS's texts.
    pub(super) fn find_key(&self, name: &str, names: Names, caller: &Caller, now: Millis) -> Answer<Named> {
        let (account, resource) = match name.strip_prefix("arn:") {
            Some(rest) => self.split_arn(name, rest)?,
            None => (caller.account(), name),
        };
        if resource.starts_with("alias/") {
            if names == Names::KeysOnly {
                return Err(invalid(name));
            }
            return self.find_alias(account, resource, now);
        }
        let id = if name.starts_with("arn:") {
            resource
                .strip_prefix("key/")
                .ok_or_else(|| ApiError::not_found(format!("Invalid arn {}", self.region)))?
        } else {
            resource
        };
        if !is_key_id(id) {
            return Err(invalid(name));
        }
        let missing = || self.missing(account, id);
        let key = self
            .store
            .key(id)?
            .filter(|key| key.account == account && !key.is_gone(now))
            .ok_or_else(missing)?;
        Ok(Named { key, alias: None })
    }

    fn find_alias(&self, account: &str, alias: &str, now: Millis) -> Answer<Named> {
        let missing = || {
            ApiError::not_found(format!("Alias arn:aws:kms:{}:{account}:{alias} is not found.", self.region))
        };
        let record = self.store.alias(account, alias)?.ok_or_else(missing)?;
        let key = self.store.key(&record.key_id)?.filter(|key| !key.is_gone(now)).ok_or_else(missing)?;
        Ok(Named { key, alias: Some(record.name) })
    }

    /// Account and resource of an ARN of this service and region.
    fn split_arn<'a>(&self, name: &str, rest: &'a str) -> Answer<(&'a str, &'a str)> {
        let parts: Vec<&str> = rest.splitn(5, ':').collect();
        match parts[..] {
            ["aws", "kms", region, account, resource] if account.len() == 12 => {
                if region == self.region {
                    Ok((account, resource))
                } else {
                    Err(ApiError::not_found(format!("Invalid arn {region}")))
                }
            }
            _ => Err(invalid(name)),
        }
    }

    pub(super) fn missing(&self, account: &str, id: &str) -> ApiError {
        ApiError::not_found(format!("Key 'arn:aws:kms:{}:{account}:key/{id}' does not exist", self.region))
    }
}

fn invalid(name: &str) -> ApiError {
    ApiError::not_found(format!("Invalid keyId '{name}'"))
}

/// A UUID in lower case, as this service makes them.
fn is_key_id(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}
