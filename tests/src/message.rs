//! AWS Encryption SDK messages whose every part a test knows, the data key included.

use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, Parsed, Suite, UnverifiedHeader};
use adyton_shared::{DataKey, EncryptionContext, KeyArn};
use aws_sdk_kms::Client;
use aws_sdk_kms::types::DataKeySpec;

/// The purpose that the tests' policies demand.
pub const PURPOSE: &str = "payments";

/// What a message is to be.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The object that it is bound to.
    pub object: String,
    /// Its version.
    pub version: u64,
    /// Whether it is signed (0x0578) or not (0x0478).
    pub signed: bool,
    /// Bytes in a frame.
    pub frame_length: u32,
    /// Further pairs of the context.
    pub pairs: Vec<(String, String)>,
}

/// A message and what it was made of.
#[derive(Debug)]
pub struct Message {
    /// The message.
    pub bytes: Vec<u8>,
    /// Length of its header.
    pub header_length: usize,
    /// The plaintext data key.
    pub data_key: Vec<u8>,
    /// The wrapped one.
    pub wrapped: Vec<u8>,
    /// The whole context.
    pub context: EncryptionContext,
}

impl Recipe {
    /// An unsigned message of version 1 with frames of 4 KiB.
    pub fn of(object: &str) -> Self {
        Self { object: object.to_owned(), version: 1, signed: false, frame_length: 4096, pairs: Vec::new() }
    }

    /// The context without a verification key.
    pub fn context(&self) -> EncryptionContext {
        let pairs = [
            ("tenant", "acme".to_owned()),
            ("object", self.object.clone()),
            ("purpose", PURPOSE.to_owned()),
            ("version", self.version.to_string()),
        ];
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
        EncryptionContext::from_pairs(pairs.chain(self.pairs.iter().cloned())).expect("a context")
    }

    /// Makes the message with a data key from KMS.
    pub async fn seal(&self, kms: &Client, key: &KeyArn, plaintext: &[u8]) -> Message {
        self.seal_naming(kms, key, key.as_str(), plaintext).await
    }

    /// Makes the message; it says that its data key is wrapped under the key `named`.
    pub async fn seal_naming(&self, kms: &Client, key: &KeyArn, named: &str, plaintext: &[u8]) -> Message {
        let suite = if self.signed { 0x0578 } else { 0x0478 };
        let draft = Draft::new(Suite::from_id(suite).expect("a suite"), self.context()).expect("a draft");
        let context = draft.context().clone();
        let made = kms
            .generate_data_key()
            .key_id(key.as_str())
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(
                context.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ))
            .send()
            .await
            .expect("a data key");
        let data_key = made.plaintext().expect("a plaintext key").as_ref().to_vec();
        let wrapped = made.ciphertext_blob().expect("a wrapped key").as_ref().to_vec();
        let edk =
            EncryptedDataKey { provider: KMS_PROVIDER, information: named.as_bytes(), ciphertext: &wrapped };
        let secret = DataKey::copy_from(&data_key).expect("a data key");
        let (mut sealer, mut bytes) = draft.seal_with(&secret, &[edk], self.frame_length).expect("a header");
        let header_length = bytes.len();
        let mut frames = plaintext.chunks(self.frame_length as usize).peekable();
        let mut last: &[u8] = &[];
        while let Some(frame) = frames.next() {
            if frames.peek().is_none() {
                last = frame;
            } else {
                sealer.seal_frame(frame, &mut bytes).expect("a frame");
            }
        }
        sealer.finish(last, &mut bytes).expect("the last frame");
        Message { bytes, header_length, data_key, wrapped, context }
    }
}

impl Message {
    /// The same message with another wrapped key of the same length.
    pub fn with_wrapped(&self, wrapped: &[u8]) -> Vec<u8> {
        replace(&self.bytes, &self.wrapped, wrapped)
    }

    /// The message's body.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.header_length..]
    }
}

/// Replaces the only occurrence of `old`.
pub fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let places: Vec<_> =
        bytes.windows(old.len()).enumerate().filter(|(_, window)| *window == old).map(|(at, _)| at).collect();
    let [at] = places[..] else { panic!("{} occurrences", places.len()) };
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

/// Where the fields of a version 2 header begin.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The length of the context, two bytes before the context.
    pub context: usize,
    /// The number of encrypted data keys.
    pub keys: usize,
    /// The frame length.
    pub frame_length: usize,
}

/// Finds the fields of a good version 2 message.
pub fn layout(message: &[u8]) -> Layout {
    let Ok(Parsed::Complete { length, .. }) = UnverifiedHeader::parse(message) else {
        panic!("a whole header")
    };
    // Version, suite, message id.
    let context = 1 + 2 + 32;
    let bytes = usize::from(u16::from_be_bytes([message[context], message[context + 1]]));
    // Frame length, commitment, tag.
    Layout { context, keys: context + 2 + bytes, frame_length: length - 4 - 32 - 16 }
}
