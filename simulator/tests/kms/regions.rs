//! Keys of several regions.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, ImportType, IncludeKeyMaterial, KeyMaterialState, KeyMetadata, KeyState,
    MultiRegionKeyType, OriginType, Tag,
};

use crate::harness::{ACCOUNT, Kms, MovingClock, REGION, days, refusal, refused};
use crate::import::import;

const SECOND: &str = "us-west-2";
const THIRD: &str = "ap-southeast-1";

/// A key in three regions and a client for each.
struct Trio {
    kms: Kms,
    clock: MovingClock,
    clients: [Client; 3],
    id: String,
}

impl Trio {
    async fn new() -> Self {
        let (kms, clock) = Kms::start_moving().await;
        let administrator = kms.server.first_administrator().unwrap();
        let clients = [REGION, SECOND, THIRD].map(|region| kms.client_in(&administrator, region));
        let made = clients[0].create_key().multi_region(true).description("first").send().await.unwrap();
        let id = made.key_metadata.unwrap().key_id;
        for region in [SECOND, THIRD] {
            clients[0].replicate_key().key_id(&id).replica_region(region).send().await.unwrap();
        }
        Self { kms, clock, clients, id }
    }

    async fn described(&self, place: usize) -> KeyMetadata {
        let call = self.clients[place].describe_key().key_id(&self.id).send();
        call.await.unwrap().key_metadata.unwrap()
    }

    fn arn(&self, region: &str) -> String {
        format!("arn:aws:kms:{region}:{ACCOUNT}:key/{}", self.id)
    }

    async fn encrypt(&self, place: usize) -> Blob {
        let sealed = self.clients[place].encrypt().key_id(&self.id).plaintext(Blob::new("x"));
        sealed.send().await.unwrap().ciphertext_blob.unwrap()
    }

    /// Opens it in a region, and names the material.
    async fn material_of(&self, place: usize, sealed: &Blob) -> String {
        let opened = self.clients[place].decrypt().ciphertext_blob(sealed.clone()).send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), b"x");
        opened.key_material_id.unwrap()
    }
}

fn regions_of(key: &KeyMetadata) -> (&MultiRegionKeyType, &str, Vec<&str>) {
    let regions = key.multi_region_configuration().unwrap();
    (
        regions.multi_region_key_type().unwrap(),
        regions.primary_key().unwrap().region().unwrap(),
        regions.replica_keys().iter().map(|key| key.region().unwrap()).collect(),
    )
}

#[tokio::test]
async fn a_replica_has_the_same_id_and_material_and_a_life_of_its_own() {
    let (kms, _) = Kms::start_moving().await;
    let administrator = kms.server.first_administrator().unwrap();
    let (here, there) = (kms.client_in(&administrator, REGION), kms.client_in(&administrator, SECOND));
    let made = here.create_key().multi_region(true).description("here").send().await.unwrap();
    let made = made.key_metadata.unwrap();
    let tag = Tag::builder().tag_key("a").tag_value("1").build().unwrap();
    let replicate = || here.replicate_key().key_id(made.key_id()).replica_region(SECOND);
    let replicated = replicate().description("there").tags(tag).send().await.unwrap();
    let replica = replicated.replica_key_metadata().unwrap();
    assert_eq!((replica.key_state(), replica.enabled()), (Some(&KeyState::Creating), false));
    let arn = format!("arn:aws:kms:{SECOND}:{ACCOUNT}:key/{}", made.key_id());
    assert_eq!((replica.arn(), replica.key_id()), (Some(arn.as_str()), made.key_id()));
    assert_eq!(replica.description(), Some("there"));
    assert_eq!(regions_of(replica), (&MultiRegionKeyType::Replica, REGION, vec![SECOND]));
    assert!(replicated.replica_policy().unwrap().contains("Enable IAM User Permissions"));
    assert_eq!(replicated.replica_tags().len(), 1);

    let described = there.describe_key().key_id(&arn).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(described.key_state(), Some(&KeyState::Enabled));
    assert_eq!(described.current_key_material_id, made.current_key_material_id);
    let primary = here.describe_key().key_id(made.key_id()).send().await.unwrap().key_metadata.unwrap();
    assert_eq!(regions_of(&primary), (&MultiRegionKeyType::Primary, REGION, vec![SECOND]));
    assert_eq!(primary.description(), Some("here"));

    let sealed = here.encrypt().key_id(made.key_id()).plaintext(Blob::new("x")).send().await.unwrap();
    let opened = there.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"x");
    assert_eq!(opened.key_id(), Some(arn.as_str()));
    there.disable_key().key_id(&arn).send().await.unwrap();
    here.encrypt().key_id(made.key_id()).plaintext(Blob::new("x")).send().await.unwrap();

    assert_eq!(
        refusal(replicate().send().await),
        refused(
            "AlreadyExistsException",
            &format!(
                "Unable to replicate key {} to region {SECOND}, as the key already exist there",
                made.key_id()
            )
        )
    );
    let from_replica = there.replicate_key().key_id(&arn).replica_region(THIRD).send().await;
    assert_eq!(refusal(from_replica).0, "DisabledException");
    there.enable_key().key_id(&arn).send().await.unwrap();
    let from_replica = there.replicate_key().key_id(&arn).replica_region(THIRD).send().await;
    assert_eq!(refusal(from_replica).0, "UnsupportedOperationException");
    let single = here.create_key().send().await.unwrap().key_metadata.unwrap().key_id;
    assert_eq!(
        refusal(here.replicate_key().key_id(&single).replica_region(SECOND).send().await),
        refused(
            "UnsupportedOperationException",
            &format!("Unable to replicate a non-MultiRegion key {single}")
        )
    );
    assert_eq!(
        refusal(here.replicate_key().key_id(made.key_id()).replica_region("Mars").send().await),
        refused(
            "ValidationException",
            "1 validation error detected: Value 'Mars' at 'replicaRegion' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: ^([a-z]+-){2,3}\\d+$"
        )
    );
}

