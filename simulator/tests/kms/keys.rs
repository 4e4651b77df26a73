//! Keys, aliases, policies and lists of the local KMS, through AWS's own client.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::harness::{ACCOUNT, Kms, REGION, config, refusal, refused};
use adyton_simulator::kms::{KmsServer, Transport};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyState, KeyUsageType, OriginType, Tag};

const ABSENT: &str = "8a51b3c0-0000-4000-8000-000000000001";

async fn make_key(client: &Client) -> (String, String) {
    let made = client.create_key().send().await.unwrap().key_metadata.unwrap();
    (made.key_id, made.arn.unwrap())
}

#[tokio::test]
async fn a_new_key_is_symmetric_enabled_and_described_in_full() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let tag = Tag::builder().tag_key("team").tag_value("payments").build().unwrap();
    let made = client.create_key().description("cards").tags(tag).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(
        made.arn.as_deref(),
        Some(format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{}", made.key_id).as_str())
    );
    assert_eq!(made.aws_account_id.as_deref(), Some(ACCOUNT));
    assert_eq!(made.key_state, Some(KeyState::Enabled));
    assert!(made.enabled);
    assert_eq!(made.key_spec, Some(KeySpec::SymmetricDefault));
    assert_eq!(made.key_usage, Some(KeyUsageType::EncryptDecrypt));
    assert_eq!(made.description.as_deref(), Some("cards"));
    assert_eq!(made.current_key_material_id.as_ref().map(String::len), Some(64));
    assert_eq!(made.multi_region, Some(false));
    let described = client.describe_key().key_id(&made.key_id).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(described, made);
    let tags = client.list_resource_tags().key_id(&made.key_id).send().await.unwrap().tags.unwrap();
    assert_eq!((tags[0].tag_key(), tags[0].tag_value()), ("team", "payments"));
}

#[tokio::test]
async fn kinds_of_keys_that_are_not_here_are_named() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let exotic = client.create_key().key_spec(KeySpec::Sm2);
    assert_eq!(
        refusal(exotic.clone().key_usage(KeyUsageType::SignVerify).send().await),
        refused("UnsupportedOperationException", "KeySpec SM2 is not available in the local KMS.")
    );
    assert_eq!(
        refusal(exotic.send().await),
        refused(
            "ValidationException",
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."
        )
    );
    assert_eq!(
        refusal(client.create_key().key_usage(KeyUsageType::SignVerify).send().await),
        refused(
            "ValidationException",
            "KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT"
        )
    );
    assert_eq!(
        refusal(client.create_key().origin(OriginType::ExternalKeyStore).send().await),
        refused("UnsupportedOperationException", "External key stores are not available in the local KMS.")
    );
    let unknown = refusal(client.create_key().key_spec(KeySpec::from("AES_7")).send().await);
    assert_eq!(unknown.0, "ValidationException");
    let text = unknown.1.unwrap();
    assert!(
        text.starts_with(
            "1 validation error detected: Value 'AES_7' at 'keySpec' failed to satisfy constraint: Member must satisfy \
             enum value set: [RSA_2048, "
        ),
        "{text}"
    );
}

#[tokio::test]
async fn tags_are_checked_as_aws_checks_them() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let tag = |key: &str| Tag::builder().tag_key(key).tag_value("v").build().unwrap();
    for (tags, text) in [
        (vec![tag("a"), tag("a")], "Duplicate tag keys"),
        (vec![tag("aws:a")], "Tags beginning with aws: are reserved"),
        ((0..51).map(|n| tag(&n.to_string())).collect(), "Too many tags"),
    ] {
        assert_eq!(
            refusal(client.create_key().set_tags(Some(tags)).send().await),
            refused("TagException", text)
        );
    }
}

// K-9
#[tokio::test]
async fn a_key_is_found_by_id_arn_alias_and_alias_arn() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    client.create_alias().alias_name("alias/payments").target_key_id(&id).send().await.unwrap();
    let alias_arn = format!("arn:aws:kms:{REGION}:{ACCOUNT}:alias/payments");
    for name in [id.as_str(), &arn, "alias/payments", &alias_arn] {
        let sealed = client.encrypt().key_id(name).plaintext(Blob::new("x")).send().await.unwrap();
        // The answer always names the key itself, however it was asked for.
        assert_eq!(sealed.key_id(), Some(arn.as_str()));
    }
}

