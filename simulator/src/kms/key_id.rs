//! The ways to name a key: id, key ARN, alias, alias ARN.

use super::Service;
use super::error::{Answer, ApiError};
use super::key::{KeyRecord, Millis, alias_arn, key_arn};

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

/// Where names without an account and a region are looked up.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) region: &'a str,
    pub(super) account: &'a str,
}

impl Service {
    /// Finds the key that a request names.
    ///
    /// # Errors
    /// `NotFoundException` with AWS's texts.
    pub(super) fn find_key(&self, name: &str, names: Names, from: Place<'_>, now: Millis) -> Answer<Named> {
        let (account, resource) = match name.strip_prefix("arn:") {
            Some(rest) => split_arn(name, rest, from.region)?,
            None => (from.account, name),
        };
        if resource.starts_with("alias/") {
            if names == Names::KeysOnly {
                return Err(invalid(name));
            }
            let arn = alias_arn(from.region, account, resource);
            let missing = || ApiError::not_found(format!("Alias {arn} is not found."));
            let alias = self.store.alias(&arn)?.ok_or_else(missing)?;
            let key = self.key(&alias.key_arn, now)?.ok_or_else(missing)?;
            return Ok(Named { key, alias: Some(alias.name) });
        }
        let id = if name.starts_with("arn:") {
            resource
                .strip_prefix("key/")
                .ok_or_else(|| ApiError::not_found(format!("Invalid arn {}", from.region)))?
        } else {
            resource
        };
        if !is_key_id(id) {
            return Err(invalid(name));
        }
        let arn = key_arn(from.region, account, id);
        let key = self.key(&arn, now)?;
        let key = key.ok_or_else(|| ApiError::not_found(format!("Key '{arn}' does not exist")))?;
        Ok(Named { key, alias: None })
    }

    /// The key of this ARN as it is by now. Every look-up of a key goes through here.
    pub(super) fn key(&self, arn: &str, now: Millis) -> Answer<Option<KeyRecord>> {
        self.settle(now)?;
        let Some(mut key) = self.store.key(arn)? else { return Ok(None) };
        self.look_at_store(&mut key)?;
        self.stale.show(&mut key, now);
        Ok(Some(key))
    }
}

/// Account and resource of an ARN of this service and region.
fn split_arn<'a>(name: &str, rest: &'a str, here: &str) -> Answer<(&'a str, &'a str)> {
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    match parts[..] {
        ["aws", "kms", region, account, resource] if account.len() == 12 => {
            if region == here {
                Ok((account, resource))
            } else {
                Err(ApiError::not_found(format!("Invalid arn {region}")))
            }
        }
        _ => Err(invalid(name)),
    }
}

fn invalid(name: &str) -> ApiError {
    ApiError::not_found(format!("Invalid keyId '{name}'"))
}

/// As this service makes them: a UUID in lower case, or `mrk-` and its digits.
fn is_key_id(id: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if let Some(digits) = id.strip_prefix("mrk-") {
        return digits.len() == 32 && digits.bytes().all(is_digit);
    }
    id.len() == 36
        && id.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_digit(byte),
        })
}