#[tokio::test]
async fn a_rotation_is_the_same_in_all_regions() {
    let trio = Trio::new().await;
    let before = trio.encrypt(1).await;
    let [here, there, _] = &trio.clients;
    here.enable_key_rotation().key_id(&trio.id).rotation_period_in_days(90).send().await.unwrap();
    let status = there.get_key_rotation_status().key_id(&trio.id).send().await.unwrap();
    assert_eq!((status.key_rotation_enabled, status.rotation_period_in_days), (true, Some(90)));
    assert_eq!(
        refusal(there.enable_key_rotation().key_id(&trio.id).send().await).0,
        "UnsupportedOperationException"
    );
    assert_eq!(
        refusal(there.rotate_key_on_demand().key_id(&trio.id).send().await).0,
        "UnsupportedOperationException"
    );

    trio.clock.advance(days(90));
    // Looked at in a replica first.
    let automatic = trio.encrypt(2).await;
    here.rotate_key_on_demand().key_id(&trio.id).send().await.unwrap();
    let demanded = trio.encrypt(1).await;
    let mut materials = Vec::new();
    for sealed in [&before, &automatic, &demanded] {
        let material = trio.material_of(0, sealed).await;
        assert_eq!(trio.material_of(1, sealed).await, material);
        assert_eq!(trio.material_of(2, sealed).await, material);
        materials.push(material);
    }
    materials.dedup();
    assert_eq!(materials.len(), 3);
    let lists = trio.clients.each_ref().map(|client| client.list_key_rotations().key_id(&trio.id).send());
    for list in lists {
        assert_eq!(list.await.unwrap().rotations().len(), 2);
    }
}

#[tokio::test]
async fn the_primary_region_moves() {
    let trio = Trio::new().await;
    let [here, there, _] = &trio.clients;
    here.enable_key_rotation().key_id(&trio.id).rotation_period_in_days(90).send().await.unwrap();
    let moved = |client: &Client, region: &str| {
        client.update_primary_region().key_id(&trio.id).primary_region(region).send()
    };
    assert_eq!(
        refusal(moved(here, "eu-west-3").await),
        refused("NotFoundException", &format!("Key '{}' does not exist", trio.arn("eu-west-3")))
    );
    assert_eq!(refusal(moved(there, THIRD).await).0, "UnsupportedOperationException");
    moved(here, SECOND).await.unwrap();
    for (place, kind) in
        [(0, MultiRegionKeyType::Replica), (1, MultiRegionKeyType::Primary), (2, MultiRegionKeyType::Replica)]
    {
        assert_eq!(regions_of(&trio.described(place).await), (&kind, SECOND, vec![THIRD, REGION]));
    }
    assert_eq!(refusal(moved(here, THIRD).await).0, "UnsupportedOperationException");
    // The calendar goes along.
    trio.clock.advance(days(90));
    let rotations = here.list_key_rotations().key_id(&trio.id).send().await.unwrap();
    assert_eq!(rotations.rotations().len(), 1);
    there.rotate_key_on_demand().key_id(&trio.id).send().await.unwrap();
}

