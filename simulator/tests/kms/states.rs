//! What a key can be asked for in each of its states, and that it remembers its last use.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, KeyLastUsageTrackingOperation, KeyState, OriginType, Tag, WrappingKeySpec,
};

use crate::harness::{Kms, days, refusal, refused};

async fn make_key(client: &Client, origin: OriginType) -> (String, String) {
    let made = client.create_key().origin(origin).send().await.unwrap().key_metadata.unwrap();
    (made.key_id, made.arn.unwrap())
}

/// What a call came to: nothing, or its error.
macro_rules! outcome {
    ($call:expr) => {{
        let result = $call.send().await;
        if result.is_ok() { None } else { Some(refusal(result)) }
    }};
}

type Outcome = Option<(String, Option<String>)>;

/// What every operation that changes or uses a key came to, by its name.
async fn outcomes(client: &Client, key: &str) -> Vec<(&'static str, Outcome)> {
    let tag = Tag::builder().tag_key("a").tag_value("b").build().unwrap();
    let policy = client.get_key_policy().key_id(key).send().await.unwrap().policy.unwrap();
    vec![
        ("DescribeKey", outcome!(client.describe_key().key_id(key))),
        ("GetKeyPolicy", outcome!(client.get_key_policy().key_id(key))),
        ("PutKeyPolicy", outcome!(client.put_key_policy().key_id(key).policy(policy))),
        ("ListKeyPolicies", outcome!(client.list_key_policies().key_id(key))),
        ("ListResourceTags", outcome!(client.list_resource_tags().key_id(key))),
        ("ListAliases", outcome!(client.list_aliases().key_id(key))),
        ("ListKeyRotations", outcome!(client.list_key_rotations().key_id(key))),
        ("GetKeyLastUsage", outcome!(client.get_key_last_usage().key_id(key))),
        ("Encrypt", outcome!(client.encrypt().key_id(key).plaintext(Blob::new("x")))),
        ("GenerateDataKey", outcome!(client.generate_data_key().key_id(key).number_of_bytes(16))),
        ("TagResource", outcome!(client.tag_resource().key_id(key).tags(tag))),
        ("UntagResource", outcome!(client.untag_resource().key_id(key).tag_keys("a"))),
        ("UpdateKeyDescription", outcome!(client.update_key_description().key_id(key).description("d"))),
        (
            "CreateAlias",
            outcome!(client.create_alias().alias_name(format!("alias/{key}")).target_key_id(key)),
        ),
        ("EnableKeyRotation", outcome!(client.enable_key_rotation().key_id(key))),
        ("RotateKeyOnDemand", outcome!(client.rotate_key_on_demand().key_id(key))),
        ("ReplicateKey", outcome!(client.replicate_key().key_id(key).replica_region("us-west-2"))),
        (
            "GetParametersForImport",
            outcome!(
                client
                    .get_parameters_for_import()
                    .key_id(key)
                    .wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256)
                    .wrapping_key_spec(WrappingKeySpec::Rsa2048)
            ),
        ),
        ("DeleteImportedKeyMaterial", outcome!(client.delete_imported_key_material().key_id(key))),
    ]
}

/// Asserts that these operations ended in this error, and of the others none did.
fn assert_refused(
    outcomes: &[(&'static str, Outcome)],
    expected: &(String, Option<String>),
    operations: &[&str],
) {
    let found: Vec<&str> = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.as_ref() == Some(expected))
        .map(|(operation, _)| *operation)
        .collect();
    assert_eq!(found, operations, "{expected:?}");
}

// K-20
#[tokio::test]
async fn a_disabled_key_can_be_managed_and_not_used() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client, OriginType::AwsKms).await;
    client.disable_key().key_id(&id).send().await.unwrap();
    let disabled = refused("DisabledException", &format!("{arn} is disabled."));
    assert_refused(
        &outcomes(&client, &id).await,
        &disabled,
        &["Encrypt", "GenerateDataKey", "EnableKeyRotation", "RotateKeyOnDemand", "ReplicateKey"],
    );
    // Disabled once more is disabled.
    client.disable_key().key_id(&id).send().await.unwrap();
    client.schedule_key_deletion().key_id(&id).send().await.unwrap();
}

