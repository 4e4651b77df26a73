//! Conditions on an enclave's measurements: which a statement demands, and whether they can match.

use std::collections::BTreeMap;
use std::fmt;

use super::super::condition::Condition;
use super::super::operator::Test;
use super::super::pattern::Case;
use super::super::statement::{Effect, Statement};
use super::Linter;

/// Length of a measurement in hexadecimal digits.
const DIGITS: usize = 96;
const PREFIX: &str = "kms:recipientattestation:";

/// A register of the enclave's attestation document. `ImageSha384` is PCR0; the registers of a
/// `NitroTPM` are none: they say nothing about an enclave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Register(u8);

impl Register {
    pub(super) fn of(key: &str) -> Option<Self> {
        let key = key.to_ascii_lowercase();
        let name = key.strip_prefix(PREFIX)?;
        if name == "imagesha384" {
            return Some(Self(0));
        }
        name.strip_prefix("pcr")?.parse().ok().filter(|index| *index < 32).map(Self)
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PCR{}", self.0)
    }
}

/// The registers that a request must have, with how many values each.
pub(super) fn demanded(statement: &Statement) -> BTreeMap<Register, usize> {
    let mut registers = BTreeMap::new();
    for condition in &statement.conditions {
        let Some(register) = Register::of(&condition.key) else { continue };
        let is_text = matches!(condition.operator.test, Test::Text(..));
        if is_text
            && condition.is_demand()
            && !condition.wanted.iter().any(|value| is_anything(value.source()))
        {
            registers.insert(register, condition.wanted.len());
        }
    }
    registers
}

fn is_anything(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.bytes().all(|byte| matches!(byte, b'*' | b'?'))
}

impl Linter<'_> {
    /// The conditions on measurements, one by one and together.
    pub(super) fn measurements(&mut self, statement: &Statement) {
        for condition in &statement.conditions {
            let Some(register) = Register::of(&condition.key) else { continue };
            if statement.effect == Effect::Allow && condition.operator.test != Test::Null {
                self.strength(statement, condition, register);
            }
            if let Test::Text(case, _) = condition.operator.test {
                for value in &condition.wanted {
                    self.value(statement, register, case, value.source());
                }
            }
        }
        if statement.effect == Effect::Allow {
            self.identity(statement);
        }
    }

    fn strength(&mut self, statement: &Statement, condition: &Condition, register: Register) {
        if !condition.is_demand() {
            self.error(
                "K-2",
                "condition-optional",
                Some(statement),
                format!("its condition on {register} holds for requests without a document"),
                "use StringEqualsIgnoreCase without IfExists and ForAllValues",
            );
        }
        let wide = |text: &str| text.contains('*') || text.contains('?');
        if condition.wanted.iter().any(|value| wide(value.source())) {
            self.error(
                "K-2",
                "measurement-wildcard",
                Some(statement),
                format!("its {register} has a wildcard"),
                "name the whole measurement",
            );
        }
    }

    fn value(&mut self, statement: &Statement, register: Register, case: Case, value: &str) {
        let hexadecimal = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if value.contains(['*', '?', '$']) {
            return;
        }
        if value.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("0x")) {
            self.error(
                "K-2",
                "measurement-0x",
                Some(statement),
                format!("its {register} begins with 0x and equals no measurement"),
                "write the hexadecimal digits alone",
            );
        } else if !hexadecimal(value) || value.len() != DIGITS {
            self.error(
                "K-2",
                "measurement-malformed",
                Some(statement),
                format!("its {register} is not {DIGITS} hexadecimal digits and equals no measurement"),
                "copy the value that nitro-cli build-enclave prints",
            );
        } else if value.bytes().all(|byte| byte == b'0') {
            self.error(
                "V-6",
                "measurement-zero",
                Some(statement),
                format!("its {register} is zero, as in every enclave in debug mode"),
                "build the image and name its own measurement",
            );
        } else if case == Case::Exact && value.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.error(
                "K-2",
                "measurement-case",
                Some(statement),
                format!("its {register} has capital letters, and measurements are compared in small ones"),
                "use StringEqualsIgnoreCase",
            );
        }
    }

    /// Whether what a statement demands is one image.
    fn identity(&mut self, statement: &Statement) {
        let demanded = demanded(statement);
        let has = |index| demanded.contains_key(&Register(index));
        let image = [0, 1, 2].into_iter().filter(|index| has(*index)).count();
        let others = |known: &[u8]| demanded.keys().any(|register| !known.contains(&register.0));
        if demanded.is_empty() {
            return;
        }
        if image == 0 && has(8) {
            self.error(
                "V-7",
                "pcr8-alone",
                Some(statement),
                "it demands PCR8 without the image's measurements: any image that this key ever signed fits",
                "demand PCR0, PCR1 and PCR2, too",
            );
        }
        if image == 0 && (has(3) || has(4)) {
            self.error(
                "V-8",
                "parent-alone",
                Some(statement),
                "it demands PCR3 or PCR4 without the image's measurements: they name the parent's role and \
                 instance, and any image there fits",
                "demand PCR0, PCR1 and PCR2, too",
            );
        }
        if (1..3).contains(&image) || (image == 0 && others(&[3, 4, 8]) && !has(8) && !has(3) && !has(4)) {
            let missing: Vec<_> = [0, 1, 2]
                .into_iter()
                .filter(|index| !has(*index))
                .map(|index| Register(index).to_string())
                .collect();
            self.error(
                "V-5",
                "image-incomplete",
                Some(statement),
                format!(
                    "it does not demand {}; bytes can move between the sections of an image",
                    missing.join(", ")
                ),
                "demand PCR0, PCR1 and PCR2 together",
            );
        }
        let many =
            [0, 1, 2].into_iter().filter(|index| demanded.get(&Register(*index)).is_some_and(|n| *n > 1));
        if image == 3 && many.count() > 1 {
            self.warn(
                "V-5",
                "images-mixed",
                Some(statement),
                "its lists also admit mixtures: PCR0 of one image with PCR1 of another",
                "write a statement of its own for each image",
            );
        }
    }
}
