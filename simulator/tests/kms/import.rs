//! Import of key material: what goes in, what is refused, what expires and comes back.

use std::time::Duration;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_sdk_kms::Client;
use aws_sdk_kms::operation::get_parameters_for_import::GetParametersForImportOutput;
use aws_sdk_kms::operation::import_key_material::builders::ImportKeyMaterialFluentBuilder;
use aws_sdk_kms::primitives::{Blob, DateTime};
use aws_sdk_kms::types::{
    AlgorithmSpec, ExpirationModelType, ImportState, ImportType, IncludeKeyMaterial, KeyMaterialState,
    KeyMetadata, KeySpec, KeyState, KeyUsageType, MacAlgorithmSpec, MessageType, OriginType, RotationType,
    SigningAlgorithmSpec, WrappingKeySpec,
};

use crate::harness::{Kms, MovingClock, days, refusal, refused};

const OAEP_1: AlgorithmSpec = AlgorithmSpec::RsaesOaepSha1;
const OAEP_256: AlgorithmSpec = AlgorithmSpec::RsaesOaepSha256;
const WRAP_1: AlgorithmSpec = AlgorithmSpec::RsaAesKeyWrapSha1;
const WRAP_256: AlgorithmSpec = AlgorithmSpec::RsaAesKeyWrapSha256;

async fn make_key(client: &Client, spec: KeySpec, usage: KeyUsageType) -> (String, String) {
    let made = client.create_key().origin(OriginType::External).key_spec(spec).key_usage(usage);
    let made = made.send().await.unwrap().key_metadata.unwrap();
    (made.key_id, made.arn.unwrap())
}

async fn make_symmetric(client: &Client) -> (String, String) {
    make_key(client, KeySpec::SymmetricDefault, KeyUsageType::EncryptDecrypt).await
}

async fn parameters(client: &Client, key: &str, wrapping: AlgorithmSpec) -> GetParametersForImportOutput {
    let spec = WrappingKeySpec::Rsa2048;
    let call = client.get_parameters_for_import().key_id(key).wrapping_algorithm(wrapping);
    call.wrapping_key_spec(spec).send().await.unwrap()
}

fn oaep(parameters: &GetParametersForImportOutput, sha256: bool, data: &[u8]) -> Vec<u8> {
    let key = PublicEncryptingKey::from_der(parameters.public_key().unwrap().as_ref()).unwrap();
    let key = OaepPublicEncryptingKey::new(key).unwrap();
    let mut wrapped = vec![0; key.ciphertext_size()];
    let algorithm = if sha256 { &OAEP_SHA256_MGF1SHA256 } else { &OAEP_SHA1_MGF1SHA1 };
    key.encrypt(algorithm, data, &mut wrapped, None).unwrap().to_vec()
}

/// Wraps as the algorithm says.
fn wrap(parameters: &GetParametersForImportOutput, wrapping: &AlgorithmSpec, material: &[u8]) -> Vec<u8> {
    let sha256 = *wrapping == OAEP_256 || *wrapping == WRAP_256;
    if *wrapping == OAEP_1 || *wrapping == OAEP_256 {
        return oaep(parameters, sha256, material);
    }
    let aes = [0x5A; 32];
    let mut wrapped = vec![0; material.len() + 16];
    let kek = AesKek::new(&AES_256, &aes).unwrap();
    let length = kek.wrap_with_padding(material, &mut wrapped).unwrap().len();
    [oaep(parameters, sha256, &aes), wrapped[..length].to_vec()].concat()
}

/// An import that is ready to be sent; it does not expire unless told so.
pub(crate) async fn import(
    client: &Client,
    key: &str,
    wrapping: AlgorithmSpec,
    material: &[u8],
) -> ImportKeyMaterialFluentBuilder {
    let parameters = parameters(client, key, wrapping.clone()).await;
    client
        .import_key_material()
        .key_id(key)
        .encrypted_key_material(Blob::new(wrap(&parameters, &wrapping, material)))
        .set_import_token(parameters.import_token)
        .expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire)
}

async fn described(client: &Client, key: &str) -> KeyMetadata {
    client.describe_key().key_id(key).send().await.unwrap().key_metadata.unwrap()
}

async fn encrypt(client: &Client, key: &str) -> Blob {
    let sealed = client.encrypt().key_id(key).plaintext(Blob::new("x")).send().await.unwrap();
    sealed.ciphertext_blob.unwrap()
}

