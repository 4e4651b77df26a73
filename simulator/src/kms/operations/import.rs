//! Import of key material: parameters for it, the import, and taking the material away again.
//!
//! The import token is all that the service needs to know of a wrapping key: it holds the private
//! half, sealed under the root key and bound to the KMS key, so that nothing is kept for imports
//! that never come. What a material is named by is computed from it and its key: the same bytes
//! are recognised when they come again, after a deletion, an expiry, or in another region.

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::{base64, key_id};
use crate::kms::asymmetric;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{KeyRecord, KeyState, Millis, seconds};
use crate::kms::material::{Fresh, Import, MaterialId, MaterialRecord, Secret};
use crate::kms::settle::{DAY_MS, drop_pending};
use crate::kms::spec::{Family, KeySpec, Origin};
use crate::kms::store::Change;
use crate::kms::wrapping::{self, Token, Wrapping};

const MAX_TOKEN: usize = 6144;
const MAX_WRAPPED: usize = 6144;
/// Imported material lives for at most this long, if it expires at all.
const MAX_LIFE_MS: Millis = 365 * DAY_MS;
const EXPIRES: &str = "KEY_MATERIAL_EXPIRES";
const DOES_NOT_EXPIRE: &str = "KEY_MATERIAL_DOES_NOT_EXPIRE";

pub(super) fn parameters(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let algorithm = input.choice("WrappingAlgorithm", wrapping::ALGORITHMS)?;
    let algorithm = input.require("WrappingAlgorithm", algorithm);
    let spec = input.choice("WrappingKeySpec", wrapping::KEY_SPECS)?;
    let spec = input.require("WrappingKeySpec", spec);
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("GetParametersForImport", &key, |conditions| {
        conditions.set("kms:WrappingAlgorithm", algorithm);
        conditions.set("kms:WrappingKeySpec", spec);
    })?;
    key.takes_imports()?;
    key.not_pending()?;
    let unsupported = || ApiError::unsupported(format!("{algorithm} with {spec} is not supported."));
    let wrapping = Wrapping::of(algorithm).ok_or_else(unsupported)?;
    let pair = wrapping::generate(spec).ok_or_else(unsupported)?;
    let valid_to = session.now.saturating_add(DAY_MS);
    let token = Token { wrapping, valid_to, private: pair.secret };
    let token = session.service.store.seal_token(&key.arn, &token.encode());
    Ok(json!({
        "KeyId": key.arn,
        "ImportToken": base64(&token.ok_or_else(ApiError::internal)?),
        "PublicKey": base64(&pair.public),
        "ParametersValidTo": seconds(valid_to),
    }))
}

/// What an import says besides the material itself.
struct Terms {
    expires: Option<Millis>,
    kind: Option<&'static str>,
    material: Option<String>,
    description: Option<String>,
}

