//! Reading files and objects: local paths, `http(s)://`, buckets.
//!
//! In: a [`FileRef`] or URI. Out: bytes, ranges, and what a HEAD tells. Invariants: the size is checked against the limit
//! before anything is read; where the reference carries an etag, the bytes are of that version or the read fails with
//! SQ006; requests to one host are bounded, retried with backoff, and given up when nothing arrives for a minute.
//! How buckets are reached is `buckets`' business.
//! Deliberately absent: caching, and who may read what.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::client::{HttpClient, HttpConnector, ReqwestConnector};
use object_store::http::HttpBuilder;
use object_store::{Attribute, ClientOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::Files;
use squilla_core::values::FileRef;
use squilla_store::sums::Sums;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::buckets::{Connection, credentials_hint, retries};
use super::location::{Cloud, Location};

/// What reading may use.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// Requests to one host at a time.
    pub requests_per_host: usize,
    /// Local reads at a time.
    pub local_reads: usize,
    /// Longest wait for the next byte.
    pub idle: Duration,
}

impl Default for AccessOptions {
    fn default() -> Self {
        Self { requests_per_host: 64, local_reads: 64, idle: Duration::from_secs(60) }
    }
}

/// Objects of this many bytes and more are read in parts, several at a time.
const PART_BYTES: u64 = 16 << 20;
const PARTS_AT_A_TIME: usize = 8;
const SETTING: &str = "squilla.max_file_bytes";

/// Reads files. One per server; cheap to share.
#[derive(Debug)]
pub struct FileAccess {
    options: AccessOptions,
    stores: Mutex<HashMap<(Cloud, String), Arc<dyn ObjectStore>>>,
    connections: Mutex<HashMap<(Cloud, Option<String>), Connection>>,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    local: Arc<Semaphore>,
    http: OnceLock<HttpClient>,
    sums: Mutex<Expected>,
}

/// Checksums of local files by their path, while somebody holds them.
#[derive(Debug, Default)]
struct Expected {
    files: HashMap<PathBuf, Weak<Sums>>,
    /// So many entries are a reason to look for those that nobody needs.
    most: usize,
}

/// Hands out the one HTTP client, so that all URLs share its connections.
#[derive(Debug)]
struct SharedClient(HttpClient);

impl HttpConnector for SharedClient {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}

impl FileAccess {
    /// With the default bounds.
    pub fn new() -> Arc<Self> {
        Self::with_options(AccessOptions::default())
    }

    /// With other bounds.
    pub fn with_options(options: AccessOptions) -> Arc<Self> {
        let local = Arc::new(Semaphore::new(options.local_reads.max(1)));
        Arc::new(Self {
            options,
            stores: Mutex::default(),
            connections: Mutex::default(),
            hosts: Mutex::default(),
            local,
            http: OnceLock::new(),
            sums: Mutex::default(),
        })
    }

    /// What scans read of this local file has these checksums, or is XX001.
    pub fn expect_sums(&self, path: &Path, sums: &Arc<Sums>) {
        let mut expected = self.sums.lock();
        if expected.files.get(path).is_some_and(|known| known.as_ptr() == Arc::as_ptr(sums)) {
            return;
        }
        if expected.files.len() >= expected.most {
            expected.files.retain(|_, sums| sums.strong_count() > 0);
            expected.most = (2 * expected.files.len()).max(1024);
        }
        expected.files.insert(path.to_owned(), Arc::downgrade(sums));
    }

    /// The checksums of a local file, where it has any.
    pub(crate) fn sums(&self, path: &Path) -> Option<Arc<Sums>> {
        self.sums.lock().files.get(path)?.upgrade()
    }

    /// Puts a store behind a bucket of S3, in place of the one made from the environment.
    pub fn register_bucket(&self, bucket: &str, store: Arc<dyn ObjectStore>) {
        self.stores.lock().insert((Cloud::S3, bucket.to_owned()), store);
    }

    /// Sets how buckets are reached, by cloud and bucket; a bucket of None is every bucket of its cloud that has no
    /// connection of its own. Stores that are open stay with the statements that use them.
    pub fn set_connections(&self, connections: HashMap<(Cloud, Option<String>), Connection>) {
        let mut current = self.connections.lock();
        if *current != connections {
            *current = connections;
            self.stores.lock().clear();
        }
    }

