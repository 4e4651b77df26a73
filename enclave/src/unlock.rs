//! Stage 2: the header against policy and claims, then the data key from KMS.
//!
//! Nothing in the header is authenticated yet; it is only compared. KMS authenticates the context
//! with the wrapped key, the next stage authenticates all of it with the data key.

use adyton_shared::envelope::{Parsed, UnverifiedHeader};
use adyton_shared::message::Refusal;
use adyton_shared::{EncryptionContext, ErrorCode, KeyArn};
use tokio::io::AsyncRead;

use crate::admit::{Admitted, context_code};
use crate::boot::Enclave;
use crate::kms::Lease;
use crate::named_keys::NamedKeys;
use crate::payload::Payload;
use crate::replay::{BudgetRefusal, Object};

/// An admitted job with the data key of its payload. Nothing before or after holds one.
pub struct Unlocked {
    pub(crate) admitted: Admitted,
    pub(crate) header: UnverifiedHeader,
    pub(crate) arn: KeyArn,
    pub(crate) lease: Lease,
    pub(crate) named_keys: NamedKeys,
}

impl Admitted {
    /// Reads the payload's header, and has its key and the keys that the steps name released.
    ///
    /// # Errors
    /// A [`Refusal`] with a code of 3xx, [`ErrorCode::AggregateBudgetSpent`] or [`ErrorCode::BudgetMemoryFull`].
    pub async fn unlock<R: AsyncRead + Unpin>(
        self,
        enclave: &Enclave,
        payload: &mut Payload<'_, R>,
    ) -> Result<Unlocked, Refusal> {
        let header = read_header(payload).await?;
        let policy = &enclave.policy;
        if !header.suite().is_committing() && !policy.allow_non_committing {
            return Err(ErrorCode::SuiteRefused.into());
        }
        policy.context.check(header.context(), &self.request.claims).map_err(context_code)?;
        let (arn, wrapped) = header.select_kms_key(&policy.kms.keys).ok_or(ErrorCode::NoAllowedKey)?;
        let lease = enclave
            .keys
            .data_key(&arn, wrapped, header.context())
            .await
            .map_err(|error| Refusal { retry_after_ms: error.retry_after_ms(), ..error.code().into() })?;
        self.spend(enclave, header.context())?;
        let names = self.request.job.keys();
        let named_keys =
            NamedKeys::open(names, &policy.keys, enclave.sources.as_ref(), &enclave.keys).await?;
        Ok(Unlocked { admitted: self, header, arn, lease, named_keys })
    }
}

impl Admitted {
    /// Spends one aggregate of this object, once KMS has vouched for the context that names it: what a request
    /// claims costs nothing and is not remembered. Spent for good, because a job that fails tells something too.
    fn spend(&self, enclave: &Enclave, context: &EncryptionContext) -> Result<(), ErrorCode> {
        let Some(budget) = self.budget else { return Ok(()) };
        let pair = |name| context.value(name).unwrap_or_default();
        let object = Object { tenant: pair("tenant"), name: pair("object") };
        enclave.replay.spend(&self.request.requester, object, budget).map_err(|refusal| match refusal {
            BudgetRefusal::Spent => ErrorCode::AggregateBudgetSpent,
            BudgetRefusal::Full => ErrorCode::BudgetMemoryFull,
        })
    }
}

async fn read_header<R: AsyncRead + Unpin>(
    payload: &mut Payload<'_, R>,
) -> Result<UnverifiedHeader, Refusal> {
    loop {
        match UnverifiedHeader::parse(payload.bytes()).map_err(|error| ErrorCode::from(&error))? {
            Parsed::Complete { header, length } => {
                payload.consume(length);
                return Ok(*header);
            }
            Parsed::Incomplete { need_at_least } => {
                if !payload.fill(need_at_least).await? {
                    return Err(ErrorCode::HeaderMalformed.into());
                }
            }
        }
    }
}
