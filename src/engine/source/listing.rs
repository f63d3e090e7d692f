//! Listing files and objects by pattern, as a stream.
//!
//! In: a path, URL or pattern. Out: chunks of [`FileRef`], the first one small so that a LIMIT answers at once. A pattern
//! that matches nothing gives nothing; a path without wildcards that is not there, or a pattern whose literal directory
//! is not there, is 58P01. A directory (or key prefix) means everything below it. Names that begin with a dot are left
//! out unless the pattern says the dot. Invariant: memory is bounded by the names of the directories on the way down
//! (local) or by one page (objects), however many files there are. Order: by name within each directory.
//! Deliberately absent: reading contents, and listing of plain HTTP servers, which have no way to list.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::Files;
use squilla_core::values::FileRef;

use super::files::FileAccess;
use super::glob::is_pattern;
use super::location::{Cloud, Location, percent_decode, scheme};
use super::{list_local, list_objects};

/// What to list, besides the pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOptions {
    /// Whether a directory means everything below it, or only the files in it.
    pub recursive: bool,
    /// Only files changed after this moment, in microseconds since 1970.
    pub modified_after_us: Option<i64>,
    /// At most so many files.
    pub files_max: Option<u64>,
    /// Whether size, etag and time are wanted; without them a local listing need not look at each file.
    pub details: bool,
    /// Leave out names that begin with an underscore, too: marks of other engines (`_SUCCESS`, `_temporary`).
    pub skip_underscore: bool,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { recursive: true, modified_after_us: None, files_max: None, details: true, skip_underscore: false }
    }
}

/// Files of one step.
pub type Chunks = BoxStream<'static, Result<Vec<FileRef>>>;

/// Sizes of the chunks: small first.
#[derive(Debug)]
pub(crate) struct ChunkSize(usize);

impl ChunkSize {
    pub(crate) const fn new() -> Self {
        Self(32)
    }

    pub(crate) fn now(&self) -> usize {
        self.0
    }

    pub(crate) fn grow(&mut self) {
        self.0 = (self.0 * 4).min(1024);
    }
}

impl FileAccess {
    /// The files of a pattern, in chunks. Fails at once when the pattern is malformed (22023) or cannot be listed (0A000).
    pub fn list_chunks(self: &Arc<Self>, pattern: &str, options: &ListOptions) -> Result<Chunks> {
        let chunks = match scheme(pattern) {
            None => list_local::list(pattern, false, options)?,
            Some((s, rest)) if s == "file" => {
                // Decoded before it is matched; what it gives is encoded again.
                let path = percent_decode(rest.strip_prefix("localhost").unwrap_or(rest).as_bytes());
                let path = String::from_utf8(path).map_err(|_| Error::invalid_argument(format!("\"{pattern}\" is not UTF-8 after decoding")))?;
                list_local::list(&path, true, options)?
            }
            Some((s, rest)) if Cloud::of_scheme(&s).is_some() => list_objects::list(self, Cloud::of_scheme(&s).unwrap_or(Cloud::S3), rest, options)?,
            Some((s, rest)) if (s == "http" || s == "https") && (rest.contains('*') || rest.contains('{') || rest.contains("/[")) => {
                return Err(Error::unsupported(format!("\"{pattern}\": locations of the scheme \"{s}\" cannot be listed"))
                    .hint("Name each object, in an array of text for several."));
            }
            Some(_) => {
                let location = Location::parse(pattern)?;
                let access = Arc::clone(self);
                stream::once(async move { access.head(&location.to_uri()).await.map(|file| vec![file]) }).boxed()
            }
        };
        Ok(bounded(chunks, options))
    }

    /// The files of several patterns, one pattern after the other.
    pub fn list_all_chunks(self: &Arc<Self>, patterns: &[String], options: &ListOptions) -> Result<Chunks> {
        let streams = patterns.iter().map(|p| self.list_chunks(p, options)).collect::<Result<Vec<_>>>()?;
        let chunks = stream::iter(streams).flatten().boxed();
        Ok(if patterns.len() > 1 { bounded(chunks, &ListOptions { modified_after_us: None, ..options.clone() }) } else { chunks })
    }

    /// The files of a pattern, one by one.
    pub fn list(self: &Arc<Self>, pattern: &str, options: &ListOptions) -> Result<BoxStream<'static, Result<FileRef>>> {
        Ok(self.list_chunks(pattern, options)?.map_ok(|chunk| stream::iter(chunk.into_iter().map(Ok))).try_flatten().boxed())
    }
}

/// Applies `modified_after` and `files_max`.
fn bounded(chunks: Chunks, options: &ListOptions) -> Chunks {
    let after = options.modified_after_us;
    let chunks = chunks.map_ok(move |mut chunk| {
        if let Some(after) = after {
            // A file whose time is unknown may have changed.
            chunk.retain(|f| f.last_modified_us.is_none_or(|t| t > after));
        }
        chunk
    });
    let Some(most) = options.files_max else { return chunks.boxed() };
    let left = usize::try_from(most).unwrap_or(usize::MAX);
    // Ends with the chunk that completes the count: asking for one more could walk a whole disk for nothing.
    stream::unfold((chunks.boxed(), left), |(mut chunks, left)| async move {
        if left == 0 {
            return None;
        }
        match chunks.next().await? {
            Ok(mut chunk) => {
                chunk.truncate(left);
                let left = left - chunk.len();
                Some((Ok(chunk), (chunks, left)))
            }
            Err(error) => Some((Err(error), (chunks, 0))),
        }
    })
    .boxed()
}

