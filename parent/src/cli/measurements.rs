//! Measurements as people give them: `0=4b8d…`, or a file that a build tool wrote.

use std::collections::BTreeMap;
use std::path::Path;

use adyton_shared::id::PolicyDigest;
use aws_lc_rs::digest::{SHA384, digest};
use serde_json::{Map, Value};

use super::failure::{bad_file, usage};
use crate::exit::Failure;

/// Values of registers, by index.
pub(super) type Pcrs = BTreeMap<u8, [u8; 48]>;

/// The register that holds the policy's digest, as the enclave's `boot.rs` extends it.
pub(super) const POLICY_PCR: u8 = 16;

/// The measurements that name an image together.
pub(super) const IMAGE_PCRS: [u8; 3] = [0, 1, 2];

/// What PCR16 holds under this policy: a register of zeros, extended once.
pub(super) fn policy_register(policy: PolicyDigest) -> [u8; 48] {
    let extended = digest(&SHA384, &[[0; 48], *policy.as_bytes()].concat());
    let mut register = [0; 48];
    register.copy_from_slice(extended.as_ref());
    register
}

/// Reads `N=HEX`.
pub(super) fn parse_pcr(text: &str) -> Result<(u8, [u8; 48]), String> {
    let wrong = || format!("'{text}': write N=HEX with N from 0 to 31 and 96 hexadecimal digits");
    let (index, value) = text.split_once('=').ok_or_else(wrong)?;
    let index = index.parse().ok().filter(|index| *index < 32).ok_or_else(wrong)?;
    let mut bytes = [0; 48];
    hex::decode_to_slice(value, &mut bytes).map_err(|_| wrong())?;
    Ok((index, bytes))
}

/// Adds a value that must not be there yet.
pub(super) fn add(pcrs: &mut Pcrs, index: u8, value: [u8; 48]) -> Result<(), Failure> {
    match pcrs.insert(index, value) {
        None => Ok(()),
        Some(_) => Err(usage(format!("PCR{index} is given twice"), "give each once")),
    }
}

/// Adds what `--pcrs` names: `N=HEX`, or a JSON file such as `nitro-cli build-enclave` prints.
pub(super) fn add_named(pcrs: &mut Pcrs, named: &str) -> Result<(), Failure> {
    if let Ok((index, value)) = parse_pcr(named) {
        return add(pcrs, index, value);
    }
    let path = Path::new(named);
    let text = std::fs::read_to_string(path)
        .map_err(|error| bad_file(&error, &format!("the measurements {}", path.display())))?;
    let found = manifest(&text).map_err(|wrong| {
        let hint = r#"it is JSON such as {"Measurements": {"PCR0": "…", "PCR1": "…", "PCR2": "…"}}"#;
        usage(format!("the measurements {}: {wrong}", path.display()), hint)
    })?;
    found.into_iter().try_for_each(|(index, value)| add(pcrs, index, value))
}

/// The registers in a JSON object, or in the one that it has under `Measurements` or `pcrs`.
fn manifest(text: &str) -> Result<Pcrs, String> {
    let whole: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let inner = ["Measurements", "pcrs"].iter().find_map(|name| whole.get(*name));
    let registers = match inner {
        Some(Value::Object(registers)) => registers,
        Some(_) => return Err("the measurements are no object".to_owned()),
        None => &whole,
    };
    let mut pcrs = Pcrs::new();
    for (name, value) in registers {
        let value = value.as_str().ok_or_else(|| format!("{name} is no text"))?;
        if name == "HashAlgorithm" {
            // nitro-cli writes `Sha384 { ... }`.
            if !value.starts_with("Sha384") {
                return Err(format!("the hash is {value}, not SHA-384"));
            }
            continue;
        }
        let index = name.strip_prefix("PCR").unwrap_or(name);
        let (index, value) = parse_pcr(&format!("{index}={value}"))
            .map_err(|_| format!("{name} is no register with 96 hexadecimal digits"))?;
        if pcrs.insert(index, value).is_some() {
            return Err(format!("PCR{index} is there twice"));
        }
    }
    if pcrs.is_empty() { Err("there is no measurement in it".to_owned()) } else { Ok(pcrs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_build_tools_write() {
        let hex = "ab".repeat(48);
        let registers = format!(r#""PCR0":"{hex}","PCR1":"{hex}","PCR2":"{hex}""#);
        for text in [
            format!(r#"{{"Measurements":{{"HashAlgorithm":"Sha384 {{ ... }}",{registers}}}}}"#),
            format!(r#"{{"EifVersion":4,"Measurements":{{{registers}}},"IsSigned":false}}"#),
            format!("{{{registers}}}"),
            format!(r#"{{"pcrs":{{"0":"{hex}","1":"{hex}","2":"{hex}"}},"socket":"x"}}"#),
        ] {
            let pcrs = manifest(&text).unwrap();
            assert_eq!(pcrs.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{text}");
            assert_eq!(pcrs[&2], [0xab; 48]);
        }
    }

    #[test]
    fn refuses_what_names_no_registers() {
        let hex = "ab".repeat(48);
        for text in [
            String::new(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"Measurements":{}}"#.to_owned(),
            r#"{"Measurements":7}"#.to_owned(),
            r#"{"PCR0":"ab"}"#.to_owned(),
            format!(r#"{{"PCR32":"{hex}"}}"#),
            format!(r#"{{"PCR0":"{hex}","0":"{hex}"}}"#),
            format!(r#"{{"Measurements":{{"HashAlgorithm":"Sha256","PCR0":"{hex}"}}}}"#),
            format!(r#"{{"PCR0":"{hex}","note":"x"}}"#),
        ] {
            assert!(manifest(&text).is_err(), "{text}");
        }
    }

    // T-5
    #[test]
    fn the_policys_register_is_one_of_zeros_extended_once() {
        // SHA-384 over 96 bytes of zeros.
        let zeros = digest(&SHA384, &[0; 96]);
        assert_eq!(policy_register(PolicyDigest::new([0; 48])), zeros.as_ref());
    }
}
