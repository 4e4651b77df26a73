//! Where an enclave is: a CID of `AF_VSOCK`, or the base of a hybrid-vsock socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The first CID that can be a guest's: 0 to 2 are the hypervisor's, the machine's own and the host's.
const FIRST_GUEST_CID: u32 = 3;
/// `VMADDR_CID_ANY`, which is no guest.
const ANY_CID: u32 = u32::MAX;

/// Names one enclave.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EnclaveAddress {
    /// A Nitro enclave by its CID, as `nitro-cli describe-enclaves` prints it.
    Vsock(u32),
    /// The socket of a simulator, Firecracker or `vhost-device-vsock`.
    Unix(PathBuf),
}

/// A text that is not the address of an enclave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an enclave's address; write vsock:16 or unix:/run/adyton/v.sock")]
pub struct AddressError(String);

impl FromStr for EnclaveAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        match text.split_once(':') {
            Some(("vsock", cid)) if cid.bytes().all(|b| b.is_ascii_digit()) => {
                let cid = cid.parse().map_err(|_| wrong())?;
                if (FIRST_GUEST_CID..ANY_CID).contains(&cid) { Ok(Self::Vsock(cid)) } else { Err(wrong()) }
            }
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
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
    fn addresses_round_trip() {
        for text in ["vsock:16", "vsock:4294967294", "unix:/run/adyton/v.sock", "unix:v.sock", "unix:a:b"] {
            assert_eq!(text.parse::<EnclaveAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_cannot_be_a_guest() {
        for text in
            ["", "16", "vsock:", "vsock:2", "vsock:-1", "vsock:+16", "vsock:4294967295", "unix:", "tcp:1"]
        {
            assert_eq!(text.parse::<EnclaveAddress>(), Err(AddressError(text.to_owned())), "{text}");
        }
    }
}