    /// The store of a remote location and the path in it.
    pub(crate) async fn store(&self, location: &Location) -> Result<(Arc<dyn ObjectStore>, object_store::path::Path)> {
        match location {
            Location::Local(path) => Err(Error::internal(format!("\"{}\" is not remote", path.display()))),
            Location::Http(url) => {
                // The URL itself is the base and the path is empty, so that its query and its encoding stay as they are.
                let store = HttpBuilder::new()
                    .with_url(url.as_str())
                    .with_client_options(ClientOptions::new().with_allow_http(true))
                    .with_retry(retries(3, 30))
                    .with_http_connector(SharedClient(self.http_client()?))
                    .build()
                    .map_err(|e| remote_error(location, e))?;
                Ok((Arc::new(store), object_store::path::Path::default()))
            }
            Location::Object { cloud, bucket, key } => {
                let path = object_store::path::Path::parse(key)
                    .map_err(|e| Error::invalid_argument(format!("\"{key}\" is not a usable object key")).detail(format!("{e}.")))?;
                Ok((self.bucket(*cloud, bucket).await?, path))
            }
        }
    }

    fn http_client(&self) -> Result<HttpClient> {
        if let Some(client) = self.http.get() {
            return Ok(client.clone());
        }
        let agent = object_store::HeaderValue::from_static(concat!("squilla/", env!("CARGO_PKG_VERSION")));
        let options =
            ClientOptions::new().with_allow_http(true).with_timeout_disabled().with_connect_timeout(Duration::from_secs(10)).with_user_agent(agent);
        let client =
            ReqwestConnector::default().connect(&options).map_err(|e| Error::new(Kind::Io, format!("the HTTP client does not start: {e}")))?;
        Ok(self.http.get_or_init(|| client).clone())
    }

    /// The store of a bucket.
    pub(crate) async fn bucket(&self, cloud: Cloud, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
        let key = (cloud, bucket.to_owned());
        if let Some(store) = self.stores.lock().get(&key) {
            return Ok(Arc::clone(store));
        }
        let connection = {
            let connections = self.connections.lock();
            connections.get(&(cloud, Some(bucket.to_owned()))).or_else(|| connections.get(&(cloud, None))).cloned().unwrap_or_default()
        };
        let store = super::buckets::open(cloud, bucket, &connection).await?;
        Ok(Arc::clone(self.stores.lock().entry(key).or_insert(store)))
    }

    /// Waits for a turn at the host of `location`.
    pub(crate) async fn turn(&self, location: &Location) -> Result<OwnedSemaphorePermit> {
        let semaphore = match location.host() {
            None => Arc::clone(&self.local),
            Some(host) => {
                let most = self.options.requests_per_host.max(1);
                Arc::clone(self.hosts.lock().entry(host).or_insert_with(|| Arc::new(Semaphore::new(most))))
            }
        };
        semaphore.acquire_owned().await.map_err(|_| Error::internal("the turnstile of a host is closed"))
    }

    /// Fails with 58030 when `work` takes longer than the idle limit.
    pub(crate) async fn in_time<T>(&self, location: &Location, work: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout(self.options.idle, work)
            .await
            .map_err(|_| Error::new(Kind::Io, format!("\"{}\": no answer for {} s", location.shown(), self.options.idle.as_secs())))
    }

