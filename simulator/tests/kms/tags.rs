//! Tags and descriptions of keys.

use std::collections::BTreeMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::types::Tag;

use crate::harness::{Kms, refusal, refused};

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().tag_key(key).tag_value(value).build().unwrap()
}

async fn make_key(client: &Client) -> (String, String) {
    let made = client.create_key().send().await.unwrap().key_metadata.unwrap();
    (made.key_id, made.arn.unwrap())
}

async fn tags_of(client: &Client, key: &str) -> BTreeMap<String, String> {
    let listed = client.list_resource_tags().key_id(key).send().await.unwrap();
    listed.tags().iter().map(|tag| (tag.tag_key.clone(), tag.tag_value.clone())).collect()
}

fn expected(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn tags_are_added_replaced_and_removed() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client).await;
    client.tag_resource().key_id(&id).tags(tag("a", "1")).tags(tag("b", "")).send().await.unwrap();
    client.tag_resource().key_id(&id).tags(tag("a", "2")).send().await.unwrap();
    assert_eq!(tags_of(&client, &id).await, expected(&[("a", "2"), ("b", "")]));
    client.untag_resource().key_id(&id).tag_keys("a").tag_keys("none").send().await.unwrap();
    assert_eq!(tags_of(&client, &id).await, expected(&[("b", "")]));
    let kms = kms.restart().await;
    assert_eq!(tags_of(&kms.administrator(), &id).await, expected(&[("b", "")]));
}

#[tokio::test]
async fn tags_that_no_key_can_have_are_refused_in_aws_words() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client).await;
    let many =
        |range: std::ops::Range<u32>| Some(range.map(|n| tag(&n.to_string(), "v")).collect::<Vec<_>>());
    client.tag_resource().key_id(&id).set_tags(many(0..50)).send().await.unwrap();
    for (tags, text) in [
        (many(50..51), "Too many tags"),
        (Some(vec![tag("0", "a"), tag("0", "b")]), "Duplicate tag keys"),
        (Some(vec![tag("aws:a", "a")]), "Tags beginning with aws: are reserved"),
    ] {
        assert_eq!(
            refusal(client.tag_resource().key_id(&id).set_tags(tags).send().await),
            refused("TagException", text)
        );
    }
    // Replacing needs no more room.
    client.tag_resource().key_id(&id).set_tags(many(0..50)).send().await.unwrap();
    let long = "k".repeat(129);
    assert_eq!(
        refusal(client.tag_resource().key_id(&id).tags(tag("a", "b")).tags(tag(&long, "v")).send().await),
        refused(
            "ValidationException",
            &format!(
                "1 validation error detected: Value '{long}' at 'tags.2.member.tagKey' failed to satisfy constraint: \
                 Member must have length less than or equal to 128"
            )
        )
    );
    assert_eq!(tags_of(&client, &id).await.len(), 50);
    let page = client.list_resource_tags().key_id(&id).limit(30).send().await.unwrap();
    assert_eq!((page.tags().len(), page.truncated), (30, true));
    let rest = client.list_resource_tags().key_id(&id).set_marker(page.next_marker).send().await.unwrap();
    assert_eq!((rest.tags().len(), rest.truncated), (20, false));
    assert_eq!(
        refusal(client.list_resource_tags().key_id(&id).limit(51).send().await).0,
        "ValidationException"
    );
}

#[tokio::test]
async fn a_key_pending_deletion_keeps_its_tags_and_description() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    client.update_key_description().key_id(&id).description("new").send().await.unwrap();
    client.disable_key().key_id(&id).send().await.unwrap();
    client.tag_resource().key_id(&id).tags(tag("a", "1")).send().await.unwrap();
    client.schedule_key_deletion().key_id(&id).send().await.unwrap();
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending deletion."));
    assert_eq!(refusal(client.tag_resource().key_id(&id).tags(tag("b", "1")).send().await), pending);
    assert_eq!(refusal(client.untag_resource().key_id(&id).tag_keys("a").send().await), pending);
    assert_eq!(refusal(client.update_key_description().key_id(&id).description("").send().await), pending);
    assert_eq!(tags_of(&client, &id).await, expected(&[("a", "1")]));
    let described = client.describe_key().key_id(&id).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(described.description(), Some("new"));
    let long = client.update_key_description().key_id(&id).description("d".repeat(8193)).send().await;
    assert_eq!(refusal(long).0, "ValidationException");
}