// K-9
#[tokio::test]
async fn names_that_lead_nowhere_are_refused_in_aws_words() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    let absent = format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{ABSENT}");
    let other_account = format!("arn:aws:kms:{REGION}:444455556666:key/{id}");
    let cases = [
        (ABSENT.to_owned(), format!("Key '{absent}' does not exist")),
        (absent.clone(), format!("Key '{absent}' does not exist")),
        (other_account.clone(), format!("Key '{other_account}' does not exist")),
        ("payments".into(), "Invalid keyId 'payments'".into()),
        (id.to_uppercase(), format!("Invalid keyId '{}'", id.to_uppercase())),
        (arn.replace(REGION, "us-east-1"), "Invalid arn us-east-1".into()),
        (arn.replace(":kms:", ":s3:"), format!("Invalid keyId '{}'", arn.replace(":kms:", ":s3:"))),
        (arn.replace(":key/", ":kеy/"), format!("Invalid arn {REGION}")),
        ("alias/none".into(), format!("Alias arn:aws:kms:{REGION}:{ACCOUNT}:alias/none is not found.")),
    ];
    for (name, text) in cases {
        let answer = client.describe_key().key_id(&name).send().await;
        assert_eq!(refusal(answer), refused("NotFoundException", &text), "{name}");
    }
}

#[tokio::test]
async fn management_takes_no_alias() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client).await;
    client.create_alias().alias_name("alias/a").target_key_id(&id).send().await.unwrap();
    let expected = refused("NotFoundException", "Invalid keyId 'alias/a'");
    assert_eq!(refusal(client.get_key_policy().key_id("alias/a").send().await), expected);
    assert_eq!(refusal(client.disable_key().key_id("alias/a").send().await), expected);
    assert_eq!(refusal(client.schedule_key_deletion().key_id("alias/a").send().await), expected);
    let nested = client.create_alias().alias_name("alias/b").target_key_id("alias/a").send().await;
    assert_eq!(refusal(nested), expected);
}

#[tokio::test]
async fn aliases_are_unique_well_formed_and_listed() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (first, _) = make_key(&client).await;
    let (second, _) = make_key(&client).await;
    let create = |name: &str, key: &str| client.create_alias().alias_name(name).target_key_id(key).send();
    create("alias/a", &first).await.unwrap();
    create("alias/b", &second).await.unwrap();
    assert_eq!(
        refusal(create("alias/a", &second).await),
        refused(
            "AlreadyExistsException",
            &format!("An alias with the name arn:aws:kms:{REGION}:{ACCOUNT}:alias/a already exists")
        )
    );
    let unprefixed = refused(
        "ValidationException",
        "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
    );
    assert_eq!(refusal(create("payments", &first).await), unprefixed);
    assert_eq!(refusal(create("alias/", &first).await), unprefixed);
    assert_eq!(refusal(create("alias/aws/s3", &first).await), ("NotAuthorizedException".into(), None));
    assert_eq!(
        refusal(create("alias/a b", &first).await),
        refused(
            "ValidationException",
            "1 validation error detected: Value 'alias/a b' at 'aliasName' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"
        )
    );
    assert_eq!(refusal(create("alias/c", ABSENT).await).0, "NotFoundException");

    let all = client.list_aliases().send().await.unwrap();
    let names: Vec<&str> = all.aliases().iter().filter_map(|alias| alias.alias_name()).collect();
    assert_eq!(names, ["alias/a", "alias/b"]);
    let of_one = client.list_aliases().key_id(&second).send().await.unwrap();
    assert_eq!(of_one.aliases()[0].target_key_id(), Some(second.as_str()));
    assert_eq!(of_one.aliases().len(), 1);

    client.delete_alias().alias_name("alias/a").send().await.unwrap();
    assert_eq!(refusal(client.delete_alias().alias_name("alias/a").send().await).0, "NotFoundException");
    assert_eq!(refusal(client.describe_key().key_id("alias/a").send().await).0, "NotFoundException");
}

#[tokio::test]
async fn lists_come_in_pages_and_a_foreign_marker_is_refused() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(make_key(&client).await.0);
    }
    made.sort();
    let mut listed = Vec::new();
    let mut marker = None;
    loop {
        let page = client.list_keys().limit(2).set_marker(marker).send().await.unwrap();
        assert!(page.keys().len() <= 2);
        listed.extend(page.keys().iter().map(|key| key.key_id().unwrap().to_owned()));
        assert_eq!(page.truncated, page.next_marker.is_some());
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(listed, made);

    let first = client.list_keys().limit(1).send().await.unwrap().next_marker.unwrap();
    for foreign in ["?", "AAAA", "bm90aGluZw"] {
        assert_eq!(refusal(client.list_keys().marker(foreign).send().await).0, "InvalidMarkerException");
    }
    assert_eq!(refusal(client.list_aliases().marker(first).send().await).0, "InvalidMarkerException");
    assert_eq!(
        refusal(client.list_keys().limit(0).send().await),
        refused(
            "ValidationException",
            "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value \
             greater than or equal to 1"
        )
    );
    assert_eq!(refusal(client.list_keys().limit(1001).send().await).0, "ValidationException");
    assert_eq!(refusal(client.list_aliases().limit(101).send().await).0, "ValidationException");
}

