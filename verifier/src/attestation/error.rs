//! Why a document is refused.
//!
//! A closed list: each variant has a stable code for scripts and a sentence for
//! people that ends in what to do. Nothing here is secret; documents are public.

use super::cbor::CborError;
use super::chain::CertificatePlace;
use super::document::Pcr;
use super::time::UnixMillis;

/// A part of a document that is encoded on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The `COSE_Sign1` around everything.
    Envelope,
    /// The signed map.
    Payload,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Envelope => "envelope (COSE_Sign1)",
            Self::Payload => "payload",
        })
    }
}

macro_rules! errors {
    ($( $(#[$meta:meta])* $variant:ident $({ $( $(#[$field_meta:meta])* $field:ident : $type:ty ),* $(,)? })? = $code:literal; )+) => {
        /// Why a document is refused.
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        pub enum AttestationError {
            $( $(#[$meta])* $variant $({ $( $(#[$field_meta])* $field: $type ),* })?, )+
        }

        impl AttestationError {
            /// Every code, in the order of the stages.
            pub const CODES: &[&str] = &[ $( $code, )+ ];

            /// The stable name of this refusal, for scripts and logs.
            pub const fn code(&self) -> &'static str {
                match self { $( Self::$variant $({ $( $field: _ ),* })? => $code, )+ }
            }
        }
    };
}

errors! {
    // Form (V-1, V-2)
    /// Longer than a device's answer can be.
    #[error("{bytes} bytes are over the limit of {} for a document; is this the right file?", adyton_shared::limits::MAX_ATTESTATION_BYTES)]
    Oversize {
        /// Length in bytes.
        bytes: usize,
    } = "oversize";
    /// Not the CBOR of a document.
    #[error("the {part} is malformed: {error}; pass the raw bytes of the document, not hex or base64")]
    Malformed {
        /// Which part.
        part: Part,
        /// Where in it, and what.
        error: CborError,
    } = "malformed";
    /// The outermost array is not that of `COSE_Sign1`.
    #[error("not a COSE_Sign1 structure of four parts; pass the raw bytes of the document")]
    NotSign1 = "not_sign1";
    /// The protected header is not exactly `{1: -35}`.
    #[error("the protected header is not exactly ES384; no Nitro device signs like this, do not trust the sender")]
    ProtectedHeader = "protected_header";
    /// The unprotected header says something.
    #[error("the unprotected header is not empty; no Nitro device signs like this, do not trust the sender")]
    UnprotectedHeader = "unprotected_header";
    /// The signature is not one of P-384.
    #[error("a signature of {bytes} bytes is not one of ES384, which has 96; get the document again")]
    SignatureLength {
        /// Length in bytes.
        bytes: usize,
    } = "signature_length";

    // Fields (V-4)
    /// A mandatory field is not there.
    #[error("the document has no {field}; no Nitro device leaves it out, do not trust the sender")]
    FieldMissing {
        /// Name of the field.
        field: &'static str,
    } = "field_missing";
    /// A mandatory field is null.
    #[error("the field {field} is null; only public_key, user_data and nonce may be, do not trust the sender")]
    FieldNull {
        /// Name of the field.
        field: &'static str,
    } = "field_null";
    /// A field's length or count is outside what AWS documents.
    #[error("the field {field} has a length of {length}, allowed are {least} to {most}; do not trust the sender")]
    FieldLength {
        /// Name of the field.
        field: &'static str,
        /// Bytes, or entries.
        length: usize,
        /// Fewest allowed.
        least: usize,
        /// Most allowed.
        most: usize,
    } = "field_length";
    /// The PCRs were made with another digest than SHA-384.
    #[error("the PCRs' digest is not SHA384; no Nitro device of today uses another, do not trust the sender")]
    Digest = "digest";
    /// A PCR index is outside 0 to 31.
    #[error("there is no PCR {index}, indices end at 31; do not trust the sender")]
    PcrIndex {
        /// The index.
        index: u64,
    } = "pcr_index";
    /// A PCR's value has a length that no digest has.
    #[error("PCR{index} has {bytes} bytes, allowed are 32, 48 and 64; do not trust the sender")]
    PcrLength {
        /// The index.
        index: u8,
        /// Length in bytes.
        bytes: usize,
    } = "pcr_length";

    // Chain (V-3)
    /// The trust anchor itself cannot be one.
    #[error("the root cannot be used: {reason}; pass one PEM certificate of a P-384 CA")]
    Anchor {
        /// What is wrong with it.
        reason: &'static str,
    } = "anchor";
    /// The bundle does not begin with the pinned root.
    #[error("the document comes from another root (SHA-256 {found}); for a simulated enclave name its root, otherwise do not trust the sender")]
    WrongRoot {
        /// SHA-256 of the certificate that the bundle begins with, in hexadecimal.
        found: String,
    } = "wrong_root";
    /// A certificate cannot be read, or says something that no certificate of a Nitro chain says.
    #[error("the {place} is not acceptable: {reason}; do not trust the sender")]
    Certificate {
        /// Which one.
        place: CertificatePlace,
        /// What is wrong with it.
        reason: &'static str,
    } = "certificate";
    /// A certificate's validity has ended.
    #[error("the {place} expired at {not_after}, and the time to judge at is {at}; documents live about three hours: ask for a fresh one, or judge an archived one at its own time")]
    Expired {
        /// Which one.
        place: CertificatePlace,
        /// End of its validity.
        not_after: UnixMillis,
        /// The time to judge at.
        at: UnixMillis,
    } = "expired";
    /// A certificate's validity has not begun.
    #[error("the {place} is valid from {not_before} on, and the time to judge at is {at}; is the clock right?")]
    NotYetValid {
        /// Which one.
        place: CertificatePlace,
        /// Begin of its validity.
        not_before: UnixMillis,
        /// The time to judge at.
        at: UnixMillis,
    } = "not_yet_valid";
    /// The leaf is a CA certificate.
    #[error("the document is signed with a CA certificate; do not trust the sender")]
    CaLeaf = "ca_leaf";
    /// A certificate that issues others is not a CA's.
    #[error("the {place} issues a certificate but is not a CA; do not trust the sender")]
    NotACa {
        /// Which one.
        place: CertificatePlace,
    } = "not_a_ca";
    /// The key usage does not allow what the certificate does.
    #[error("the key usage of the {place} lacks {needed}; do not trust the sender")]
    KeyUsage {
        /// Which one.
        place: CertificatePlace,
        /// The usage that is needed.
        needed: &'static str,
    } = "key_usage";
    /// A key or signature is not ECDSA on P-384 with SHA-384.
    #[error("the {place} is not ECDSA on P-384 with SHA-384; do not trust the sender")]
    Algorithm {
        /// Which one.
        place: CertificatePlace,
    } = "algorithm";
    /// More certificates than a path may have.
    #[error("the chain is longer than its certificates allow; do not trust the sender")]
    PathTooLong = "path_too_long";
    /// The certificates do not lead from the leaf to the root.
    #[error("the certificates do not lead from the root to the leaf, each issued by the one before; was the document put together by hand?")]
    BrokenChain = "broken_chain";
    /// Some other rule of RFC 5280 is not kept, such as an unknown critical extension.
    #[error("the chain is not valid ({error}); do not trust the sender")]
    Path {
        /// What webpki says.
        error: webpki::Error,
    } = "path";
    /// A certificate's signature does not verify.
    #[error("a certificate's signature does not verify; the document was changed or forged")]
    ChainSignature = "chain_signature";

    // Signature (V-2)
    /// The document's signature does not verify.
    #[error("the document's signature does not verify; it was changed on the way: get it again, and if this stays do not trust the sender")]
    Signature = "bad_signature";

    // Expectations (V-6, V-11, V-12)
    /// No PCR is demanded, and it was not said that any image will do.
    #[error("no PCR is expected, so every image would pass; name the PCRs that your build printed, or say that any image will do")]
    NoExpectations = "no_expectations";
    /// PCR0, PCR1 or PCR2 is all zero: the enclave runs in debug mode.
    #[error("PCR{index} is all zero, the enclave runs in debug mode and its console shows its memory; start it without --debug-mode, or allow debug for a test")]
    DebugMode {
        /// The lowest of the three that is zero.
        index: u8,
    } = "debug_mode";
    /// An expected PCR is not in the document.
    #[error("PCR{index} is expected but is not in the document; which PCRs does the enclave extend and lock?")]
    PcrAbsent {
        /// The index.
        index: u8,
    } = "pcr_absent";
    /// A PCR has another value than expected.
    #[error("PCR{index} is {found} but {expected} is expected; another image runs, or the expectation is of another build")]
    PcrMismatch {
        /// The index.
        index: u8,
        /// What the caller expects.
        expected: Pcr,
        /// What the document says.
        found: Pcr,
    } = "pcr_mismatch";
    /// An expected nonce is too short or too long to be one.
    #[error("a nonce of {bytes} bytes is outside {} to {}; draw 32 random bytes for each challenge", adyton_shared::limits::MIN_NONCE_BYTES, adyton_shared::limits::MAX_NONCE_BYTES)]
    NonceLength {
        /// Length in bytes.
        bytes: usize,
    } = "nonce_length";
    /// A nonce is expected and the document has none.
    #[error("the document has no nonce, so it may be an old one; ask again with a fresh nonce")]
    NonceAbsent = "nonce_absent";
    /// The document answers another challenge.
    #[error("the nonce is not the expected one, so the document answers another challenge; ask again with a fresh nonce")]
    NonceMismatch = "nonce_mismatch";
    /// The document is older than allowed.
    #[error("the document is of {timestamp}, too old at {at}; ask for a fresh one")]
    Stale {
        /// The document's time.
        timestamp: UnixMillis,
        /// The time to judge at.
        at: UnixMillis,
    } = "stale";
    /// The document is from the future by more than the allowed skew.
    #[error("the document is of {timestamp}, which is still to come at {at}; is the clock right?")]
    FromTheFuture {
        /// The document's time.
        timestamp: UnixMillis,
        /// The time to judge at.
        at: UnixMillis,
    } = "from_the_future";
    /// Freshness is demanded of an archived document, which is judged at its own time.
    #[error("an archived document is judged at its own time, when it always is fresh; leave the demand for freshness out")]
    ArchiveIsNotFresh = "archive_is_not_fresh";

    // Second check (V-2)
    /// The payload, encoded again with the expected PCRs, is not what was received.
    #[error("the payload is not what its fields encode to; the document is not in the form of a Nitro device, do not trust the sender")]
    Rebuild = "rebuild";
}