fn after(clock: &MovingClock, by: Duration) -> DateTime {
    use aws_smithy_async::time::TimeSource;
    // In whole seconds: the SDK sends fractions as floating point numbers.
    DateTime::from_secs(DateTime::from(clock.now() + by).secs())
}

#[tokio::test]
async fn imported_material_is_used_deleted_and_comes_back() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let (id, arn) = make_symmetric(&client).await;
    let made = described(&client, &id).await;
    assert_eq!((made.key_state(), made.enabled()), (Some(&KeyState::PendingImport), false));
    assert_eq!((made.expiration_model(), made.valid_to()), (None, None));
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending import."));
    let encrypted = client.encrypt().key_id(&id).plaintext(Blob::new("x")).send().await;
    assert_eq!(refusal(encrypted), pending);
    assert_eq!(refusal(client.enable_key().key_id(&id).send().await), pending);
    assert_eq!(refusal(client.disable_key().key_id(&id).send().await), pending);

    let imported = import(&client, &id, OAEP_256, &[7; 32]).await.send().await.unwrap();
    assert_eq!(imported.key_id(), Some(arn.as_str()));
    let material = imported.key_material_id.unwrap();
    let key = described(&client, &id).await;
    assert_eq!((key.key_state(), key.enabled()), (Some(&KeyState::Enabled), true));
    assert_eq!(key.expiration_model(), Some(&ExpirationModelType::KeyMaterialDoesNotExpire));
    assert_eq!(key.valid_to(), None);
    assert_eq!(key.current_key_material_id(), Some(material.as_str()));
    let sealed = encrypt(&client, &id).await;

    let deleted = client.delete_imported_key_material().key_id(&id).send().await.unwrap();
    assert_eq!(deleted.key_id(), Some(arn.as_str()));
    assert_eq!(deleted.key_material_id(), Some(material.as_str()));
    let key = described(&client, &id).await;
    assert_eq!((key.key_state(), key.expiration_model()), (Some(&KeyState::PendingImport), None));
    let decrypt = || client.decrypt().ciphertext_blob(sealed.clone()).send();
    assert_eq!(refusal(decrypt().await), pending);
    // Once more is no error.
    client.delete_imported_key_material().key_id(&id).send().await.unwrap();

    assert_eq!(
        refusal(import(&client, &id, OAEP_1, &[8; 32]).await.send().await),
        refused(
            "IncorrectKeyMaterialException",
            "The key material is not the one that was imported into the key before."
        )
    );
    let again = import(&client, &id, OAEP_1, &[7; 32]).await.send().await.unwrap();
    assert_eq!(again.key_material_id, Some(material));
    assert_eq!(decrypt().await.unwrap().plaintext.unwrap().as_ref(), b"x");
}

#[tokio::test]
async fn imported_material_expires_by_the_clock_and_can_come_back_for_longer() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, arn) = make_symmetric(&client).await;
    let ends = after(&clock, days(10));
    let expiring = |call: ImportKeyMaterialFluentBuilder, at: DateTime| {
        call.expiration_model(ExpirationModelType::KeyMaterialExpires).valid_to(at)
    };
    expiring(import(&client, &id, OAEP_256, &[7; 32]).await, ends).send().await.unwrap();
    let key = described(&client, &id).await;
    assert_eq!(key.expiration_model(), Some(&ExpirationModelType::KeyMaterialExpires));
    assert_eq!(key.valid_to().unwrap().to_millis().unwrap(), ends.to_millis().unwrap());
    let sealed = encrypt(&client, &id).await;
    let decrypt = || client.decrypt().ciphertext_blob(sealed.clone()).send();
    clock.advance(days(9));
    decrypt().await.unwrap();
    clock.advance(days(1));
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending import."));
    assert_eq!(refusal(decrypt().await), pending);
    let key = described(&client, &id).await;
    assert_eq!((key.key_state(), key.valid_to()), (Some(&KeyState::PendingImport), None));

    // A disabled key whose material expires is pending import too.
    let ends = after(&clock, days(20));
    expiring(import(&client, &id, OAEP_256, &[7; 32]).await, ends).send().await.unwrap();
    client.disable_key().key_id(&id).send().await.unwrap();
    clock.advance(days(20));
    assert_eq!(described(&client, &id).await.key_state(), Some(&KeyState::PendingImport));
    import(&client, &id, OAEP_256, &[7; 32]).await.send().await.unwrap();
    clock.advance(days(4000));
    assert_eq!(decrypt().await.unwrap().plaintext.unwrap().as_ref(), b"x");

    // Deletion outlasts expiry, and what comes back from it has no material.
    let ends = after(&clock, days(1));
    expiring(import(&client, &id, OAEP_256, &[7; 32]).await, ends).send().await.unwrap();
    client.schedule_key_deletion().key_id(&id).send().await.unwrap();
    clock.advance(days(2));
    assert_eq!(described(&client, &id).await.key_state(), Some(&KeyState::PendingDeletion));
    client.cancel_key_deletion().key_id(&id).send().await.unwrap();
    assert_eq!(described(&client, &id).await.key_state(), Some(&KeyState::PendingImport));
}

