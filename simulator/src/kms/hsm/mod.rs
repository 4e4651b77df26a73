//! Keys that live in a hardware security module, reached through its PKCS#11 library.
//!
//! The file `hsm.toml` says which clusters there are. Key material is generated inside, marked
//! sensitive and not extractable, and never seen here: encryption, decryption and random bytes are
//! asked for, answers come back. The mechanisms are those that `SoftHSM` and AWS's `CloudHSM` library
//! share: `CKM_AES_KEY_GEN`, `CKM_AES_GCM`, `C_GenerateRandom`.
//!
//! It trusts the library with everything: it runs in this process. It does not trust the module to be
//! there: whatever goes away is [`HsmError::Unreachable`], and is looked for again by the next call.

mod cluster;
mod config;
mod gcm;
mod library;
mod permits;

use cryptoki::error::{Error, RvError};
use zeroize::Zeroizing;

pub(super) use cluster::{Cluster, Object};
pub(super) use config::{Clusters, parse_anchor};

/// The password of the crypto user, as the key store was given it.
pub(super) type Password = Zeroizing<String>;

/// What an HSM did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HsmError {
    /// Library, token or session is gone, or all sessions are busy.
    #[error("the HSM does not answer")]
    Unreachable,
    /// A session, login or handle is no longer valid; a new one may be.
    #[error("the session with the HSM has ended")]
    Stale,
    /// The HSM holds no such key.
    #[error("the HSM has no such key")]
    NoSuchKey,
    /// The password is wrong.
    #[error("the HSM refuses the password")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("the user of the HSM is locked out")]
    LockedOut,
    /// There is no such user, or it has no password yet.
    #[error("the HSM has no such user")]
    NoSuchUser,
    /// Another user is logged in through this library.
    #[error("another user of the HSM is logged in")]
    OtherUser,
    /// The token lacks a mechanism, or does not keep keys as it must.
    #[error("the HSM cannot do what is asked for")]
    Unsuitable,
    /// The ciphertext is not one of this key and data.
    #[error("the HSM does not open the ciphertext")]
    NotOpened,
}

impl From<Error> for HsmError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Pkcs11(code, _) => of_code(*code),
            _ => Self::Unreachable,
        };
        // Function and code; never arguments.
        tracing::debug!(%error, "the PKCS#11 library refused a call");
        kind
    }
}

fn of_code(code: RvError) -> HsmError {
    use RvError as Code;
    match code {
        Code::PinIncorrect | Code::PinInvalid | Code::PinLenRange => HsmError::WrongPassword,
        Code::PinLocked | Code::PinExpired => HsmError::LockedOut,
        Code::UserPinNotInitialized | Code::UserTypeInvalid => HsmError::NoSuchUser,
        Code::UserAnotherAlreadyLoggedIn | Code::UserTooManyTypes => HsmError::OtherUser,
        Code::MechanismInvalid
        | Code::MechanismParamInvalid
        | Code::FunctionNotSupported
        | Code::KeySizeRange
        | Code::KeyFunctionNotPermitted
        | Code::KeyTypeInconsistent
        | Code::TemplateIncomplete
        | Code::TemplateInconsistent
        | Code::AttributeReadOnly
        | Code::AttributeTypeInvalid
        | Code::AttributeValueInvalid
        | Code::TokenWriteProtected => HsmError::Unsuitable,
        Code::EncryptedDataInvalid | Code::EncryptedDataLenRange => HsmError::NotOpened,
        Code::SessionClosed
        | Code::SessionHandleInvalid
        | Code::UserNotLoggedIn
        | Code::KeyHandleInvalid
        | Code::ObjectHandleInvalid => HsmError::Stale,
        _ => HsmError::Unreachable,
    }
}
