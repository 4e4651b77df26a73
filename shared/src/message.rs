//! Control messages between parent and enclave: CBOR `[version, message]` in control frames.
//!
//! ```text
//! port 5000, the parent opens:    Attest → Document | Refused
//!                                 Job, data…, end → data…, end, Done | Refused
//!                                 SealedJob, data…, end → data…, end, SealedDone | Refused
//! port 8001, the enclave opens:   Want → Credentials | Unavailable
//! port 8002, the enclave opens:   Wrapped → Wrapped | Missing
//! ```
//!
//! A refusal can come at any time and ends the conversation.
//! Source: `docs/protocol.md` §3.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::cbor::{self, CborError};
use crate::error_code::ErrorCode;
use crate::id::{KeyName, Nonce};
use crate::policy::Source;

/// The version of the protocol that this release speaks.
pub const PROTOCOL_VERSION: u8 = 1;
/// The enclave listens here for jobs and challenges.
pub const JOB_PORT: u32 = 5000;
/// The parent listens here and forwards to KMS, in the shape of AWS's vsock-proxy.
pub const KMS_PORT: u32 = 8000;
/// The parent listens here and hands out short-lived credentials.
pub const CREDENTIALS_PORT: u32 = 8001;
/// The parent listens here and hands out wrapped named keys.
pub const KEYS_PORT: u32 = 8002;

/// What the parent says to the enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToEnclave {
    /// Asks for an identity document over a fresh nonce.
    Attest {
        /// The challenge.
        nonce: Nonce,
    },
    /// Starts a job; the payload follows in data frames.
    Job {
        /// The signed request, see [`crate::request`].
        request: ByteBuf,
    },
    /// Starts a job whose request the parent cannot read; the payload follows in data frames.
    SealedJob(SealedRequest),
}

/// A signed request, sealed to one enclave, see [`crate::sealed_request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRequest {
    /// The sender's ephemeral X25519 key (RFC 9180 §4, `enc`).
    #[serde(with = "serde_bytes")]
    pub encapsulated: [u8; 32],
    /// The ciphertext with its tag.
    pub sealed: ByteBuf,
}

/// What the enclave answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromEnclave {
    /// An attestation document that names the enclave's id.
    Document {
        /// As the NSM made it.
        document: ByteBuf,
    },
    /// The job is done; only now can the result be read.
    Done(Done),
    /// The same in answer to a sealed request: only its sender can read it.
    SealedDone {
        /// [`Done`] under the request's reply key, see [`crate::sealed_request::ReplyKey`].
        sealed: ByteBuf,
    },
    /// The enclave refuses; nothing was let out.
    Refused(Refusal),
}

/// The end of a successful job.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Opens the sealed result, see [`crate::result`].
    pub key: ResultKey,
    /// The signed receipt, see [`crate::receipt`].
    pub receipt: ByteBuf,
}

/// Why and where the enclave refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// What promise was not kept.
    pub code: ErrorCode,
    /// Which record, counted from 1, where that makes sense.
    pub record: Option<u64>,
    /// Which step, counted from 1, where that makes sense.
    pub step: Option<u16>,
    /// When it makes sense to try again, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, record: None, step: None, retry_after_ms: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(record) = self.record {
            write!(f, ", record {record}")?;
        }
        if let Some(step) = self.step {
            write!(f, ", step {step}")?;
        }
        Ok(())
    }
}

/// The one-time key of a sealed result. Wiped when dropped.
#[derive(PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct ResultKey(#[serde(with = "serde_bytes")] pub(crate) [u8; 32]);

impl fmt::Debug for ResultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResultKey(..)")
    }
}

/// What the enclave asks of the parent's credential service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToParent {
    /// Current credentials, please.
    Want {},
}

/// What the parent's credential service answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromParent {
    /// Credentials of the parent's role.
    Credentials(Credentials),
    /// The parent has none.
    Unavailable {},
}

/// What the enclave asks of the parent's service for named keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyQuestion {
    /// The wrapped key of this name, please.
    Wrapped {
        /// What the policy calls it.
        name: KeyName,
        /// Where the policy says that it is.
        source: Source,
    },
}

/// What the parent's service for named keys answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyAnswer {
    /// What is there; the enclave believes nothing of it.
    Wrapped {
        /// At most [`crate::limits::MAX_WRAPPED_KEY_BYTES`].
        blob: ByteBuf,
    },
    /// There is nothing, or it cannot be read.
    Missing {},
}

