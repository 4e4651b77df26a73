//! The policy that the simulator starts an enclave with, unless the user brings one.

use adyton_shared::KeyArn;
use adyton_shared::id::{RequesterKey, RequesterName};

/// The name of the requester that the simulator makes.
pub const REQUESTER: &str = "billing";
/// The purpose that payloads must be bound to.
pub const PURPOSE: &str = "payments";

/// The text of a policy for the local KMS.
pub fn starting_policy(
    region: &str,
    key: &KeyArn,
    ca_pem: &str,
    requester: &RequesterName,
    requester_key: &RequesterKey,
) -> String {
    format!(
        r#"# What may leave the enclave. This file is measured: its SHA-384 is PCR2 and, extended, PCR16 of the
# simulated enclave, and part of its PCR0. Change a byte, and KMS releases no key to it.
version = 1
name = "{PURPOSE}"

[kms]
region = "{region}"
endpoint = "localhost"
keys = ["{key}"]
# Trust anchors for the endpoint above. Leave `endpoint` and `roots` out for AWS itself.
roots = """
{ca_pem}"""

# What every payload's encryption context must say.
[context]
tenant = {{ signed = true }}
object = {{ signed = true }}
purpose = {{ equals = "{PURPOSE}" }}
version = {{ minimum = 1 }}

[[requester]]
name = "{requester}"
key = "{requester_key}"

# The only ways out.
[[release]]
requester = "{requester}"
to = "parent"
fields = [
    "id",
    "country",
    "card.brand",
    {{ path = "card.pan", as = "mask", keep_last = 4 }},
    {{ path = "email", as = "mask" }},
]

[[release]]
requester = "{requester}"
to = "parent"
digest = true

# A secret for tokens, wrapped under the KMS key: `adyton key new token` made it, and it opens in here only.
[keys.token]
source = "file:token.key"
context = {{ purpose = "{PURPOSE}-token", version = "1" }}

[limits]
payload = "64 GiB"
record = "4 MiB"
jobs = 16
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use adyton_shared::policy::Policy;

    #[test]
    fn the_starting_policy_is_one() {
        let key = KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/1").unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let requester = REQUESTER.parse().unwrap();
        let text = starting_policy("eu-west-1", &key, pem, &requester, &RequesterKey::new([1; 32]));
        let policy = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!(policy.kms.keys, [key]);
        assert_eq!(policy.kms.roots.as_deref(), Some(pem));
    }
}
