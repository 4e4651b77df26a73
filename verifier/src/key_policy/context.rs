//! What a request says about itself: the condition keys and their values.

use std::collections::BTreeMap;

use super::principal::Principal;

/// Condition keys with no, one or many values. Names are compared without regard to case.
///
/// What goes in here is trusted: an `kms:ViaService`, `aws:SourceVpce` or
/// `kms:RecipientAttestation:PCR0` must come from what the key service saw and
/// verified itself, never from a field of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConditionContext {
    values: BTreeMap<String, Vec<String>>,
}

impl ConditionContext {
    /// A context with the keys that follow from who asks: `aws:PrincipalArn`,
    /// `aws:PrincipalAccount`, `aws:PrincipalType`, `kms:CallerAccount` and, for users, `aws:username`.
    pub fn for_principal(principal: &Principal) -> Self {
        let mut context = Self::default();
        context.set("aws:PrincipalArn", principal.identity_arn());
        context.set("aws:PrincipalAccount", principal.account());
        context.set("kms:CallerAccount", principal.account());
        context.set("aws:PrincipalType", principal.kind());
        if let Some(name) = principal.user_name() {
            context.set("aws:username", name);
        }
        context
    }

    /// Adds the keys of an encryption context: `kms:EncryptionContext:<key>` for each pair and
    /// `kms:EncryptionContextKeys` with all keys.
    pub fn add_encryption_context<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (key, value) in pairs {
            self.add(&format!("kms:EncryptionContext:{key}"), value);
            self.add("kms:EncryptionContextKeys", key);
        }
    }

    /// Adds the keys of a verified attestation document: `kms:RecipientAttestation:PCR<n>` in
    /// lower-case hexadecimal, and `kms:RecipientAttestation:ImageSha384` for PCR0.
    pub fn add_recipient<'a>(&mut self, pcrs: impl IntoIterator<Item = (u8, &'a [u8])>) {
        for (index, value) in pcrs {
            let value = hex::encode(value);
            if index == 0 {
                self.set("kms:RecipientAttestation:ImageSha384", &value);
            }
            self.set(&format!("kms:RecipientAttestation:PCR{index}"), &value);
        }
    }

    /// Adds one more value to a key.
    pub fn add(&mut self, key: &str, value: &str) {
        self.values.entry(key.to_lowercase()).or_default().push(value.to_owned());
    }

    /// Gives a key exactly one value.
    pub fn set(&mut self, key: &str, value: &str) {
        self.values.insert(key.to_lowercase(), vec![value.to_owned()]);
    }

    /// The values of a key; none if the request does not have it.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(&key.to_lowercase()).map_or(&[], Vec::as_slice)
    }
}
