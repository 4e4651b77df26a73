//! What is wrong with a key policy that should release keys to one enclave image alone.
//!
//! Each finding carries the identifier of the requirement that it is about (K-2, K-3, K-17, V-5 to
//! V-8). Statements are judged by what they could allow, not by what somebody means by them: a
//! condition counts only if a request without the key fails it. A policy without findings still
//! trusts whoever may change it, and the IAM policies and grants that it lets work.

mod allow;
mod guard;
mod measurement;

use std::fmt;

use super::decision::StatementId;
use super::document::{KeyPolicy, PolicyError};
use super::principal::Named;
use super::statement::{Effect, Statement};

use guard::Guard;
use measurement::Register;

/// What turns ciphertext into something else. A policy for an enclave closes it to everybody else.
const OPENING: [&str; 3] = ["kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo"];

/// Something that a key policy should not be, or lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The requirement, `K-2`.
    pub requirement: &'static str,
    /// For scripts; never changes its meaning.
    pub code: &'static str,
    /// Whether the policy is refused for it.
    pub severity: Severity,
    /// The statement; none if it is about the policy as a whole.
    pub statement: Option<StatementId>,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub advice: &'static str,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy does not protect what it should.
    Error,
    /// It could be stronger.
    Warning,
}

/// The role or user whose credentials the enclave uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeRole(Named);

impl RuntimeRole {
    /// A role or user by its ARN.
    ///
    /// # Errors
    /// [`PolicyError::InvalidPrincipal`] for anything else.
    pub fn parse(arn: &str) -> Result<Self, PolicyError> {
        match Named::parse_aws(arn)? {
            role @ Named::Arn(_) => Ok(Self(role)),
            _ => Err(PolicyError::InvalidPrincipal(arn.to_owned())),
        }
    }
}

impl KeyPolicy {
    /// What is wrong with the policy, the errors first. Without `roles`, the enclave's role is
    /// whoever a statement with attestation conditions names.
    pub fn lint(&self, roles: &[RuntimeRole]) -> Vec<Finding> {
        let mut linter = Linter::new(&self.statements, roles);
        linter.run();
        let mut findings = linter.findings;
        // Stable: within a severity the policy's order stays.
        findings.sort_by_key(|finding| (finding.severity, finding.statement.as_ref().map(|id| id.index)));
        findings
    }
}

/// Who can undo what a policy says (K-21).
impl KeyPolicy {
    /// Whom statements allow `kms:PutKeyPolicy`, in words; nobody if the policy is locked for good.
    /// Denies and conditions are not looked at: they are as mutable as the rest.
    pub fn may_be_put_by(&self) -> Vec<String> {
        let mut names = Vec::new();
        for statement in &self.statements {
            if statement.effect == Effect::Allow && statement.acts("kms:PutKeyPolicy") {
                names.extend(statement.named().iter().map(ToString::to_string));
            }
        }
        names.sort();
        names.dedup();
        names
    }
}

struct Linter<'a> {
    statements: &'a [Statement],
    /// Who the enclave is; empty if nobody knows.
    roles: Vec<Named>,
    /// The account that the key seems to belong to.
    account: Option<String>,
    guard: Guard<'a>,
    findings: Vec<Finding>,
}

impl<'a> Linter<'a> {
    fn new(statements: &'a [Statement], roles: &[RuntimeRole]) -> Self {
        let allows = || statements.iter().filter(|statement| statement.effect == Effect::Allow);
        let mut roles: Vec<_> = roles.iter().map(|RuntimeRole(named)| named.clone()).collect();
        if roles.is_empty() {
            let attested = allows().filter(|statement| !measurement::demanded(statement).is_empty());
            let named = attested.flat_map(Statement::named).filter(|named| matches!(named, Named::Arn(_)));
            roles = named.cloned().collect();
        }
        let own = roles.iter().find_map(Named::account);
        let roots = || allows().flat_map(Statement::named).filter(|named| matches!(named, Named::Account(_)));
        let any = || allows().flat_map(Statement::named).find_map(Named::account);
        let account = own.or_else(|| roots().find_map(Named::account)).or_else(any).map(str::to_owned);
        Self { statements, roles, account, guard: Guard::new(statements), findings: Vec::new() }
    }

