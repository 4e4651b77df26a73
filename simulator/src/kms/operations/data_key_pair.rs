//! `GenerateDataKeyPair`: a key pair whose private half is sealed under a symmetric key.

use serde_json::{Value, json};

use super::crypto::Yield;
use super::ready::{compatible, ready, unless_dry};
use super::sealed::{SYMMETRIC_DEFAULT, Terms, encryption_context, seal};
use super::{base64, grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key_id::Names;
use crate::kms::material;
use crate::kms::spec::{KeySpec, KeyUsage};

/// The specs of the service model.
const SPECS: [&str; 12] = [
    "RSA_2048",
    "RSA_3072",
    "RSA_4096",
    "ECC_NIST_P256",
    "ECC_NIST_P384",
    "ECC_NIST_P521",
    "ECC_SECG_P256K1",
    "SM2",
    "ECC_NIST_EDWARDS25519",
    "ML_KEM_512",
    "ML_KEM_768",
    "ML_KEM_1024",
];

pub(super) fn generate(session: &mut Session<'_>, mut input: Input, yields: Yield) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let spec_name = input.required_choice("KeyPairSpec", &SPECS)?;
    let context = encryption_context(&mut input, "EncryptionContext")?;
    let dry_run = input.flag("DryRun")?;
    grant_tokens(&mut input)?;
    input.finish()?;
    let (action, recipient) = match yields {
        Yield::Plaintext => ("GenerateDataKeyPair", session.recipient(&mut input)?),
        // This operation has no recipient; like every unknown field it is ignored.
        Yield::CiphertextOnly => ("GenerateDataKeyPairWithoutPlaintext", None),
    };
    let terms = Terms { algorithm: SYMMETRIC_DEFAULT, context: &context, recipient: recipient.as_ref() };

    let key = session.named_key(&name, Names::All)?;
    session.authorize(action, &key, |conditions| {
        terms.describe(conditions);
        conditions.set("kms:DataKeyPairSpec", spec_name);
    })?;
    ready(&key, action, KeyUsage::EncryptDecrypt)?;
    compatible(&key, SYMMETRIC_DEFAULT)?;
    if key.custom_key_store.is_some() {
        let (arn, origin) = (&key.arn, key.origin.name());
        let text = format!("{arn} origin is {origin} which is not valid for this operation.");
        return Err(ApiError::unsupported(text));
    }
    unless_dry(dry_run)?;
    let pair = material::generate(KeySpec::of(spec_name).unwrap_or(KeySpec::Sm2))?;
    let sealed = seal(session, &key, &terms, &pair.secret)?;
    let mut answer = json!({
        "PrivateKeyCiphertextBlob": base64(&sealed),
        "PublicKey": base64(&pair.public),
        "KeyId": session.answered_key(&key.arn),
        "KeyPairSpec": spec_name,
    });
    if yields == Yield::Plaintext {
        session.deliver(&mut answer, "PrivateKeyPlaintext", &pair.secret, recipient.as_ref())?;
    }
    if recipient.is_none() {
        answer["KeyMaterialId"] = key.current()?.name().into();
    }
    Ok(answer)
}
