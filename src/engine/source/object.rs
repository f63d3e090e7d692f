//! Our files as an object store, for DataFusion's readers.
//!
//! In: paths made by [`object_path`], which carry a whole location. Out: what [`FileAccess`] reads there. One store,
//! registered under [`STORE_URL`], serves local files, every bucket and every URL, so one scan may mix them and a worker
//! needs no registration of its own. Invariant: `location_of(&object_path(&l)) == l`.
//! Deliberately absent: listing and writing; both have paths of their own.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use squilla_core::error::{Error, Result};
use squilla_core::values::FileRef;

use super::files::{FileAccess, blocking, local_etag, open_local};
use super::location::{Location, percent_decode};
use crate::error::from_datafusion;
use crate::error_wire;

/// Where the store is registered.
pub const STORE_URL: &str = "squilla-files://all";

/// The registered URL.
pub fn store_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse(STORE_URL).map_err(from_datafusion)
}

/// Makes `access` readable by scans of this runtime. Once per runtime; again is harmless.
pub fn register(runtime: &RuntimeEnv, access: &Arc<FileAccess>) -> Result<()> {
    let url = store_url()?;
    runtime.register_object_store(url.as_ref(), Arc::new(AccessStore { access: Arc::clone(access) }));
    Ok(())
}

/// A local path as a path of the store.
pub fn location_of_file(path: &std::path::Path) -> String {
    format!("local/{}", super::location::file_uri(path).trim_start_matches("file:///"))
}

/// The location as a path of the store: `local/data/a.parquet`, `s3/bucket/key`, `https/host/key?query`.
pub fn object_path(location: &Location) -> Path {
    // Path::from percent-encodes what it reserves, so the text comes back by decoding; empty segments would be lost.
    let text = match location {
        Location::Local(path) => location_of_file(path),
        Location::Http(url) => {
            let rest = url.as_str().split_once("://").map_or("", |(_, rest)| rest);
            if rest.contains("//") || rest.ends_with('/') {
                format!("{}!/{}", url.scheme(), rest.replace('%', "%25").replace('/', "%2F"))
            } else {
                format!("{}/{rest}", url.scheme())
            }
        }
        Location::Object { cloud, bucket, key } => format!("{}/{bucket}/{key}", cloud.scheme(bucket)),
    };
    Path::from(text)
}

/// The inverse of [`object_path`].
pub fn location_of(path: &Path) -> Result<Location> {
    let text = String::from_utf8(percent_decode(path.as_ref().as_bytes())).map_err(|_| Error::internal(format!("\"{path}\" is not UTF-8")))?;
    let (kind, rest) = text.split_once('/').unwrap_or((&text, ""));
    match kind {
        "local" => Location::parse(&format!("file:///{rest}")),
        "s3" | "gs" | "az" | "abfss" => Location::parse(&format!("{kind}://{rest}")),
        "http" | "https" => Location::parse(&format!("{kind}://{rest}")),
        "http!" | "https!" => {
            let rest = String::from_utf8(percent_decode(rest.as_bytes())).map_err(|_| Error::internal(format!("\"{path}\" is not UTF-8")))?;
            Location::parse(&format!("{}://{rest}", kind.trim_end_matches('!')))
        }
        _ => Err(Error::internal(format!("\"{path}\" is not a path of this store"))),
    }
}

/// What a listing told, as DataFusion wants it.
pub fn object_meta(file: &FileRef) -> Result<ObjectMeta> {
    let last_modified = match file.last_modified_us {
        Some(us) => DateTime::<Utc>::from_timestamp_micros(us).unwrap_or_default(),
        // Unknown times must not let a cache take an old version for the new one.
        None => Utc::now(),
    };
    Ok(ObjectMeta {
        location: object_path(&Location::parse(&file.uri)?),
        last_modified,
        size: file.size.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
        e_tag: file.etag.clone(),
        version: None,
    })
}

#[derive(Debug)]
struct AccessStore {
    access: Arc<FileAccess>,
}

impl fmt::Display for AccessStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("squilla-files")
    }
}

/// Our error as DataFusion's readers pass it on; `crate::error` finds it again by its source.
fn foreign(error: Error) -> object_store::Error {
    let source: Box<dyn std::error::Error + Send + Sync> =
        if error_wire::leaves_this_process() { Box::new(error_wire::Travelling(error)) } else { Box::new(error) };
    object_store::Error::Generic { store: "squilla", source }
}

fn unsupported(operation: &str) -> object_store::Error {
    foreign(Error::internal(format!("the file store was asked to {operation}")))
}

