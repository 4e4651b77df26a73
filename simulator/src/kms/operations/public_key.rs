//! `GetPublicKey`.

use serde_json::{Value, json};

use super::{base64, grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key_id::Names;

pub(super) fn read(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    grant_tokens(&mut input)?;
    input.finish()?;

    let key = session.named_key(&name, Names::All)?;
    session.authorize("GetPublicKey", &key, |_| ())?;
    if !key.spec.is_key_pair() {
        return Err(ApiError::unsupported(format!(
            "{} key spec is {} which is not valid for GetPublicKey.",
            key.arn,
            key.spec.name()
        )));
    }
    key.usable()?;
    let mut answer = json!({
        "KeyId": session.answered_key(&key.arn),
        "PublicKey": base64(&key.current()?.public),
        "CustomerMasterKeySpec": key.spec.name(),
        "KeySpec": key.spec.name(),
        "KeyUsage": key.usage.name(),
    });
    answer[key.usage.algorithms_member()] = json!(key.algorithms());
    Ok(answer)
}
