//! Decimal numbers as people and JSON write them: exact, or not at all.
//!
//! Money in binary floating point lies. A number here is its digits and where the point stands, in
//! 128 bits; one that does not fit, and a calculation that would not, is refused rather than rounded.

use std::cmp::Ordering;
use std::fmt;

/// Most digits behind the point.
pub const MAX_SCALE: u8 = 38;

/// `coefficient` × 10^-`scale`, spelled with so many decimal places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Decimal {
    coefficient: i128,
    scale: u8,
}

impl zeroize::DefaultIsZeroes for Decimal {}

const fn power(exponent: u8) -> Option<i128> {
    10_i128.checked_pow(exponent as u32)
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { coefficient: 0, scale: 0 };

    /// A whole number.
    pub const fn whole(number: i128) -> Self {
        Self { coefficient: number, scale: 0 }
    }

    /// Reads a number in the grammar of JSON (RFC 8259 §6), and nothing else: no space, no `+`, no `NaN`.
    ///
    /// None if it is no number, or has no exact form here.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.split_first()? {
            (b'-', rest) => (true, rest),
            _ => (false, text),
        };
        let (whole, rest) = run(digits);
        if whole.is_empty() || (whole.len() > 1 && whole.first() == Some(&b'0')) {
            return None;
        }
        let (fraction, rest) = match rest.split_first() {
            Some((b'.', rest)) => {
                let (fraction, rest) = run(rest);
                if fraction.is_empty() {
                    return None;
                }
                (fraction, rest)
            }
            _ => (&[][..], rest),
        };
        let exponent = exponent(rest)?;
        let mut coefficient = coefficient(whole, fraction)?;
        if negative {
            coefficient = coefficient.checked_neg()?;
        }
        Self::scaled(coefficient, i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?)
    }

    fn scaled(mut coefficient: i128, mut scale: i32) -> Option<Self> {
        if coefficient == 0 {
            let scale = u8::try_from(scale.max(0)).unwrap_or(MAX_SCALE).min(MAX_SCALE);
            return Some(Self { coefficient, scale });
        }
        while scale > MAX_SCALE.into() && coefficient.checked_rem(10)? == 0 {
            coefficient = coefficient.checked_div(10)?;
            scale = scale.checked_sub(1)?;
        }
        if scale < 0 {
            let up = power(u8::try_from(scale.checked_neg()?).ok()?)?;
            return Some(Self { coefficient: coefficient.checked_mul(up)?, scale: 0 });
        }
        let scale = u8::try_from(scale).ok().filter(|scale| *scale <= MAX_SCALE)?;
        Some(Self { coefficient, scale })
    }

    /// Digits behind the point.
    pub const fn scale(self) -> u8 {
        self.scale
    }

    /// The same number with as few digits as possible: equal numbers have equal normal forms.
    #[must_use]
    pub fn normal(self) -> Self {
        let Self { mut coefficient, mut scale } = self;
        while scale > 0 && coefficient.checked_rem(10) == Some(0) {
            coefficient = coefficient.checked_div(10).unwrap_or(coefficient);
            scale = scale.saturating_sub(1);
        }
        Self { coefficient, scale }
    }

    fn rescaled(self, scale: u8) -> Option<i128> {
        self.coefficient.checked_mul(power(scale.checked_sub(self.scale)?)?)
    }

    fn aligned(self, other: Self) -> Option<(i128, i128, u8)> {
        let scale = self.scale.max(other.scale);
        Some((self.rescaled(scale)?, other.rescaled(scale)?, scale))
    }

    /// The exact sum.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (a, b, scale) = self.aligned(other)?;
        Some(Self { coefficient: a.checked_add(b)?, scale })
    }

    /// The exact difference.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(other.checked_neg()?)
    }

    /// The exact product.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let coefficient = self.coefficient.checked_mul(other.coefficient)?;
        Self::scaled(coefficient, i32::from(self.scale).checked_add(other.scale.into())?)
    }

    /// The negated number.
    pub fn checked_neg(self) -> Option<Self> {
        Some(Self { coefficient: self.coefficient.checked_neg()?, ..self })
    }

    /// The quotient by a count, with at least `places` digits behind the point; halves go to the even neighbour.
    pub fn mean_of(self, count: u64, places: u8) -> Option<Self> {
        let scale = self.scale.max(places);
        let numerator = self.rescaled(scale)?;
        let divisor = i128::from(count);
        let quotient = numerator.checked_div_euclid(divisor)?;
        let twice = numerator.checked_rem_euclid(divisor)?.checked_mul(2)?;
        let odd = quotient.checked_rem(2)? != 0;
        let up = twice > divisor || (twice == divisor && odd);
        let coefficient = quotient.checked_add(i128::from(up))?;
        Some(Self { coefficient, scale }.normal())
    }
}

/// The digits at the start, and what follows.
fn run(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// None if it is malformed or absurd; 0 if there is none.
fn exponent(text: &[u8]) -> Option<i32> {
    let rest = match text.split_first() {
        None => return Some(0),
        Some((b'e' | b'E', rest)) => rest,
        Some(_) => return None,
    };
    let (sign, rest) = match rest.split_first()? {
        (b'-', rest) => (-1, rest),
        (b'+', rest) => (1, rest),
        _ => (1, rest),
    };
    let (digits, rest) = run(rest);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_i32, |value, digit| {
        value.checked_mul(10)?.checked_add(i32::from(digit.checked_sub(b'0')?)).filter(|v| *v <= 1000)
    });
    value?.checked_mul(sign)
}

