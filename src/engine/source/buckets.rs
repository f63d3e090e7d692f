//! The stores behind buckets and containers.
//!
//! In: the name of a bucket, the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`, as other tools take them) and connections
//! that were created by SQL. Out: an object store. Invariants: options of a connection win over the environment; a
//! connection without a bucket serves every bucket of its cloud that no other names; secrets appear in no message.
//! Deliberately absent: asking a cloud's metadata service where there is none.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use squilla_core::error::{Error, Kind, Result};

use super::location::Cloud;

/// Where buckets are and how to log in: the options of a server and of a user mapping together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Names of `object_store` (`endpoint`, `region`, `access_key_id`, ...) and their values. `bucket` is taken out.
    pub options: Vec<(String, String)>,
}

/// How often and how long requests are repeated.
pub fn retries(most: usize, seconds: u64) -> RetryConfig {
    RetryConfig { max_retries: most, retry_timeout: Duration::from_secs(seconds), ..Default::default() }
}

/// What an option is worth to a log-in, and so is never shown.
pub fn is_secret(option: &str) -> bool {
    ["secret", "token", "password", "key", "credential", "sas", "signature", "service_account"]
        .iter()
        .any(|word| option.to_ascii_lowercase().contains(word))
        && !option.eq_ignore_ascii_case("skip_signature")
}

/// 22023 when the cloud has no option of this name.
pub fn check_option(cloud: Cloud, name: &str) -> Result<()> {
    let known = match cloud {
        Cloud::S3 => name.parse::<AmazonS3ConfigKey>().is_ok(),
        Cloud::Gcs => name.parse::<GoogleConfigKey>().is_ok(),
        Cloud::Azure => name.parse::<AzureConfigKey>().is_ok(),
    };
    if known || name == "bucket" {
        return Ok(());
    }
    let common = match cloud {
        Cloud::S3 => "bucket, endpoint, region, access_key_id, secret_access_key, session_token, skip_signature, allow_http",
        Cloud::Gcs => "bucket, service_account, service_account_key, base_url, skip_signature, allow_http",
        Cloud::Azure => "bucket, account_name, account_key, sas_token, endpoint, skip_signature, allow_http",
    };
    Err(Error::new(Kind::InvalidOptionName, format!("invalid option \"{name}\"")).hint(format!("Options in use are {common}.")))
}

/// The store of a bucket. 42501 when there are no credentials or they are not usable.
pub async fn open(cloud: Cloud, bucket: &str, connection: &Connection) -> Result<Arc<dyn ObjectStore>> {
    match cloud {
        Cloud::S3 => s3(bucket, connection).await,
        Cloud::Gcs => gcs(bucket, connection),
        Cloud::Azure => azure(bucket, connection),
    }
}

/// What to do about missing or refused credentials.
pub fn credentials_hint(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => {
            "Create a connection (CREATE SERVER ... FOREIGN DATA WRAPPER s3), or set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for other providers, AWS_ENDPOINT in the environment of the server. For public buckets set AWS_SKIP_SIGNATURE=true."
        }
        Cloud::Gcs => {
            "Create a connection (CREATE SERVER ... FOREIGN DATA WRAPPER gcs), or set GOOGLE_SERVICE_ACCOUNT to the path of a key file in the environment of the server."
        }
        Cloud::Azure => {
            "Create a connection (CREATE SERVER ... FOREIGN DATA WRAPPER azure), or set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY in the environment of the server."
        }
    }
}

fn unusable(cloud: Cloud, bucket: &str, error: &object_store::Error) -> Error {
    Error::new(Kind::InsufficientPrivilege, format!("could not set up access to bucket \"{bucket}\""))
        .detail(format!("{error}."))
        .hint(credentials_hint(cloud))
}

fn wrong_option(name: &str) -> Error {
    Error::internal(format!("\"{name}\" is not an option of this store"))
}

