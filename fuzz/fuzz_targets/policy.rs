//! Policies: whatever is read lets something out, for somebody, under some key.
#![no_main]

use adyton_shared::policy::Policy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(policy) = Policy::parse(data) {
        assert!(!policy.requesters.is_empty() && !policy.release.is_empty() && !policy.kms.keys.is_empty());
        assert!(policy.release.iter().all(|rule| policy.requesters.contains_key(&rule.requester)));
        assert!(policy.kms.keys.iter().all(|key| key.region() == policy.kms.region));
    }
});
