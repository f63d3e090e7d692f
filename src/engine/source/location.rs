//! Paths and URLs as users write them.
//!
//! In: a plain path, `file://`, `http(s)://`, `s3://`, `gs://`, `az://` or `abfss://`. Out: a [`Location`]. Invariant:
//! `Location::parse(&l.to_uri()) == l`.
//! Plain paths are taken as they are and never percent-decoded; `file://` URIs are. Relative paths are under the working
//! directory of the server. Deliberately absent: whether anything is there.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use squilla_core::error::{Error, Result, did_you_mean};
use url::Url;

/// Where a file or object is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// Absolute path.
    Local(PathBuf),
    /// With its query.
    Http(Url),
    /// Bucket and key; the key may be empty or end with a slash.
    Object {
        /// Whose API it speaks.
        cloud: Cloud,
        /// Bucket; for Azure a container, or `container@account...` as `abfss://` has it.
        bucket: String,
        /// Key, not encoded.
        key: String,
    },
}

/// The APIs of object stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// Amazon S3 and what is compatible with it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Cloud {
    /// Of a scheme in lower case.
    pub fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" | "s3a" => Some(Cloud::S3),
            "gs" | "gcs" => Some(Cloud::Gcs),
            "az" | "azure" | "abfs" | "abfss" => Some(Cloud::Azure),
            _ => None,
        }
    }

    /// The scheme by which buckets of this name are shown.
    pub fn scheme(self, bucket: &str) -> &'static str {
        match self {
            Cloud::S3 => "s3",
            Cloud::Gcs => "gs",
            Cloud::Azure if bucket.contains('@') => "abfss",
            Cloud::Azure => "az",
        }
    }
}

impl Location {
    /// 22023 when it is not a location, 0A000 for a scheme that is not offered.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid_argument("the path is empty"));
        }
        if text.contains('\0') {
            return Err(Error::invalid_argument("the path has a NUL character"));
        }
        let Some((scheme, rest)) = scheme(text) else {
            return absolute(Path::new(text)).map(Location::Local);
        };
        match scheme.as_str() {
            "file" => {
                let rest = rest.strip_prefix("localhost").unwrap_or(rest);
                if !rest.starts_with('/') {
                    return Err(Error::invalid_argument(format!("\"{text}\" is not a file URI"))
                        .hint("A file URI has three slashes: file:///directory/name."));
                }
                absolute(&PathBuf::from(OsString::from_vec(percent_decode(rest.as_bytes())))).map(Location::Local)
            }
            "http" | "https" => {
                let url = Url::parse(text).map_err(|e| Error::invalid_argument(format!("\"{text}\" is not a URL: {e}")))?;
                Ok(Location::Http(url))
            }
            other => {
                let Some(cloud) = Cloud::of_scheme(other) else {
                    let error = Error::unsupported(format!("locations of the scheme \"{other}\" are not supported"));
                    return Err(match did_you_mean(other, ["file", "http", "https", "s3", "gs", "abfss"]) {
                        Some(near) => error.hint(format!("Did you mean {near}://?")),
                        None => error.hint("Supported are plain paths, file://, http://, https://, s3://, gs://, az:// and abfss://."),
                    });
                };
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(Error::invalid_argument(format!("\"{text}\" names no bucket")).hint(format!("Write {other}://bucket/key.")));
                }
                Ok(Location::Object { cloud, bucket: bucket.to_owned(), key: key.to_owned() })
            }
        }
    }

    /// The text that leads back here: a plain path for local files, unless it is not UTF-8 or looks like a URL.
    pub fn to_uri(&self) -> String {
        match self {
            Location::Local(path) => match path.to_str() {
                Some(plain) if scheme(plain).is_none() => plain.to_owned(),
                _ => file_uri(path),
            },
            Location::Http(url) => url.to_string(),
            Location::Object { cloud, bucket, key } => format!("{}://{bucket}/{key}", cloud.scheme(bucket)),
        }
    }

    /// What bounds concurrency: the host or bucket; None for local files.
    pub fn host(&self) -> Option<String> {
        match self {
            Location::Local(_) => None,
            Location::Http(url) => Some(url.host_str().unwrap_or_default().to_owned()),
            Location::Object { cloud, bucket, .. } => Some(format!("{}://{bucket}", cloud.scheme(bucket))),
        }
    }

    /// Whose API the store of the location speaks.
    pub fn cloud(&self) -> Option<Cloud> {
        match self {
            Location::Object { cloud, .. } => Some(*cloud),
            _ => None,
        }
    }

    /// The text for messages: without the query of a URL, which may be a secret signature.
    pub fn shown(&self) -> String {
        match self {
            Location::Http(url) => {
                let mut url = url.clone();
                url.set_query(None);
                let _ = url.set_password(None);
                url.to_string()
            }
            other => other.to_uri(),
        }
    }
}

/// `file://` with everything that is not plain percent-encoded.
pub fn file_uri(path: &Path) -> String {
    let mut out = String::from("file://");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Scheme (lower case) and the rest after `://`.
pub fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let valid =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    valid.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// Decodes `%xx`; other bytes stay.
pub fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (byte, hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            _ => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

/// Makes a path absolute and takes `.` and `..` out by name, so that one file has one URI. A final slash is lost.
fn absolute(path: &Path) -> Result<PathBuf> {
    let joined = if path.is_absolute() {
        path.to_owned()
    } else {
        std::env::current_dir().map_err(|e| Error::io("could not find the working directory", e))?.join(path)
    };
    let mut out = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn locations_lead_back() {
        for text in [
            "/data/a b%20c.jpg",
            "s3://bucket/a/b c?.parquet",
            "gs://b/k",
            "abfss://c@a.dfs.core.windows.net/k",
            "az://c/k",
            "https://host:8080/a%20b/c.pdf?sig=x%2F",
            "/a/[1].jpg",
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.to_uri(), text);
            assert_eq!(Location::parse(&location.to_uri()).unwrap(), location);
        }
        assert_eq!(Location::parse("file:///a%20b/%5B1%5D.jpg").unwrap(), Location::Local("/a b/[1].jpg".into()));
        let odd = Location::Local(PathBuf::from(OsString::from_vec(b"/a/\xff.jpg".to_vec())));
        assert_eq!(odd.to_uri(), "file:///a/%FF.jpg");
        assert_eq!(Location::parse("file:///a/%FF.jpg").unwrap(), odd);
        assert_eq!(Location::parse("/a/./b/../c").unwrap(), Location::Local("/a/c".into()));
        assert!(matches!(Location::parse("x/y").unwrap(), Location::Local(p) if p.is_absolute()));
    }

    #[test]
    fn bad_locations() {
        assert_eq!(Location::parse("").unwrap_err().sqlstate(), "22023");
        assert_eq!(Location::parse("s3:///key").unwrap_err().sqlstate(), "22023");
        assert_eq!(Location::parse("ftp://b/k").unwrap_err().sqlstate(), "0A000");
        assert_eq!(Location::parse("https://[").unwrap_err().sqlstate(), "22023");
        assert!(!Location::parse("https://h/x?secret=1").unwrap().shown().contains("secret"));
    }
}
