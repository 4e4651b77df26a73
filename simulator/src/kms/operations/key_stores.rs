//! Custom key stores: made, connected, described, changed, disconnected, deleted.
//!
//! Source: AWS KMS API reference; developer guide, "AWS `CloudHSM` key stores". Connecting is done when
//! the call is answered; a wrong password is seen in the `ConnectionState` afterwards, as with AWS.

use serde_json::{Value, json};

use super::lists::Page;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::hsm::{Cluster, HsmError, Password, parse_anchor};
use crate::kms::input::Input;
use crate::kms::key_store::{Connection, Failure, KeyStoreRecord, not_found, place};

const MAX_ID: usize = 64;
const MAX_NAME: usize = 256;
const MAX_ANCHOR: usize = 5000;
const TYPES: [&str; 2] = ["AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"];

pub(super) fn create(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = input.text("CustomKeyStoreName", 1..=MAX_NAME)?;
    let name = input.require("CustomKeyStoreName", name);
    let cluster = cluster_id(&mut input)?;
    let anchor = input.text("TrustAnchorCertificate", 1..=MAX_ANCHOR)?;
    let password = password(&mut input)?;
    let kind = input.choice("CustomKeyStoreType", &TYPES)?;
    input.finish()?;
    session.authorize_by_identity("CreateCustomKeyStore", None)?;
    refuse_external(&input, kind)?;
    let (Some(cluster), Some(anchor), Some(password)) = (cluster, anchor, password) else {
        return Err(ApiError::validation(
            "CloudHsmClusterId, TrustAnchorCertificate and KeyStorePassword are required for custom key stores with a CustomKeyStoreType of AWS_CLOUDHSM.",
        ));
    };

    let service = session.service;
    let found = service.clusters.get(&cluster).ok_or_else(cluster_not_found)?;
    if parse_anchor(anchor.as_bytes()).as_ref() != Some(found.anchor()) {
        return Err(incorrect_trust_anchor());
    }
    active(found)?;
    let id = format!("cks-{}", random_digits()?);
    let place = place(session.region, session.caller.account(), &id);
    let record = KeyStoreRecord {
        id: id.clone(),
        region: session.region.to_owned(),
        account: session.caller.account().to_owned(),
        name,
        cluster,
        trust_anchor: anchor,
        password: service.store.seal_password(&place, &password).ok_or_else(ApiError::internal)?,
        created: session.now,
        connection: Connection::Disconnected,
    };
    service.store.edit_key_stores(|stores| {
        if stores.iter().any(|store| is_beside(store, &record) && store.name == record.name) {
            return Err(name_in_use());
        }
        // A login is for the whole process, so a cluster serves one store, whoever has it.
        if service.clusters.related(found).any(|used| stores.iter().any(|store| store.cluster == used.id())) {
            return Err(cluster_in_use());
        }
        stores.push(record);
        Ok(())
    })?;
    Ok(json!({"CustomKeyStoreId": id}))
}

pub(super) fn connect(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let store = named(session, &mut input, "ConnectCustomKeyStore")?;
    let service = session.service;
    if let Connection::Failed(_) = store.connection {
        return Err(store.invalid_state());
    }
    let connection = match service.access(&store)? {
        None => Connection::Failed(Failure::ClusterNotFound),
        Some(access) => match access.cluster.connect(&access.password) {
            Ok(()) => Connection::Connected,
            Err(error) => match Failure::of(error) {
                Some(failure) => Connection::Failed(failure),
                None => return Err(not_ready(error)),
            },
        },
    };
    set_connection(session, &store, connection)?;
    if let (Connection::Connected, Some(access)) = (connection, service.access(&store)?) {
        service.settle(session.now)?;
        service.remove_loose(&store)?;
        service.report_strangers(&store, &access)?;
    }
    Ok(json!({}))
}

