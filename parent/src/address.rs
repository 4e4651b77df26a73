//! Where an enclave is reached: a context id, or a socket that stands for one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `vsock:CID` for a real enclave, `unix:PATH` for hybrid vsock (the simulator, Firecracker).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EnclaveAddress {
    /// The context id that `nitro-cli describe-enclaves` shows.
    Vsock(u32),
    /// The socket's path.
    Unix(PathBuf),
}

/// A text is not the address of an enclave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the address of an enclave; write vsock:16 or unix:/path/to/enclave.sock")]
pub struct AddressError(String);

impl FromStr for EnclaveAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        match text.split_once(':').ok_or_else(wrong)? {
            // 0 to 2 are the hypervisor, loopback and the host (vsock(7)); enclaves start at 4.
            ("vsock", cid) => match cid.parse() {
                Ok(cid @ 4..) => Ok(Self::Vsock(cid)),
                _ => Err(wrong()),
            },
            ("unix", path) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for EnclaveAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(cid) => write!(f, "vsock:{cid}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for EnclaveAddress {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<EnclaveAddress> for String {
    fn from(address: EnclaveAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_refuses_the_hosts_own_ids() {
        assert_eq!("vsock:16".parse(), Ok(EnclaveAddress::Vsock(16)));
        assert_eq!("unix:/run/v.sock".parse(), Ok(EnclaveAddress::Unix("/run/v.sock".into())));
        for text in ["vsock:3", "vsock:2", "vsock:", "unix:", "16", "tcp:1", "vsock:-1"] {
            assert_eq!(text.parse::<EnclaveAddress>(), Err(AddressError(text.to_owned())));
        }
    }
}
