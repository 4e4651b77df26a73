//! Several accounts and regions in one process.

use adyton_simulator::kms::User;
use aws_sdk_kms::primitives::Blob;

use crate::harness::{ACCOUNT, Kms, REGION, refusal, refused};

const OTHER_ACCOUNT: &str = "444455556666";
const OTHER_REGION: &str = "us-west-2";

#[tokio::test]
async fn a_region_has_its_own_keys_and_aliases() {
    let kms = Kms::start().await;
    let administrator = kms.server.first_administrator().unwrap();
    let here = kms.client_in(&administrator, REGION);
    let there = kms.client_in(&administrator, OTHER_REGION);
    let key = there.create_key().send().await.unwrap().key_metadata.unwrap();
    let arn = key.arn().unwrap();
    assert_eq!(arn, format!("arn:aws:kms:{OTHER_REGION}:{ACCOUNT}:key/{}", key.key_id()));
    there.create_alias().alias_name("alias/a").target_key_id(arn).send().await.unwrap();

    assert!(here.list_keys().send().await.unwrap().keys().is_empty());
    assert!(here.list_aliases().send().await.unwrap().aliases().is_empty());
    assert_eq!(there.list_keys().send().await.unwrap().keys().len(), 1);
    assert_eq!(there.list_aliases().send().await.unwrap().aliases()[0].target_key_id(), Some(key.key_id()));
    assert_eq!(
        refusal(here.describe_key().key_id(key.key_id()).send().await),
        refused(
            "NotFoundException",
            &format!("Key 'arn:aws:kms:{REGION}:{ACCOUNT}:key/{}' does not exist", key.key_id())
        )
    );
    assert_eq!(
        refusal(here.describe_key().key_id(arn).send().await),
        refused("NotFoundException", &format!("Invalid arn {OTHER_REGION}"))
    );

    let sealed = there.encrypt().key_id("alias/a").plaintext(Blob::new(*b"data")).send().await.unwrap();
    let sealed = sealed.ciphertext_blob.unwrap();
    let refused = refusal(here.decrypt().ciphertext_blob(sealed.clone()).send().await);
    assert_eq!(refused.0, "InvalidCiphertextException");
    let opened = there.decrypt().ciphertext_blob(sealed).send().await.unwrap();
    assert_eq!(opened.plaintext.unwrap().as_ref(), b"data");
}

#[tokio::test]
async fn an_account_has_its_own_keys_and_aliases() {
    let kms = Kms::start().await;
    let other = User::generate(format!("arn:aws:iam::{OTHER_ACCOUNT}:user/admin"), true).unwrap();
    kms.server.add_user(&other).unwrap();
    let (ours, theirs) = (kms.administrator(), kms.client(&other));
    for client in [&ours, &theirs] {
        let key = client.create_key().send().await.unwrap().key_metadata.unwrap();
        client.create_alias().alias_name("alias/same").target_key_id(key.key_id()).send().await.unwrap();
        let listed = client.list_keys().send().await.unwrap();
        assert_eq!(listed.keys().iter().map(|key| key.key_id().unwrap()).collect::<Vec<_>>(), [key.key_id()]);
        let named = client.describe_key().key_id("alias/same").send().await.unwrap().key_metadata.unwrap();
        assert_eq!(named, key);
    }
}

#[tokio::test]
async fn multi_region_keys_and_keys_for_import_are_shown_as_what_they_are() {
    use aws_sdk_kms::types::{KeySpec, KeyState, KeyUsageType, MultiRegionKeyType, OriginType};
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = client.create_key().multi_region(true).send().await.unwrap().key_metadata.unwrap();
    assert!(key.key_id().starts_with("mrk-"));
    let regions = key.multi_region_configuration().unwrap();
    assert_eq!(regions.multi_region_key_type(), Some(&MultiRegionKeyType::Primary));
    assert_eq!(regions.primary_key().unwrap().region(), Some(REGION));

    let key = client.create_key().origin(OriginType::External).send().await.unwrap().key_metadata.unwrap();
    assert_eq!((key.key_state(), key.enabled()), (Some(&KeyState::PendingImport), false));
    assert_eq!(key.current_key_material_id(), None);
    let arn = key.arn().unwrap();
    assert_eq!(
        refusal(client.encrypt().key_id(arn).plaintext(Blob::new(*b"data")).send().await),
        refused("KMSInvalidStateException", &format!("{arn} is pending import."))
    );

    let mac = client.create_key().key_spec(KeySpec::Hmac384).key_usage(KeyUsageType::GenerateVerifyMac);
    let key = mac.send().await.unwrap().key_metadata.unwrap();
    assert_eq!(key.mac_algorithms().len(), 1);
    let arn = key.arn().unwrap();
    assert_eq!(
        refusal(client.encrypt().key_id(arn).plaintext(Blob::new(*b"data")).send().await),
        refused(
            "InvalidKeyUsageException",
            &format!("{arn} key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt.")
        )
    );
}
