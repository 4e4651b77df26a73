//! Stage 3: commitment and header verified, the data key consumed; frames open one by one from here.

use adyton_shared::envelope::Opener;
use adyton_shared::frame::FrameWriter;
use adyton_shared::message::Refusal;
use adyton_shared::{EncryptionContext, ErrorCode, KeyArn};
use tokio::io::AsyncWrite;

use crate::admit::Admitted;
use crate::boot::Enclave;
use crate::kms::Lease;
use crate::named_keys::NamedKeys;
use crate::release::Gate;
use crate::sink::Sink;
use crate::unlock::Unlocked;

/// A job whose payload can be read, frame by frame.
pub struct Opened {
    pub(crate) admitted: Admitted,
    pub(crate) arn: KeyArn,
    /// The payload's own, verified.
    pub(crate) context: EncryptionContext,
    pub(crate) frames: Opener,
    pub(crate) lease: Lease,
    pub(crate) named_keys: NamedKeys,
}

impl Unlocked {
    /// Checks the key's commitment and the header's tag.
    ///
    /// # Errors
    /// [`ErrorCode::PayloadTampered`].
    pub fn open(self) -> Result<Opened, Refusal> {
        let Self { admitted, header, arn, lease, named_keys } = self;
        let context = header.context().clone();
        let frames = header
            .verify(lease.key(), &EncryptionContext::default())
            .map_err(|error| ErrorCode::from(&error))?;
        Ok(Opened { admitted, arn, context, frames, lease, named_keys })
    }
}

impl Opened {
    /// The gate through which the result will leave, for where the job wants it.
    ///
    /// # Errors
    /// What KMS says about a destination's key, or [`ErrorCode::Internal`].
    pub async fn gate<'a, W: AsyncWrite + Unpin>(
        &self,
        enclave: &Enclave,
        output: &'a mut FrameWriter<W>,
    ) -> Result<Gate<'a, W>, Refusal> {
        let Admitted { request, pad, .. } = &self.admitted;
        let sink = Sink::begin(&request.job.to, *pad, &self.context, &enclave.keys).await?;
        Gate::new(output, request.id, enclave.policy.limits.result, sink)
    }
}
