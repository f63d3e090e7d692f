//! Listing buckets.
//!
//! In: `bucket/key` with or without wildcards. Out: chunks of objects, a page of the store at a time. Invariants: only
//! keys below the literal directory of the pattern are asked for, and where the next segment begins literally, only from
//! there on; the listing stops when nobody listens. Deliberately absent: parallel listing of prefixes.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::Files;
use squilla_core::values::FileRef;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::files::{FileAccess, remote_error, remote_ref};
use super::glob::{Pattern, is_pattern, split};
use super::listing::{ChunkSize, Chunks, ListOptions};
use super::location::{Cloud, Location};

/// The objects of `bucket/key-pattern`.
pub fn list(access: &Arc<FileAccess>, cloud: Cloud, rest: &str, options: &ListOptions) -> Result<Chunks> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || is_pattern(bucket) {
        return Err(Error::invalid_argument(format!("\"{}://{rest}\" names no bucket", cloud.scheme(bucket)))
            .hint("Write s3://bucket/key; wildcards are for keys."));
    }
    let pattern = if is_pattern(key) { Some(Pattern::compile(split(key).1)?) } else { None };
    let (access, bucket, key, options) = (Arc::clone(access), bucket.to_owned(), key.to_owned(), options.clone());
    // Nothing is asked of the store until the stream is.
    let chunks = stream::once(async move {
        let (sender, receiver) = mpsc::channel(2);
        let lister = Lister { access, cloud, bucket, options, sender, chunk: Vec::new(), size: ChunkSize::new() };
        let task = AbortOnDropHandle::new(tokio::spawn(lister.run(key, pattern)));
        // The task ends with the stream that holds it.
        stream::unfold((receiver, task), |(mut receiver, task)| async move { receiver.recv().await.map(|item| (item, (receiver, task))) })
    });
    Ok(chunks.flatten().boxed())
}

struct Lister {
    access: Arc<FileAccess>,
    cloud: Cloud,
    bucket: String,
    options: ListOptions,
    sender: mpsc::Sender<Result<Vec<FileRef>>>,
    chunk: Vec<FileRef>,
    size: ChunkSize,
}

impl Lister {
    fn at(&self, key: &str) -> Location {
        Location::Object { cloud: self.cloud, bucket: self.bucket.clone(), key: key.to_owned() }
    }

    async fn run(mut self, key: String, pattern: Option<Pattern>) {
        let result = match pattern {
            Some(pattern) => self.keys(split(&key).0, &pattern, literal_head(split(&key).1)).await.map(|_| ()),
            None => self.key(&key).await,
        };
        match result {
            Ok(()) => {
                self.flush().await;
            }
            Err(error) => {
                let _ = self.sender.send(Err(error)).await;
            }
        }
    }

    /// A key without wildcards: the object, or else everything below it.
    async fn key(&mut self, key: &str) -> Result<()> {
        let uri = self.at(key).to_uri();
        if !key.is_empty() && !key.ends_with('/') {
            match self.access.head(&uri).await {
                Ok(file) => {
                    self.chunk.push(file);
                    return Ok(());
                }
                Err(e) if e.kind == Kind::UndefinedFile => {}
                Err(e) => return Err(e),
            }
        }
        let below = if key.is_empty() || key.ends_with('/') { key.to_owned() } else { format!("{key}/") };
        let any = self.keys(&below, &Pattern::everything(self.options.recursive), "").await?;
        if !any && !key.is_empty() {
            return Err(Error::new(Kind::UndefinedFile, format!("could not open \"{uri}\": no such object")));
        }
        Ok(())
    }

    /// Lists below `base`; whether there was any key at all.
    async fn keys(&mut self, base: &str, pattern: &Pattern, head: &str) -> Result<bool> {
        let location = self.at(base);
        let store = self.access.bucket(self.cloud, &self.bucket).await?;
        let bad = |e: object_store::path::Error| Error::invalid_argument(format!("\"{base}\" is not a usable key prefix")).detail(format!("{e}."));
        let prefix = if base.is_empty() { None } else { Some(Path::parse(base).map_err(bad)?) };
        let mut pages = match (head, &prefix) {
            ("", _) => store.list(prefix.as_ref()),
            (head, _) => store.list_with_offset(prefix.as_ref(), &Path::parse(format!("{base}{head}")).map_err(bad)?),
        };
        let mut any = false;
        while let Some(object) = self.access.in_time(&location, pages.next()).await? {
            let object: ObjectMeta = object.map_err(|e| remote_error(&location, e))?;
            any = true;
            let key = object.location.as_ref();
            let Some(relative) = key.strip_prefix(base) else { continue };
            if !relative.starts_with(head) {
                break; // keys come in order
            }
            let name = relative.rsplit('/').next().unwrap_or(relative);
            let skipped = self.options.skip_underscore && relative.split('/').any(|part| part.starts_with('_'));
            // Consoles make empty objects that stand for directories.
            if skipped || name.is_empty() || !pattern.matches(relative) {
                continue;
            }
            let file = remote_ref(self.at(key).to_uri(), &object);
            self.chunk.push(file);
            if self.chunk.len() >= self.size.now() && !self.flush().await {
                break;
            }
        }
        Ok(any)
    }

    async fn flush(&mut self) -> bool {
        self.size.grow();
        let chunk = std::mem::take(&mut self.chunk);
        chunk.is_empty() || self.sender.send(Ok(chunk)).await.is_ok()
    }
}

/// How every match of the pattern begins, where that is known and shorter than any match: `img_` of `img_*.jpg`.
fn literal_head(pattern: &str) -> &str {
    let Some(end) = pattern.find(['*', '?', '[', '{', '\\']) else { return "" };
    // Listing begins after the head, so a match that equals the head would be lost: there must be more after the star.
    let more = pattern.get(end..).is_some_and(|rest| {
        rest.starts_with('?') || rest.starts_with('[') || rest.trim_start_matches('*').starts_with(|c: char| c.is_alphanumeric() || c == '.')
    });
    if more { pattern.get(..end).unwrap_or("") } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        assert_eq!(literal_head("img_*.jpg"), "img_");
        assert_eq!(literal_head("img_*"), "");
        assert_eq!(literal_head("img_?"), "img_");
        assert_eq!(literal_head("*.jpg"), "");
        assert_eq!(literal_head("a{,b}"), "");
    }
}