#[tokio::test]
async fn a_primary_key_outlives_its_replicas() {
    let trio = Trio::new().await;
    let [here, there, third] = &trio.clients;
    let scheduled = here.schedule_key_deletion().key_id(&trio.id).pending_window_in_days(10);
    let scheduled = scheduled.send().await.unwrap();
    assert_eq!(scheduled.key_state(), Some(&KeyState::PendingReplicaDeletion));
    assert_eq!((scheduled.deletion_date(), scheduled.pending_window_in_days()), (None, Some(10)));
    let primary = trio.described(0).await;
    assert_eq!(primary.key_state(), Some(&KeyState::PendingReplicaDeletion));
    assert_eq!((primary.deletion_date(), primary.pending_deletion_window_in_days()), (None, Some(10)));
    assert_eq!(
        refusal(here.encrypt().key_id(&trio.id).plaintext(Blob::new("x")).send().await),
        refused("KMSInvalidStateException", &format!("{} is pending replica deletion.", trio.arn(REGION)))
    );
    here.cancel_key_deletion().key_id(&trio.id).send().await.unwrap();
    assert_eq!(trio.described(0).await.key_state(), Some(&KeyState::Disabled));
    here.schedule_key_deletion().key_id(&trio.id).pending_window_in_days(10).send().await.unwrap();

    there.schedule_key_deletion().key_id(&trio.id).pending_window_in_days(7).send().await.unwrap();
    third.schedule_key_deletion().key_id(&trio.id).pending_window_in_days(8).send().await.unwrap();
    trio.clock.advance(days(7));
    assert_eq!(regions_of(&trio.described(0).await).2, [THIRD]);
    assert_eq!(trio.described(0).await.key_state(), Some(&KeyState::PendingReplicaDeletion));
    assert_eq!(refusal(there.describe_key().key_id(&trio.id).send().await).0, "NotFoundException");
    trio.clock.advance(days(1));
    let primary = trio.described(0).await;
    assert_eq!(primary.key_state(), Some(&KeyState::PendingDeletion));
    assert_eq!(primary.pending_deletion_window_in_days(), None);
    assert!(primary.deletion_date().is_some());
    assert!(regions_of(&primary).2.is_empty());
    trio.clock.advance(days(10));
    assert_eq!(refusal(here.describe_key().key_id(&trio.id).send().await).0, "NotFoundException");
    assert!(here.list_keys().send().await.unwrap().keys().is_empty());
    drop(trio.kms);
}

#[tokio::test]
async fn a_whole_family_that_nobody_looked_at_is_gone_in_time() {
    let trio = Trio::new().await;
    for client in &trio.clients {
        client.schedule_key_deletion().key_id(&trio.id).pending_window_in_days(7).send().await.unwrap();
    }
    // The replicas after seven days, the primary seven days later.
    trio.clock.advance(days(14));
    for client in &trio.clients {
        assert_eq!(refusal(client.describe_key().key_id(&trio.id).send().await).0, "NotFoundException");
    }
}

#[tokio::test]
async fn imported_material_is_imported_in_each_region_before_it_is_rotated_to() {
    let (kms, _) = Kms::start_moving().await;
    let administrator = kms.server.first_administrator().unwrap();
    let (here, there) = (kms.client_in(&administrator, REGION), kms.client_in(&administrator, SECOND));
    let made = here.create_key().multi_region(true).origin(OriginType::External).send().await.unwrap();
    let id = made.key_metadata.unwrap().key_id;
    let wrapping = || AlgorithmSpec::RsaesOaepSha256;
    let first = import(&here, &id, wrapping(), &[1; 32]).await.send().await.unwrap().key_material_id;
    here.replicate_key().key_id(&id).replica_region(SECOND).send().await.unwrap();
    let state = |client: &Client| {
        let call = client.describe_key().key_id(&id).send();
        async move { call.await.unwrap().key_metadata.unwrap().key_state.unwrap() }
    };
    assert_eq!(state(&there).await, KeyState::PendingImport);
    let other = import(&there, &id, wrapping(), &[2; 32]).await.send().await;
    assert_eq!(refusal(other).0, "IncorrectKeyMaterialException");
    let same = import(&there, &id, wrapping(), &[1; 32]).await.send().await.unwrap();
    assert_eq!(same.key_material_id, first);
    assert_eq!(state(&there).await, KeyState::Enabled);
    let sealed = here.encrypt().key_id(&id).plaintext(Blob::new("x")).send().await.unwrap();
    there.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await.unwrap();

    let new = import(&there, &id, wrapping(), &[2; 32]).await.import_type(ImportType::NewKeyMaterial);
    assert_eq!(refusal(new.send().await).0, "UnsupportedOperationException");
    let new = import(&here, &id, wrapping(), &[2; 32]).await.import_type(ImportType::NewKeyMaterial);
    let second = new.send().await.unwrap().key_material_id;
    let pending = |client: &Client| {
        let all = IncludeKeyMaterial::AllKeyMaterial;
        let call = client.list_key_rotations().key_id(&id).include_key_material(all).send();
        async move { call.await.unwrap().rotations.unwrap().pop().unwrap().key_material_state.unwrap() }
    };
    assert_eq!(pending(&here).await, KeyMaterialState::PendingMultiRegionImportAndRotation);
    let rotate = || here.rotate_key_on_demand().key_id(&id).send();
    assert_eq!(refusal(rotate().await).0, "KMSInvalidStateException");
    let existing = import(&there, &id, wrapping(), &[2; 32]).await;
    existing.import_type(ImportType::ExistingKeyMaterial).send().await.unwrap();
    assert_eq!(pending(&here).await, KeyMaterialState::PendingRotation);
    rotate().await.unwrap();
    for client in [&here, &there] {
        let key = client.describe_key().key_id(&id).send().await.unwrap().key_metadata.unwrap();
        assert_eq!(key.current_key_material_id, second);
        assert_eq!(pending(client).await, KeyMaterialState::Current);
    }
}
