//! Aliases that move from key to key.

use aws_sdk_kms::Client;
use aws_sdk_kms::types::{KeySpec, KeyUsageType};

use crate::harness::{ACCOUNT, Kms, REGION, days, refusal, refused};

async fn make_key(client: &Client) -> (String, String) {
    let made = client.create_key().send().await.unwrap().key_metadata.unwrap();
    (made.key_id, made.arn.unwrap())
}

fn arn_of(alias: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:{alias}")
}

#[tokio::test]
async fn an_alias_moves_to_another_key_of_its_kind_and_to_no_other() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (first, _) = make_key(&client).await;
    let (second, second_arn) = make_key(&client).await;
    client.create_alias().alias_name("alias/a").target_key_id(&first).send().await.unwrap();
    clock.advance(days(1));
    client.update_alias().alias_name("alias/a").target_key_id(&second_arn).send().await.unwrap();
    let listed = client.list_aliases().send().await.unwrap();
    let alias = &listed.aliases()[0];
    assert_eq!(alias.target_key_id(), Some(second.as_str()));
    assert!(alias.last_updated_date().unwrap() > alias.creation_date().unwrap());
    assert!(client.list_aliases().key_id(&first).send().await.unwrap().aliases().is_empty());
    assert_eq!(client.list_aliases().key_id(&second).send().await.unwrap().aliases().len(), 1);
    let described = client.describe_key().key_id("alias/a").send().await.unwrap().key_metadata.unwrap();
    assert_eq!(described.key_id(), second);

    let mac = client.create_key().key_spec(KeySpec::Hmac256).key_usage(KeyUsageType::GenerateVerifyMac);
    let mac = mac.send().await.unwrap().key_metadata.unwrap().key_id;
    let moved = client.update_alias().alias_name("alias/a").target_key_id(&mac).send().await;
    assert_eq!(refusal(moved).0, "ValidationException");
    let none = client.update_alias().alias_name("alias/none").target_key_id(&first).send().await;
    let missing = format!("Alias {} is not found.", arn_of("alias/none"));
    assert_eq!(refusal(none), refused("NotFoundException", &missing));
    let reserved = client.update_alias().alias_name("alias/aws/s3").target_key_id(&first).send().await;
    assert_eq!(refusal(reserved), ("NotAuthorizedException".into(), None));
    let reserved = client.delete_alias().alias_name("alias/aws/s3").send().await;
    assert_eq!(refusal(reserved), ("NotAuthorizedException".into(), None));
}

#[tokio::test]
async fn an_alias_leaves_a_key_that_is_pending_deletion_but_goes_to_none() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (first, first_arn) = make_key(&client).await;
    let (second, _) = make_key(&client).await;
    client.create_alias().alias_name("alias/a").target_key_id(&first).send().await.unwrap();
    client.schedule_key_deletion().key_id(&first).send().await.unwrap();
    client.update_alias().alias_name("alias/a").target_key_id(&second).send().await.unwrap();
    let back = client.update_alias().alias_name("alias/a").target_key_id(&first).send().await;
    let pending = refused("KMSInvalidStateException", &format!("{first_arn} is pending deletion."));
    assert_eq!(refusal(back), pending);
    client.disable_key().key_id(&second).send().await.unwrap();
    client.delete_alias().alias_name("alias/a").send().await.unwrap();
}

#[tokio::test]
async fn a_key_has_at_most_fifty_aliases() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    let (other, _) = make_key(&client).await;
    client.create_alias().alias_name("alias/other").target_key_id(&other).send().await.unwrap();
    for n in 0..50 {
        client.create_alias().alias_name(format!("alias/{n:02}")).target_key_id(&id).send().await.unwrap();
    }
    let full = refused("LimitExceededException", &format!("The KMS key {arn} already has 50 aliases."));
    assert_eq!(refusal(client.create_alias().alias_name("alias/50").target_key_id(&id).send().await), full);
    assert_eq!(
        refusal(client.update_alias().alias_name("alias/other").target_key_id(&id).send().await),
        full
    );
    // Pointed again to the key that it names already, an alias is no further one.
    client.update_alias().alias_name("alias/00").target_key_id(&id).send().await.unwrap();
    let page = client.list_aliases().send().await.unwrap();
    assert_eq!((page.aliases().len(), page.truncated), (50, true));
    let rest = client.list_aliases().set_marker(page.next_marker).send().await.unwrap();
    assert_eq!((rest.aliases().len(), rest.truncated, rest.next_marker), (1, false, None));
}