// K-20
#[tokio::test]
async fn a_key_pending_deletion_can_be_looked_at() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client, OriginType::AwsKms).await;
    client.schedule_key_deletion().key_id(&id).send().await.unwrap();
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending deletion."));
    assert_refused(
        &outcomes(&client, &id).await,
        &pending,
        &[
            "Encrypt",
            "GenerateDataKey",
            "TagResource",
            "UntagResource",
            "UpdateKeyDescription",
            "CreateAlias",
            "EnableKeyRotation",
            "RotateKeyOnDemand",
            "ReplicateKey",
        ],
    );
    let (id, arn) = make_key(&client, OriginType::External).await;
    client.schedule_key_deletion().key_id(&id).send().await.unwrap();
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending deletion."));
    let outcomes = outcomes(&client, &id).await;
    let of = |name: &str| outcomes.iter().find(|(operation, _)| *operation == name).unwrap().1.clone();
    assert_eq!(of("GetParametersForImport"), Some(pending));
    assert_eq!(of("DeleteImportedKeyMaterial"), None);
}

#[tokio::test]
async fn a_key_pending_import_can_be_managed_and_not_used() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client, OriginType::External).await;
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending import."));
    let outcomes = outcomes(&client, &id).await;
    assert_refused(&outcomes, &pending, &["Encrypt", "GenerateDataKey", "ReplicateKey"]);
    let foreign = refused(
        "UnsupportedOperationException",
        &format!("{arn} origin is EXTERNAL which is not valid for this operation."),
    );
    assert_refused(&outcomes, &foreign, &["EnableKeyRotation"]);
    client.schedule_key_deletion().key_id(&id).send().await.unwrap();
    client.cancel_key_deletion().key_id(&id).send().await.unwrap();
    let key = client.describe_key().key_id(&id).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(key.key_state(), Some(&KeyState::PendingImport));
}

#[tokio::test]
async fn a_key_remembers_its_last_use_through_a_restart() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client, OriginType::AwsKms).await;
    let (other, _) = make_key(&client, OriginType::AwsKms).await;
    let unused = client.get_key_last_usage().key_id(&id).send().await.unwrap();
    let created = unused.key_creation_date.unwrap();
    assert_eq!(unused.key_id(), Some(id.as_str()));
    assert_eq!(unused.tracking_start_date(), Some(&created));
    let none = unused.key_last_usage().unwrap();
    assert_eq!((none.operation(), none.timestamp(), none.kms_request_id()), (None, None, None));

    let sealed = client.encrypt().key_id(&id).plaintext(Blob::new("x")).send().await.unwrap();
    clock.advance(days(3));
    client.describe_key().key_id(&id).send().await.unwrap();
    client.decrypt().set_ciphertext_blob(sealed.ciphertext_blob.clone()).send().await.unwrap();
    // What fails is no use.
    client.disable_key().key_id(&id).send().await.unwrap();
    client.encrypt().key_id(&id).plaintext(Blob::new("x")).send().await.unwrap_err();
    client.enable_key().key_id(&id).send().await.unwrap();
    let used = client.get_key_last_usage().key_id(&id).send().await.unwrap();
    let last = used.key_last_usage().unwrap();
    assert_eq!(last.operation(), Some(&KeyLastUsageTrackingOperation::Decrypt));
    let expected = created.to_millis().unwrap() + i64::try_from(days(3).as_millis()).unwrap();
    assert_eq!(last.timestamp().unwrap().to_millis().unwrap(), expected);
    let line = kms.audit().into_iter().find(|line| line["eventName"] == "Decrypt").unwrap();
    assert_eq!(last.kms_request_id(), line["requestID"].as_str());
    assert_eq!(last.cloud_trail_event_id(), line["eventID"].as_str());

    let moved = client.re_encrypt().set_ciphertext_blob(sealed.ciphertext_blob).destination_key_id(&other);
    moved.send().await.unwrap();
    let kms = kms.restart().await;
    for key in [&id, &other] {
        let used = kms.administrator().get_key_last_usage().key_id(key).send().await.unwrap();
        let last = used.key_last_usage().unwrap();
        assert_eq!(last.operation(), Some(&KeyLastUsageTrackingOperation::ReEncrypt));
    }
}
