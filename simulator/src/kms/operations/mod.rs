//! The operations of the API: which there are, and which are here.

mod aliases;
mod create;
mod crypto;
mod data_key_pair;
mod derive;
mod grants;
mod import;
mod key_stores;
mod keys;
mod lists;
mod mac;
mod policies;
mod public_key;
mod random;
mod ready;
mod reencrypt;
mod regions;
mod rotation;
mod sealed;
mod sign;
mod tags;

use http::HeaderMap;
use serde_json::Value;
use zeroize::Zeroizing;

use super::call::Session;
use super::error::{Answer, ApiError};
use super::input::Input;
use super::key_id::{Named, Names};
use super::recipient::{self, Recipient};

/// An operation of the AWS KMS API, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation(&'static str);

/// All operations of the service model, sorted.
const KNOWN: [&str; 56] = [
    "CancelKeyDeletion",
    "ConnectCustomKeyStore",
    "CreateAlias",
    "CreateCustomKeyStore",
    "CreateGrant",
    "CreateKey",
    "Decapsulate",
    "Decrypt",
    "DeleteAlias",
    "DeleteCustomKeyStore",
    "DeleteImportedKeyMaterial",
    "DeriveSharedSecret",
    "DescribeCustomKeyStores",
    "DescribeKey",
    "DisableKey",
    "DisableKeyRotation",
    "DisconnectCustomKeyStore",
    "EnableKey",
    "EnableKeyRotation",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GenerateRandom",
    "GetKeyLastUsage",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "GetParametersForImport",
    "GetPublicKey",
    "ImportKeyMaterial",
    "ListAliases",
    "ListGrants",
    "ListKeyPolicies",
    "ListKeyRotations",
    "ListKeys",
    "ListResourceTags",
    "ListRetirableGrants",
    "PutKeyPolicy",
    "ReEncrypt",
    "ReplicateKey",
    "RetireGrant",
    "RevokeGrant",
    "RotateKeyOnDemand",
    "ScheduleKeyDeletion",
    "Sign",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateCustomKeyStore",
    "UpdateKeyDescription",
    "UpdatePrimaryRegion",
    "Verify",
    "VerifyMac",
];

const TARGET: &str = "x-amz-target";
const TARGET_PREFIX: &str = "TrentService.";
/// Longest key identifier, in characters.
const MAX_KEY_ID: usize = 2048;
/// Most grant tokens, and the longest.
const MAX_GRANT_TOKENS: usize = 10;

impl Operation {
    /// The operation that a request names in its header.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let target = headers.get(TARGET)?.to_str().ok()?.strip_prefix(TARGET_PREFIX)?;
        KNOWN.binary_search(&target).ok().map(|place| Self(KNOWN[place]))
    }

    pub(super) fn name(self) -> &'static str {
        self.0
    }

    /// Whether there is an operation of this name, in KMS or in the part of STS that is here.
    pub(super) fn exists(name: &str) -> bool {
        KNOWN.binary_search(&name).is_ok() || super::sts::ACTIONS.contains(&name)
    }

    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        KNOWN.into_iter().map(Self)
    }
}

/// Performs an operation.
///
/// # Errors
/// What AWS answers; `UnsupportedOperationException` for operations that are not here.
pub(super) fn run(operation: Operation, session: &mut Session<'_>, input: Input) -> Answer<Value> {
    let answer = dispatch(operation, session, input)?;
    session.service.note_use(operation.name(), session.trail);
    Ok(answer)
}

fn dispatch(operation: Operation, session: &mut Session<'_>, input: Input) -> Answer<Value> {
    match operation.0 {
        "CancelKeyDeletion" => keys::cancel_deletion(session, input),
        "ConnectCustomKeyStore" => key_stores::connect(session, input),
        "CreateAlias" => aliases::create(session, input),
        "CreateCustomKeyStore" => key_stores::create(session, input),
        "CreateGrant" => grants::create(session, input),
        "CreateKey" => create::create(session, input),
        "Decrypt" => crypto::decrypt(session, input),
        "DeleteAlias" => aliases::delete(session, input),
        "DeriveSharedSecret" => derive::derive(session, input),
        "DeleteCustomKeyStore" => key_stores::delete(session, input),
        "DescribeCustomKeyStores" => key_stores::describe(session, input),
        "DeleteImportedKeyMaterial" => import::delete(session, input),
        "DescribeKey" => keys::describe(session, input),
        "DisableKeyRotation" => rotation::disable(session, input),
        "DisableKey" => keys::disable(session, input),
        "DisconnectCustomKeyStore" => key_stores::disconnect(session, input),
        "EnableKey" => keys::enable(session, input),
        "EnableKeyRotation" => rotation::enable(session, input),
        "Encrypt" => crypto::encrypt(session, input),
        "GenerateDataKey" => crypto::generate_data_key(session, input, crypto::Yield::Plaintext),
        "GenerateDataKeyPair" => data_key_pair::generate(session, input, crypto::Yield::Plaintext),
        "GenerateDataKeyPairWithoutPlaintext" => {
            data_key_pair::generate(session, input, crypto::Yield::CiphertextOnly)
        }
        "GenerateDataKeyWithoutPlaintext" => {
            crypto::generate_data_key(session, input, crypto::Yield::CiphertextOnly)
        }
        "GenerateMac" => mac::generate(session, input),
        "GenerateRandom" => random::generate(session, input),
        "GetKeyLastUsage" => keys::last_usage(session, input),
        "GetKeyPolicy" => policies::read(session, input),
        "GetPublicKey" => public_key::read(session, input),
        "GetKeyRotationStatus" => rotation::status(session, input),
        "GetParametersForImport" => import::parameters(session, input),
        "ImportKeyMaterial" => import::import(session, input),
        "ListAliases" => lists::aliases(session, input),
        "ListGrants" => grants::list(session, input),
        "ListKeyRotations" => rotation::list(session, input),
        "ListKeys" => lists::keys(session, input),
        "ListKeyPolicies" => lists::key_policies(session, input),
        "ListResourceTags" => lists::tags(session, input),
        "ListRetirableGrants" => grants::list_retirable(session, input),
        "PutKeyPolicy" => policies::put(session, input),
        "ReEncrypt" => reencrypt::reencrypt(session, input),
        "RetireGrant" => grants::retire(session, input),
        "RevokeGrant" => grants::revoke(session, input),
        "ReplicateKey" => regions::replicate(session, input),
        "RotateKeyOnDemand" => rotation::on_demand(session, input),
        "ScheduleKeyDeletion" => keys::schedule_deletion(session, input),
        "Sign" => sign::sign(session, input),
        "Verify" => sign::verify(session, input),
        "VerifyMac" => mac::verify(session, input),
        "UpdateCustomKeyStore" => key_stores::update(session, input),
        "TagResource" => tags::tag(session, input),
        "UntagResource" => tags::untag(session, input),
        "UpdateAlias" => aliases::update(session, input),
        "UpdateKeyDescription" => keys::update_description(session, input),
        "UpdatePrimaryRegion" => regions::update_primary(session, input),
        name => Err(ApiError::unsupported(format!("{name} is not available in the local KMS yet."))),
    }
}