#[tokio::test]
async fn an_expiry_is_set_exactly_where_it_is_meant_and_within_a_year() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, _) = make_symmetric(&client).await;
    let call = import(&client, &id, OAEP_256, &[7; 32]).await;
    let expires = call.clone().expiration_model(ExpirationModelType::KeyMaterialExpires);
    let missing = "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES";
    let cases = [
        (expires.clone(), missing),
        (call.clone().set_expiration_model(None), missing),
        (expires.clone().valid_to(after(&clock, Duration::ZERO)), "The validTo date must be in the future"),
        (expires.valid_to(after(&clock, days(366))), "The validTo date must be within 365 days"),
        (
            call.clone().valid_to(after(&clock, days(1))),
            "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
        ),
    ];
    for (call, text) in cases {
        assert_eq!(refusal(call.send().await), refused("ValidationException", text));
    }
    call.send().await.unwrap();
}

#[tokio::test]
async fn every_wrapping_takes_material_and_the_given_up_ones_are_refused() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let mut last = None;
    for wrapping in [OAEP_1, OAEP_256, WRAP_1, WRAP_256] {
        let (id, _) = make_symmetric(&client).await;
        let imported = import(&client, &id, wrapping, &[9; 32]).await.send().await.unwrap();
        encrypt(&client, &id).await;
        // The same bytes in another key are another material.
        assert_ne!(imported.key_material_id, last);
        last = imported.key_material_id;
    }
    let (id, arn) = make_symmetric(&client).await;
    let ask = |algorithm: AlgorithmSpec, spec: WrappingKeySpec| {
        client
            .get_parameters_for_import()
            .key_id(&id)
            .wrapping_algorithm(algorithm)
            .wrapping_key_spec(spec)
            .send()
    };
    let old = AlgorithmSpec::RsaesPkcs1V15;
    assert_eq!(
        refusal(ask(old, WrappingKeySpec::Rsa2048).await),
        refused("UnsupportedOperationException", "RSAES_PKCS1_V1_5 with RSA_2048 is not supported.")
    );
    assert_eq!(refusal(ask(OAEP_1, WrappingKeySpec::Sm2).await).0, "UnsupportedOperationException");
    assert_eq!(
        refusal(ask(OAEP_1, WrappingKeySpec::from("RSA_1024")).await),
        refused(
            "ValidationException",
            "1 validation error detected: Value 'RSA_1024' at 'wrappingKeySpec' failed to satisfy constraint: Member \
             must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096, SM2]"
        )
    );
    let large = ask(OAEP_256, WrappingKeySpec::Rsa3072).await.unwrap();
    assert_eq!(large.key_id(), Some(arn.as_str()));
    assert_ne!(large.public_key, ask(OAEP_256, WrappingKeySpec::Rsa3072).await.unwrap().public_key);

    let here = client.create_key().send().await.unwrap().key_metadata.unwrap();
    let call = client.get_parameters_for_import().key_id(here.key_id()).wrapping_algorithm(OAEP_1);
    assert_eq!(
        refusal(call.wrapping_key_spec(WrappingKeySpec::Rsa2048).send().await),
        refused(
            "UnsupportedOperationException",
            &format!("{} origin is AWS_KMS which is not valid for this operation.", here.arn().unwrap())
        )
    );
}

