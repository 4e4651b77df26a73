//! Points in time, as documents have them: milliseconds since 1970.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970-01-01T00:00:00Z. Printed and serialised as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Reads RFC 3339, such as `2026-01-03T20:41:07.402Z`. `None` for anything else and for years before 1970.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let nanoseconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        u64::try_from(nanoseconds.checked_div(1_000_000)?).ok().map(Self)
    }

    /// The whole second, rounded down: certificates know no fractions.
    pub(super) fn whole_seconds(self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(Duration::from_millis(self.0).as_secs()))
    }

    /// How much later this is than `earlier`; `None` if it is earlier.
    pub(super) fn since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_millis)
    }
}

impl From<UnixTime> for UnixMillis {
    fn from(time: UnixTime) -> Self {
        Self(time.as_secs().saturating_mul(1000))
    }
}

impl From<SystemTime> for UnixMillis {
    /// A clock before 1970 is taken as 1970, when no certificate is valid.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = i128::from(self.0).saturating_mul(1_000_000);
        let text =
            OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok().and_then(|t| t.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms after 1970", self.0),
        }
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_what_it_prints() {
        for millis in [0, 1, 999, 1_767_472_867_402, 253_402_300_799_999] {
            assert_eq!(UnixMillis::from_rfc3339(&UnixMillis(millis).to_string()), Some(UnixMillis(millis)));
        }
        assert_eq!(UnixMillis(1_767_472_867_402).to_string(), "2026-01-03T20:41:07.402Z");
    }

    #[test]
    fn the_end_of_time_prints_without_overflow() {
        assert_eq!(UnixMillis(u64::MAX).to_string(), "18446744073709551615 ms after 1970");
    }

    #[test]
    fn refuses_what_is_not_rfc_3339() {
        for text in ["", "now", "2026-01-03", "2026-01-03T20:41:07", "1969-12-31T23:59:59Z"] {
            assert_eq!(UnixMillis::from_rfc3339(text), None, "{text}");
        }
    }
}
