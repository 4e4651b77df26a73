//! Every bound, with its unit, its reason and its worst case.

/// Longest write to a real vsock, in bytes: larger packets are corrupted by some guest kernels (S-9).
pub const MAX_VSOCK_WRITE_BYTES: usize = 31 * 1024;

/// Longest payload of one frame, in bytes. 256 conversations × 256 KiB = 64 MiB at worst.
pub const MAX_FRAME_BYTES: u32 = 256 * 1024;

/// Longest control message, in bytes: a signed request with a job of [`MAX_JOB_BYTES`] and its envelope.
pub const MAX_CONTROL_BYTES: u32 = 96 * 1024;

/// Sealed requests and their answers come in multiples of this, in bytes: their exact length would tell of the content.
pub const SEALED_SIZE_CLASS_BYTES: usize = 1024;

/// Longest padded content of a sealed request or answer, in bytes: with key, tag and encoding it fits a control message.
pub const MAX_SEALED_REQUEST_BYTES: usize = 95 * 1024;

/// Longest job definition inside a request, in bytes.
pub const MAX_JOB_BYTES: usize = 64 * 1024;

/// Most steps in a job.
pub const MAX_JOB_STEPS: usize = 64;

/// Most fields that one step or one release rule may name. A record's fields are tracked in a bit set of this size.
pub const MAX_FIELDS: usize = 256;

/// Longest condition of a filter, in bytes.
pub const MAX_FILTER_BYTES: usize = 4096;

/// Deepest nesting of a condition: brackets, negations and conditionals. Its parser recurses for each.
pub const MAX_FILTER_NESTING: usize = 16;

/// Most parts of all conditions of a job. Each is computed once for a record at most, in time that a record's length bounds.
pub const MAX_FILTER_NODES: usize = 256;

/// Most figures of an aggregate. Each costs some 50 bytes for each group.
pub const MAX_FIGURES: usize = 256;

/// Longest field path, in bytes.
pub const MAX_FIELD_PATH_BYTES: usize = 512;

/// Deepest nesting of a record. Each level costs the scanner one bit of a 128-bit word.
pub const MAX_RECORD_DEPTH: usize = 128;

/// Longest full ARN of a KMS key, in bytes; the API allows 2048 for a key identifier.
pub const MAX_KEY_ARN_BYTES: usize = 2048;

/// Longest serialised encryption context, in bytes: its length field has 16 bits.
pub const MAX_CONTEXT_BYTES: usize = u16::MAX as usize;

/// Most pairs in an encryption context: 64 KiB of the shortest pairs would take 1.5 MiB as a map, this takes 160 KiB.
pub const MAX_CONTEXT_PAIRS: usize = 1024;

/// Most columns of CSV. Each costs 16 bytes for every record that is being read.
pub const MAX_CSV_COLUMNS: usize = 16 * 1024;

/// Longest header of a message that is read, in bytes: a full context and 16 encrypted data keys fit.
pub const MAX_HEADER_BYTES: usize = 192 * 1024;

/// Most encrypted data keys in a message (`max_encrypted_data_keys` in the Encryption SDKs).
pub const MAX_ENCRYPTED_DATA_KEYS: usize = 16;

/// Longest frame of a message, and longest unframed body, in bytes: it is buffered whole before it is verified.
pub const MAX_MESSAGE_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// Frame length that this project writes when not told otherwise, in bytes.
pub const DEFAULT_MESSAGE_FRAME_BYTES: u32 = 64 * 1024;

/// Longest attestation document, in bytes. AWS gives 16 KiB as the size of the device's response.
pub const MAX_ATTESTATION_BYTES: usize = 16 * 1024;

/// Shortest nonce in a challenge, in bytes (T-2).
pub const MIN_NONCE_BYTES: usize = 16;

/// Longest nonce that the NSM takes, in bytes.
pub const MAX_NONCE_BYTES: usize = 512;

/// Longest life of a signed request, in seconds: it bounds the memory of seen ids.
pub const MAX_REQUEST_LIFETIME_SECONDS: u64 = 15 * 60;

/// How far a signer's clock may be ahead of the enclave's, in seconds.
pub const CLOCK_SKEW_SECONDS: u64 = 60;

/// Most claims in a request.
pub const MAX_CLAIMS: usize = 32;

/// Longest name or value of a claim, in bytes.
pub const MAX_CLAIM_BYTES: usize = 1024;

/// Longest name of a requester or of a named key, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Longest name of a file that a named key's source may have, in bytes: what file systems take.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// Longest wrapped key, in bytes: KMS takes no longer `CiphertextBlob`.
pub const MAX_WRAPPED_KEY_BYTES: usize = 6144;

/// Longest policy file, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;
