//! The closed list of codes that may leave the enclave.
//!
//! A number never changes its meaning and none is used twice. A code says which
//! promise was not kept, never anything about the data: the sentence that
//! belongs to it is fixed here. Checks whose difference would help an attacker
//! share one code: everything wrong inside an unwrapped key answer is
//! [`ErrorCode::KmsAnswerRejected`], every failed tag [`ErrorCode::PayloadTampered`].

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, $sentence:literal, $hint:literal; )+) => {
        /// Why the enclave refused, as a stable number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "u16", into = "u16")]
        #[non_exhaustive]
        pub enum ErrorCode { $( $(#[doc = $doc])+ $variant = $number, )+ }

        impl ErrorCode {
            /// Every code, in numerical order.
            pub const ALL: &[Self] = &[ $( Self::$variant, )+ ];

            /// The stable number.
            pub const fn number(self) -> u16 { self as u16 }

            /// The stable name, for scripts and logs.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )+ }
            }

            /// One sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $( Self::$variant => $sentence, )+ }
            }

            /// What to do about it.
            pub const fn hint(self) -> &'static str {
                match self { $( Self::$variant => $hint, )+ }
            }
        }

        impl TryFrom<u16> for ErrorCode {
            type Error = UnknownCode;
            fn try_from(number: u16) -> Result<Self, UnknownCode> {
                match number { $( $number => Ok(Self::$variant), )+ _ => Err(UnknownCode(number)) }
            }
        }
    };
}

