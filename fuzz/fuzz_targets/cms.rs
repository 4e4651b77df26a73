//! `CiphertextForRecipient`: what is read has a content key of the right length at most.
#![no_main]

use adyton_enclave::cms::{EnvelopedData, MAX_ENVELOPE_BYTES};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fuzz_target!(|data: &[u8]| {
    let Ok(envelope) = EnvelopedData::parse(data) else { return };
    assert!(data.len() <= MAX_ENVELOPE_BYTES);
    let id = *envelope.key_id();
    let opened = envelope.open(&id, |encrypted| {
        assert_eq!(encrypted.len(), 256);
        Some(Zeroizing::new(encrypted[..32].to_vec()))
    });
    if let Ok(content) = opened {
        assert!(content.len() < data.len());
    }
    let other = EnvelopedData::parse(data).unwrap().open(&[0; 32], |_| panic!("asked for another's key"));
    assert!(other.is_err() || id == [0; 32]);
});