pub(super) fn disconnect(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let store = named(session, &mut input, "DisconnectCustomKeyStore")?;
    if store.connection == Connection::Disconnected {
        return Err(store.invalid_state());
    }
    set_connection(session, &store, Connection::Disconnected)?;
    if let Some(cluster) = session.service.clusters.get(&store.cluster) {
        cluster.disconnect();
    }
    Ok(json!({}))
}

pub(super) fn describe(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let id = input.text("CustomKeyStoreId", 1..=MAX_ID)?;
    let name = input.text("CustomKeyStoreName", 1..=MAX_NAME)?;
    let page = Page::read(&mut input, "key stores", 100, 1000)?;
    session.authorize_by_identity("DescribeCustomKeyStores", None)?;
    if id.is_some() && name.is_some() {
        return Err(ApiError::validation(
            "You can specify either CustomKeyStoreId or CustomKeyStoreName, but not both.",
        ));
    }
    let mut stores =
        session.service.store.key_stores(&place(session.region, session.caller.account(), ""))?;
    if id.is_some() || name.is_some() {
        stores.retain(|store| Some(&store.id) == id.as_ref() || Some(&store.name) == name.as_ref());
        if stores.is_empty() {
            return Err(not_found());
        }
    }
    let entries = stores.into_iter().map(|store| (store.id.clone(), store.entry())).collect();
    Ok(page.cut("CustomKeyStores", entries))
}

pub(super) fn update(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = input.text("NewCustomKeyStoreName", 1..=MAX_NAME)?;
    let cluster = cluster_id(&mut input)?;
    let password = password(&mut input)?;
    let store = named(session, &mut input, "UpdateCustomKeyStore")?;
    refuse_external(&input, None)?;
    let service = session.service;
    if cluster.is_some() || password.is_some() {
        store.require_disconnected()?;
    } else if let Connection::Failed(_) = store.connection {
        return Err(store.invalid_state());
    }
    if let Some(cluster) = &cluster {
        let found = service.clusters.get(cluster).ok_or_else(cluster_not_found)?;
        if parse_anchor(store.trust_anchor.as_bytes()).as_ref() != Some(found.anchor()) {
            return Err(cluster_not_related());
        }
        active(found)?;
    }
    let sealed = match &password {
        Some(password) => {
            Some(service.store.seal_password(&store.place(), password).ok_or_else(ApiError::internal)?)
        }
        None => None,
    };
    service.store.edit_key_stores(|stores| {
        if let Some(name) = &name
            && stores
                .iter()
                .any(|other| is_beside(other, &store) && other.id != store.id && other.name == *name)
        {
            return Err(name_in_use());
        }
        let record = stores.iter_mut().find(|other| other.place() == store.place()).ok_or_else(not_found)?;
        if cluster.is_some() || sealed.is_some() {
            record.require_disconnected()?;
        }
        record.name = name.unwrap_or(std::mem::take(&mut record.name));
        record.cluster = cluster.unwrap_or(std::mem::take(&mut record.cluster));
        record.password = sealed.unwrap_or(std::mem::take(&mut record.password));
        Ok(())
    })?;
    Ok(json!({}))
}

pub(super) fn delete(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let store = named(session, &mut input, "DeleteCustomKeyStore")?;
    let service = session.service;
    service.settle(session.now)?;
    service.store.edit_key_stores(|stores| {
        let index = stores.iter().position(|other| other.place() == store.place()).ok_or_else(not_found)?;
        stores[index].require_disconnected()?;
        let keys = service.store.keys_in(&store.region, &store.account)?;
        if keys.iter().any(|key| key.custom_key_store.as_ref().is_some_and(|inside| inside.store == store.id))
        {
            return Err(has_keys());
        }
        stores.remove(index);
        Ok(())
    })?;
    for loose in service.store.loose(&store.place())? {
        tracing::warn!(
            key = loose.key_arn,
            "the material of a deleted key stays in the HSM of a deleted key store"
        );
        service.store.forget_loose(&loose)?;
    }
    Ok(json!({}))
}

