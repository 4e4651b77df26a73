//! Condition operators: their names, and how one value is compared with another.

use std::cmp::Ordering;
use std::net::IpAddr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::context::ConditionContext;
use super::pattern::{Case, Pattern, Wildcards};

/// `[ForAnyValue:|ForAllValues:]Name[IfExists]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) set: Option<Set>,
    pub(super) test: Test,
    /// `StringNotEquals` and its like: holds if no value of the policy is equal.
    pub(super) negated: bool,
    pub(super) if_exists: bool,
}

/// How the values of a multi-valued key are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    Any,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Text(Case, Wildcards),
    Arn,
    Number(Comparison),
    Date(Comparison),
    Bool,
    Address,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    /// Reads an operator's name; `None` if it does not exist or is not supported.
    ///
    /// `BinaryEquals` is not: no condition key of KMS is binary. `Null` takes neither prefix nor suffix.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (set, rest) = match name.split_once(':') {
            None => (None, name),
            Some(("ForAnyValue", rest)) => (Some(Set::Any), rest),
            Some(("ForAllValues", rest)) => (Some(Set::All), rest),
            Some(_) => return None,
        };
        let (base, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |base| (base, true));
        let (test, negated) = parse_base(base)?;
        let plain = set.is_none() && !if_exists;
        (test != Test::Null || plain).then_some(Self { set, test, negated, if_exists })
    }

    /// Whether policy variables are read in this operator's values.
    pub(super) fn reads_variables(self) -> bool {
        matches!(self.test, Test::Text(..) | Test::Arn)
    }
}

fn parse_base(base: &str) -> Option<(Test, bool)> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    Some(match base {
        "StringEquals" => (Test::Text(Case::Exact, Wildcards::Literal), false),
        "StringNotEquals" => (Test::Text(Case::Exact, Wildcards::Literal), true),
        "StringEqualsIgnoreCase" => (Test::Text(Case::Ignored, Wildcards::Literal), false),
        "StringNotEqualsIgnoreCase" => (Test::Text(Case::Ignored, Wildcards::Literal), true),
        "StringLike" => (Test::Text(Case::Exact, Wildcards::Read), false),
        "StringNotLike" => (Test::Text(Case::Exact, Wildcards::Read), true),
        "NumericEquals" => (Test::Number(Equal), false),
        "NumericNotEquals" => (Test::Number(Equal), true),
        "NumericLessThan" => (Test::Number(Less), false),
        "NumericLessThanEquals" => (Test::Number(LessOrEqual), false),
        "NumericGreaterThan" => (Test::Number(Greater), false),
        "NumericGreaterThanEquals" => (Test::Number(GreaterOrEqual), false),
        "DateEquals" => (Test::Date(Equal), false),
        "DateNotEquals" => (Test::Date(Equal), true),
        "DateLessThan" => (Test::Date(Less), false),
        "DateLessThanEquals" => (Test::Date(LessOrEqual), false),
        "DateGreaterThan" => (Test::Date(Greater), false),
        "DateGreaterThanEquals" => (Test::Date(GreaterOrEqual), false),
        "Bool" => (Test::Bool, false),
        "IpAddress" => (Test::Address, false),
        "NotIpAddress" => (Test::Address, true),
        "ArnEquals" | "ArnLike" => (Test::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
        "Null" => (Test::Null, false),
        _ => return None,
    })
}

impl Test {
    /// Whether a policy may compare with this value at all.
    pub(super) fn accepts(self, value: &str) -> bool {
        match self {
            Self::Text(..) | Self::Arn => true,
            Self::Number(_) => number(value).is_some(),
            Self::Date(_) => date(value).is_some(),
            Self::Bool | Self::Null => boolean(value).is_some(),
            Self::Address => Network::parse(value).is_some(),
        }
    }

