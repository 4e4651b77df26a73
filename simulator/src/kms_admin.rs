//! Keys and key policies of the local KMS, through the SDK that real installations use.

use std::collections::BTreeMap;
use std::path::Path;

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{Measurement, RecipientOnly};
use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_kms::config::{BehaviorVersion, Region};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use serde_json::{Map, Value, json};

use crate::kms::User;
use crate::state::{StateDir, write_whole};
use crate::world::{ENCLAVE, OWNER, REGION};

/// One administrator's view of the local KMS.
pub(crate) struct KmsAdmin {
    client: aws_sdk_kms::Client,
}

impl KmsAdmin {
    /// Signs with this user's access key.
    pub(crate) fn connect(state: &StateDir, port: u16, user: &User) -> Result<Self> {
        let ca = fs_err::read(state.kms_ca())?;
        let tls = TlsContext::builder()
            .with_trust_store(TrustStore::empty().with_pem_certificate(ca))
            .build()
            .map_err(|_| anyhow::anyhow!("the local KMS's certificate authority cannot be used"))?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build_https();
        let credentials = Credentials::new(
            &user.access_key_id,
            user.secret_access_key.as_str(),
            None,
            None,
            "state folder",
        );
        let config = aws_sdk_kms::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("https://localhost:{port}"))
            .credentials_provider(credentials)
            .http_client(http)
            .build();
        Ok(Self { client: aws_sdk_kms::Client::from_conf(config) })
    }

    /// The key whose ARN is in this file; made if there is none.
    pub(crate) async fn key(&self, path: &Path, description: &str) -> Result<KeyArn> {
        if path.try_exists()? {
            return Ok(KeyArn::parse(fs_err::read_to_string(path)?.trim())?);
        }
        let made = self.client.create_key().description(description).send().await?;
        let arn = made.key_metadata().and_then(|key| key.arn()).context("the key has no ARN")?;
        let arn = KeyArn::parse(arn)?;
        write_whole(path, arn.as_str().as_bytes())?;
        Ok(arn)
    }

    /// Has the key's policy demand these measurements; whether it did not before.
    pub(crate) async fn demand(
        &self,
        key: &KeyArn,
        pcrs: &BTreeMap<u8, Measurement>,
        named_keys: &[Vec<(&str, &str)>],
    ) -> Result<bool> {
        let wanted = RecipientOnly {
            enclave_role: ENCLAVE,
            data_owners: &[OWNER],
            administrator: "arn:aws:iam::111122223333:root",
            pcrs,
            vpc_endpoint: None,
            required_context: &["tenant", "object", "purpose", "version"],
            named_keys,
            fixed_context: &[],
        }
        .render()?;
        self.put(key, wanted).await
    }

    /// Has a partner's key give new data keys to an enclave with these measurements, attested.
    pub(crate) async fn offer(&self, key: &KeyArn, pcrs: &BTreeMap<u8, Measurement>) -> Result<()> {
        let attested: Map<String, Value> = pcrs
            .iter()
            .map(|(index, pcr)| (format!("kms:RecipientAttestation:PCR{index}"), pcr.to_string().into()))
            .collect();
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "OwnAccount",
                "Effect": "Allow",
                "Principal": { "AWS": format!("arn:aws:iam::{}:root", key.account()) },
                "Action": "kms:*",
                "Resource": "*",
            }, {
                "Sid": "SealedToUsByThisImage",
                "Effect": "Allow",
                "Principal": { "AWS": ENCLAVE },
                "Action": "kms:GenerateDataKey",
                "Resource": "*",
                "Condition": { "StringEqualsIgnoreCase": attested },
            }],
        });
        self.put(key, policy.to_string()).await?;
        Ok(())
    }

    /// Whether the policy was another one.
    async fn put(&self, key: &KeyArn, policy: String) -> Result<bool> {
        let now = self.client.get_key_policy().key_id(key.as_str()).send().await?;
        if now.policy() == Some(&policy) {
            return Ok(false);
        }
        self.client.put_key_policy().key_id(key.as_str()).policy(policy).send().await?;
        Ok(true)
    }
}
