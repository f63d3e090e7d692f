//! Walking local directories.
//!
//! In: a path or pattern. Out: chunks of files, each walked on a blocking thread when it is asked for. Invariants: each
//! directory is read once, whole, its names sorted; links to directories are followed unless they lead to a directory
//! that the walk is in. Deliberately absent: watching for changes.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use squilla_core::error::{Error, Result};
use squilla_core::values::FileRef;

use super::files::{blocking, local_ref, open_error};
use super::glob::{Pattern, States, is_pattern, split};
use super::listing::{ChunkSize, Chunks, ListOptions};
use super::location::{Location, file_uri};

/// The files of a pattern; `as_uri` gives `file://` URIs rather than plain paths.
pub fn list(pattern: &str, as_uri: bool, options: &ListOptions) -> Result<Chunks> {
    let Location::Local(whole) = Location::parse(pattern)? else {
        return Err(Error::internal("a remote location reached the local lister"));
    };
    // A file whose name looks like a pattern is found by its name.
    let start = if is_pattern(pattern) && !whole.exists() {
        let (base, rest) = split(pattern);
        let base = if base.is_empty() { "." } else { base };
        let Location::Local(base) = Location::parse(base)? else {
            return Err(Error::internal("a remote location reached the local lister"));
        };
        Start::Pattern(base, Pattern::compile(rest)?)
    } else {
        Start::Path(whole)
    };
    let walk = Walk { as_uri, options: options.clone(), start: Some(start), stack: Vec::new(), chunk: Vec::new(), size: ChunkSize::new() };
    Ok(stream::try_unfold(Some(walk), |walk| async move {
        let Some(mut walk) = walk else { return Ok(None) };
        // A thread for one chunk at a time: a reader that waits holds none.
        let (chunk, walk) = blocking(move || walk.advance().map(|more| (std::mem::take(&mut walk.chunk), more.then_some(walk)))).await?;
        Ok(Some((chunk, walk)))
    })
    .boxed())
}

/// Where a walk begins.
enum Start {
    /// A path without wildcards.
    Path(PathBuf),
    /// A pattern below a directory.
    Pattern(PathBuf, Pattern),
}

struct Walk {
    as_uri: bool,
    options: ListOptions,
    start: Option<Start>,
    stack: Vec<Frame>,
    chunk: Vec<FileRef>,
    size: ChunkSize,
}

/// A directory that is being walked.
struct Frame {
    path: PathBuf,
    pattern: Arc<Pattern>,
    states: States,
    /// Device and inode, to know a way round.
    id: (u64, u64),
    names: Names,
    next: usize,
}

/// The names of one directory in one allocation, sorted.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    spans: Vec<(u32, u16, Entry)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File,
    Directory,
    /// A link, or a file system that does not say.
    Unknown,
}

impl Names {
    fn get(&self, index: usize) -> Option<(&[u8], Entry)> {
        let (start, length, entry) = *self.spans.get(index)?;
        self.bytes.get(start as usize..start as usize + usize::from(length)).map(|name| (name, entry))
    }

    /// Reads a directory; None when it vanished meanwhile.
    fn read(path: &Path) -> Result<Option<Self>> {
        let directory = match std::fs::read_dir(path) {
            Ok(directory) => directory,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(open_error(path, e)),
        };
        let mut names = Names::default();
        for entry in directory {
            let entry = entry.map_err(|e| open_error(path, e))?;
            let name = entry.file_name();
            let name = name.as_bytes();
            let kind = match entry.file_type() {
                Ok(t) if t.is_file() => Entry::File,
                Ok(t) if t.is_dir() => Entry::Directory,
                Ok(t) if t.is_symlink() => Entry::Unknown,
                Ok(_) => continue, // FIFOs, sockets, devices
                Err(_) => Entry::Unknown,
            };
            let start = u32::try_from(names.bytes.len()).map_err(|_| Error::limit(format!("\"{}\" has too many names", path.display()), "fixed"))?;
            names.bytes.extend_from_slice(name);
            names.spans.push((start, name.len() as u16, kind));
        }
        let bytes = std::mem::take(&mut names.bytes);
        let slice = |span: &(u32, u16, Entry)| bytes.get(span.0 as usize..span.0 as usize + usize::from(span.1)).unwrap_or_default();
        names.spans.sort_unstable_by(|a, b| slice(a).cmp(slice(b)));
        names.bytes = bytes;
        Ok(Some(names))
    }
}

