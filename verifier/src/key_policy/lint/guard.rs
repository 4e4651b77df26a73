//! What a policy denies to everybody, whatever else allows it.

use super::super::condition::Condition;
use super::super::statement::{Effect, Statement};
use super::measurement::Register;

/// The denies that name everybody and every key.
pub(super) struct Guard<'a> {
    denies: Vec<&'a Statement>,
}

impl<'a> Guard<'a> {
    pub(super) fn new(statements: &'a [Statement]) -> Self {
        let denies = |statement: &&Statement| statement.effect == Effect::Deny && statement.concerns_all();
        Self { denies: statements.iter().filter(denies).collect() }
    }

    fn of(&self, action: &str) -> impl Iterator<Item = &[Condition]> {
        self.denies.iter().filter(move |deny| deny.acts(action)).map(|deny| deny.conditions.as_slice())
    }

    /// Whether nobody ever does this.
    pub(super) fn forbids(&self, action: &str) -> bool {
        self.of(action).any(<[Condition]>::is_empty)
    }

    /// Whether nobody does this without an attestation document.
    pub(super) fn closes_without_document(&self, action: &str) -> bool {
        let absent = |condition: &Condition| {
            Register::of(&condition.key).is_some() && (condition.is_refusal() || condition.is_absence())
        };
        self.of(action).any(|conditions| conditions.iter().all(absent))
    }

    /// Whether nobody does this with another value of the register, whatever the others are.
    pub(super) fn closes_other_value(&self, action: &str, register: Register) -> bool {
        self.closes(action, |key| Register::of(key) == Some(register))
    }

    /// Whether nobody does this unless a key for which `is` holds has a wanted value.
    pub(super) fn closes(&self, action: &str, is: impl Fn(&str) -> bool) -> bool {
        self.of(action).any(|conditions| match conditions {
            [] => true,
            [one] => is(&one.key) && one.is_refusal(),
            _ => false,
        })
    }
}