    /// The bytes of a file as they come, without a limit. SQ006 when it is not the version of the reference.
    pub async fn stream(&self, file: &FileRef) -> Result<BoxStream<'static, Result<Bytes>>> {
        let location = Location::parse(&file.uri)?;
        if let Location::Local(path) = &location {
            let (path, etag) = (path.clone(), file.etag.clone());
            let handle = blocking(move || {
                let (handle, metadata) = open_local(&path)?;
                check_etag(&Location::Local(path.clone()), etag.as_deref(), Some(&local_etag(&metadata)))?;
                Ok(Arc::new(handle))
            })
            .await?;
            return Ok(local_stream(handle, location.shown()));
        }
        let (store, path) = self.store(&location).await?;
        let result = {
            let _turn = self.turn(&location).await?;
            self.in_time(&location, store.get_opts(&path, GetOptions::new())).await?.map_err(|e| remote_error(&location, e))?
        };
        check_etag(&location, file.etag.as_deref(), result.meta.e_tag.as_deref())?;
        let idle = self.options.idle;
        let watched = stream::unfold((result.into_stream(), location), move |(mut body, location)| async move {
            let item = match tokio::time::timeout(idle, body.next()).await {
                Ok(item) => item?.map_err(|e| remote_error(&location, e)),
                Err(_) => Err(Error::new(Kind::Io, format!("\"{}\": no answer for {} s", location.shown(), idle.as_secs()))),
            };
            Some((item, (body, location)))
        });
        Ok(watched.boxed())
    }

    /// One HEAD.
    async fn head_remote(&self, location: &Location) -> Result<(ObjectMeta, Option<String>)> {
        let (store, path) = self.store(location).await?;
        let _turn = self.turn(location).await?;
        let head = self.in_time(location, store.get_opts(&path, GetOptions::new().with_head(true))).await?;
        let result = match head {
            Err(_) if matches!(location, Location::Http(_)) => {
                // Some servers, and all signed URLs, refuse HEAD: the headers of a GET say the same.
                self.in_time(location, store.get_opts(&path, GetOptions::new())).await?
            }
            other => other,
        };
        let result = result.map_err(|e| remote_error(location, e))?;
        let content_type = result.attributes.get(&Attribute::ContentType).map(|v| v.to_string());
        Ok((result.meta, content_type))
    }

    async fn read_remote(&self, location: &Location, file: &FileRef, range: Option<(u64, u64)>, bytes_max: u64) -> Result<Bytes> {
        let (store, path) = self.store(location).await?;
        let whole = file.size.and_then(|s| u64::try_from(s).ok()).filter(|_| range.is_none());
        match whole {
            Some(size) if size > bytes_max => Err(too_large(location, size, bytes_max)),
            Some(size) if size >= 2 * PART_BYTES && matches!(location, Location::Object { .. }) => {
                let starts = (0..size).step_by(PART_BYTES as usize);
                let parts = starts.map(|start| self.get(&store, &path, location, file, Some((start, PART_BYTES.min(size - start))), bytes_max));
                let parts: Vec<Bytes> = futures::stream::iter(parts).buffered(PARTS_AT_A_TIME).try_collect().await?;
                let mut out = BytesMut::with_capacity(size as usize);
                parts.iter().for_each(|part| out.extend_from_slice(part));
                Ok(out.freeze())
            }
            _ => self.get(&store, &path, location, file, range, bytes_max).await,
        }
    }

    /// One GET.
    async fn get(
        &self,
        store: &Arc<dyn ObjectStore>,
        path: &object_store::path::Path,
        location: &Location,
        file: &FileRef,
        range: Option<(u64, u64)>,
        bytes_max: u64,
    ) -> Result<Bytes> {
        let _turn = self.turn(location).await?;
        // If-Match compares strongly: a weak tag would never match. It is compared below.
        let strong = file.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        let options = GetOptions::new().with_if_match(strong);
        let ranged = range.map(|(start, length)| GetRange::Bounded(start..start.saturating_add(length)));
        let mut skip = 0;
        let mut result = self.in_time(location, store.get_opts(path, options.clone().with_range(ranged))).await?;
        if let (Err(object_store::Error::NotSupported { .. }), Some((start, _))) = (&result, range) {
            // The server ignores ranges: read from the start and stop in time.
            skip = start;
            result = self.in_time(location, store.get_opts(path, options)).await?;
        }
        let result = match result {
            Err(e) if range.is_some() && e.to_string().contains("416") => return Ok(Bytes::new()),
            other => other.map_err(|e| remote_error(location, e))?,
        };
        check_etag(location, file.etag.as_deref(), result.meta.e_tag.as_deref())?;
        let available = result.meta.size.saturating_sub(range.map_or(0, |(start, _)| start));
        let wanted = range.map_or(available, |(_, length)| length.min(available));
        if wanted > bytes_max {
            return Err(too_large(location, wanted, bytes_max));
        }
        self.collect(location, result, skip, wanted).await
    }

    /// Exactly `wanted` bytes after `skip`.
    async fn collect(&self, location: &Location, result: GetResult, skip: u64, wanted: u64) -> Result<Bytes> {
        let mut stream = result.into_stream();
        let mut out = BytesMut::with_capacity(wanted as usize);
        let mut skip = skip;
        while (out.len() as u64) < wanted {
            let Some(chunk) = self.in_time(location, stream.next()).await? else {
                return Err(Error::new(Kind::Io, format!("\"{}\" ended after {} of {wanted} bytes", location.shown(), out.len())));
            };
            let chunk = chunk.map_err(|e| remote_error(location, e))?;
            let from = skip.min(chunk.len() as u64);
            skip -= from;
            let rest = chunk.slice(from as usize..);
            let take = rest.len().min((wanted - out.len() as u64) as usize);
            out.extend_from_slice(rest.get(..take).unwrap_or_default());
        }
        Ok(out.freeze())
    }
}

