//! Rotation of keys: by the calendar, on demand, in the middle of work.

use std::time::Duration;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::{Blob, DateTime};
use aws_sdk_kms::types::{
    IncludeKeyMaterial, KeyMaterialState, KeySpec, KeyUsageType, OriginType, RotationType, RotationsListEntry,
};

use crate::harness::{Kms, days, refusal, refused};

async fn make_key(client: &Client) -> (String, String) {
    let made = client.create_key().send().await.unwrap().key_metadata.unwrap();
    (made.key_id, made.arn.unwrap())
}

async fn encrypt(client: &Client, key: &str) -> Blob {
    let sealed = client.encrypt().key_id(key).plaintext(Blob::new("x")).send().await.unwrap();
    sealed.ciphertext_blob.unwrap()
}

/// The material that a ciphertext opens with.
async fn material_of(client: &Client, sealed: &Blob) -> String {
    let opened = client.decrypt().ciphertext_blob(sealed.clone()).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"x");
    opened.key_material_id.unwrap()
}

async fn current(client: &Client, key: &str) -> String {
    let key = client.describe_key().key_id(key).send().await.unwrap().key_metadata.unwrap();
    key.current_key_material_id.unwrap()
}

async fn all_materials(client: &Client, key: &str) -> Vec<RotationsListEntry> {
    let all = IncludeKeyMaterial::AllKeyMaterial;
    let listed = client.list_key_rotations().key_id(key).include_key_material(all).send().await.unwrap();
    listed.rotations.unwrap()
}

fn later(date: &DateTime, by: Duration) -> i64 {
    date.to_millis().unwrap() + i64::try_from(by.as_millis()).unwrap()
}

#[tokio::test]
async fn a_key_rotates_by_itself_when_its_date_has_come_and_old_ciphertexts_still_open() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client).await;
    let first = current(&client, &id).await;
    let sealed = encrypt(&client, &id).await;
    let status = client.get_key_rotation_status().key_id(&id).send().await.unwrap();
    assert!(!status.key_rotation_enabled);
    assert_eq!((status.rotation_period_in_days, status.next_rotation_date), (None, None));
    assert_eq!(status.key_id(), Some(id.as_str()));

    client.enable_key_rotation().key_id(&id).send().await.unwrap();
    let status = client.get_key_rotation_status().key_id(&id).send().await.unwrap();
    assert!(status.key_rotation_enabled);
    assert_eq!(status.rotation_period_in_days, Some(365));
    assert_eq!(status.on_demand_rotation_start_date, None);
    let due = status.next_rotation_date.unwrap();

    clock.advance(days(364) + Duration::from_secs(86_399));
    assert_eq!(current(&client, &id).await, first);
    clock.advance(Duration::from_secs(1));
    let second = current(&client, &id).await;
    assert_ne!(second, first);
    assert_eq!(material_of(&client, &encrypt(&client, &id).await).await, second);
    assert_eq!(material_of(&client, &sealed).await, first);
    let status = client.get_key_rotation_status().key_id(&id).send().await.unwrap();
    assert_eq!(status.next_rotation_date.unwrap().to_millis().unwrap(), later(&due, days(365)));

    let listed = client.list_key_rotations().key_id(&id).send().await.unwrap();
    let [entry] = listed.rotations() else { panic!("{listed:?}") };
    assert_eq!(entry.key_id(), Some(id.as_str()));
    assert_eq!(entry.key_material_id(), Some(second.as_str()));
    assert_eq!(entry.key_material_state(), Some(&KeyMaterialState::Current));
    assert_eq!(entry.rotation_type(), Some(&RotationType::Automatic));
    assert_eq!(entry.rotation_date(), Some(&due));
    assert_eq!((entry.import_state(), entry.expiration_model(), entry.valid_to()), (None, None, None));
    let all = all_materials(&client, &id).await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].key_material_id(), Some(first.as_str()));
    assert_eq!(all[0].key_material_state(), Some(&KeyMaterialState::NonCurrent));
    assert_eq!((all[0].rotation_type(), all[0].rotation_date()), (None, None));
}

