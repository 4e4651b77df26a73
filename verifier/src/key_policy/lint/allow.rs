//! What a statement gives away, and to whom.

use super::super::condition::Condition;
use super::super::principal::Named;
use super::super::statement::Statement;
use super::{Linter, OPENING, measurement};

/// What yields plaintext of new keys. To data owners it is harmless, to the enclave's role it is
/// a way around attestation.
const YIELDING: [&str; 2] = ["kms:GenerateDataKey", "kms:GenerateDataKeyPair"];
/// What uses the key at all.
const USING: [&str; 7] = [
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];
/// What somebody who runs the enclave should leave to somebody who does not.
const CARING: [&str; 7] = [
    "kms:CancelKeyDeletion",
    "kms:DeleteImportedKeyMaterial",
    "kms:DisableKey",
    "kms:ImportKeyMaterial",
    "kms:ReplicateKey",
    "kms:ScheduleKeyDeletion",
    "kms:UpdatePrimaryRegion",
];
/// No action; only `*` and its like take it in.
const ANY_ACTION: &str = "kms:WhateverComesNext";
const ACCOUNT_KEYS: [&str; 3] = ["kms:CallerAccount", "aws:PrincipalAccount", "aws:PrincipalOrgID"];
const VPC_KEYS: [&str; 3] = ["aws:SourceVpce", "aws:SourceVpc", "aws:VpceAccount"];
/// Conditions that say which grants may be made.
const GRANT_KEYS: [&str; 3] = ["kms:GrantOperations", "kms:GranteePrincipal", "kms:GrantIsForAWSResource"];

fn is_one_of(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|known| known.eq_ignore_ascii_case(key))
}

fn demands(statement: &Statement, keys: &[&str]) -> bool {
    let demand = |condition: &Condition| is_one_of(&condition.key, keys) && condition.is_demand();
    statement.conditions.iter().any(demand)
}

