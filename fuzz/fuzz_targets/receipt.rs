//! Receipts: nobody can sign one by guessing.
#![no_main]

use adyton_shared::id::EnclaveId;
use adyton_shared::receipt::UnverifiedReceipt;
use libfuzzer_sys::fuzz_target;

/// The public key of RFC 8032 §7.1, test 1; its owner signs nothing here.
const KEY: EnclaveId = EnclaveId::new(
    *b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a",
);

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = UnverifiedReceipt::parse(data) {
        assert!(read.document().len() < data.len());
        assert!(read.verify(&KEY).is_err());
    }
});