fn coefficient(whole: &[u8], fraction: &[u8]) -> Option<i128> {
    let digits = whole.iter().chain(fraction).map(|digit| digit.wrapping_sub(b'0'));
    if whole.len().saturating_add(fraction.len()) <= 18 {
        // Ten to the 18th fits, so nothing can overflow.
        return Some(i128::from(
            digits.fold(0_u64, |value, digit| value.wrapping_mul(10).wrapping_add(digit.into())),
        ));
    }
    let mut digits = digits;
    digits.try_fold(0_i128, |value, digit| value.checked_mul(10)?.checked_add(digit.into()))
}

/// By value: `1.0` equals `1.00`. [`PartialEq`] tells spellings apart, so there is no [`Ord`].
impl Decimal {
    /// Compares two numbers by value.
    pub fn compare(self, other: Self) -> Ordering {
        if self.scale == other.scale {
            return self.coefficient.cmp(&other.coefficient);
        }
        // What is too large to be given as many digits as the other has is larger than it.
        let scale = self.scale.max(other.scale);
        match (self.rescaled(scale), other.rescaled(scale)) {
            (Some(a), Some(b)) => a.cmp(&b),
            (None, _) => self.coefficient.cmp(&0),
            (_, None) => 0.cmp(&other.coefficient),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.coefficient.unsigned_abs().to_string();
        let scale = usize::from(self.scale);
        let padded = format!("{digits:0>width$}", width = scale.saturating_add(1));
        let (whole, fraction) =
            padded.split_at_checked(padded.len().saturating_sub(scale)).unwrap_or((&padded, ""));
        let sign = if self.coefficient < 0 { "-" } else { "" };
        if fraction.is_empty() { write!(f, "{sign}{whole}") } else { write!(f, "{sign}{whole}.{fraction}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Decimal {
        Decimal::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn reads_what_json_calls_a_number_and_says_it_exactly() {
        for (text, said) in [
            ("0", "0"),
            ("-0.50", "-0.50"),
            ("9007199254740993", "9007199254740993"),
            ("0.1", "0.1"),
            ("1e3", "1000"),
            ("1.5E+2", "150"),
            ("25e-1", "2.5"),
            ("1e-38", "0.00000000000000000000000000000000000001"),
            ("0e999", "0"),
            ("100000000000000000000000000000000000000", "100000000000000000000000000000000000000"),
        ] {
            assert_eq!(number(text).to_string(), said, "{text}");
        }
        for text in
            ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "NaN", "Infinity", "-Infinity", " 1", "1 ", "0x1"]
        {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
        for text in ["1e39", "1e-39", "1e99999999999", "340282366920938463463374607431768211456"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn compares_by_value() {
        assert_eq!(number("1.0").compare(number("1.00")), Ordering::Equal);
        assert_eq!(number("9007199254740993").compare(number("9007199254740992")), Ordering::Greater);
        assert_eq!(number("0.30").compare(number("0.3000000000000000001")), Ordering::Less);
        let huge = number("99999999999999999999999999999999999999");
        assert_eq!(huge.compare(number("1e-38")), Ordering::Greater);
        assert_eq!(number("1e-38").compare(huge), Ordering::Less);
        assert_eq!(huge.checked_neg().unwrap().compare(number("1e-38")), Ordering::Less);
        assert_eq!(number("1.10").normal(), number("1.1"));
    }

    #[test]
    fn sums_and_means_are_exact_or_nothing() {
        let third = number("0.1").checked_add(number("0.2")).unwrap();
        assert_eq!(third, number("0.3"));
        let huge = number("99999999999999999999999999999999999999");
        assert_eq!(huge.checked_mul(huge), None);
        assert_eq!(huge.checked_add(number("0.1")), None);
        assert_eq!(number("10").mean_of(3, 6).unwrap().to_string(), "3.333333");
        assert_eq!(number("20").mean_of(3, 6).unwrap().to_string(), "6.666667");
        assert_eq!(number("0.5").mean_of(2, 1).unwrap().to_string(), "0.2");
        assert_eq!(number("1.5").mean_of(2, 1).unwrap().to_string(), "0.8");
        assert_eq!(number("-0.5").mean_of(2, 1).unwrap().to_string(), "-0.2");
        assert_eq!(number("6").mean_of(3, 6).unwrap().to_string(), "2");
        assert_eq!(number("6").mean_of(0, 6), None);
    }

    proptest! {
        #[test]
        fn small_numbers_are_as_integers_say(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000, s in 0_u8..6, t in 0_u8..6) {
            let decimal = |n: i64, scale: u8| Decimal { coefficient: n.into(), scale };
            let (x, y) = (decimal(a, s), decimal(b, t));
            prop_assert_eq!(Decimal::parse(x.to_string().as_bytes()).unwrap(), x);
            let same = |d: Decimal| d.coefficient.checked_mul(power(6_u8.checked_sub(d.scale)?)?);
            let (m, n) = (same(x).unwrap(), same(y).unwrap());
            prop_assert_eq!(x.compare(y), m.cmp(&n));
            let sum = Decimal { coefficient: m.checked_add(n).unwrap(), scale: 6 };
            prop_assert_eq!(x.checked_add(y).unwrap().compare(sum), Ordering::Equal);
        }
    }
}