/// The store that a request names, if the caller may do this with stores.
fn named(session: &mut Session<'_>, input: &mut Input, action: &str) -> Answer<KeyStoreRecord> {
    let id = input.text("CustomKeyStoreId", 1..=MAX_ID)?;
    let id = input.require("CustomKeyStoreId", id);
    input.finish()?;
    session.authorize_by_identity(action, None)?;
    session.service.key_store(session.region, session.caller.account(), &id)
}

fn set_connection(session: &Session<'_>, store: &KeyStoreRecord, connection: Connection) -> Answer<()> {
    session.service.store.edit_key_stores(|stores| {
        let record = stores.iter_mut().find(|other| other.place() == store.place()).ok_or_else(not_found)?;
        record.connection = connection;
        Ok(())
    })
}

fn cluster_id(input: &mut Input) -> Answer<Option<String>> {
    input.text("CloudHsmClusterId", 19..=24)
}

fn password(input: &mut Input) -> Answer<Option<Password>> {
    input.secret("KeyStorePassword", 7..=32)
}

/// External key stores are not here: they need a proxy that speaks for an external key manager.
fn refuse_external(input: &Input, kind: Option<&str>) -> Answer<()> {
    if kind == Some("EXTERNAL_KEY_STORE") || input.has_prefix("Xks") {
        return Err(ApiError::unsupported("External key stores are not available in the local KMS."));
    }
    Ok(())
}

fn is_beside(store: &KeyStoreRecord, other: &KeyStoreRecord) -> bool {
    store.region == other.region && store.account == other.account
}

/// # Errors
/// `CloudHsmClusterNotActiveException`, `CloudHsmClusterInvalidConfigurationException`.
fn active(cluster: &Cluster) -> Answer<()> {
    cluster.check().map_err(not_ready)
}

fn not_ready(error: HsmError) -> ApiError {
    if error == HsmError::Unsuitable {
        return ApiError::new(
            "CloudHsmClusterInvalidConfigurationException",
            "The request was rejected because the associated AWS CloudHSM cluster did not meet the configuration requirements for an AWS CloudHSM key store.",
        );
    }
    ApiError::new(
        "CloudHsmClusterNotActiveException",
        "The request was rejected because the AWS CloudHSM cluster associated with the AWS CloudHSM key store is not active.",
    )
}

fn cluster_not_found() -> ApiError {
    ApiError::new(
        "CloudHsmClusterNotFoundException",
        "The request was rejected because AWS KMS cannot find the AWS CloudHSM cluster with the specified cluster ID.",
    )
}

fn cluster_in_use() -> ApiError {
    ApiError::new(
        "CloudHsmClusterInUseException",
        "The request was rejected because the specified AWS CloudHSM cluster is already associated with an AWS CloudHSM key store, or it shares a backup history with one.",
    )
}

fn cluster_not_related() -> ApiError {
    ApiError::new(
        "CloudHsmClusterNotRelatedException",
        "The request was rejected because the specified AWS CloudHSM cluster has a different cluster certificate than the original cluster.",
    )
}

fn incorrect_trust_anchor() -> ApiError {
    ApiError::new(
        "IncorrectTrustAnchorException",
        "The request was rejected because the trust anchor certificate in the request is not the trust anchor certificate for the specified AWS CloudHSM cluster.",
    )
}

fn name_in_use() -> ApiError {
    ApiError::new(
        "CustomKeyStoreNameInUseException",
        "The request was rejected because the specified custom key store name is already assigned to another custom key store in the account.",
    )
}

fn has_keys() -> ApiError {
    ApiError::new(
        "CustomKeyStoreHasCMKsException",
        "The request was rejected because the custom key store contains KMS keys.",
    )
}

/// As in AWS's examples: `cks-1234567890abcdef0`.
fn random_digits() -> Answer<String> {
    let mut bytes = [0; 9];
    getrandom::fill(&mut bytes).map_err(|_| ApiError::internal())?;
    let mut digits = hex::encode(bytes);
    digits.truncate(17);
    Ok(digits)
}
