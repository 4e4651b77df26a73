//! Checks a receipt: with nothing but the file, a trust root and expected measurements.

use adyton_shared::id::{EnclaveId, JobId, PolicyDigest, RequesterName, Sha256Digest};
use adyton_shared::limits::CLOCK_SKEW_SECONDS;
use adyton_shared::receipt::{Receipt, UnverifiedReceipt};
use adyton_verifier::attestation::{Document, Expectations, TrustAnchor, Verified, verify_archived};

use super::ClientError;
use super::identity::{Identity, identity};

const SKEW_MS: u64 = CLOCK_SKEW_SECONDS * 1000;

/// A receipt whose signature, document and measurements have been verified.
#[derive(Debug, Clone)]
pub struct VerifiedReceipt {
    /// What it says.
    pub receipt: Receipt,
    /// Which enclave signed it.
    pub enclave: EnclaveId,
    /// The document that vouches for the enclave.
    pub document: Verified<Document>,
}

/// What else a receipt must say; what is `None` is not compared.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// The enclave that was challenged.
    pub enclave: Option<EnclaveId>,
    /// The job's id.
    pub job: Option<JobId>,
    /// Who asked.
    pub requester: Option<RequesterName>,
    /// The policy that must have been in force.
    pub policy: Option<PolicyDigest>,
    /// What was asked for.
    pub job_digest: Option<Sha256Digest>,
    /// What was sent: digest and length in bytes.
    pub input: Option<(Sha256Digest, u64)>,
    /// What came back: digest and length in bytes.
    pub output: Option<(Sha256Digest, u64)>,
}

/// Verifies a receipt at its document's own time.
///
/// # Errors
/// [`ClientError`] says what is not as it should be.
pub fn verify_receipt(
    bytes: &[u8],
    anchor: &TrustAnchor,
    expectations: &Expectations,
    claims: &Claims,
) -> Result<VerifiedReceipt, ClientError> {
    let unverified = UnverifiedReceipt::parse(bytes)?;
    let document = verify_archived(unverified.document(), anchor, expectations)?;
    let Identity { id: enclave, policy, .. } = identity(&document)?;
    let receipt = unverified.verify(&enclave)?;
    if receipt.policy != policy {
        return Err(ClientError::ReceiptMismatch("policy"));
    }
    // Signed while the document could still be used, and not before it was made (T-7).
    if receipt.finished.saturating_add(SKEW_MS) < document.timestamp.0 {
        return Err(ClientError::ReceiptMismatch("time than its document's"));
    }
    if receipt.finished > document.leaf_not_after.0.saturating_add(SKEW_MS) {
        return Err(ClientError::ReceiptMismatch("time than its document's"));
    }
    compare(&receipt, enclave, claims)?;
    Ok(VerifiedReceipt { receipt, enclave, document })
}

fn compare(receipt: &Receipt, enclave: EnclaveId, claims: &Claims) -> Result<(), ClientError> {
    let Claims { enclave: wanted, job, requester, policy, job_digest, input, output } = claims;
    let differs = |what| Err(ClientError::ReceiptMismatch(what));
    if wanted.is_some_and(|wanted| wanted != enclave) {
        return differs("enclave");
    }
    if job.is_some_and(|job| job != receipt.job) {
        return differs("job");
    }
    if requester.as_ref().is_some_and(|requester| *requester != receipt.requester) {
        return differs("requester");
    }
    if policy.is_some_and(|policy| policy != receipt.policy) {
        return differs("policy");
    }
    if job_digest.is_some_and(|digest| digest != receipt.job_digest) {
        return differs("job definition");
    }
    if input.is_some_and(|input| input != (receipt.input_digest, receipt.input_bytes)) {
        return differs("input");
    }
    if output.is_some_and(|output| output != (receipt.output_digest, receipt.output_bytes)) {
        return differs("output");
    }
    Ok(())
}