#[tokio::test]
async fn rotations_that_nobody_looked_at_have_happened_on_their_dates() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client).await;
    client.enable_key_rotation().key_id(&id).rotation_period_in_days(90).send().await.unwrap();
    let status = client.get_key_rotation_status().key_id(&id).send().await.unwrap();
    let due = status.next_rotation_date.unwrap();
    clock.advance(days(5 * 90 + 1));
    let mut dates = Vec::new();
    let mut marker = None;
    loop {
        let page = client.list_key_rotations().key_id(&id).limit(2).set_marker(marker).send().await.unwrap();
        assert!(page.rotations().len() <= 2);
        assert_eq!(page.truncated, page.next_marker.is_some());
        dates
            .extend(page.rotations().iter().map(|entry| entry.rotation_date().unwrap().to_millis().unwrap()));
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(dates, (0..5).map(|n| later(&due, days(90 * n))).collect::<Vec<_>>());
    let foreign = client.list_key_rotations().key_id(&id).marker("AAAA").send().await;
    assert_eq!(refusal(foreign).0, "InvalidMarkerException");

    client.disable_key_rotation().key_id(&id).send().await.unwrap();
    clock.advance(days(1000));
    assert_eq!(all_materials(&client, &id).await.len(), 6);
    assert!(!client.get_key_rotation_status().key_id(&id).send().await.unwrap().key_rotation_enabled);
}

#[tokio::test]
async fn a_disabled_key_makes_up_for_its_rotations_once_and_one_pending_deletion_never() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    client.enable_key_rotation().key_id(&id).rotation_period_in_days(100).send().await.unwrap();
    client.disable_key().key_id(&id).send().await.unwrap();
    clock.advance(days(950));
    assert_eq!(all_materials(&client, &id).await.len(), 1);
    let disabled = refused("DisabledException", &format!("{arn} is disabled."));
    assert_eq!(refusal(client.enable_key_rotation().key_id(&id).send().await), disabled);
    assert_eq!(refusal(client.disable_key_rotation().key_id(&id).send().await), disabled);
    assert_eq!(refusal(client.rotate_key_on_demand().key_id(&id).send().await), disabled);
    assert!(client.get_key_rotation_status().key_id(&id).send().await.unwrap().key_rotation_enabled);
    client.enable_key().key_id(&id).send().await.unwrap();
    assert_eq!(all_materials(&client, &id).await.len(), 2);
    clock.advance(days(100));
    assert_eq!(all_materials(&client, &id).await.len(), 3);

    client.schedule_key_deletion().key_id(&id).send().await.unwrap();
    assert!(!client.get_key_rotation_status().key_id(&id).send().await.unwrap().key_rotation_enabled);
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending deletion."));
    assert_eq!(refusal(client.enable_key_rotation().key_id(&id).send().await), pending);
    assert_eq!(refusal(client.rotate_key_on_demand().key_id(&id).send().await), pending);
    client.cancel_key_deletion().key_id(&id).send().await.unwrap();
    let status = client.get_key_rotation_status().key_id(&id).send().await.unwrap();
    assert_eq!((status.key_rotation_enabled, status.rotation_period_in_days), (true, Some(100)));
}

#[tokio::test]
async fn a_key_can_be_rotated_on_demand_twenty_five_times_in_its_life() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, _) = make_key(&client).await;
    client.enable_key_rotation().key_id(&id).send().await.unwrap();
    let before = client.get_key_rotation_status().key_id(&id).send().await.unwrap().next_rotation_date;
    let mut sealed = vec![encrypt(&client, &id).await];
    for _ in 0..25 {
        let rotated = client.rotate_key_on_demand().key_id(&id).send().await.unwrap();
        assert_eq!(rotated.key_id(), Some(id.as_str()));
        sealed.push(encrypt(&client, &id).await);
    }
    assert_eq!(
        refusal(client.rotate_key_on_demand().key_id(&id).send().await),
        refused("LimitExceededException", &format!("On-demand rotation quota for KMS key {id} is exceeded."))
    );
    // The calendar is not touched by it.
    let after = client.get_key_rotation_status().key_id(&id).send().await.unwrap().next_rotation_date;
    assert_eq!(after, before);
    let all = all_materials(&client, &id).await;
    assert_eq!(all.len(), 26);
    for (entry, sealed) in all.iter().zip(&sealed) {
        assert_eq!(entry.key_material_id(), Some(material_of(&client, sealed).await.as_str()));
    }
    assert!(all[1..].iter().all(|entry| entry.rotation_type() == Some(&RotationType::OnDemand)));

    let (other, _) = make_key(&client).await;
    client.enable_key_rotation().key_id(&other).rotation_period_in_days(90).send().await.unwrap();
    clock.advance(days(89) + Duration::from_mins(24 * 60 - 19));
    assert_eq!(refusal(client.rotate_key_on_demand().key_id(&other).send().await).0, "ConflictException");
}

