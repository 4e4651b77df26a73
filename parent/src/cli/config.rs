//! The settings file, `adyton.toml`: what would else be said on every command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adyton_shared::KeyArn;
use adyton_shared::id::RequesterName;
use serde::{Deserialize, Serialize};

use super::failure::{bad_file, failed_with};
use crate::address::EnclaveAddress;
use crate::exit::{Exit, Failure};

const DEFAULT_FILE: &str = "adyton.toml";

/// Settings of one installation. Paths are relative to the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Where the enclave is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enclave: Option<EnclaveAddress>,
    /// The trust root of attestation documents: a PEM file, or `aws`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The measurements that the enclave must have, by PCR, in hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pcrs: BTreeMap<String, String>,
    /// The policy file that the enclave must run under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// Who sends jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<RequesterConfig>,
    /// Where data keys come from when encrypting.
    pub kms: KmsSettings,
}

/// `[requester]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequesterConfig {
    /// The name that the policy has.
    pub name: RequesterName,
    /// The key file.
    pub key: PathBuf,
}

/// `[kms]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KmsSettings {
    /// The key to encrypt under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyArn>,
    /// Another endpoint than AWS's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Certificates to trust for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<PathBuf>,
    /// The region; else the key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A credentials file instead of the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// The profile in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

impl ClientConfig {
    /// Reads this file, or `./adyton.toml` if there is one, or nothing.
    pub(super) fn find(path: Option<PathBuf>) -> Result<Self, Failure> {
        match path {
            Some(path) => Self::read(&path),
            None if Path::new(DEFAULT_FILE).exists() => Self::read(Path::new(DEFAULT_FILE)),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| bad_file(&error, &format!("the settings {}", path.display())))?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let message = format!("the settings {}: {error}", path.display());
            failed_with(Exit::Usage, message, "known are enclave, root, pcrs, policy, [requester] and [kms]")
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let Self { enclave, root, pcrs: _, policy, requester, kms } = &mut config;
        if let Some(EnclaveAddress::Unix(socket)) = enclave {
            *socket = folder.join(&*socket);
        }
        if let Some(root) = root.as_mut().filter(|root| *root != "aws") {
            *root = folder.join(&*root).display().to_string();
        }
        if let Some(requester) = requester {
            requester.key = folder.join(&requester.key);
        }
        for file in [policy, &mut kms.ca_bundle, &mut kms.credentials].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        Ok(config)
    }
}