codes! {
    // 1xx: transport
    /// A frame or control message is not of the protocol.
    MalformedMessage = 100, "malformed_message", "the enclave could not read a message", "is the other side of the same version?";
    /// A frame announced more bytes than allowed.
    FrameTooLarge = 101, "frame_too_large", "a frame is over the size limit", "is the other side of the same version?";
    /// A frame's checksum does not match: the transport changed bytes.
    CorruptFrame = 102, "corrupt_frame", "bytes were changed on the way", "send the job again; if it happens again, look at the host's vsock";
    /// A message came at a point of the conversation where it cannot come.
    UnexpectedMessage = 103, "unexpected_message", "a message came out of turn", "is the other side of the same version?";
    /// The protocol version is not spoken here.
    UnsupportedVersion = 104, "unsupported_version", "the enclave does not speak this protocol version", "use the parent program of the enclave's release";
    /// A deadline passed while waiting for the other side.
    DeadlineExceeded = 105, "deadline_exceeded", "the other side took too long", "send the job again";
    /// All permits are taken.
    Busy = 106, "busy", "the enclave is at its limit of concurrent work", "send the job again in a moment";
    /// The sender gave up.
    Cancelled = 107, "cancelled", "the sender cancelled the job", "nothing was let out; send the job again";

    // 2xx: admit
    /// The signed request is not well-formed.
    RequestMalformed = 200, "request_malformed", "the signed request is not well-formed", "is the signing program of the enclave's release?";
    /// No requester of that name is in the measured policy.
    RequesterUnknown = 201, "requester_unknown", "the policy does not know this requester", "`[[requester]]` in policy.toml lists names and keys";
    /// The request's signature does not verify.
    RequestSignature = 202, "request_signature", "the request's signature does not verify", "was it signed with the key that the policy lists for this requester?";
    /// The request's expiry has passed by the enclave's clock.
    RequestExpired = 203, "request_expired", "the request has expired", "sign and send it again; check the signer's clock";
    /// The request claims to be from the future or lives longer than allowed.
    RequestLifetime = 204, "request_lifetime", "the request is from the future or valid for too long", "check the signer's clock";
    /// A request of this id was seen before.
    RequestReplayed = 205, "request_replayed", "a request with this id was seen before", "each job needs a new id";
    /// The request was signed for another enclave.
    WrongEnclave = 206, "wrong_enclave", "the request was signed for another enclave", "attest again: the enclave may have been restarted";
    /// The job makes no sense: contradictory, missing or misplaced steps.
    JobInvalid = 207, "job_invalid", "the job's steps do not make sense together", "`adyton run --check` explains the job file line by line";
    /// No release rule lets this requester send this kind of result there.
    ReleaseNoRule = 208, "release_no_rule", "no release rule allows this result to this destination", "`[[release]]` in policy.toml lists what may leave";
    /// A field would leave that no release rule lists, or not with this treatment.
    ReleaseFieldRefused = 209, "release_field_refused", "a selected field is not in any release rule, or not with this treatment", "select only fields that the rule lists, masked where it says so";
    /// The memory of seen requests is full.
    ReplayMemoryFull = 210, "replay_memory_full", "too many unexpired requests are remembered", "wait until some have expired, or sign with a shorter lifetime";
    /// The requester has asked for as many aggregates of this object as the rule allows.
    AggregateBudgetSpent = 211, "aggregate_budget_spent", "the release rule allows no more aggregates of this object to this requester", "`budget` in the rule; it starts anew when the enclave does";
    /// The memory of who has asked for how many aggregates is full.
    BudgetMemoryFull = 212, "budget_memory_full", "too many requesters and objects are counted for aggregates", "the memory is emptied when the enclave starts";
    /// A step needs a named key that the policy does not define.
    KeyUnknown = 213, "key_unknown", "a step needs a key that the policy does not name", "`[keys]` in policy.toml lists named keys";
    /// A sealed request is not sealed to this enclave's key, or was changed on the way.
    SealedRequestUnopenable = 214, "sealed_request_unopenable", "the sealed request was not sealed to this enclave, or was changed on the way", "attest again: the enclave may have been restarted";

    // 3xx: unlock
    /// The payload's header is not an AWS Encryption SDK header.
    HeaderMalformed = 300, "header_malformed", "the payload is not an AWS Encryption SDK message", "encrypt it with `adyton encrypt` or an AWS Encryption SDK";
    /// The header is over a limit: size, number of encrypted data keys.
    HeaderTooLarge = 301, "header_too_large", "the payload's header is over a limit", "use fewer encrypted data keys or a shorter encryption context";
    /// The algorithm suite exists but the policy does not allow it.
    SuiteRefused = 302, "suite_refused", "the policy does not allow this algorithm suite", "encrypt with 0x0478 or 0x0578, or allow older suites in the policy";
    /// The encryption context lacks a pair or has another value than the policy says.
    ContextRefused = 303, "context_refused", "the encryption context is not what the policy demands", "compare the message's context with `[context]` in policy.toml";
    /// The encryption context differs from what the signed request claims.
    ClaimMismatch = 304, "claim_mismatch", "the payload is not the one that the request names", "the request's claims must equal the message's encryption context";
    /// The version in the encryption context is below the policy's floor or the request's claim.
    VersionTooOld = 305, "version_too_old", "the payload is older than allowed", "send the current version of the object";
    /// No encrypted data key of the message is under a key that the policy lists.
    NoAllowedKey = 306, "no_allowed_key", "no key of the message is in the policy", "`[kms] keys` in policy.toml lists key ARNs";
    /// KMS refused: key policy, IAM or grants.
    KmsAccessDenied = 310, "kms_access_denied", "KMS denied the use of the key", "does the key policy name this image's PCRs and the role?";
    /// KMS says that the wrapped key is not for this key or this encryption context.
    WrappedKeyRejected = 311, "wrapped_key_rejected", "the wrapped key does not belong to this payload", "the wrapped key was swapped or damaged on the way";
    /// The KMS key is disabled, being deleted, or gone.
    KmsKeyUnusable = 312, "kms_key_unusable", "the KMS key is disabled, pending deletion or does not exist", "`aws kms describe-key` shows its state";
    /// KMS throttled until the deadline.
    KmsThrottled = 313, "kms_throttled", "KMS throttled all attempts", "try again in a minute; the account's request quota is used up";
    /// KMS could not be reached, or failed until the deadline.
    KmsUnavailable = 314, "kms_unavailable", "KMS could not be reached", "is `adyton serve` running and the KMS endpoint in its allow-list?";
    /// KMS answered something that is not an answer to what was asked.
    KmsAnswerRejected = 315, "kms_answer_rejected", "KMS's answer does not fit the question", "something between enclave and KMS changes answers, or the endpoint is not KMS";
    /// KMS answered with plaintext although a recipient was named (K-1).
    KmsPlaintextRefused = 316, "kms_plaintext_refused", "KMS answered with a plaintext key instead of one sealed to the enclave", "the endpoint does not honour Recipient; nothing was used";
    /// The certificate of the endpoint does not verify against the measured roots.
    KmsTlsRejected = 317, "kms_tls_rejected", "the KMS endpoint's certificate does not verify against the measured roots", "does `[kms] endpoint` name the host, and `roots` its certificate authority?";
    /// The parent supplied no credentials.
    CredentialsUnavailable = 318, "credentials_unavailable", "the parent has no AWS credentials for the enclave", "`adyton serve` must run and find credentials (role, profile or environment)";
    /// KMS does not accept the credentials: expired, unknown or wrongly signed.
    CredentialsRejected = 319, "credentials_rejected", "KMS does not accept the credentials", "renew the parent's credentials; check that they belong to the key's account";

    /// The parent has no wrapped named key, or does not answer.
    NamedKeyUnavailable = 320, "named_key_unavailable", "the parent did not hand out a wrapped named key", "does `adyton serve --keys` name the folder, and is the file there? `adyton key new` makes it";
    /// What the parent handed out is not the named key of the policy: swapped, stale, foreign or damaged.
    NamedKeyRejected = 321, "named_key_rejected", "a wrapped named key is not the one that the policy names", "was it made with `adyton key new` under this policy's key and context?";

    // 4xx: open
    /// An authentication tag or the key commitment does not verify.
    PayloadTampered = 400, "payload_tampered", "the payload or its key was changed", "encrypt it again from the original";
    /// The message ends before its last frame or its footer.
    PayloadTruncated = 401, "payload_truncated", "the payload ends too early", "send the whole message";
    /// The frames are out of order, repeated or missing, or a length is impossible.
    PayloadMalformed = 402, "payload_malformed", "the payload's frames are not in order", "encrypt it again from the original";
    /// The footer's signature does not verify.
    PayloadSignature = 403, "payload_signature", "the payload's signature does not verify", "encrypt it again from the original";
    /// The payload is over the policy's limit.
    PayloadTooLarge = 404, "payload_too_large", "the payload is over the policy's limit", "`[limits] payload` in policy.toml";
    /// One frame, or an unframed message, is over the limit.
    PayloadFrameTooLarge = 405, "payload_frame_too_large", "a frame of the payload is larger than the enclave buffers", "encrypt with frames of 64 KiB";
    /// Bytes follow after the end of the message.
    PayloadTrailing = 406, "payload_trailing", "bytes follow after the end of the payload", "send exactly one message";

    // 5xx: compute
    /// A record is not of the declared format.
    RecordMalformed = 500, "record_malformed", "a record is not of the declared input format", "check the data against the job's `input`";
    /// A record is over the policy's limit.
    RecordTooLarge = 501, "record_too_large", "a record is over the policy's limit", "`[limits] record` in policy.toml";
    /// A record is nested too deeply.
    RecordTooDeep = 502, "record_too_deep", "a record is nested too deeply", "the limit is in docs/policy.md";
    /// A step met a value of a type that it cannot treat.
    FieldType = 503, "field_type", "a step met a value that it cannot treat", "docs/policy.md says which values each step takes";
    /// A column named by a step does not exist in the input.
    FieldMissing = 504, "field_missing", "a field named by a step does not exist", "compare the job's field names with the data";
    /// A filter's condition is neither true nor false for a record.
    FilterUndecided = 505, "filter_undecided", "a filter could not decide about a record", "guard fields that may be missing with has(); compare values of one type";
    /// A number has no exact form, or a calculation leaves the range of exact numbers.
    NumberInexact = 506, "number_inexact", "a number cannot be calculated with exactly", "numbers have 38 digits at most";
    /// An aggregate has more groups, or more values to hold, than the policy allows.
    TooManyGroups = 507, "too_many_groups", "the aggregate has more groups or values than the policy allows to be held", "`[limits] groups` and `group_bytes` in policy.toml, or group by a coarser field";

    // 6xx: release
    /// The result is over the policy's limit.
    ResultTooLarge = 600, "result_too_large", "the result is over the policy's limit", "`[limits] result` in policy.toml";

    /// KMS refused a data key under the KMS key that the result goes to.
    DestinationKeyDenied = 602, "destination_key_denied", "KMS denied a data key under the key that the result goes to", "does that key's policy allow kms:GenerateDataKey to this image and role, and, for another account, the role's IAM policy too?";

    // 9xx: the enclave itself
    /// A defect of the enclave; nothing was let out.
    Internal = 900, "internal", "the enclave failed; nothing was let out", "send the job again; report it if it happens again";
    /// The NSM refused or failed.
    AttestationUnavailable = 901, "attestation_unavailable", "the enclave could not get an attestation document", "send the job again; restart the enclave if it happens again";
    /// Attestation documents were asked for faster than they are issued.
    AttestationLimited = 902, "attestation_limited", "attestation documents are asked for too often", "wait a second";
    /// The nonce is too short, too long, or was used before.
    NonceRefused = 903, "nonce_refused", "the nonce is too short, too long or was used before", "send 16 to 512 fresh random bytes";
}

/// A number that is no code of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an error code")]
pub struct UnknownCode(pub u16);

impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        code.number()
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.number(), self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_and_names_are_unique_and_round_trip() {
        let mut names = HashSet::new();
        let mut last = 0;
        for code in ErrorCode::ALL {
            assert!(code.number() > last, "{code:?} is out of order");
            last = code.number();
            assert!(names.insert(code.name()));
            assert_eq!(ErrorCode::try_from(code.number()), Ok(*code));
        }
        assert_eq!(ErrorCode::try_from(0), Err(UnknownCode(0)));
    }
}