// K-20
#[tokio::test]
async fn a_disabled_key_refuses_cryptography_and_works_again_when_enabled() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    let sealed = client.encrypt().key_id(&id).plaintext(Blob::new("x")).send().await.unwrap().ciphertext_blob;
    client.disable_key().key_id(&id).send().await.unwrap();
    let expected = refused("DisabledException", &format!("{arn} is disabled."));
    let decrypt = || client.decrypt().set_ciphertext_blob(sealed.clone()).send();
    assert_eq!(refusal(decrypt().await), expected);
    assert_eq!(refusal(client.encrypt().key_id(&id).plaintext(Blob::new("x")).send().await), expected);
    assert_eq!(refusal(client.generate_data_key().key_id(&id).number_of_bytes(32).send().await), expected);
    let described = client.describe_key().key_id(&id).send().await.unwrap().key_metadata.unwrap();
    assert_eq!((described.key_state, described.enabled), (Some(KeyState::Disabled), false));
    client.enable_key().key_id(&id).send().await.unwrap();
    assert_eq!(decrypt().await.unwrap().plaintext.unwrap().as_ref(), b"x");
}

// K-20
#[tokio::test]
async fn a_key_pending_deletion_can_only_be_saved_until_the_window_ends() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    client.create_alias().alias_name("alias/a").target_key_id(&id).send().await.unwrap();
    let sealed = client.encrypt().key_id(&id).plaintext(Blob::new("x")).send().await.unwrap().ciphertext_blob;
    let decrypt = || client.decrypt().set_ciphertext_blob(sealed.clone()).send();

    let schedule = client.schedule_key_deletion().key_id(&id).pending_window_in_days(6).send().await;
    assert_eq!(refusal(schedule).0, "ValidationException");
    let scheduled =
        client.schedule_key_deletion().key_id(&id).pending_window_in_days(7).send().await.unwrap();
    assert_eq!(scheduled.key_id(), Some(arn.as_str()));
    assert_eq!(scheduled.key_state, Some(KeyState::PendingDeletion));
    assert_eq!(scheduled.pending_window_in_days, Some(7));
    let expected = refused("KMSInvalidStateException", &format!("{arn} is pending deletion."));
    assert_eq!(refusal(decrypt().await), expected);
    assert_eq!(refusal(client.enable_key().key_id(&id).send().await), expected);
    assert_eq!(refusal(client.disable_key().key_id(&id).send().await), expected);
    assert_eq!(refusal(client.schedule_key_deletion().key_id(&id).send().await), expected);
    let alias = client.create_alias().alias_name("alias/b").target_key_id(&id).send().await;
    assert_eq!(refusal(alias), expected);
    let described = client.describe_key().key_id(&id).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(described.deletion_date, scheduled.deletion_date);

    // Saved, and disabled until somebody says otherwise.
    client.cancel_key_deletion().key_id(&id).send().await.unwrap();
    assert_eq!(refusal(decrypt().await).0, "DisabledException");
    let again = client.cancel_key_deletion().key_id(&id).send().await;
    assert_eq!(
        refusal(again),
        refused("KMSInvalidStateException", &format!("{arn} is not pending deletion."))
    );
    client.enable_key().key_id(&id).send().await.unwrap();
    decrypt().await.unwrap();

    // A start after the window's end removes it for good.
    client.schedule_key_deletion().key_id(&id).pending_window_in_days(7).send().await.unwrap();
    let folder = kms.stop().await;
    let later = SystemTime::now() + Duration::from_hours(7 * 24) + Duration::from_mins(1);
    let mut again = config(folder.path());
    again.clock = Arc::new(move || later);
    drop(KmsServer::open(again).unwrap());
    let again = config(folder.path());
    let kms = Kms::serve(folder, again, Transport::Tls).await;
    let client = kms.administrator();
    assert_eq!(refusal(client.describe_key().key_id(&id).send().await).0, "NotFoundException");
    assert_eq!(refusal(client.describe_key().key_id("alias/a").send().await).0, "NotFoundException");
    let gone = client.decrypt().set_ciphertext_blob(sealed.clone()).send().await;
    assert_eq!(refusal(gone), ("InvalidCiphertextException".into(), None));
}

#[tokio::test]
async fn the_default_policy_leaves_everything_to_iam() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client).await;
    let policy = client.get_key_policy().key_id(&id).send().await.unwrap();
    assert_eq!(policy.policy_name(), Some("default"));
    let policy: serde_json::Value = serde_json::from_str(policy.policy().unwrap()).unwrap();
    assert_eq!(policy["Statement"][0]["Principal"]["AWS"], format!("arn:aws:iam::{ACCOUNT}:root"));
    assert_eq!(policy["Statement"][0]["Action"], "kms:*");
    let names = client.list_key_policies().key_id(&id).send().await.unwrap();
    assert_eq!(names.policy_names(), ["default"]);
    let other = client.get_key_policy().key_id(&id).policy_name("other").send().await;
    assert_eq!(refusal(other), refused("NotFoundException", "No such policy exists"));
}
