//! The requester's KMS client: the AWS SDK, against AWS or against a local KMS.

use std::path::PathBuf;

use aws_config::BehaviorVersion;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

/// Which KMS and whose credentials; what is `None` comes from the SDK's default chain.
#[derive(Debug, Clone, Default)]
pub struct KmsEndpoint {
    /// The region.
    pub region: Option<String>,
    /// Another endpoint than the region's, as an URL.
    pub url: Option<String>,
    /// Certificates to trust instead of the system's, in PEM.
    pub ca: Option<PathBuf>,
    /// A credentials file instead of the usual one.
    pub credentials: Option<PathBuf>,
    /// The profile in it.
    pub profile: Option<String>,
}

/// Makes a client.
///
/// # Errors
/// If the certificates cannot be read.
pub async fn client(endpoint: KmsEndpoint) -> anyhow::Result<aws_sdk_kms::Client> {
    let KmsEndpoint { region, url, ca, credentials, profile } = endpoint;
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = region {
        loader = loader.region(aws_config::Region::new(region));
    }
    if let Some(url) = url {
        loader = loader.endpoint_url(url);
    }
    if let Some(path) = credentials {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
        loader = loader.profile_files(files);
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(path) = ca {
        let trust = TrustStore::empty().with_pem_certificate(fs_err::read(path)?);
        let tls = TlsContext::builder().with_trust_store(trust).build()?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build_https();
        loader = loader.http_client(http);
    }
    Ok(aws_sdk_kms::Client::new(&loader.load().await))
}
