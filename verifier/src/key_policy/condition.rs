//! The `Condition` element: operators over the keys of a request.
//!
//! All conditions of a statement must hold; of the values of one condition, one
//! is enough. What an absent key means is the part that policies for enclaves
//! stand on: a positive operator fails, a negated one holds.

use super::context::ConditionContext;
use super::decision::Mismatch;
use super::document::PolicyError;
use super::json::Json;
use super::operator::{self, Operator, Set, Test};
use super::pattern::{Pattern, Variables};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// As written.
    name: String,
    pub(super) operator: Operator,
    pub(super) key: String,
    pub(super) wanted: Vec<Pattern>,
}

impl Condition {
    /// Reads a whole `Condition` element.
    pub(super) fn parse_block(block: &Json, variables: Variables) -> Result<Vec<Self>, PolicyError> {
        let mut conditions: Vec<Self> = Vec::new();
        for (name, members) in object(block)? {
            let operator =
                Operator::parse(name).ok_or_else(|| PolicyError::UnsupportedOperator(name.clone()))?;
            for (key, values) in object(members)? {
                let condition = Self::parse(name, operator, key, values, variables)?;
                // Key names have no case, so these are one key given twice.
                let same = |other: &Self| other.name == *name && other.key.eq_ignore_ascii_case(key);
                if conditions.iter().any(same) {
                    return Err(PolicyError::Json { reason: format!("key {key:?} occurs twice in {name}") });
                }
                conditions.push(condition);
            }
        }
        Ok(conditions)
    }

    fn parse(
        name: &str,
        operator: Operator,
        key: &str,
        values: &Json,
        variables: Variables,
    ) -> Result<Self, PolicyError> {
        if !key.split_once(':').is_some_and(|(prefix, rest)| !prefix.is_empty() && !rest.is_empty()) {
            return Err(PolicyError::UnknownElement { element: key.to_owned() });
        }
        let variables = if operator.reads_variables() { variables } else { Variables::Literal };
        let list = match values {
            Json::Array(items) if !items.is_empty() => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let read = |value: &Json| {
            let text = match value {
                Json::Text(text) | Json::Number(text) => text.clone(),
                Json::Bool(value) => value.to_string(),
                Json::Null | Json::Array(_) | Json::Object(_) => {
                    return Err(PolicyError::Shape { element: "Condition" });
                }
            };
            let pattern = Pattern::parse(&text, variables).filter(|_| operator.test.accepts(&text));
            pattern.ok_or_else(|| PolicyError::ConditionValue {
                operator: name.to_owned(),
                key: key.to_owned(),
                value: text,
            })
        };
        let wanted = list.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), operator, key: key.to_owned(), wanted })
    }

    /// Whether a request must have the key, with one of the values, for it to hold.
    pub(super) fn is_demand(&self) -> bool {
        let Operator { set, test, negated, if_exists } = self.operator;
        let holds_without = negated || if_exists || set == Some(Set::All);
        !holds_without && !matches!(test, Test::Null)
    }

    /// Whether it holds for every request without the key and every request with another value.
    pub(super) fn is_refusal(&self) -> bool {
        let Operator { set, test, negated, if_exists: _ } = self.operator;
        negated && set != Some(Set::Any) && !matches!(test, Test::Null)
    }

    /// Whether it holds exactly for requests without the key.
    pub(super) fn is_absence(&self) -> bool {
        self.operator.test == Test::Null
            && self.wanted.iter().all(|wanted| operator::boolean(wanted.source()) == Some(true))
    }

    /// Whether the condition holds for the request.
    pub(super) fn holds(&self, context: &ConditionContext) -> bool {
        let Operator { set, test, negated, if_exists } = self.operator;
        let actual = context.values(&self.key);
        let equals = |value: &String| self.wanted.iter().any(|wanted| test.holds(value, wanted, context));
        if test == Test::Null {
            let absent = actual.is_empty();
            return self.wanted.iter().any(|wanted| operator::boolean(wanted.source()) == Some(absent));
        }
        match (set, actual) {
            (None, []) => negated || if_exists,
            (None, [one]) => equals(one) != negated,
            // A key with several values needs a set operator; without one nothing equals it.
            (None, _) => negated,
            // `IfExists` changes nothing here: it is applied to each value, and there is none.
            (Some(Set::Any), values) => values.iter().any(|value| equals(value) != negated),
            (Some(Set::All), values) => values.iter().all(|value| equals(value) != negated),
        }
    }

    /// Why it does not hold.
    pub(super) fn mismatch(&self, context: &ConditionContext) -> Mismatch {
        Mismatch::Condition {
            operator: self.name.clone(),
            key: self.key.clone(),
            wanted: self.wanted.iter().map(|wanted| wanted.source().to_owned()).collect(),
            actual: context.values(&self.key).to_vec(),
        }
    }
}

fn object(json: &Json) -> Result<&[(String, Json)], PolicyError> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err(PolicyError::Shape { element: "Condition" }),
    }
}