pub(super) fn import(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let token = input.blob("ImportToken", 1..=MAX_TOKEN)?;
    let token = input.require("ImportToken", token);
    let wrapped = input.blob("EncryptedKeyMaterial", 1..=MAX_WRAPPED)?;
    let wrapped = input.require("EncryptedKeyMaterial", wrapped);
    let valid_to = input.time("ValidTo")?;
    let model = input.choice("ExpirationModel", &[EXPIRES, DOES_NOT_EXPIRE])?;
    let kind = input.choice("ImportType", &["NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL"])?;
    let is_description = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || ":/_.-".contains(c) || c.is_whitespace())
    };
    let description =
        input.pattern("KeyMaterialDescription", 0..=256, r"^[a-zA-Z0-9:/_\s.-]+$", is_description)?;
    let material = material_id(&mut input)?;
    input.finish()?;
    let expires = expiry(model, valid_to, session.now)?;
    let terms = Terms { expires, kind, material, description };

    let key = session.managed_key(&name)?;
    session.authorize("ImportKeyMaterial", &key, |conditions| {
        conditions.set("kms:ExpirationModel", model.unwrap_or(EXPIRES));
        if let Some(at) = expires {
            conditions.set("kms:ValidTo", &(at / 1000).to_string());
        }
    })?;
    key.takes_imports()?;
    key.not_pending()?;
    terms.suit(&key)?;
    let fresh = unwrap(session, &key, &token, &wrapped)?;
    let id = name_of(&key, &fresh);
    if terms.material.as_ref().is_some_and(|expected| *expected != hex::encode(id)) {
        return Err(incorrect("is not the one that KeyMaterialId names"));
    }
    session.service.store.edit(|change| {
        let mut key = change.key(&key.arn)?.ok_or_else(ApiError::internal)?;
        key.not_pending()?;
        let sealed = change.store.seal_secret(&key.arn, &id, &fresh.secret).ok_or_else(ApiError::internal)?;
        let mut material = MaterialRecord::new(id, session.now, sealed, fresh.public.clone());
        material.import = Some(Import { description: terms.description, expires: terms.expires });
        let is_new = terms.kind.map_or(key.materials.is_empty(), |kind| kind == "NEW_KEY_MATERIAL");
        if is_new {
            add(change, &mut key, material)?;
        } else {
            restore(&mut key, material)?;
        }
        if key.state == KeyState::PendingImport {
            key.settle_state(KeyState::Enabled);
        }
        Answer::Ok(change.put(&key)?)
    })?;
    let mut answer = json!({"KeyId": key.arn});
    if key.spec == KeySpec::SymmetricDefault {
        answer["KeyMaterialId"] = hex::encode(id).into();
    }
    Ok(answer)
}

pub(super) fn delete(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let material = material_id(&mut input)?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("DeleteImportedKeyMaterial", &key, |_| ())?;
    key.takes_imports()?;
    let gone = session.service.store.edit(|change| {
        let mut key = change.key(&key.arn)?.ok_or_else(ApiError::internal)?;
        let current = || key.materials.last().map(MaterialRecord::name);
        let Some(name) = material.or_else(current) else { return Answer::Ok(None) };
        if key.pending.as_ref().is_some_and(|pending| pending.name() == name) {
            drop_pending(change, &key)?;
            return Ok(Some(name));
        }
        let named = key.materials.iter_mut().find(|material| material.name() == name);
        let missing = || ApiError::not_found(format!("Key material {name} is not associated with the key."));
        named.ok_or_else(missing)?.forget();
        if matches!(key.state, KeyState::Enabled | KeyState::Disabled) {
            key.state = KeyState::PendingImport;
        }
        change.put(&key)?;
        Ok(Some(name))
    })?;
    let mut answer = json!({"KeyId": key.arn});
    if let Some(name) = gone.filter(|_| key.spec == KeySpec::SymmetricDefault) {
        answer["KeyMaterialId"] = name.into();
    }
    Ok(answer)
}