async fn s3(bucket: &str, connection: &Connection) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env();
    for (name, value) in &connection.options {
        builder = builder.with_config(name.parse::<AmazonS3ConfigKey>().map_err(|_| wrong_option(name))?, value);
    }
    // One request may take long when the object is large; what is watched is that bytes keep coming.
    let mut builder = builder
        .with_bucket_name(bucket)
        .with_retry(retries(5, 60))
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), "1day")
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), "10s");
    if builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_some_and(|e| e.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    check_credentials(&builder, bucket).await?;
    Ok(Arc::new(builder.build().map_err(|e| unusable(Cloud::S3, bucket, &e))?))
}

fn gcs(bucket: &str, connection: &Connection) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = GoogleCloudStorageBuilder::from_env();
    for (name, value) in &connection.options {
        builder = builder.with_config(name.parse::<GoogleConfigKey>().map_err(|_| wrong_option(name))?, value);
    }
    let builder = builder
        .with_bucket_name(bucket)
        .with_retry(retries(5, 60))
        .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), "1day")
        .with_config(GoogleConfigKey::Client(ClientConfigKey::ConnectTimeout), "10s");
    Ok(Arc::new(builder.build().map_err(|e| unusable(Cloud::Gcs, bucket, &e))?))
}

fn azure(bucket: &str, connection: &Connection) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = MicrosoftAzureBuilder::from_env();
    for (name, value) in &connection.options {
        builder = builder.with_config(name.parse::<AzureConfigKey>().map_err(|_| wrong_option(name))?, value);
    }
    let builder = match bucket.split_once('@') {
        Some(_) => builder.with_url(format!("abfss://{bucket}/")),
        None => builder.with_container_name(bucket),
    };
    let mut builder = builder
        .with_retry(retries(5, 60))
        .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), "1day")
        .with_config(AzureConfigKey::Client(ClientConfigKey::ConnectTimeout), "10s");
    if builder.get_config_value(&AzureConfigKey::Endpoint).is_some_and(|e| e.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    Ok(Arc::new(builder.build().map_err(|e| unusable(Cloud::Azure, bucket, &e))?))
}

/// Without any credentials the store would ask the metadata service of the cloud for minutes: ask whether there is one.
async fn check_credentials(builder: &AmazonS3Builder, bucket: &str) -> Result<()> {
    let has = |key| builder.get_config_value(&key).is_some_and(|v| !v.is_empty() && v != "false");
    let known = has(AmazonS3ConfigKey::AccessKeyId)
        || has(AmazonS3ConfigKey::SkipSignature)
        || has(AmazonS3ConfigKey::WebIdentityTokenFile)
        || has(AmazonS3ConfigKey::ContainerCredentialsRelativeUri)
        || has(AmazonS3ConfigKey::ContainerCredentialsFullUri);
    if known {
        return Ok(());
    }
    let service = tokio::net::TcpStream::connect(("169.254.169.254", 80));
    match tokio::time::timeout(Duration::from_secs(1), service).await {
        Ok(Ok(_)) => Ok(()),
        _ => {
            Err(Error::new(Kind::InsufficientPrivilege, format!("there are no credentials for bucket \"{bucket}\""))
                .hint(credentials_hint(Cloud::S3)))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn connections_open_stores_and_hide_secrets() {
        let connection = |pairs: &[(&str, &str)]| Connection { options: pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect() };
        let s3 = connection(&[("endpoint", "http://127.0.0.1:9"), ("access_key_id", "a"), ("secret_access_key", "b"), ("region", "eu")]);
        assert!(open(Cloud::S3, "b", &s3).await.is_ok());
        let azure = connection(&[("account_name", "a"), ("account_key", "YQ==")]);
        assert!(open(Cloud::Azure, "c", &azure).await.is_ok());
        assert!(open(Cloud::Gcs, "b", &connection(&[("skip_signature", "true")])).await.is_ok());
        assert!(check_option(Cloud::S3, "endpont").is_err() && check_option(Cloud::S3, "endpoint").is_ok());
        assert!(is_secret("secret_access_key") && is_secret("account_key") && !is_secret("region") && !is_secret("skip_signature"));
    }
}
