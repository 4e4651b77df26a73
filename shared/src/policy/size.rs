//! Sizes as people write them: `"64 GiB"`, `"4 MiB"`, or a number of bytes.

use serde::Deserialize;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct Size(pub(super) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(u64),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => parse(&text).map(Self).ok_or_else(|| {
                format!("'{text}' is not a size; write \"64 GiB\", \"4 MiB\", \"512 KiB\" or bytes")
            }),
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_binary_units_and_nothing_ambiguous() {
        assert_eq!(parse("64 GiB"), Some(64 << 30));
        assert_eq!(parse("0 B"), Some(0));
        for text in ["64GiB", "64 GB", "-1 B", "1.5 MiB", "", " MiB", "20000000 TiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