fn material_id(input: &mut Input) -> Answer<Option<String>> {
    input.pattern("KeyMaterialId", 64..=64, "^[a-f0-9]+$", |text| {
        text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn expiry(model: Option<&str>, valid_to: Option<Millis>, now: Millis) -> Answer<Option<Millis>> {
    match (model.unwrap_or(EXPIRES), valid_to) {
        (EXPIRES, None) => Err(ApiError::validation(
            "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES",
        )),
        (EXPIRES, Some(at)) if at <= now => {
            Err(ApiError::validation("The validTo date must be in the future"))
        }
        (EXPIRES, Some(at)) if at - now > MAX_LIFE_MS => {
            Err(ApiError::validation("The validTo date must be within 365 days"))
        }
        (EXPIRES, Some(at)) => Ok(Some(at)),
        (_, None) => Ok(None),
        (_, Some(_)) => Err(ApiError::validation(
            "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
        )),
    }
}

/// Opens the token, and with it the material; what comes out has to be a secret of the key's spec.
fn unwrap(session: &Session<'_>, key: &KeyRecord, token: &[u8], wrapped: &[u8]) -> Answer<Fresh> {
    let invalid =
        || ApiError::new("InvalidImportTokenException", "The import token is not one for this KMS key.");
    let token = session.service.store.open_token(&key.arn, token).ok_or_else(invalid)?;
    let token = Token::decode(&token).ok_or_else(invalid)?;
    if token.valid_to <= session.now {
        return Err(ApiError::new("ExpiredImportTokenException", "The import token has expired."));
    }
    let material = token.unwrap(wrapped).ok_or_else(ApiError::invalid_ciphertext)?;
    fresh(key.spec, material).ok_or_else(|| incorrect(&format!("is none of key spec {}", key.spec.name())))
}

fn fresh(spec: KeySpec, material: Secret) -> Option<Fresh> {
    match spec.secret_bytes() {
        Some(length) => (material.len() == length).then(|| Fresh { secret: material, public: Vec::new() }),
        None => asymmetric::import(spec, &material),
    }
}

/// What the material is named by in this key, in all its regions.
fn name_of(key: &KeyRecord, fresh: &Fresh) -> MaterialId {
    let mac = hmac::Key::new(hmac::HMAC_SHA256, &fresh.secret);
    let tag = hmac::sign(&mac, format!("adyton imported material v1/{}/{}", key.account, key.id).as_bytes());
    let mut id = MaterialId::default();
    id.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
    id
}

/// Material that this key never had: its first one, or the one for its next rotation.
fn add(change: &Change<'_>, key: &mut KeyRecord, material: MaterialRecord) -> Answer<()> {
    if key.is_replica() {
        let text = format!(
            "{} is a multi-Region replica key. Import new key material into the primary key first.",
            key.arn
        );
        return Err(ApiError::unsupported(text));
    }
    if key.material(&material.id).is_some() {
        return Err(incorrect("is associated with the key already"));
    }
    let mut elsewhere = material.clone();
    elsewhere.forget();
    for mut member in change.family(key)?.into_iter().filter(|member| member.arn != key.arn) {
        place(&mut member, elsewhere.clone())?;
        change.put(&member)?;
    }
    place(key, material)
}

fn place(key: &mut KeyRecord, material: MaterialRecord) -> Answer<()> {
    if key.materials.is_empty() {
        key.materials.push(material);
    } else if key.pending.as_ref().is_none_or(|pending| pending.id == material.id) {
        key.pending = Some(material);
    } else {
        let text = format!("{} has key material that is pending rotation.", key.arn);
        return Err(ApiError::invalid_state(text));
    }
    Ok(())
}

/// Material that this key had or has.
fn restore(key: &mut KeyRecord, material: MaterialRecord) -> Answer<()> {
    let old = key.materials.iter_mut().chain(&mut key.pending).find(|old| old.id == material.id);
    let old = old.ok_or_else(|| incorrect("is not the one that was imported into the key before"))?;
    old.sealed = material.sealed;
    let kept = old.import.take().and_then(|import| import.description);
    old.import = material.import.map(|new| Import { description: new.description.or(kept), ..new });
    Ok(())
}

fn incorrect(what: &str) -> ApiError {
    ApiError::new("IncorrectKeyMaterialException", format!("The key material {what}."))
}

impl Terms {
    /// Refuses what only symmetric keys have.
    fn suit(&self, key: &KeyRecord) -> Answer<()> {
        let named = self.kind.is_some() || self.material.is_some() || self.description.is_some();
        if named && key.spec.family() != Family::Symmetric {
            return Err(ApiError::validation(
                "ImportType, KeyMaterialId and KeyMaterialDescription are for symmetric encryption keys only.",
            ));
        }
        if self.kind == Some("NEW_KEY_MATERIAL") && self.material.is_some() {
            return Err(ApiError::validation(
                "KeyMaterialId cannot be specified if the ImportType is NEW_KEY_MATERIAL.",
            ));
        }
        Ok(())
    }
}

impl KeyRecord {
    fn takes_imports(&self) -> Answer<()> {
        if self.origin == Origin::External {
            return Ok(());
        }
        Err(ApiError::unsupported(format!(
            "{} origin is {} which is not valid for this operation.",
            self.arn,
            self.origin.name()
        )))
    }
}
