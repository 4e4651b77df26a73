//! Reads the fields of a request as AWS's model describes them, with AWS's texts for what does not fit.
//!
//! Wrong JSON types end at once in `SerializationException`; fields that break a constraint are
//! collected and reported together, as AWS does. Fields that the model does not know are ignored,
//! because AWS ignores them too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;
use zeroize::Zeroizing;

use super::error::{Answer, ApiError};

/// A request body under examination.
pub(super) struct Input {
    fields: Map<String, Value>,
    violations: Vec<String>,
    /// Where in the request it is, as error texts say it: `tags.1.member.`.
    place: String,
}

impl Input {
    /// Parses a body; an empty one is an empty object.
    pub(super) fn parse(body: &[u8]) -> Answer<Self> {
        let fields = if body.is_empty() {
            Map::new()
        } else {
            match serde_json::from_slice(body) {
                Ok(Value::Object(fields)) => fields,
                _ => return Err(ApiError::serialization("The request body is not a JSON object.")),
            }
        };
        Ok(Self { fields, violations: Vec::new(), place: String::new() })
    }

    /// The same for an object inside another.
    pub(super) fn nested(fields: Map<String, Value>) -> Self {
        Self { fields, violations: Vec::new(), place: String::new() }
    }

    /// Reads an object inside this one; what is wrong with it is reported with the rest.
    pub(super) fn inside<T>(
        &mut self,
        place: &str,
        fields: Map<String, Value>,
        read: impl FnOnce(&mut Self) -> Answer<T>,
    ) -> Answer<T> {
        let place = format!("{}{place}.", self.place);
        let mut inner = Self { fields, violations: Vec::new(), place };
        let done = read(&mut inner)?;
        self.violations.append(&mut inner.violations);
        Ok(done)
    }

    /// Ends the examination: all violations in one error, as AWS words them.
    pub(super) fn finish(&mut self) -> Answer<()> {
        let violations = std::mem::take(&mut self.violations);
        match violations.len() {
            0 => Ok(()),
            1 => Err(ApiError::validation(format!("1 validation error detected: {}", violations.concat()))),
            n => Err(ApiError::validation(format!(
                "{n} validation errors detected: {}",
                violations.join("; ")
            ))),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// Reports that a field must not be absent.
    pub(super) fn require<T: Default>(&mut self, name: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.violate(&format!("Value null at '{}'", self.member(name)), "Member must not be null");
            T::default()
        })
    }