    fn run(&mut self) {
        let statements = self.statements;
        for statement in statements {
            if statement.is_inert() {
                self.warn(
                    "K-2",
                    "inert-statement",
                    Some(statement),
                    "it has no Action or no Resource and does nothing",
                    "complete it, or remove it",
                );
                continue;
            }
            self.measurements(statement);
            match statement.effect {
                Effect::Allow => self.allow(statement),
                Effect::Deny => self.deny(statement),
            }
        }
        self.whole();
    }

    /// What the policy lacks as a whole.
    fn whole(&mut self) {
        let statements = self.statements;
        let attested = statements.iter().filter(|statement| statement.effect == Effect::Allow);
        let mut demanded: Vec<Register> =
            attested.flat_map(|statement| measurement::demanded(statement).into_keys()).collect();
        demanded.sort_unstable();
        demanded.dedup();
        if demanded.is_empty() {
            self.error(
                "K-2",
                "nothing-attested",
                None,
                "no statement demands a recipient's attestation",
                "allow the enclave's role kms:Decrypt under kms:RecipientAttestation:PCR0, PCR1 and PCR2",
            );
        }
        let open: Vec<_> =
            OPENING.into_iter().filter(|action| !self.guard.closes_without_document(action)).collect();
        if !open.is_empty() {
            self.error(
                "K-2",
                "no-deny-outside-enclave",
                None,
                format!("nothing denies {} to everybody without a fitting document", open.join(", ")),
                "add a Deny for Principal \"*\" with StringNotEqualsIgnoreCase, one statement for each measurement",
            );
            return;
        }
        let unguarded = |register: &Register| {
            OPENING.iter().any(|action| !self.guard.closes_other_value(action, *register))
        };
        let unguarded: Vec<_> =
            demanded.into_iter().filter(unguarded).map(|register| register.to_string()).collect();
        if !unguarded.is_empty() {
            self.warn(
                "K-2",
                "deny-partial",
                None,
                format!("no deny of its own refuses another value of {}", unguarded.join(", ")),
                "add one Deny with one StringNotEqualsIgnoreCase for each measurement",
            );
        }
    }

    /// Conditions of one statement are joined by "and": a deny over several measurements fires only
    /// if all of them differ.
    fn deny(&mut self, statement: &Statement) {
        let about = |condition: &&super::condition::Condition| {
            Register::of(&condition.key).is_some() && condition.is_refusal()
        };
        if statement.conditions.iter().filter(about).count() > 1 {
            self.warn(
                "K-2",
                "deny-joined",
                Some(statement),
                "it denies only if all its measurements differ, not if one of them does",
                "make a Deny statement of its own for each measurement",
            );
        }
    }

    /// Whether this is the enclave's role, or may well be.
    fn is_runtime(&self, named: &Named) -> bool {
        match named {
            Named::Arn(_) => {
                self.roles.is_empty()
                    || self.roles.iter().any(|role| role.is_behind(named) || named.is_behind(role))
            }
            Named::Anybody | Named::Account(_) => true,
            Named::Service(_) => false,
        }
    }

    fn error(
        &mut self,
        requirement: &'static str,
        code: &'static str,
        statement: Option<&Statement>,
        text: impl Into<String>,
        advice: &'static str,
    ) {
        self.find(Severity::Error, requirement, code, statement, text.into(), advice);
    }

    fn warn(
        &mut self,
        requirement: &'static str,
        code: &'static str,
        statement: Option<&Statement>,
        text: impl Into<String>,
        advice: &'static str,
    ) {
        self.find(Severity::Warning, requirement, code, statement, text.into(), advice);
    }

    fn find(
        &mut self,
        severity: Severity,
        requirement: &'static str,
        code: &'static str,
        statement: Option<&Statement>,
        text: String,
        advice: &'static str,
    ) {
        let statement = statement.map(StatementId::of);
        self.findings.push(Finding { requirement, code, severity, statement, text, advice });
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requirement, code, severity, statement, text, advice } = self;
        write!(f, "{severity} {requirement} ({code}): ")?;
        if let Some(statement) = statement {
            write!(f, "{statement}: ")?;
        }
        write!(f, "{text}; {advice}")
    }
}
