//! `host:port`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host name or address, and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
}

/// A text that names no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a destination; write kms.eu-west-1.amazonaws.com:443, 192.0.2.1:443 or [2001:db8::1]:443"
)]
pub struct DestinationError(String);

impl Destination {
    /// A destination by parts. Names are compared in lower case.
    ///
    /// # Errors
    /// [`DestinationError`].
    pub fn new(host: &str, port: u16) -> Result<Self, DestinationError> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let named = !host.is_empty() && host.len() <= 253 && host.bytes().all(name);
        if port == 0 || !(named || host.parse::<IpAddr>().is_ok()) {
            return Err(DestinationError(format!("{host}:{port}")));
        }
        Ok(Self { host, port })
    }

    /// The name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let wrong = || DestinationError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        Self::new(host, port.parse().map_err(|_| wrong())?).map_err(|_| wrong())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_round_trip_in_lower_case() {
        for (text, shown) in [
            ("kms.eu-west-1.amazonaws.com:443", "kms.eu-west-1.amazonaws.com:443"),
            ("KMS.eu-west-1.amazonaws.com.:443", "kms.eu-west-1.amazonaws.com:443"),
            ("127.0.0.1:8443", "127.0.0.1:8443"),
            ("[::1]:443", "[::1]:443"),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_names_no_destination() {
        for text in
            ["", "host", ":443", "host:", "host:0", "host:65536", "host:+1", "::1:443", "[::1:443", "a b:1"]
        {
            assert_eq!(text.parse::<Destination>(), Err(DestinationError(text.to_owned())), "{text}");
        }
    }
}