impl Walk {
    /// Walks until the chunk is full (true) or everything is walked.
    fn advance(&mut self) -> Result<bool> {
        if let Some(start) = self.start.take() {
            self.begin(start)?;
        }
        let most = self.size.now();
        self.size.grow();
        while let Some(mut frame) = self.stack.pop() {
            while let Some((name, entry)) = frame.names.get(frame.next) {
                frame.next += 1;
                let path = frame.path.join(std::ffi::OsStr::from_bytes(name));
                let name = String::from_utf8_lossy(name);
                let found = self.visit(&frame, path, &name, entry)?;
                let full = self.chunk.len() >= most;
                if found.is_some() || full {
                    self.stack.push(frame);
                    self.stack.extend(found);
                    if full {
                        return Ok(true);
                    }
                    break;
                }
            }
        }
        Ok(false)
    }

    fn begin(&mut self, start: Start) -> Result<()> {
        let (base, pattern, metadata) = match start {
            Start::Path(path) => {
                let metadata = std::fs::metadata(&path).map_err(|e| open_error(&path, e))?;
                if !metadata.is_dir() {
                    return self.emit(&path, Some(metadata));
                }
                (path, Pattern::everything(self.options.recursive), metadata)
            }
            Start::Pattern(base, pattern) => {
                let metadata = std::fs::metadata(&base).map_err(|e| open_error(&base, e))?;
                if !metadata.is_dir() {
                    return Err(open_error(&base, std::io::ErrorKind::NotADirectory.into()));
                }
                (base, pattern, metadata)
            }
        };
        let states = pattern.start();
        let frame = self.enter(None, base, &metadata, &Arc::new(pattern), states)?;
        self.stack.extend(frame);
        Ok(())
    }

    /// Emits a file that matches; gives the frame of a directory to walk next.
    fn visit(&mut self, frame: &Frame, path: PathBuf, name: &str, entry: Entry) -> Result<Option<Frame>> {
        if self.options.skip_underscore && name.starts_with('_') {
            return Ok(None);
        }
        let file = frame.pattern.accepts(frame.states, name);
        let inside = frame.pattern.enter(frame.states, name);
        match entry {
            Entry::File if file => self.emit(&path, None).map(|()| None),
            // Stat follows links; one that leads nowhere, or a directory removed meanwhile, is skipped.
            Entry::Directory | Entry::Unknown if file || !inside.is_empty() => {
                let Ok(metadata) = std::fs::metadata(&path) else { return Ok(None) };
                if metadata.is_dir() && !inside.is_empty() {
                    return self.enter(Some(frame), path, &metadata, &frame.pattern, inside);
                }
                if metadata.is_file() && file {
                    self.emit(&path, Some(metadata))?;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Begins a directory. One whose only possible content is known by name is not read; one that the walk is in is left.
    fn enter(&self, parent: Option<&Frame>, path: PathBuf, metadata: &Metadata, pattern: &Arc<Pattern>, states: States) -> Result<Option<Frame>> {
        let id = (metadata.dev(), metadata.ino());
        if parent.into_iter().chain(&self.stack).any(|frame| frame.id == id) {
            return Ok(None);
        }
        let names = match pattern.only_name(states) {
            Some(name) => Some(Names { bytes: name.as_bytes().to_vec(), spans: vec![(0, name.len() as u16, Entry::Unknown)] }),
            None => Names::read(&path)?,
        };
        Ok(names.map(|names| Frame { path, states, pattern: Arc::clone(pattern), id, names, next: 0 }))
    }

    fn emit(&mut self, path: &Path, metadata: Option<Metadata>) -> Result<()> {
        let uri = if self.as_uri { file_uri(path) } else { Location::Local(path.to_owned()).to_uri() };
        let wanted = self.options.details || self.options.modified_after_us.is_some();
        let file = match metadata {
            Some(metadata) => local_ref(uri, &metadata),
            None if !wanted => FileRef { uri, ..FileRef::default() },
            None => match std::fs::metadata(path) {
                Ok(metadata) => local_ref(uri, &metadata),
                // Removed since the directory was read.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(open_error(path, e)),
            },
        };
        self.chunk.push(file);
        Ok(())
    }
}