#[async_trait]
impl Files for FileAccess {
    async fn head(&self, uri: &str) -> Result<FileRef> {
        let location = Location::parse(uri)?;
        if let Location::Local(path) = &location {
            let path = path.clone();
            let metadata = blocking(move || stat(&path)).await?;
            return Ok(local_ref(uri.to_owned(), &metadata));
        }
        let (meta, content_type) = self.head_remote(&location).await?;
        Ok(FileRef { content_type, ..remote_ref(uri.to_owned(), &meta) })
    }

    async fn read(&self, file: &FileRef, range: Option<(u64, u64)>, bytes_max: u64) -> Result<Bytes> {
        let location = Location::parse(&file.uri)?;
        if matches!(range, Some((_, 0))) {
            return Ok(Bytes::new());
        }
        let Location::Local(path) = &location else {
            return self.read_remote(&location, file, range, bytes_max).await;
        };
        let _turn = self.turn(&location).await?;
        let (path, etag) = (path.clone(), file.etag.clone());
        blocking(move || read_local(&path, etag.as_deref(), range, bytes_max)).await
    }

    fn local_path(&self, uri: &str) -> Option<PathBuf> {
        match Location::parse(uri) {
            Ok(Location::Local(path)) => Some(path),
            _ => None,
        }
    }
}

/// A local file in steps of 1 MiB.
fn local_stream(file: Arc<File>, shown: String) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((file, 0_u64, shown), |(file, at, shown)| async move {
        let handle = Arc::clone(&file);
        let (chunk, shown) = blocking(move || {
            let mut out = vec![0; 1 << 20];
            let read = handle.read_at(&mut out, at).map_err(|e| Error::io(format!("could not read \"{shown}\""), e))?;
            out.truncate(read);
            Ok((Bytes::from(out), shown))
        })
        .await?;
        let next = at + chunk.len() as u64;
        Ok((!chunk.is_empty()).then_some((chunk, (file, next, shown))))
    })
    .boxed()
}

/// Runs blocking file work. When the caller is dropped the work ends by itself: each is one bounded system call or few.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(format!("a file task failed: {e}")))?
}

/// Metadata of a regular file. 58P01, 42501; a directory or device is 58030.
pub(crate) fn stat(path: &Path) -> Result<std::fs::Metadata> {
    let metadata = std::fs::metadata(path).map_err(|e| open_error(path, e))?;
    regular(path, metadata)
}

fn regular(path: &Path, metadata: std::fs::Metadata) -> Result<std::fs::Metadata> {
    if metadata.is_dir() {
        return Err(Error::new(Kind::Io, format!("\"{}\" is a directory", path.display())));
    }
    if !metadata.is_file() {
        return Err(Error::new(Kind::Io, format!("\"{}\" is not a regular file", path.display())));
    }
    Ok(metadata)
}

/// The error of a path that does not open.
pub(crate) fn open_error(path: &Path, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotADirectory {
        return Error::new(Kind::UndefinedFile, format!("could not open \"{}\": not a directory", path.display()));
    }
    let what = match error.kind() {
        std::io::ErrorKind::NotFound => Some("no such file or directory"),
        std::io::ErrorKind::PermissionDenied => Some("permission denied"),
        _ => None,
    };
    let built = Error::io(format!("could not open \"{}\"", path.display()), error);
    match what {
        Some(what) => Error { message: format!("could not open \"{}\": {what}", path.display()), ..built },
        None => built,
    }
}

/// Opens a regular file. A FIFO is refused without blocking on it.
pub(crate) fn open_local(path: &Path) -> Result<(File, std::fs::Metadata)> {
    stat(path)?;
    let file = File::open(path).map_err(|e| open_error(path, e))?;
    let metadata = file.metadata().map_err(|e| open_error(path, e))?;
    Ok((file, regular(path, metadata)?))
}

