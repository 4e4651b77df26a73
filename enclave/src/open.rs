//! Stage 3: commitment and header verified, the data key consumed; frames open one by one from here.

use adyton_shared::envelope::Opener;
use adyton_shared::message::Refusal;
use adyton_shared::{EncryptionContext, ErrorCode, KeyArn};

use crate::admit::Admitted;
use crate::kms::Lease;
use crate::unlock::Unlocked;

/// A job whose payload can be read, frame by frame.
pub struct Opened {
    pub(crate) admitted: Admitted,
    pub(crate) arn: KeyArn,
    pub(crate) frames: Opener,
    pub(crate) lease: Lease,
}

impl Unlocked {
    /// Checks the key's commitment and the header's tag.
    ///
    /// # Errors
    /// [`ErrorCode::PayloadTampered`].
    pub fn open(self) -> Result<Opened, Refusal> {
        let Self { admitted, header, arn, lease } = self;
        let frames = header
            .verify(lease.key(), &EncryptionContext::default())
            .map_err(|error| ErrorCode::from(&error))?;
        Ok(Opened { admitted, arn, frames, lease })
    }
}