/// Whether a table function's path names one file for sure.
pub fn is_single(path: &str) -> bool {
    matches!(scheme(path), Some((s, _)) if s.starts_with("http")) || !is_pattern(path) && !path.ends_with('/')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::path::Path;

    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;

    async fn names(access: &Arc<FileAccess>, pattern: &str, options: &ListOptions) -> Result<Vec<String>> {
        let files: Vec<FileRef> = access.list(pattern, options)?.try_collect().await?;
        Ok(files.into_iter().map(|f| f.uri).collect())
    }

    fn tree(dir: &Path) {
        for name in ["a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg", "sub/.hidden.jpg", ".git/e.jpg", "z[1].jpg", "_SUCCESS", "ü.jpg"] {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
    }

    #[tokio::test]
    async fn local_patterns() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        let access = FileAccess::new();
        let root = dir.path().to_str().unwrap().to_owned();
        let list = |pattern: String, options: ListOptions| {
            let (access, root) = (Arc::clone(&access), root.clone());
            async move {
                names(&access, &pattern, &options).await.map(|v| v.into_iter().map(|n| n.replace(&root, "").replace('\\', "/")).collect::<Vec<_>>())
            }
        };
        let all = ListOptions::default;
        assert_eq!(list(format!("{root}/*.jpg"), all()).await.unwrap(), ["/a.jpg", "/z[1].jpg", "/ü.jpg"]);
        assert_eq!(list(format!("{root}/**/*.jpg"), all()).await.unwrap(), ["/a.jpg", "/sub/c.jpg", "/sub/deep/d.jpg", "/z[1].jpg", "/ü.jpg"]);
        assert_eq!(list(format!("{root}/*/c.jpg"), all()).await.unwrap(), ["/sub/c.jpg"]);
        assert_eq!(list(format!("{root}/*/deep"), all()).await.unwrap(), [] as [&str; 0]);
        assert_eq!(list(format!("{root}/sub"), all()).await.unwrap(), ["/sub/c.jpg", "/sub/deep/d.jpg"]);
        assert_eq!(list(format!("{root}/sub/"), ListOptions { recursive: false, ..all() }).await.unwrap(), ["/sub/c.jpg"]);
        assert_eq!(list(format!("{root}/z[1].jpg"), all()).await.unwrap(), ["/z[1].jpg"]);
        assert_eq!(list(format!("{root}/*.nothing"), all()).await.unwrap(), [] as [&str; 0]);
        assert_eq!(list(format!("{root}/**"), ListOptions { files_max: Some(2), ..all() }).await.unwrap(), ["/_SUCCESS", "/a.jpg"]);
        assert_eq!(list(root.clone(), ListOptions { skip_underscore: true, files_max: Some(1), ..all() }).await.unwrap(), ["/a.jpg"]);
        assert_eq!(list(format!("file://{root}/%C3%BC.jpg"), all()).await.unwrap(), ["file:///%C3%BC.jpg"]);
        let error = list(format!("{root}/none.jpg"), all()).await.unwrap_err();
        assert_eq!(error.sqlstate(), "58P01");
        assert_eq!(list(format!("{root}/none/*.jpg"), all()).await.unwrap_err().sqlstate(), "58P01");
        assert_eq!(list(format!("{root}/["), all()).await.unwrap_err().sqlstate(), "22023");
        assert_eq!(list("https://h/*.jpg".into(), all()).await.unwrap_err().sqlstate(), "0A000");
        let late = ListOptions { modified_after_us: Some(i64::MAX - 1), ..all() };
        assert!(list(format!("{root}/*.jpg"), late).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn links_that_go_round_end() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        std::os::unix::fs::symlink(dir.path(), dir.path().join("sub/up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("gone"), dir.path().join("broken.jpg")).unwrap();
        let found = names(&FileAccess::new(), &format!("{}/**/*.jpg", dir.path().display()), &ListOptions::default()).await.unwrap();
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[tokio::test]
    async fn object_patterns() {
        let store = Arc::new(InMemory::new());
        for key in ["img/a.jpg", "img/b.png", "img/x/c.jpg", "img/.h/d.jpg", "other/e.jpg", "imgs/f.jpg"] {
            store.put(&object_store::path::Path::from(key), PutPayload::from(key.to_owned())).await.unwrap();
        }
        let access = FileAccess::new();
        access.register_bucket("b", store);
        let all = ListOptions::default();
        assert_eq!(names(&access, "s3://b/img/*.jpg", &all).await.unwrap(), ["s3://b/img/a.jpg"]);
        assert_eq!(names(&access, "s3://b/img/**/*.jpg", &all).await.unwrap(), ["s3://b/img/a.jpg", "s3://b/img/x/c.jpg"]);
        assert_eq!(names(&access, "s3://b/img/a*.jpg", &all).await.unwrap(), ["s3://b/img/a.jpg"]);
        assert_eq!(names(&access, "s3://b/*/e.jpg", &all).await.unwrap(), ["s3://b/other/e.jpg"]);
        assert_eq!(names(&access, "s3://b/img", &all).await.unwrap(), ["s3://b/img/a.jpg", "s3://b/img/b.png", "s3://b/img/x/c.jpg"]);
        assert_eq!(
            names(&access, "s3://b/img/", &ListOptions { recursive: false, ..all.clone() }).await.unwrap(),
            ["s3://b/img/a.jpg", "s3://b/img/b.png"]
        );
        assert_eq!(names(&access, "s3://b/img/a.jpg", &all).await.unwrap(), ["s3://b/img/a.jpg"]);
        assert_eq!(names(&access, "s3://b", &ListOptions { files_max: Some(1), ..all.clone() }).await.unwrap().len(), 1);
        assert_eq!(names(&access, "s3://b/none", &all).await.unwrap_err().sqlstate(), "58P01");
        assert!(names(&access, "s3://b/none*", &all).await.unwrap().is_empty());
    }
}
