//! Where the enclave may be connected to, in the format of AWS's `vsock-proxy`.
//!
//! ```yaml
//! allowlist:
//! - {address: kms.eu-west-1.amazonaws.com, port: 443}
//! ```

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A host name or address, and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Host name or IP address.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// The destinations that may be used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowList {
    allowlist: Vec<Destination>,
}

/// Why a destination is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllowListError {
    /// It is not in the list.
    #[error("{0} is not in the allow-list; add `- {{address: {address}, port: {port}}}` if it should be", address = .0.address, port = .0.port)]
    NotListed(Destination),
    /// The list is not one.
    #[error(
        "not an allow-list; write `allowlist:` and lines like `- {{address: kms.eu-west-1.amazonaws.com, port: 443}}`: {0}"
    )]
    Malformed(String),
    /// Not a destination.
    #[error("'{0}' is not a destination; write HOST:PORT")]
    Destination(String),
}

impl AllowList {
    /// Reads a list.
    ///
    /// # Errors
    /// [`AllowListError::Malformed`] with the place.
    pub fn parse(yaml: &str) -> Result<Self, AllowListError> {
        serde_norway::from_str(yaml).map_err(|error| AllowListError::Malformed(error.to_string()))
    }

    /// The KMS endpoints of AWS, for whoever brings no list: `kms.REGION.amazonaws.com:443` and its FIPS
    /// and China forms.
    pub fn is_kms_endpoint(destination: &Destination) -> bool {
        let word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let address = destination.address.as_str();
        let name = address.strip_suffix(".cn").unwrap_or(address).strip_suffix(".amazonaws.com");
        let region =
            name.and_then(|name| name.strip_prefix("kms.").or_else(|| name.strip_prefix("kms-fips.")));
        destination.port == 443 && region.is_some_and(word)
    }

    /// A list of just this destination, if it is a KMS endpoint of AWS.
    ///
    /// # Errors
    /// [`AllowListError::NotListed`].
    pub fn kms_only(destination: &Destination) -> Result<Self, AllowListError> {
        if Self::is_kms_endpoint(destination) {
            Ok(Self { allowlist: vec![destination.clone()] })
        } else {
            Err(AllowListError::NotListed(destination.clone()))
        }
    }

    pub(super) fn check(&self, destination: &Destination) -> Result<(), AllowListError> {
        if self.allowlist.contains(destination) {
            Ok(())
        } else {
            Err(AllowListError::NotListed(destination.clone()))
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl FromStr for Destination {
    type Err = AllowListError;

    fn from_str(text: &str) -> Result<Self, AllowListError> {
        let wrong = || AllowListError::Destination(text.to_owned());
        let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if address.is_empty() {
            return Err(wrong());
        }
        Ok(Self { address: address.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_format_of_awss_proxy() {
        let yaml = "allowlist:\n- {address: kms.eu-west-1.amazonaws.com, port: 443}\n- {address: 127.0.0.1, port: 8443}\n";
        let list = AllowList::parse(yaml).unwrap();
        assert!(list.check(&"kms.eu-west-1.amazonaws.com:443".parse().unwrap()).is_ok());
        let other = list.check(&"kms.eu-west-1.amazonaws.com:80".parse().unwrap());
        assert!(matches!(other, Err(AllowListError::NotListed(_))));
        assert!(matches!(AllowList::parse("allow: []"), Err(AllowListError::Malformed(_))));
    }

    #[test]
    fn without_a_list_only_kms_endpoints_of_aws_are_used() {
        for good in [
            "kms.eu-west-1.amazonaws.com:443",
            "kms-fips.us-east-1.amazonaws.com:443",
            "kms.cn-north-1.amazonaws.com.cn:443",
        ] {
            assert!(AllowList::kms_only(&good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in [
            "evil.example.com:443",
            "kms.eu-west-1.amazonaws.com:80",
            "kms.a.b.amazonaws.com:443",
            "xkms.eu-west-1.amazonaws.com:443",
        ] {
            assert!(AllowList::kms_only(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