    /// Whether a value of the request equals (is less than, lies in, ...) the one of the policy.
    /// A value that is not of the operator's type never does.
    pub(super) fn holds(self, actual: &str, wanted: &Pattern, context: &ConditionContext) -> bool {
        let text = || wanted.source();
        match self {
            Self::Text(case, wildcards) => {
                wanted.resolve(context, wildcards).is_some_and(|glob| glob.matches(actual, case))
            }
            // `ArnEquals` and `ArnLike` are the same (IAM User Guide, "ARN condition operators").
            Self::Arn => {
                wanted.resolve(context, Wildcards::Read).is_some_and(|glob| glob.matches_arn(actual))
            }
            Self::Number(comparison) => match (number(actual), number(text())) {
                (Some(actual), Some(wanted)) => comparison.holds(actual.partial_cmp(&wanted)),
                _ => false,
            },
            Self::Date(comparison) => match (date(actual), date(text())) {
                (Some(actual), Some(wanted)) => comparison.holds(Some(actual.cmp(&wanted))),
                _ => false,
            },
            Self::Bool => boolean(actual).is_some_and(|actual| boolean(text()) == Some(actual)),
            Self::Address => match (actual.parse(), Network::parse(text())) {
                (Ok(actual), Some(network)) => network.contains(actual),
                _ => false,
            },
            Self::Null => false,
        }
    }
}

impl Comparison {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        ordering.is_some_and(|ordering| match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        })
    }
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// A date and time in a form of the W3C's note, or seconds since 1970 (IAM User Guide, "Date condition
/// operators"). Four digits alone are seconds, not a year.
fn date(text: &str) -> Option<OffsetDateTime> {
    if let Ok(seconds) = text.parse::<i64>() {
        return OffsetDateTime::from_unix_timestamp(seconds).ok();
    }
    if let Ok(day) = time::Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Some(day.midnight().assume_utc());
    }
    if let Ok(day) = time::Date::parse(&format!("{text}-01"), format_description!("[year]-[month]-[day]")) {
        return Some(day.midnight().assume_utc());
    }
    if let Some(minute) = without_seconds(text) {
        return OffsetDateTime::parse(&minute, &Rfc3339).ok();
    }
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// `2026-01-01T00:00Z` with its seconds added.
fn without_seconds(text: &str) -> Option<String> {
    let (minute, zone) = text.split_at_checked("2026-01-01T00:00".len())?;
    (zone.starts_with(['Z', '+', '-'])).then(|| format!("{minute}:00{zone}"))
}

/// Addresses with a common prefix, `203.0.113.0/24`.
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        (prefix <= width).then_some(Self { address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u32::from(own).into(), u32::from(other).into(), 32_u32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (u128::from(own), u128::from(other), 128),
            _ => return false,
        };
        let rest = width.saturating_sub(self.prefix);
        own.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_prefixes_and_suffixes() {
        let operator = Operator::parse("ForAllValues:StringNotLikeIfExists").unwrap();
        let like = Test::Text(Case::Exact, Wildcards::Read);
        let expected = Operator { set: Some(Set::All), test: like, negated: true, if_exists: true };
        assert_eq!(operator, expected);
        for name in [
            "",
            "IfExists",
            "stringequals",
            "ForNoValue:StringEquals",
            "ForAnyValue:ForAllValues:StringEquals",
            "StringEqualsIfExistsIfExists",
            "NullIfExists",
            "ForAllValues:Null",
            "BinaryEquals",
            "StringEquals ",
        ] {
            assert_eq!(Operator::parse(name), None, "{name}");
        }
    }

    #[test]
    fn dates_are_read_in_the_forms_of_the_guide() {
        let same = [
            "1767225600",
            "2026-01",
            "2026-01-01",
            "2026-01-01T00:00Z",
            "2026-01-01T01:00+01:00",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T01:00:00+01:00",
        ];
        let dates = same.map(date);
        assert!(dates.iter().all(|date| date.is_some() && *date == dates[0]), "{dates:?}");
        for text in ["", "yesterday", "2026-13", "2026-13-01", "2026-01-01T24:01Z", "2026-01-01T00:00", "1e9"]
        {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        for (network, address, expected) in [
            ("203.0.113.0/24", "203.0.113.77", true),
            ("203.0.113.0/24", "203.0.114.1", false),
            ("203.0.113.7", "203.0.113.7", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "2001:db8::", true),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected);
        }
        for text in ["", "/", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/+1", "1.2.3.4/", "1.2.3/8"] {
            assert!(Network::parse(text).is_none(), "{text}");
        }
    }
}
