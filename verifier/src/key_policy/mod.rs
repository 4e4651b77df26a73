//! Evaluates KMS key policies.
