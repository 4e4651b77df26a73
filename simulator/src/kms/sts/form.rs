//! The body of a call of the query protocol: `application/x-www-form-urlencoded`.

use crate::kms::error::{Answer, ApiError};

/// Most parameters: `AssumeRole` with all tags has about 160.
const MAX_PARAMETERS: usize = 512;

/// The parameters, in their order.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Answer<Self> {
        let malformed = || ApiError::new("MalformedQueryString", "The query string contains a syntax error.");
        let text = std::str::from_utf8(body).map_err(|_| malformed())?;
        let pairs: Vec<&str> = text.trim().split('&').filter(|pair| !pair.is_empty()).collect();
        if pairs.len() > MAX_PARAMETERS {
            return Err(malformed());
        }
        let mut form: Vec<(String, String)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name).ok_or_else(malformed)?, decode(value).ok_or_else(malformed)?);
            // Which of two would count is nothing to guess about.
            if form.iter().any(|(known, _)| *known == name) {
                return Err(malformed());
            }
            form.push((name, value));
        }
        Ok(Self(form))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The members of a list: `NAME.member.1`, `NAME.member.2` and so on, each with this ending.
    pub(super) fn members<'a>(&'a self, name: &str, ending: &str) -> Vec<Option<&'a str>> {
        let count = self.count(name);
        (1..=count).map(|number| self.get(&format!("{name}.member.{number}{ending}"))).collect()
    }

    fn count(&self, name: &str) -> usize {
        let prefix = format!("{name}.member.");
        let numbers = self
            .0
            .iter()
            .filter_map(|(known, _)| known.strip_prefix(&prefix)?.split('.').next()?.parse::<usize>().ok());
        numbers.max().unwrap_or_default().min(MAX_PARAMETERS)
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let mut decoded = [0];
                hex::decode_to_slice(digits, &mut decoded).ok()?;
                decoded[0]
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_parameters_and_lists() {
        let form =
            Form::parse(b"Action=A&T.member.1.Key=a+b&T.member.1.Value=%C3%A4&T.member.3.Key=c").unwrap();
        assert_eq!(form.get("Action"), Some("A"));
        assert_eq!(form.members("T", ".Key"), [Some("a b"), None, Some("c")]);
        assert_eq!(form.members("T", ".Value"), [Some("\u{e4}"), None, None]);
        assert!(form.members("U", "").is_empty());
    }

    #[test]
    fn refuses_what_has_no_single_meaning() {
        let many = vec!["a=b"; MAX_PARAMETERS + 1].join("&");
        for body in [&b"a=%4"[..], b"a=%zz", b"a=%ff", b"\xff", b"a=1&a=2", many.as_bytes()] {
            assert_eq!(Form::parse(body).err().unwrap().code, "MalformedQueryString");
        }
        assert_eq!(Form::parse(b"T.member.99999999=x").unwrap().members("T", "").len(), MAX_PARAMETERS);
    }
}
