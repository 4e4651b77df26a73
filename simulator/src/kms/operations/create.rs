//! `CreateKey`: which kind of key is wanted, whether there is such a kind, and making it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::policies::{MAX_POLICY_CHARACTERS, check_policy, is_policy_text};
use super::tags::{checked, tag_list};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{KeyRecord, KeyState, Regions, key_arn};
use crate::kms::key_store::InStore;
use crate::kms::material::{self, Held, MaterialRecord};
use crate::kms::spec::{KeySpec, KeyUsage, Origin};

pub(super) const MAX_DESCRIPTION: usize = 8192;

pub(super) fn create(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let policy = input.pattern(
        "Policy",
        1..=MAX_POLICY_CHARACTERS,
        r"[\u0009\u000A\u000D\u0020-\u00FF]+",
        is_policy_text,
    )?;
    let description = input.text("Description", 0..=MAX_DESCRIPTION)?.unwrap_or_default();
    let bypass = input.flag("BypassPolicyLockoutSafetyCheck")?;
    let tags = tag_list(&mut input)?;
    let kind = Kind::read(&mut input)?;
    let tags = checked(tags)?;

    session.authorize_by_identity("CreateKey", None)?;
    let mut key = kind.empty_key(session, description, policy, tags);
    check_policy(session, &key, &key.policy, bypass)?;
    if kind.origin == Origin::AwsKms {
        let fresh = material::generate(kind.spec)?;
        let id = material::fresh_id()?;
        let sealed = session.service.store.seal_secret(&key.arn, &id, &fresh.secret);
        let sealed = sealed.ok_or_else(ApiError::internal)?;
        key.materials.push(MaterialRecord::new(id, session.now, sealed, fresh.public));
        key.state = KeyState::Enabled;
    }
    match &kind.store {
        None => session.service.store.insert_key(&key)?,
        Some(store) => insert_in_store(session, &mut key, store)?,
    }
    session.trail.key(&key);
    Ok(json!({"KeyMetadata": key.metadata()}))
}

/// Makes the material in the HSM, and there is a key.
fn insert_in_store(session: &Session<'_>, key: &mut KeyRecord, store: &str) -> Answer<()> {
    let id = material::fresh_id()?;
    key.materials.push(MaterialRecord::new(id, session.now, Held::Hsm, Vec::new()));
    key.state = KeyState::Enabled;
    key.custom_key_store = Some(InStore { store: store.to_owned(), cluster: String::new(), connected: true });
    session.service.insert_key_in_store(key, &id)?;
    session.service.look_at_store(key)
}

/// What kind of key a request is for.
struct Kind {
    spec: KeySpec,
    usage: KeyUsage,
    origin: Origin,
    multi_region: bool,
    /// The custom key store that it is to be in.
    store: Option<String>,
}

impl Kind {
    /// Reads the fields that say so, and says clearly what does not exist.
    fn read(input: &mut Input) -> Answer<Self> {
        let spec = input.choice("KeySpec", KeySpec::NAMES)?;
        let old_spec = input.choice("CustomerMasterKeySpec", KeySpec::NAMES)?;
        let usage = input.choice("KeyUsage", KeyUsage::NAMES)?.and_then(KeyUsage::of);
        let origin = input.choice("Origin", Origin::NAMES)?.and_then(Origin::of);
        let multi_region = input.flag("MultiRegion")?;
        let store = input.text("CustomKeyStoreId", 1..=64)?;
        let external = input.text("XksKeyId", 1..=128)?;
        input.finish()?;
        if spec.is_some() && old_spec.is_some() {
            let text = "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.";
            return Err(ApiError::validation(text));
        }
        let spec = spec.or(old_spec).and_then(KeySpec::of).unwrap_or(KeySpec::SymmetricDefault);
        let usage = match usage {
            Some(usage) => usage,
            None if spec == KeySpec::SymmetricDefault => KeyUsage::EncryptDecrypt,
            None => {
                let text = "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.";
                return Err(ApiError::validation(text));
            }
        };
        if !spec.usages().contains(&usage) {
            let text = format!("KeyUsage {} is not compatible with KeySpec {}", usage.name(), spec.name());
            return Err(ApiError::validation(text));
        }
        let not_here =
            |what: String| Err(ApiError::unsupported(format!("{what} not available in the local KMS.")));
        if !spec.is_available() {
            return not_here(format!("KeySpec {} is", spec.name()));
        }
        let origin = origin.unwrap_or(Origin::AwsKms);
        if origin == Origin::ExternalKeyStore || external.is_some() {
            return not_here("External key stores are".to_owned());
        }
        if (origin == Origin::AwsCloudHsm) != store.is_some() {
            let text = "CustomKeyStoreId and an Origin of AWS_CLOUDHSM have to be specified together.";
            return Err(ApiError::validation(text));
        }
        if store.is_some() && (spec != KeySpec::SymmetricDefault || multi_region) {
            let text =
                "Only symmetric encryption KMS keys in a single Region can be created in a custom key store.";
            return Err(ApiError::unsupported(text));
        }
        Ok(Self { spec, usage, origin, multi_region, store })
    }

    /// The key as it is before it has material.
    fn empty_key(
        &self,
        session: &Session<'_>,
        description: String,
        policy: Option<String>,
        tags: BTreeMap<String, String>,
    ) -> KeyRecord {
        let (region, account) = (session.region.to_owned(), session.caller.account().to_owned());
        let id = uuid::Uuid::new_v4();
        let (id, regions) = if self.multi_region {
            let regions = Regions { primary: region.clone(), replicas: Vec::new() };
            (format!("mrk-{}", id.simple()), Some(regions))
        } else {
            (id.to_string(), None)
        };
        KeyRecord {
            arn: key_arn(&region, &account, &id),
            created: session.now,
            description,
            state: KeyState::PendingImport,
            spec: self.spec,
            usage: self.usage,
            origin: self.origin,
            policy: policy.unwrap_or_else(|| default_policy(&account)),
            tags,
            custom_key_store: None,
            regions,
            materials: Vec::new(),
            pending: None,
            schedule: None,
            on_demand_rotations: 0,
            account,
            region,
            id,
        }
    }
}

/// What the API gives a key that is made without a policy: IAM decides.
pub(super) fn default_policy(account: &str) -> String {
    let policy = json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    });
    format!("{policy:#}")
}