fn read_local(path: &Path, etag: Option<&str>, range: Option<(u64, u64)>, bytes_max: u64) -> Result<Bytes> {
    let (file, metadata) = open_local(path)?;
    let location = Location::Local(path.to_owned());
    check_etag(&location, etag, Some(&local_etag(&metadata)))?;
    let (start, length) = range.unwrap_or((0, u64::MAX));
    let wanted = length.min(metadata.len().saturating_sub(start));
    if wanted > bytes_max {
        return Err(too_large(&location, wanted, bytes_max));
    }
    let mut out = vec![0; wanted as usize];
    file.read_exact_at(&mut out, start).map_err(|e| {
        if e.kind() == std::io::ErrorKind::UnexpectedEof {
            Error::new(Kind::SourceChanged, format!("\"{}\" shrank while it was read", path.display()))
        } else {
            Error::io(format!("could not read \"{}\"", path.display()), e)
        }
    })?;
    Ok(Bytes::from(out))
}

/// Changes when the file is replaced or written: inode, time of change in microseconds, size.
pub(crate) fn local_etag(metadata: &std::fs::Metadata) -> String {
    format!("{:x}-{:x}-{:x}", metadata.ino(), modified_us(metadata), metadata.len())
}

fn modified_us(metadata: &std::fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000).saturating_add(metadata.mtime_nsec() / 1000)
}

/// What a stat tells.
pub(crate) fn local_ref(uri: String, metadata: &std::fs::Metadata) -> FileRef {
    FileRef {
        uri,
        size: i64::try_from(metadata.len()).ok(),
        etag: Some(local_etag(metadata)),
        last_modified_us: Some(modified_us(metadata)),
        content_type: None,
    }
}

/// What a HEAD or a listing tells.
pub(crate) fn remote_ref(uri: String, meta: &ObjectMeta) -> FileRef {
    let modified = meta.last_modified.timestamp_micros();
    FileRef {
        uri,
        size: i64::try_from(meta.size).ok(),
        etag: meta.e_tag.clone(),
        // The epoch stands for "the server did not say".
        last_modified_us: (modified != 0).then_some(modified),
        content_type: None,
    }
}

fn check_etag(location: &Location, expected: Option<&str>, found: Option<&str>) -> Result<()> {
    match (expected, found) {
        (Some(expected), Some(found)) if expected != found => Err(changed(location)),
        _ => Ok(()),
    }
}

fn changed(location: &Location) -> Error {
    Error::new(Kind::SourceChanged, format!("\"{}\" changed after it was listed", location.shown()))
}

fn too_large(location: &Location, size: u64, bytes_max: u64) -> Error {
    Error::limit(format!("\"{}\" has {size} bytes, more than the {bytes_max} allowed", location.shown()), SETTING)
}

/// An object store's error in the words of `location`, without secrets.
pub(crate) fn remote_error(location: &Location, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let shown = location.shown();
    let text = chain(&error);
    let status = |code: &str| text.contains(&format!("status code: {code}")) || text.contains(&format!("status {code}"));
    let denied = matches!(error, E::Unauthenticated { .. } | E::PermissionDenied { .. }) || status("401") || status("403");
    match &error {
        E::NotFound { .. } => Error::new(Kind::UndefinedFile, format!("could not open \"{shown}\": no such object")),
        E::Precondition { .. } | E::NotModified { .. } => changed(location),
        _ if status("404") || status("410") => Error::new(Kind::UndefinedFile, format!("could not open \"{shown}\": no such object")),
        _ if status("412") => changed(location),
        _ if denied => match location {
            // One forbidden page among many is a fault of that row; a forbidden bucket is one of the statement.
            Location::Http(_) => Error::new(Kind::Io, format!("could not open \"{shown}\": access denied")),
            _ => Error::new(Kind::InsufficientPrivilege, format!("permission denied for \"{shown}\""))
                .hint(location.cloud().map_or("", credentials_hint)),
        },
        _ => Error::new(Kind::Io, format!("could not read \"{shown}\"")).detail(format!("{}.", redact(location, &text))),
    }
}

/// The error and its sources, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        let next = e.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = e.source();
    }
    text
}

fn redact(location: &Location, text: &str) -> String {
    match location {
        Location::Http(url) => url.query().map_or_else(|| text.to_owned(), |query| text.replace(query, "...")),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