#[tokio::test]
async fn a_token_is_for_one_key_and_one_day_and_its_own_wrapping_key() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (first, _) = make_symmetric(&client).await;
    let (second, _) = make_symmetric(&client).await;
    let call = import(&client, &first, OAEP_256, &[7; 32]).await;
    let invalid = refused("InvalidImportTokenException", "The import token is not one for this KMS key.");
    assert_eq!(refusal(call.clone().key_id(&second).send().await), invalid);
    assert_eq!(refusal(call.clone().import_token(Blob::new("token")).send().await), invalid);
    let other = parameters(&client, &first, OAEP_256).await;
    let crossed = call.clone().set_import_token(other.import_token.clone()).send().await;
    assert_eq!(refusal(crossed), ("InvalidCiphertextException".into(), None));
    let short = wrap(&other, &OAEP_256, &[7; 31]);
    let short = call.clone().set_import_token(other.import_token).encrypted_key_material(Blob::new(short));
    assert_eq!(
        refusal(short.send().await),
        refused("IncorrectKeyMaterialException", "The key material is none of key spec SYMMETRIC_DEFAULT.")
    );
    assert_eq!(described(&client, &first).await.key_state(), Some(&KeyState::PendingImport));
    let valid_to = parameters(&client, &first, OAEP_256).await.parameters_valid_to.unwrap();
    assert_eq!(valid_to.to_millis().unwrap(), after(&clock, days(1)).to_millis().unwrap());
    clock.advance(days(1));
    assert_eq!(
        refusal(call.send().await),
        refused("ExpiredImportTokenException", "The import token has expired.")
    );
}

#[tokio::test]
async fn an_imported_key_rotates_to_what_was_imported_for_it() {
    let (kms, clock) = Kms::start_moving().await;
    let client = kms.administrator();
    let (id, arn) = make_symmetric(&client).await;
    let first = import(&client, &id, OAEP_256, &[1; 32]).await.key_material_description("one").send().await;
    let first = first.unwrap().key_material_id.unwrap();
    let old = encrypt(&client, &id).await;
    let rotate = || client.rotate_key_on_demand().key_id(&id).send();
    let nothing = format!("No available key material pending rotation for the key: {arn}.");
    assert_eq!(refusal(rotate().await), refused("KMSInvalidStateException", &nothing));

    let fresh = |byte: u8| {
        let (client, id) = (&client, &id);
        async move { import(client, id, WRAP_256, &[byte; 32]).await.import_type(ImportType::NewKeyMaterial) }
    };
    assert_eq!(
        refusal(fresh(1).await.send().await),
        refused("IncorrectKeyMaterialException", "The key material is associated with the key already.")
    );
    let dropped = fresh(2).await.send().await.unwrap().key_material_id.unwrap();
    assert_eq!(
        refusal(fresh(3).await.send().await),
        refused("KMSInvalidStateException", &format!("{arn} has key material that is pending rotation."))
    );
    client.delete_imported_key_material().key_id(&id).key_material_id(&dropped).send().await.unwrap();
    assert_eq!(described(&client, &id).await.key_state(), Some(&KeyState::Enabled));
    let ends = after(&clock, days(30));
    let second = fresh(3).await.expiration_model(ExpirationModelType::KeyMaterialExpires).valid_to(ends);
    let second = second.send().await.unwrap().key_material_id.unwrap();
    let all = || {
        let call = client.list_key_rotations().key_id(&id);
        call.include_key_material(IncludeKeyMaterial::AllKeyMaterial).send()
    };
    let listed = all().await.unwrap().rotations.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].key_material_description(), Some("one"));
    assert_eq!(listed[0].import_state(), Some(&ImportState::Imported));
    assert_eq!(listed[0].expiration_model(), Some(&ExpirationModelType::KeyMaterialDoesNotExpire));
    assert_eq!(listed[1].key_material_state(), Some(&KeyMaterialState::PendingRotation));
    assert_eq!(listed[1].valid_to().unwrap().to_millis().unwrap(), ends.to_millis().unwrap());
    assert_eq!((listed[1].rotation_date(), listed[1].key_material_description()), (None, None));
    // What is pending is in use by nobody.
    assert_eq!(described(&client, &id).await.current_key_material_id(), Some(first.as_str()));

    rotate().await.unwrap();
    let key = described(&client, &id).await;
    assert_eq!(key.current_key_material_id(), Some(second.as_str()));
    assert_eq!(key.valid_to().unwrap().to_millis().unwrap(), ends.to_millis().unwrap());
    let new = encrypt(&client, &id).await;
    for (sealed, material) in [(&old, &first), (&new, &second)] {
        let opened = client.decrypt().ciphertext_blob(sealed.clone()).send().await.unwrap();
        assert_eq!(opened.key_material_id(), Some(material.as_str()));
    }
    let rotated = client.list_key_rotations().key_id(&id).send().await.unwrap().rotations.unwrap();
    assert_eq!(rotated.len(), 1);
    assert_eq!(rotated[0].rotation_type(), Some(&RotationType::OnDemand));

    // Without one of its materials the whole key waits.
    clock.advance(days(30));
    let pending = refused("KMSInvalidStateException", &format!("{arn} is pending import."));
    assert_eq!(refusal(client.decrypt().ciphertext_blob(old.clone()).send().await), pending);
    let listed = all().await.unwrap().rotations.unwrap();
    assert_eq!(listed[1].import_state(), Some(&ImportState::PendingImport));
    assert_eq!((listed[1].expiration_model(), listed[1].valid_to()), (None, None));
    let named = import(&client, &id, OAEP_256, &[3; 32]).await;
    assert_eq!(
        refusal(named.clone().key_material_id(&first).send().await).0,
        "IncorrectKeyMaterialException"
    );
    named.key_material_id(&second).send().await.unwrap();
    client.decrypt().ciphertext_blob(old).send().await.unwrap();
}