// K-20
#[tokio::test]
async fn a_job_that_began_before_a_rotation_ends_after_it() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_key(&client).await;
    let data_key = client.generate_data_key().key_id(&id).number_of_bytes(32).send().await.unwrap();
    client.rotate_key_on_demand().key_id(&id).send().await.unwrap();
    let opened = client
        .decrypt()
        .set_ciphertext_blob(data_key.ciphertext_blob.clone())
        .key_id(&arn)
        .send()
        .await
        .unwrap();
    assert_eq!(opened.plaintext, data_key.plaintext);
    assert_eq!(opened.key_material_id, data_key.key_material_id);
    // A re-encryption of it goes to the new material.
    let moved = client
        .re_encrypt()
        .set_ciphertext_blob(data_key.ciphertext_blob)
        .destination_key_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(moved.source_key_material_id, opened.key_material_id);
    assert_eq!(moved.destination_key_material_id, Some(current(&client, &id).await));

    // And all of it is on the disk.
    let kms = kms.restart().await;
    let client = kms.administrator();
    let again = client.decrypt().set_ciphertext_blob(moved.ciphertext_blob).send().await.unwrap();
    assert_eq!(again.plaintext, data_key.plaintext);
    assert_eq!(all_materials(&client, &id).await.len(), 2);
}

#[tokio::test]
async fn only_symmetric_keys_made_here_rotate_and_only_within_the_bounds() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let mac = client.create_key().key_spec(KeySpec::Hmac256).key_usage(KeyUsageType::GenerateVerifyMac);
    let mac = mac.send().await.unwrap().key_metadata.unwrap().key_id;
    let unsupported = ("UnsupportedOperationException".to_owned(), None);
    assert_eq!(refusal(client.enable_key_rotation().key_id(&mac).send().await), unsupported);
    assert_eq!(refusal(client.rotate_key_on_demand().key_id(&mac).send().await), unsupported);
    assert_eq!(refusal(client.list_key_rotations().key_id(&mac).send().await), unsupported);
    assert!(!client.get_key_rotation_status().key_id(&mac).send().await.unwrap().key_rotation_enabled);

    let made = client.create_key().origin(OriginType::External).send().await.unwrap().key_metadata.unwrap();
    let (imported, arn) = (made.key_id, made.arn.unwrap());
    let foreign = refused(
        "UnsupportedOperationException",
        &format!("{arn} origin is EXTERNAL which is not valid for this operation."),
    );
    assert_eq!(refusal(client.enable_key_rotation().key_id(&imported).send().await), foreign);
    assert_eq!(refusal(client.disable_key_rotation().key_id(&imported).send().await), foreign);
    assert_eq!(refusal(client.get_key_rotation_status().key_id(&imported).send().await), foreign);
    assert_eq!(
        refusal(client.rotate_key_on_demand().key_id(&imported).send().await),
        refused(
            "KMSInvalidStateException",
            &format!("No available key material pending rotation for the key: {arn}.")
        )
    );

    let (id, _) = make_key(&client).await;
    for (period, bound) in [(89, "greater than or equal to 90"), (2561, "less than or equal to 2560")] {
        let text = format!(
            "1 validation error detected: Value '{period}' at 'rotationPeriodInDays' failed to satisfy constraint: \
             Member must have value {bound}"
        );
        let refusal =
            refusal(client.enable_key_rotation().key_id(&id).rotation_period_in_days(period).send().await);
        assert_eq!(refusal, refused("ValidationException", &text));
    }
}
