//! What the proxy may reach, in the file format of AWS's vsock-proxy.
//!
//! ```yaml
//! allowlist:
//! - {address: kms.eu-west-1.amazonaws.com, port: 443}
//! ```
//!
//! An entry allows exactly what it says. AWS's proxy also lets a name pass that resolves to an address
//! of an entry; here DNS, which nobody trusts, allows nothing. Without a file, the endpoints of AWS KMS
//! are allowed, as in the file that AWS ships.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::destination::{Destination, DestinationError};

/// Which destinations are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    /// The public endpoints of AWS KMS, in all regions.
    AwsKms,
    /// The entries of a file.
    Entries(Vec<Destination>),
}

/// Why an allow-list cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowListError {
    /// The file cannot be read.
    #[error("cannot read the allow-list {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the YAML of an allow-list.
    #[error("the allow-list is not in the format of vsock-proxy.yaml: {0}")]
    Syntax(#[from] serde_norway::Error),
    /// An entry that names no destination.
    #[error("an entry of the allow-list cannot be: {0}")]
    Entry(#[from] DestinationError),
}

/// A destination that is not on the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not on the allow-list")]
pub struct NotAllowed(pub Destination);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    allowlist: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: String,
    port: u16,
}

impl AllowList {
    /// Reads a file.
    ///
    /// # Errors
    /// [`AllowListError`].
    pub fn read(path: &Path) -> Result<Self, AllowListError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| AllowListError::Io { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Parses a file's text.
    ///
    /// # Errors
    /// [`AllowListError`].
    pub fn parse(yaml: &str) -> Result<Self, AllowListError> {
        let File { allowlist } = serde_norway::from_str(yaml)?;
        let entries = allowlist.iter().map(|entry| Destination::new(&entry.address, entry.port));
        Ok(Self::Entries(entries.collect::<Result<_, _>>()?))
    }

    /// Checks that a destination is allowed.
    ///
    /// # Errors
    /// [`NotAllowed`].
    pub fn check(&self, destination: &Destination) -> Result<(), NotAllowed> {
        let allowed = match self {
            Self::AwsKms => is_aws_kms(destination),
            Self::Entries(entries) => entries.contains(destination),
        };
        if allowed { Ok(()) } else { Err(NotAllowed(destination.clone())) }
    }
}

/// `kms.REGION.amazonaws.com`, `kms-fips.…` and China's, port 443.
fn is_aws_kms(destination: &Destination) -> bool {
    let host = destination.host();
    let Some(name) = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))
    else {
        return false;
    };
    let region = name.strip_prefix("kms.").or_else(|| name.strip_prefix("kms-fips."));
    destination.port() == 443
        && region.is_some_and(|r| !r.is_empty() && r.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &AllowList, destination: &str) -> bool {
        list.check(&destination.parse().unwrap()).is_ok()
    }

    #[test]
    fn reads_the_format_of_aws_and_allows_exactly_its_entries() {
        let list = AllowList::parse(
            "allowlist:\n- {address: kms.us-east-1.amazonaws.com, port: 443}\n- {address: 127.0.0.1, port: 8443}\n",
        )
        .unwrap();
        assert!(allows(&list, "kms.us-east-1.amazonaws.com:443"));
        assert!(allows(&list, "KMS.US-EAST-1.amazonaws.com:443"));
        assert!(allows(&list, "127.0.0.1:8443"));
        for other in ["kms.us-east-1.amazonaws.com:80", "localhost:8443", "kms.us-east-2.amazonaws.com:443"] {
            assert!(!allows(&list, other), "{other}");
        }
        assert!(!allows(&AllowList::parse("allowlist: []").unwrap(), "kms.us-east-1.amazonaws.com:443"));
    }

    #[test]
    fn without_a_file_kms_is_allowed_and_nothing_that_looks_like_it() {
        let list = AllowList::AwsKms;
        for good in [
            "kms.eu-west-1.amazonaws.com:443",
            "kms-fips.us-gov-west-1.amazonaws.com:443",
            "kms.cn-north-1.amazonaws.com.cn:443",
        ] {
            assert!(allows(&list, good), "{good}");
        }
        for bad in [
            "kms.eu-west-1.amazonaws.com:80",
            "kms..amazonaws.com:443",
            "kms.a.b.amazonaws.com:443",
            "kms.eu-west-1.amazonaws.com.example:443",
            "s3.eu-west-1.amazonaws.com:443",
            "evilkms.eu-west-1.amazonaws.com:443",
        ] {
            assert!(!allows(&list, bad), "{bad}");
        }
    }

    #[test]
    fn refuses_files_that_say_something_else() {
        for yaml in [
            "",
            "whitelist: []",
            "allowlist:\n- {address: a}\n",
            "allowlist:\n- {address: a, port: 70000}\n",
            "allowlist:\n- {address: a, port: 1, extra: 2}\n",
            "allowlist: []\nmore: 1\n",
        ] {
            assert!(matches!(AllowList::parse(yaml), Err(AllowListError::Syntax(_))), "{yaml}");
        }
        let entry = AllowList::parse("allowlist:\n- {address: 'a b', port: 1}\n");
        assert!(matches!(entry, Err(AllowListError::Entry(_))));
    }
}