#[tokio::test]
async fn hmac_keys_and_key_pairs_take_material_of_their_own_form_only() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    for (spec, length) in
        [(KeySpec::Hmac224, 28), (KeySpec::Hmac256, 32), (KeySpec::Hmac384, 48), (KeySpec::Hmac512, 64)]
    {
        let (id, _) = make_key(&client, spec, KeyUsageType::GenerateVerifyMac).await;
        let long = import(&client, &id, OAEP_256, &vec![1; length + 1]).await.send().await;
        assert_eq!(refusal(long).0, "IncorrectKeyMaterialException");
        let imported = import(&client, &id, OAEP_256, &vec![1; length]).await.send().await.unwrap();
        assert_eq!(imported.key_material_id(), None);
        let other = import(&client, &id, OAEP_256, &vec![2; length]).await.send().await;
        assert_eq!(refusal(other).0, "IncorrectKeyMaterialException");
        let named = import(&client, &id, OAEP_256, &vec![1; length]).await;
        let named = named.import_type(ImportType::ExistingKeyMaterial).send().await;
        assert_eq!(refusal(named).0, "ValidationException");
    }
    // A known key makes a known code.
    let (id, _) = make_key(&client, KeySpec::Hmac256, KeyUsageType::GenerateVerifyMac).await;
    import(&client, &id, WRAP_1, &[0x0b; 32]).await.send().await.unwrap();
    let made = client.generate_mac().key_id(&id).message(Blob::new("Hi There"));
    let made = made.mac_algorithm(MacAlgorithmSpec::HmacSha256).send().await.unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[0x0b; 32]);
    assert_eq!(made.mac().unwrap().as_ref(), aws_lc_rs::hmac::sign(&key, b"Hi There").as_ref());
}

#[tokio::test]
async fn a_private_key_made_elsewhere_signs_here() {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    };
    let kms = Kms::start().await;
    let client = kms.administrator();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let pkcs8 = pair.to_pkcs8v1().unwrap();
    let (id, _) = make_key(&client, KeySpec::EccNistP256, KeyUsageType::SignVerify).await;
    let wrong = import(&client, &id, WRAP_256, &[1; 32]).await.send().await;
    assert_eq!(refusal(wrong).0, "IncorrectKeyMaterialException");
    import(&client, &id, WRAP_256, pkcs8.as_ref()).await.send().await.unwrap();
    let key = described(&client, &id).await;
    assert_eq!(key.expiration_model(), Some(&ExpirationModelType::KeyMaterialDoesNotExpire));
    assert_eq!(key.current_key_material_id(), None);
    let sign = || {
        let call = client.sign().key_id(&id).message(Blob::new("text")).message_type(MessageType::Raw);
        call.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).send()
    };
    let signed = sign().await.unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
    public.verify(b"text", signed.signature().unwrap().as_ref()).unwrap();

    client.delete_imported_key_material().key_id(&id).send().await.unwrap();
    assert_eq!(refusal(sign().await).0, "KMSInvalidStateException");
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap().to_pkcs8v1().unwrap();
    let other = import(&client, &id, WRAP_256, other.as_ref()).await.send().await;
    assert_eq!(refusal(other).0, "IncorrectKeyMaterialException");
    import(&client, &id, WRAP_256, pkcs8.as_ref()).await.send().await.unwrap();
    sign().await.unwrap();
}
