//! Messages of the AWS Encryption SDK: header and body, under a fixed key, in pieces of any length.
#![no_main]

use adyton_shared::envelope::{Opener, Parsed, Step, UnverifiedHeader};
use adyton_shared::{DataKey, EncryptionContext};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((step, message)) = data.split_first() else { return };
    let Ok(Parsed::Complete { header, length }) = UnverifiedHeader::parse(message) else { return };
    assert!(length <= message.len());
    // Nothing is complete any earlier.
    let earlier = UnverifiedHeader::parse(&message[..length - 1]);
    assert!(matches!(earlier, Ok(Parsed::Incomplete { need_at_least }) if need_at_least >= length));
    let key = DataKey::copy_from(&[0x77; 32]).unwrap();
    let Ok(opener) = header.verify(&key, &EncryptionContext::default()) else { return };
    open(opener, &message[length..], usize::from(*step) + 1);
});

fn open(mut opener: Opener, mut body: &[u8], step: usize) {
    let mut buffer = Vec::new();
    loop {
        match opener.next(&mut buffer) {
            Ok(Step::Need(count)) => {
                assert!(count > buffer.len());
                if body.is_empty() {
                    assert!(opener.finish().is_err());
                    return;
                }
                let (piece, rest) = body.split_at(step.min(body.len()));
                buffer.extend_from_slice(piece);
                body = rest;
            }
            Ok(Step::Frame { consumed, plaintext }) => {
                assert!(consumed > 0 && plaintext.end <= consumed && consumed <= buffer.len());
                buffer.drain(..consumed);
            }
            Ok(Step::End { consumed }) => {
                assert_eq!(consumed, buffer.len());
                return;
            }
            Err(error) => {
                assert_eq!(opener.next(&mut buffer), Err(error), "refused once, refused for ever");
                return;
            }
        }
    }
}