    /// A field as it came, which stays to be read.
    pub(super) fn peek(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The field's name in an error text.
    fn member(&self, name: &str) -> String {
        format!("{}{}", self.place, member(name))
    }

    fn violate(&mut self, subject: &str, constraint: &str) {
        self.violations.push(format!("{subject} failed to satisfy constraint: {constraint}"));
    }

    fn bounds<T: PartialOrd + Display>(
        &mut self,
        subject: &str,
        what: &str,
        value: &T,
        range: &RangeInclusive<T>,
    ) {
        if value < range.start() {
            self.violate(
                subject,
                &format!("Member must have {what} greater than or equal to {}", range.start()),
            );
        } else if value > range.end() {
            self.violate(subject, &format!("Member must have {what} less than or equal to {}", range.end()));
        }
    }

    pub(super) fn text(&mut self, name: &str, length: RangeInclusive<usize>) -> Answer<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let subject = format!("Value '{}' at '{}'", excerpt(&text), self.member(name));
                self.bounds(&subject, "length", &text.chars().count(), &length);
                Ok(Some(text))
            }
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    /// A text that no error may repeat.
    pub(super) fn secret(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Answer<Option<Zeroizing<String>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let text = Zeroizing::new(text);
                self.bounds(
                    &format!("Value at '{}'", member(name)),
                    "length",
                    &text.chars().count(),
                    &length,
                );
                Ok(Some(text))
            }
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    /// Whether the request has a field, not yet read, whose name begins like this.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.fields.iter().any(|(name, value)| name.starts_with(prefix) && !value.is_null())
    }

    /// A text that has to match a pattern, which `fits` implements.
    pub(super) fn pattern(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
        pattern: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Answer<Option<String>> {
        let text = self.text(name, length)?;
        if let Some(text) = text.as_deref().filter(|text| !fits(text)) {
            let subject = format!("Value '{}' at '{}'", excerpt(text), self.member(name));
            self.violate(&subject, &format!("Member must satisfy regular expression pattern: {pattern}"));
        }
        Ok(text)
    }

    /// One of the values that the model lists. Another is a violation, and not missing besides.
    pub(super) fn choice(&mut self, name: &str, values: &[&'static str]) -> Answer<Option<&'static str>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let known = values.iter().find(|value| **value == text).copied();
                if known.is_none() {
                    let subject = format!("Value '{}' at '{}'", excerpt(&text), self.member(name));
                    let constraint = format!("Member must satisfy enum value set: [{}]", values.join(", "));
                    self.violate(&subject, &constraint);
                }
                Ok(Some(known.unwrap_or_default()))
            }
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    /// The same where the field must not be absent.
    pub(super) fn required_choice(&mut self, name: &str, values: &[&'static str]) -> Answer<&'static str> {
        if self.fields.get(name).is_none_or(Value::is_null) {
            return Ok(self.require(name, None));
        }
        // An unknown value is a violation already.
        Ok(self.choice(name, values)?.unwrap_or_default())
    }

    /// A list of values that the model lists.
    pub(super) fn choices(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
        values: &[&'static str],
    ) -> Answer<Vec<&'static str>> {
        let texts = self.texts(name, length)?;
        let known: Vec<_> =
            texts.iter().filter_map(|text| values.iter().find(|value| *value == text).copied()).collect();
        if known.len() != texts.len() {
            let subject = format!("Value '[{}]' at '{}'", excerpt(&texts.join(", ")), member(name));
            let values = values.join(", ");
            let constraint =
                format!("Member must satisfy constraint: [Member must satisfy enum value set: [{values}]]");
            self.violate(&subject, &constraint);
        }
        Ok(known)
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &str, length: RangeInclusive<usize>) -> Answer<Vec<String>> {
        let items = self.list(name, length)?;
        items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(wrong_type(name, "a list of strings")),
            })
            .collect()
    }

    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<i64>) -> Answer<Option<i64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => {
                let number = value.as_i64().ok_or_else(|| wrong_type(name, "an integer"))?;
                let subject = format!("Value '{number}' at '{}'", self.member(name));
                self.bounds(&subject, "value", &number, &range);
                Ok(Some(number))
            }
        }
    }

    /// A time: seconds since 1970, with a fraction or without; milliseconds come out.
    pub(super) fn time(&mut self, name: &str) -> Answer<Option<u64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds));
        let millis = seconds.ok_or_else(|| wrong_type(name, "a time"))? * 1000.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        // Cut off like the clock's, but not by what the number lacks of a whole millisecond.
        Ok(Some((millis + 0.001) as u64))
    }

    pub(super) fn flag(&mut self, name: &str) -> Answer<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong_type(name, "a boolean")),
        }
    }

    pub(super) fn blob(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Answer<Option<Zeroizing<Vec<u8>>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let text = Zeroizing::new(text);
                let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| wrong_type(name, "base64"))?;
                let bytes = Zeroizing::new(bytes);
                self.bounds(&format!("Value at '{}'", self.member(name)), "length", &bytes.len(), &length);
                Ok(Some(bytes))
            }
            Some(_) => Err(wrong_type(name, "base64")),
        }
    }

    /// A map of text to text.
    pub(super) fn pairs(&mut self, name: &str) -> Answer<Vec<(String, String)>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(pairs)) => pairs
                .into_iter()
                .map(|(key, value)| match value {
                    Value::String(value) => Ok((key, value)),
                    _ => Err(wrong_type(name, "a map of strings")),
                })
                .collect(),
            Some(_) => Err(wrong_type(name, "a map of strings")),
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Answer<Option<Map<String, Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(fields)),
            Some(_) => Err(wrong_type(name, "an object")),
        }
    }

    pub(super) fn list(&mut self, name: &str, length: RangeInclusive<usize>) -> Answer<Vec<Value>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                self.bounds(&format!("Value at '{}'", self.member(name)), "length", &items.len(), &length);
                Ok(items)
            }
            Some(_) => Err(wrong_type(name, "a list")),
        }
    }
}

fn wrong_type(name: &str, expected: &str) -> ApiError {
    ApiError::serialization(format!("{name} is not {expected}."))
}

/// AWS names fields in its texts as its implementation does: with a small first letter.
fn member(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A value as an error repeats it: not all of a policy of 100 KB.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 256;
    if text.chars().count() <= LONGEST {
        text.to_owned()
    } else {
        text.chars().take(LONGEST).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_all_violations_in_one_error() {
        let mut input = Input::parse(br#"{"NumberOfBytes":0,"KeySpec":"AES_512"}"#).unwrap();
        input.number("NumberOfBytes", 1..=1024).unwrap();
        input.choice("KeySpec", &["AES_256", "AES_128"]).unwrap();
        let id = input.text("KeyId", 1..=2048).unwrap();
        input.require("KeyId", id);
        let error = input.finish().unwrap_err();
        assert_eq!(error.code, "ValidationException");
        assert_eq!(
            error.message.unwrap(),
            "3 validation errors detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have \
             value greater than or equal to 1; Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must \
             satisfy enum value set: [AES_256, AES_128]; Value null at 'keyId' failed to satisfy constraint: Member \
             must not be null"
        );
    }

    #[test]
    fn refuses_bodies_that_are_not_objects_and_values_of_another_type() {
        for body in [&b"[]"[..], b"{", b"\xff", b"null", b"{} {}"] {
            assert_eq!(Input::parse(body).err().unwrap().code, "SerializationException");
        }
        let mut input = Input::parse(br#"{"A":1,"B":"?","C":{"d":1},"D":1.5}"#).unwrap();
        assert_eq!(input.text("A", 1..=2).unwrap_err().code, "SerializationException");
        assert_eq!(input.blob("B", 1..=2).unwrap_err().code, "SerializationException");
        assert_eq!(input.pairs("C").unwrap_err().code, "SerializationException");
        assert_eq!(input.number("D", 1..=2).unwrap_err().code, "SerializationException");
    }
}
