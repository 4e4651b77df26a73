//! Control messages: what decodes has no other encoding.
#![no_main]

use adyton_shared::message::{self, FromEnclave, FromParent, KeyAnswer, KeyQuestion, ToEnclave, ToParent};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|data: &[u8]| {
    decodes_to_itself::<ToEnclave>(data);
    decodes_to_itself::<FromEnclave>(data);
    decodes_to_itself::<ToParent>(data);
    decodes_to_itself::<FromParent>(data);
    decodes_to_itself::<KeyQuestion>(data);
    decodes_to_itself::<KeyAnswer>(data);
});

fn decodes_to_itself<M: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(read) = message::decode::<M>(data) {
        assert_eq!(message::encode(&read).unwrap(), data);
    }
}
