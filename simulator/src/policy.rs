//! The policy that the simulator starts an enclave with, unless the user brings one.

use adyton_shared::KeyArn;
use adyton_shared::age::AgeRecipient;
use adyton_shared::id::{RequesterKey, RequesterName};

/// The name of the requester that the simulator makes.
pub const REQUESTER: &str = "billing";
/// The purpose that payloads must be bound to.
pub const PURPOSE: &str = "payments";

/// What a starting policy is about.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The local KMS's region.
    pub region: &'a str,
    /// The key that releases data keys.
    pub key: &'a KeyArn,
    /// The certificate authority of the local KMS.
    pub ca_pem: &'a str,
    /// Who sends jobs.
    pub requester: &'a RequesterName,
    /// The key that requests are signed with.
    pub requester_key: &'a RequesterKey,
    /// Who may read a report.
    pub auditor: &'a AgeRecipient,
    /// A key of another account, for which data may be sealed again.
    pub partner: &'a KeyArn,
}

impl Start<'_> {
    /// The text of a policy for the local KMS.
    pub fn policy(&self) -> String {
        let Self { region, key, ca_pem, requester, requester_key, auditor, partner } = self;
        let auditor = auditor.as_str();
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

# E-mail addresses as tokens: the same address has the same token, and nobody outside can tell which it is.
[[release]]
requester = "{requester}"
to = "parent"
fields = ["country", "card.brand", {{ path = "email", as = "token", key = "token" }}]

# Figures about groups of twenty customers or more.
[[release]]
requester = "{requester}"
to = "parent"
aggregate = {{ minimum_group = 20, budget = 100, by = ["country", "card.brand"], fields = ["spent", "card.brand"] }}

# The auditor reads more, and nobody on the way does: an age key.
[[release]]
requester = "{requester}"
to = "{auditor}"
fields = ["id", "name", "email", "country", "spent"]

# Everything, for a partner's KMS key in another account.
[[release]]
requester = "{requester}"
to = "{partner}"

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
        let start = Start {
            region: "eu-west-1",
            key: &key,
            ca_pem: pem,
            requester: &requester,
            requester_key: &RequesterKey::new([1; 32]),
            auditor: &AgeRecipient::parse("age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa")
                .unwrap(),
            partner: &KeyArn::parse("arn:aws:kms:eu-west-1:444455556666:key/2").unwrap(),
        };
        let policy = Policy::parse(start.policy().as_bytes()).unwrap();
        assert_eq!(policy.kms.keys, [key]);
        assert_eq!(policy.kms.roots.as_deref(), Some(pem));
    }
}