impl Linter<'_> {
    pub(super) fn allow(&mut self, statement: &Statement) {
        if measurement::demanded(statement).is_empty() {
            self.unattested(statement);
        }
        self.delegation(statement);
        self.management(statement);
        self.grants(statement);
        self.strangers(statement);
        self.network(statement);
    }

    fn unattested(&mut self, statement: &Statement) {
        let only_accounts = statement.named().iter().all(|named| matches!(named, Named::Account(_)));
        let acts = |action: &&str| statement.acts(action);
        // What is delegated to IAM and denied outside the enclave stays denied.
        let excused = |action: &&str| only_accounts && self.guard.closes_without_document(action);
        let opens: Vec<_> = OPENING
            .into_iter()
            .chain(["kms:DeriveSharedSecret"])
            .filter(acts)
            .filter(|action| {
                // Of other keys than those for encryption, and a matter of them alone.
                let is_other = *action == "kms:DeriveSharedSecret" && only_accounts;
                !is_other && !excused(action)
            })
            .collect();
        if !opens.is_empty() {
            self.error(
                "K-2",
                "opens-unattested",
                Some(statement),
                format!("it allows {} without a recipient's attestation", opens.join(", ")),
                "demand kms:RecipientAttestation:PCR0, PCR1 and PCR2, or leave these actions out",
            );
        }
        let runtime = statement.named().iter().any(|named| self.is_runtime(named));
        let yields: Vec<_> = YIELDING
            .into_iter()
            .filter(acts)
            .filter(|action| !self.guard.closes_without_document(action))
            .collect();
        if runtime && !only_accounts && !yields.is_empty() {
            self.error(
                "K-2",
                "data-key-unattested",
                Some(statement),
                format!(
                    "it allows the enclave's role {} without a recipient's attestation",
                    yields.join(", ")
                ),
                "demand kms:RecipientAttestation:PCR0, PCR1 and PCR2, or name the data owners alone",
            );
        }
    }

    fn delegation(&mut self, statement: &Statement) {
        let accounts = statement.named().iter().filter(|named| matches!(named, Named::Account(_)));
        let Some(account) = accounts.map(ToString::to_string).next() else { return };
        let mut open: Vec<_> = OPENING
            .into_iter()
            .filter(|action| statement.acts(action) && !self.guard.closes_without_document(action))
            .collect();
        if statement.acts("kms:CreateGrant") && !self.guard.forbids("kms:CreateGrant") {
            open.push("kms:CreateGrant");
        }
        if !open.is_empty() {
            self.error(
                "K-3",
                "root-delegation",
                Some(statement),
                format!(
                    "it leaves {} to the IAM policies of {account}, and nothing denies it",
                    open.join(", ")
                ),
                "name who may do what instead, or deny these actions to everybody outside the enclave",
            );
        }
    }

    fn management(&mut self, statement: &Statement) {
        let runtime = statement
            .named()
            .iter()
            .find(|named| matches!(named, Named::Arn(_)) && !self.roles.is_empty() && self.is_runtime(named));
        let only_accounts = statement.named().iter().all(|named| matches!(named, Named::Account(_)));
        if statement.acts(ANY_ACTION) {
            let (text, advice) = (
                "it allows kms:* or its like, actions that do not exist yet included",
                "name the actions one by one",
            );
            if only_accounts {
                self.warn("K-3", "all-actions", Some(statement), text, advice);
            } else {
                self.error("K-3", "all-actions", Some(statement), text, advice);
            }
        }
        let Some(role) = runtime.cloned() else { return };
        for (action, code) in [("kms:CreateGrant", "runtime-grants"), ("kms:PutKeyPolicy", "runtime-policy")]
        {
            if statement.acts(action) && !self.guard.forbids(action) {
                self.error(
                    "K-3",
                    code,
                    Some(statement),
                    format!("it allows {action} to {role}, whom the enclave's parent speaks for"),
                    "give it to an administrator who does not run the enclave",
                );
            }
        }
        let cares: Vec<_> = CARING.into_iter().filter(|action| statement.acts(action)).collect();
        if !cares.is_empty() {
            self.warn(
                "K-3",
                "runtime-administration",
                Some(statement),
                format!("it allows {} to {role}, whom the enclave's parent speaks for", cares.join(", ")),
                "give it to an administrator who does not run the enclave",
            );
        }
    }

    fn grants(&mut self, statement: &Statement) {
        let runtime = |named: &Named| !self.roles.is_empty() && self.is_runtime(named);
        let somebody_else = |named: &Named| matches!(named, Named::Arn(_)) && !runtime(named);
        // CreateGrant always has these keys, so ForAllValues bounds it, too.
        let bounds =
            |condition: &Condition| is_one_of(&condition.key, &GRANT_KEYS) && !condition.operator.negated;
        let bounded = statement.conditions.iter().any(bounds);
        if statement.acts("kms:CreateGrant")
            && statement.named().iter().any(somebody_else)
            && !self.guard.forbids("kms:CreateGrant")
            && !bounded
        {
            self.warn(
                "K-3",
                "grants",
                Some(statement),
                "it allows grants of any kind, which give rights that no policy shows",
                "deny kms:CreateGrant to everybody, or say which with kms:GrantOperations and kms:GranteePrincipal",
            );
        }
    }

    fn strangers(&mut self, statement: &Statement) {
        let bound = demands(statement, &ACCOUNT_KEYS);
        if statement.named().contains(&Named::Anybody) {
            let (text, advice) = (
                "it names everybody; what IAM allows in other accounts, it allows as well",
                "name roles and users by their ARNs",
            );
            if bound {
                self.warn("K-17", "everybody", Some(statement), text, advice);
            } else {
                self.error("K-17", "everybody", Some(statement), text, advice);
            }
        }
        let foreign =
            |named: &&Named| named.account().is_some_and(|own| Some(own) != self.account.as_deref());
        if let Some(stranger) = statement.named().iter().find(foreign) {
            let text = format!("it names {stranger}, of another account than the enclave's");
            self.error(
                "K-17",
                "other-account",
                Some(statement),
                text,
                "name principals of the key's own account alone",
            );
        }
        let uses: Vec<_> = USING.into_iter().filter(|action| statement.acts(action)).collect();
        let closed = |action: &&str| self.guard.closes(action, |key| is_one_of(key, &ACCOUNT_KEYS));
        if !bound && !uses.is_empty() && !uses.iter().all(closed) {
            self.error(
                "K-17",
                "no-account-condition",
                Some(statement),
                "it has no condition on the caller's account",
                "add StringEquals kms:CallerAccount",
            );
        }
    }

    fn network(&mut self, statement: &Statement) {
        let opens = statement.acts("kms:Decrypt");
        let closed = self.guard.closes("kms:Decrypt", |key| is_one_of(key, &VPC_KEYS));
        if opens && !closed && !demands(statement, &VPC_KEYS) {
            self.warn(
                "K-17",
                "no-vpc-condition",
                Some(statement),
                "it has no condition on the VPC endpoint; stolen credentials work from anywhere",
                "add StringEquals aws:SourceVpce, and a Deny with StringNotEquals",
            );
        }
    }
}