/// Short-lived AWS credentials. Wiped when dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Not secret.
    pub access_key_id: String,
    /// Secret.
    pub secret_access_key: String,
    /// Secret; absent for long-lived keys.
    pub session_token: Option<String>,
    /// When they expire, in milliseconds since 1970; absent for long-lived keys.
    pub expires_unix_ms: Option<u64>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Why a control message was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Another version of the protocol.
    #[error("protocol version {0} is not spoken here; this release speaks {PROTOCOL_VERSION}")]
    Version(u8),
    /// Not a message of this version.
    #[error("malformed control message")]
    Malformed(#[from] CborError),
}

impl From<&MessageError> for ErrorCode {
    fn from(error: &MessageError) -> Self {
        match error {
            MessageError::Version(_) => Self::UnsupportedVersion,
            MessageError::Malformed(_) => Self::MalformedMessage,
        }
    }
}

/// Encodes a message with the protocol's version.
///
/// # Errors
/// [`CborError::Unencodable`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, CborError> {
    cbor::encode(&(PROTOCOL_VERSION, message))
}

/// Decodes a message; the version is looked at before anything else.
///
/// # Errors
/// [`MessageError`].
pub fn decode<M: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<M, MessageError> {
    match bytes {
        // An array of two whose first item is a byte in its shortest form: any version's messages begin so.
        [0x82, version @ 0..=23, ..] | [0x82, 0x18, version @ 24..=0xff, ..]
            if *version != PROTOCOL_VERSION =>
        {
            Err(MessageError::Version(*version))
        }
        _ => {
            let (version, message): (u8, M) = cbor::decode(bytes)?;
            if version == PROTOCOL_VERSION { Ok(message) } else { Err(MessageError::Version(version)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_encodings_of_version_1() {
        let attest = ToEnclave::Attest { nonce: vec![7; 16].try_into().unwrap() };
        let bytes = encode(&attest).unwrap();
        let golden = [b"\x82\x01\xa1\x66attest\xa1\x65nonce\x50".as_slice(), &[7; 16]].concat();
        assert_eq!(bytes, golden);
        assert_eq!(decode::<ToEnclave>(&bytes), Ok(attest));
        let sealed = SealedRequest { encapsulated: [7; 32], sealed: ByteBuf::from(vec![9; 2]) };
        let bytes = encode(&ToEnclave::SealedJob(sealed.clone())).unwrap();
        let golden = [
            &b"\x82\x01\xa1\x6asealed_job\xa2\x6cencapsulated\x58\x20"[..],
            &[7; 32],
            b"\x66sealed\x42\x09\x09",
        ];
        assert_eq!(bytes, golden.concat());
        assert_eq!(decode::<ToEnclave>(&bytes), Ok(ToEnclave::SealedJob(sealed)));
        let refused = FromEnclave::Refused(ErrorCode::Busy.into());
        let bytes = encode(&refused).unwrap();
        assert_eq!(
            bytes,
            b"\x82\x01\xa1\x67refused\xa4\x64code\x18\x6a\x66record\xf6\x64step\xf6\x6eretry_after_ms\xf6"
        );
        assert_eq!(decode::<FromEnclave>(&bytes), Ok(refused));
    }

    #[test]
    fn golden_question_for_a_named_key() {
        let question = KeyQuestion::Wrapped {
            name: "token".parse().unwrap(),
            source: "file:token.key".parse().unwrap(),
        };
        let bytes = encode(&question).unwrap();
        let golden = b"\x82\x01\xa1\x67wrapped\xa2\x64name\x65token\x66source\x6efile:token.key";
        assert_eq!(bytes, golden);
        assert_eq!(decode::<KeyQuestion>(&bytes), Ok(question));
        // S-4: a name that leads out of the folder is no message at all.
        let path = [&golden[..golden.len() - 14], b"\x6efile:../ok.key"].concat();
        assert!(matches!(decode::<KeyQuestion>(&path), Err(MessageError::Malformed(_))));
    }

    #[test]
    fn another_version_is_named_before_its_content_is_read() {
        assert_eq!(decode::<ToEnclave>(b"\x82\x02\xff"), Err(MessageError::Version(2)));
        assert!(matches!(decode::<ToEnclave>(b"\x82\x01\xa1\x64stop\xa0"), Err(MessageError::Malformed(_))));
    }

    #[test]
    fn secrets_are_unprintable() {
        let credentials = Credentials {
            access_key_id: "AKIAEXAMPLE".into(),
            secret_access_key: "hidden".into(),
            session_token: Some("hidden".into()),
            expires_unix_ms: None,
        };
        let text = format!("{credentials:?} {:?}", ResultKey([0xAB; 32]));
        assert!(!text.contains("hidden") && !text.contains("171") && !text.contains("ab"), "{text}");
    }
}
