//! Whether a record passes a filter: computes conditions over values, exactly and without copies.
//!
//! As CEL has it, `&&` and `||` need only one side to be decided: an error on the other does not
//! count then. In one thing this is stricter than CEL: values of two types are never compared, not
//! even for equality, because `total == '100'` being false on every record is hardly ever meant.
//! Null may be compared with anything.

use std::cmp::Ordering;

use adyton_shared::decimal::Decimal;
use adyton_shared::job::{Calculation, Comparison, Expression, Search};
use memchr::memmem;

use super::error::Flaw;
use super::reads::{Capture, Reads, Value};

/// Why a condition is neither true nor false for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// A field is missing, or of a type that does not fit.
    Value,
    /// A number has no exact form, or a calculation leaves the range.
    Inexact,
}

/// A value on the way.
#[derive(Clone, Copy)]
enum Part<'a> {
    Null,
    Boolean(bool),
    Text(&'a [u8]),
    Number(Decimal),
}

/// What a condition is computed over.
pub(super) struct Scope<'a> {
    pub(super) reads: &'a Reads,
    /// What the condition's fields are among the reads.
    pub(super) numbers: &'a [usize],
    pub(super) record: &'a [u8],
    pub(super) found: &'a [Option<Capture>],
}

impl<'a> Scope<'a> {
    /// Whether the condition of this step holds.
    pub(super) fn holds(&self, condition: &'a Expression, step: u16) -> Result<bool, Flaw> {
        self.boolean(condition).map_err(|wrong| match wrong {
            Wrong::Value => Flaw::Filter(step),
            Wrong::Inexact => Flaw::Inexact(step),
        })
    }

    fn value(&self, field: usize) -> Value<'a> {
        let number = self.numbers.get(field).copied().unwrap_or(usize::MAX);
        self.reads.value(number, self.record, self.found)
    }

    fn boolean(&self, part: &'a Expression) -> Result<bool, Wrong> {
        match self.compute(part)? {
            Part::Boolean(value) => Ok(value),
            _ => Err(Wrong::Value),
        }
    }

    fn text(&self, part: &'a Expression) -> Result<&'a [u8], Wrong> {
        match self.compute(part)? {
            Part::Text(text) => Ok(text),
            _ => Err(Wrong::Value),
        }
    }

    fn number(&self, part: &'a Expression) -> Result<Decimal, Wrong> {
        match self.compute(part)? {
            Part::Number(number) => Ok(number),
            _ => Err(Wrong::Value),
        }
    }

    /// Depth is bounded by the limits on conditions.
    fn compute(&self, part: &'a Expression) -> Result<Part<'a>, Wrong> {
        Ok(match part {
            Expression::Null => Part::Null,
            Expression::Boolean(value) => Part::Boolean(*value),
            Expression::Text(text) => Part::Text(text.as_bytes()),
            Expression::Number(number) => Part::Number(*number),
            Expression::Field(field) => match self.value(*field) {
                Value::Null => Part::Null,
                Value::Boolean(value) => Part::Boolean(value),
                Value::Text(text) => Part::Text(text),
                Value::Number(spelling) => Part::Number(Decimal::parse(spelling).ok_or(Wrong::Inexact)?),
                Value::Missing | Value::Container | Value::Untreatable => return Err(Wrong::Value),
            },
            Expression::Has(field) => Part::Boolean(self.value(*field) != Value::Missing),
            Expression::Not(part) => Part::Boolean(!self.boolean(part)?),
            Expression::And(both) => Part::Boolean(!self.either(both, false)?),
            Expression::Or(both) => Part::Boolean(self.either(both, true)?),
            Expression::If(parts) => {
                let [condition, yes, no] = &**parts;
                return self.compute(if self.boolean(condition)? { yes } else { no });
            }
            Expression::Compare(how, both) => {
                let [left, right] = &**both;
                Part::Boolean(compare(*how, self.compute(left)?, self.compute(right)?)?)
            }
            Expression::In(value, list) => {
                let value = self.compute(value)?;
                for element in list {
                    if compare(Comparison::Equal, value, self.compute(element)?)? {
                        return Ok(Part::Boolean(true));
                    }
                }
                Part::Boolean(false)
            }
            Expression::Calculate(how, both) => {
                let [left, right] = &**both;
                let (left, right) = (self.number(left)?, self.number(right)?);
                let result = match how {
                    Calculation::Add => left.checked_add(right),
                    Calculation::Subtract => left.checked_sub(right),
                    Calculation::Multiply => left.checked_mul(right),
                };
                Part::Number(result.ok_or(Wrong::Inexact)?)
            }
            Expression::Negate(part) => Part::Number(self.number(part)?.checked_neg().ok_or(Wrong::Inexact)?),
            Expression::Search(how, both) => {
                let [text, other] = &**both;
                let (text, other) = (self.text(text)?, self.text(other)?);
                Part::Boolean(match how {
                    Search::Contains => memmem::find(text, other).is_some(),
                    Search::StartsWith => text.starts_with(other),
                    Search::EndsWith => text.ends_with(other),
                })
            }
            Expression::Size(part) => {
                let characters = self.text(part)?.iter().filter(|byte| *byte & 0xc0 != 0x80).count();
                Part::Number(Decimal::whole(i128::try_from(characters).map_err(|_| Wrong::Inexact)?))
            }
            Expression::ToNumber { whole, of } => {
                let number = match self.compute(of)? {
                    Part::Number(number) => number,
                    Part::Text(text) => Decimal::parse(text).ok_or(Wrong::Value)?,
                    Part::Null | Part::Boolean(_) => return Err(Wrong::Value),
                };
                if *whole && number.normal().scale() > 0 {
                    return Err(Wrong::Value);
                }
                Part::Number(number)
            }
        })
    }

    /// Whether one of both is `wanted`. An error counts only if the other does not decide.
    fn either(&self, both: &'a [Expression; 2], wanted: bool) -> Result<bool, Wrong> {
        let [left, right] = both;
        let first = self.boolean(left);
        if first == Ok(wanted) {
            return Ok(true);
        }
        if self.boolean(right)? == wanted {
            return Ok(true);
        }
        first.map(|_| false)
    }
}

fn compare(how: Comparison, left: Part<'_>, right: Part<'_>) -> Result<bool, Wrong> {
    let order = match (left, right) {
        (Part::Number(a), Part::Number(b)) => a.compare(b),
        // UTF-8 sorts as its characters do.
        (Part::Text(a), Part::Text(b)) => a.cmp(b),
        (Part::Boolean(a), Part::Boolean(b)) => return equal(how, a == b),
        (Part::Null, Part::Null) => return equal(how, true),
        (Part::Null, _) | (_, Part::Null) => return equal(how, false),
        _ => return Err(Wrong::Value),
    };
    Ok(match how {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    })
}

/// For values that have no order.
const fn equal(how: Comparison, equal: bool) -> Result<bool, Wrong> {
    match how {
        Comparison::Equal => Ok(equal),
        Comparison::NotEqual => Ok(!equal),
        _ => Err(Wrong::Value),
    }
}