impl Session<'_> {
    /// Finds the key of a request and notes it for conditions and audit.
    fn named_key(&mut self, name: &str, names: Names) -> Answer<super::key::KeyRecord> {
        let Named { key, alias } = self.service.find_key(name, names, self.caller.place(), self.now)?;
        self.request_alias = alias;
        self.meets(&key)?;
        Ok(key)
    }

    /// The same for operations that manage a key: they take no alias, and no key of another account
    /// whatever its policy says.
    fn managed_key(&mut self, name: &str) -> Answer<super::key::KeyRecord> {
        let key = self.named_key(name, Names::KeysOnly)?;
        if key.account == self.caller.account() {
            Ok(key)
        } else {
            Err(ApiError::not_found(format!("Invalid keyId '{name}'")))
        }
    }

    /// Reads and verifies `Recipient`, if the request has one.
    fn recipient(&mut self, input: &mut Input) -> Answer<Option<Recipient>> {
        let Some(fields) = input.object("Recipient")? else { return Ok(None) };
        let recipient = recipient::verify(fields, &self.service.anchor, &self.service.chains, self.now)?;
        self.trail.recipient(&recipient.document);
        Ok(Some(recipient))
    }

    /// The secret of an answer: in the member of that name without a recipient, sealed to it with
    /// one (K-1).
    fn deliver(
        &self,
        answer: &mut Value,
        member: &str,
        secret: &Zeroizing<Vec<u8>>,
        recipient: Option<&Recipient>,
    ) -> Answer<()> {
        match recipient {
            Some(recipient) if !self.faults.plaintext_despite_recipient => {
                let form = self.faults.cms_form.unwrap_or(self.service.cms_form);
                let sealed = recipient.key.seal(secret, form, self.faults.key_encryption);
                answer["CiphertextForRecipient"] = base64(&sealed.ok_or_else(ApiError::internal)?);
            }
            _ => answer[member] = base64(secret),
        }
        Ok(())
    }

    /// The `KeyId` of an answer, unless a fault names another.
    fn answered_key(&self, arn: &str) -> Value {
        self.faults.key_id.as_deref().unwrap_or(arn).into()
    }

    /// The `EncryptionAlgorithm` of an answer, unless a fault names another.
    fn answered_algorithm(&self, algorithm: &str) -> Value {
        self.faults.encryption_algorithm.as_deref().unwrap_or(algorithm).into()
    }
}

/// The field that names the key.
fn key_id(input: &mut Input, field: &str) -> Answer<String> {
    let name = input.text(field, 1..=MAX_KEY_ID)?;
    Ok(input.require(field, name))
}

/// Reads the tokens' form; what they stand for was looked up by [`Session::used_tokens`] from the same field.
fn grant_tokens(input: &mut Input) -> Answer<()> {
    input.texts("GrantTokens", 0..=MAX_GRANT_TOKENS)?;
    Ok(())
}

fn base64(bytes: &[u8]) -> Value {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_operations_is_sorted_and_found() {
        assert!(KNOWN.is_sorted());
        let mut headers = HeaderMap::new();
        headers.insert(TARGET, "TrentService.Decrypt".parse().unwrap());
        assert_eq!(Operation::of(&headers), Some(Operation("Decrypt")));
        for other in ["TrentService.decrypt", "Decrypt", "TrentService.", "DynamoDB.Decrypt"] {
            headers.insert(TARGET, other.parse().unwrap());
            assert_eq!(Operation::of(&headers), None);
        }
    }
}
