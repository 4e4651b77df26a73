//! AWS KMS key policies: read, evaluated for one request, linted, and rendered for an enclave. The
//! language is that of IAM identity policies, too, which are read and evaluated beside them.
//!
//! For the local KMS, which must say no for the reason that AWS would, and for
//! a user who wants to know why a request was refused. Nothing here is trusted
//! by the enclave. Where AWS documents no behaviour, the stricter one is taken:
//! a policy refused here may work there, never the other way round.
//!
//! Each policy is evaluated alone. How they add up, with grants and service control
//! policies, is the caller's: [`Decision::DelegatedToIam`] says that the key
//! policy leaves the answer to IAM.
//!
//! Decided here, because AWS does not say:
//! - Measurements are compared as KMS writes them: hexadecimal digits without `0x`. A policy with
//!   `0x` parses and never matches; the trace says so.
//! - A key with several values under an operator without `ForAnyValue` or `ForAllValues` equals
//!   nothing. Two encryption context pairs that differ only in case are such a key.
//! - `NotPrincipal` spares a caller only if its account, role and session are all listed.
//! - Element and operator names are taken in AWS's spelling only; empty lists, `BinaryEquals` and
//!   federated principals are refused.
//!
//! Sources: KMS Developer Guide, "Key policies in AWS KMS"; IAM User Guide,
//! "IAM JSON policy element reference" and "Condition operators".

mod condition;
mod context;
mod decision;
mod document;
mod identity;
mod json;
mod lint;
mod operator;
mod pattern;
mod principal;
mod render;
mod statement;

pub use context::ConditionContext;
pub use decision::{Decision, Delegation, Mismatch, StatementId, StatementTrace, Verdict};
pub use document::{KeyPolicy, MAX_KEY_POLICY_BYTES, PolicyError};
pub use identity::{IdentityDecision, IdentityPolicy, IdentityRequest, MAX_IDENTITY_POLICY_BYTES};
pub use lint::{Finding, RuntimeRole, Severity};
pub use principal::{Principal, PrincipalError};
pub use render::{Measurement, MeasurementError, RecipientOnly, RenderError};
pub use statement::{Effect, Request};
