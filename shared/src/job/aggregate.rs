//! The `aggregate` step as it is written: which groups, and which figures about them.

use serde::{Deserialize, Serialize};

use super::{FieldPath, Function};

/// Groups of records and figures about each; the last step of its job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aggregate {
    /// Records with equal values in all of these fields are a group; all records are one if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<FieldPath>,
    /// Whether to count the records of a group.
    #[serde(skip_serializing_if = "is_false")]
    pub count: bool,
    /// Fields whose values are added up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sum: Vec<FieldPath>,
    /// Fields whose smallest value is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub min: Vec<FieldPath>,
    /// Fields whose largest value is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub max: Vec<FieldPath>,
    /// Fields whose mean is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<FieldPath>,
    /// Fields whose different values are counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distinct: Vec<FieldPath>,
    /// Fields whose quantiles are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantiles: Option<Quantiles>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Quantiles of fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// Which fields.
    pub fields: Vec<FieldPath>,
    /// Which quantiles.
    pub at: Vec<Quantile>,
}

/// A part of all values, above 0 and up to 1, in steps of a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Quantile(u32);

const WHOLE: u32 = 1_000_000;

/// A number that is no quantile.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is not a quantile; write a number above 0 and up to 1 with six digits at most")]
pub struct NotAQuantile(f64);

impl TryFrom<f64> for Quantile {
    type Error = NotAQuantile;
    fn try_from(value: f64) -> Result<Self, NotAQuantile> {
        // The text of a float is the shortest that means it.
        let text = value.to_string();
        let millionths = crate::decimal::Decimal::parse(text.as_bytes())
            .and_then(|part| part.checked_mul(crate::decimal::Decimal::whole(WHOLE.into())))
            .map(|part| part.normal().to_string());
        match millionths.and_then(|text| text.parse().ok()) {
            Some(parts @ 1..=WHOLE) => Ok(Self(parts)),
            _ => Err(NotAQuantile(value)),
        }
    }
}

impl From<Quantile> for f64 {
    fn from(quantile: Quantile) -> Self {
        Self::from(quantile.0) / Self::from(WHOLE)
    }
}

impl Quantile {
    /// The place of the quantile among so many values in order, from 0: the nearest rank (no interpolation).
    pub fn rank(self, count: u64) -> u64 {
        let parts = u128::from(self.0).saturating_mul(count.into());
        u64::try_from(parts.div_ceil(WHOLE.into())).unwrap_or(u64::MAX).saturating_sub(1)
    }
}

impl std::fmt::Display for Quantile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f64::from(*self).fmt(f)
    }
}

impl Aggregate {
    /// Each field with what is to be said of it, in the order of the result.
    pub(super) fn figures(&self) -> impl Iterator<Item = (Function, &FieldPath, Option<Quantile>)> {
        let plain = [
            (Function::Sum, &self.sum),
            (Function::Mean, &self.mean),
            (Function::Min, &self.min),
            (Function::Max, &self.max),
            (Function::Distinct, &self.distinct),
        ];
        let plain =
            plain.into_iter().flat_map(|(function, paths)| paths.iter().map(move |p| (function, p, None)));
        let quantiles = self.quantiles.iter().flat_map(|quantiles| {
            let at = |path| quantiles.at.iter().map(move |at| (Function::Quantiles, path, Some(*at)));
            quantiles.fields.iter().flat_map(at)
        });
        plain.chain(quantiles)
    }
}

impl Function {
    /// The name of a figure in the result: `sum_amount`, `quantile_0.5_amount`.
    pub(super) fn column(self, path: &FieldPath, at: Option<Quantile>) -> String {
        match (self, at) {
            (Self::Quantiles, Some(at)) => format!("quantile_{at}_{path}"),
            (Self::Quantiles, None) => format!("quantile_{path}"),
            (Self::Count, _) => format!("count_{path}"),
            (Self::Sum, _) => format!("sum_{path}"),
            (Self::Min, _) => format!("min_{path}"),
            (Self::Max, _) => format!("max_{path}"),
            (Self::Mean, _) => format!("mean_{path}"),
            (Self::Distinct, _) => format!("distinct_{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_parts_and_take_the_nearest_rank() {
        let quantile = |part: f64| Quantile::try_from(part).unwrap();
        for part in [0.5, 0.9, 0.95, 0.999_999, 1.0, 0.000_001] {
            assert!((f64::from(quantile(part)) - part).abs() < f64::EPSILON);
            assert_eq!(quantile(part).to_string(), part.to_string());
        }
        for part in [0.0, -0.5, 1.1, 0.000_000_1, f64::NAN, f64::INFINITY] {
            assert!(Quantile::try_from(part).is_err(), "{part}");
        }
        // The fifth of ten is the first below which half of the values lie, itself included.
        assert_eq!(quantile(0.5).rank(10), 4);
        assert_eq!(quantile(0.5).rank(11), 5);
        assert_eq!(quantile(0.9).rank(10), 8);
        assert_eq!(quantile(1.0).rank(10), 9);
        assert_eq!(quantile(0.000_001).rank(10), 0);
    }
}