impl AccessStore {
    async fn get_local(&self, path: &std::path::Path, location: &Path, options: &GetOptions) -> Result<GetResult> {
        let owned = path.to_owned();
        let (file, metadata) = blocking(move || open_local(&owned)).await?;
        let size = metadata.len();
        let range = match &options.range {
            None => 0..size,
            Some(range) => range.as_range(size).map_err(|e| Error::new(squilla_core::error::Kind::Io, format!("\"{}\": {e}", path.display())))?,
        };
        let sums = self.access.sums(path);
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: metadata.modified().map(DateTime::<Utc>::from).unwrap_or_default(),
            size,
            e_tag: Some(local_etag(&metadata)),
            version: None,
        };
        let payload = match sums {
            None => GetResultPayload::File(file, path.to_owned()),
            Some(_) if options.head => GetResultPayload::File(file, path.to_owned()),
            Some(sums) => {
                let (path, range) = (path.to_owned(), range.clone());
                let bytes = blocking(move || sums.read(&file, &path, &range)).await?;
                GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed())
            }
        };
        Ok(GetResult { payload, meta, range, attributes: Attributes::new() })
    }

    async fn get_remote(&self, remote: &Location, options: GetOptions) -> Result<GetResult> {
        let (store, path) = self.access.store(remote).await?;
        // The turn covers the request, not the body: a slow reader of one body must not keep others from beginning.
        let _turn = self.access.turn(remote).await?;
        let result = self.access.in_time(remote, store.get_opts(&path, options)).await?;
        let result = result.map_err(|e| super::files::remote_error(remote, e))?;
        let (access, location) = (Arc::clone(&self.access), remote.clone());
        let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let watched = stream::unfold((result.into_stream(), access, location), |(mut body, access, location)| async move {
            let item = match access.in_time(&location, body.next()).await {
                Ok(item) => item?.map_err(|e| foreign(super::files::remote_error(&location, e))),
                Err(error) => Err(foreign(error)),
            };
            Some((item, (body, access, location)))
        });
        Ok(GetResult { payload: GetResultPayload::Stream(watched.boxed()), meta, range, attributes })
    }
}

#[async_trait]
impl ObjectStore for AccessStore {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        Err(unsupported("write"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(unsupported("write"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        match location_of(location).map_err(foreign)? {
            Location::Local(path) => self.get_local(&path, location, &options).await.map_err(foreign),
            remote => self.get_remote(&remote, options).await.map_err(foreign),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        match location_of(location).map_err(foreign)? {
            Location::Local(path) => {
                let (ranges, sums) = (ranges.to_vec(), self.access.sums(&path));
                blocking(move || {
                    let (file, _) = open_local(&path)?;
                    let read = |range| match &sums {
                        Some(sums) => sums.read(&file, &path, range),
                        None => read_range(&file, &path, range),
                    };
                    ranges.iter().map(read).collect()
                })
                .await
                .map_err(foreign)
            }
            _ => {
                let fetch = |range: Range<u64>| async move {
                    let options = GetOptions::new().with_range(Some(range));
                    self.get_opts(location, options).await?.bytes().await
                };
                object_store::coalesce_ranges(ranges, fetch, object_store::OBJECT_STORE_COALESCE_DEFAULT).await
            }
        }
    }

    fn delete_stream(&self, _: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        stream::once(async { Err(unsupported("delete")) }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        stream::once(async { Err(unsupported("list")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        Err(unsupported("list"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(unsupported("copy"))
    }
}

fn read_range(file: &File, path: &std::path::Path, range: &Range<u64>) -> Result<Bytes> {
    let mut out = vec![0; range.end.saturating_sub(range.start) as usize];
    file.read_exact_at(&mut out, range.start).map_err(|e| Error::io(format!("could not read \"{}\"", path.display()), e))?;
    Ok(Bytes::from(out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn paths_lead_back() {
        for text in [
            "/data/a b.parquet",
            "/data/100%/x{1}[2]?.parquet",
            "/d/ü~#.csv",
            "s3://bucket/a%20b/c d.parquet",
            "abfss://c@account.dfs.core.windows.net/d/e.csv",
            "https://host:8080/a%20b/c.parquet?sig=a%2Fb&x=1",
            "http://h/",
            "/",
            "/a/%2F.csv",
            "https://h/a//b%2F%2Fc?u=http://x//y",
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location_of(&object_path(&location)).unwrap(), location, "{text}");
        }
    }
}
