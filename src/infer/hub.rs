//! Where a model's files lie: a hub cache, a folder, a file, or something that must be fetched first.
//!
//! In: a source text. Out: a local folder (and one file of it, where the source names a file).
//! Invariants: nothing is downloaded unless [`Hub::pull`] is called or downloads are allowed; a download that did not end
//! counts as absent; cached models need no network.
//! Deliberately absent: what the files mean (see `manifest.rs`); object stores, which the `fetch` hook reaches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use squilla_core::error::{Error, Kind, Result};

use crate::download::{Failure, Remote, fetch_file, repository_folder, unfinished};

/// Brings a URL that this crate cannot read (`s3://`, `https://`, ...) into a folder: one file, or all below a prefix.
pub type Fetch = Arc<dyn Fn(&str, &Path) -> Result<()> + Send + Sync>;

/// Where the hub is and whether it may be asked.
#[derive(Clone, Default)]
pub struct HubOptions {
    /// What `HF_HOME` names; models lie below `hub/`.
    pub home: PathBuf,
    /// Never download: what is not in the cache does not exist.
    pub offline: bool,
    /// Another address than the public hub's.
    pub endpoint: Option<String>,
    /// Access token; without one the file `token` in `home` is read.
    pub token: Option<String>,
    /// Reads URLs; without it `https://` and `http://` of single files are read here.
    pub fetch: Option<Fetch>,
}

/// What a source text names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A repository of the hub.
    Hub {
        /// `org/name`.
        repo: String,
        /// Branch, tag or commit; 'main' by default.
        revision: String,
    },
    /// A folder or a file of this machine.
    Path(PathBuf),
    /// Anything for the fetch hook.
    Url(String),
    /// Only a name: not a source.
    Name(String),
}

/// Files on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The folder with the configuration files.
    pub folder: PathBuf,
    /// The ONNX file that the source named, relative to the folder.
    pub file: Option<String>,
}

impl Source {
    /// Reads a source text.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("file://") {
            return Source::Path(PathBuf::from(path));
        }
        if let Some(repo) = text.strip_prefix("hf://") {
            return Source::hub(repo);
        }
        if text.contains("://") {
            return Source::Url(text.to_owned());
        }
        if text.starts_with(['/', '.']) || text.ends_with(".onnx") {
            return Source::Path(PathBuf::from(text));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match text.split('@').next().and_then(|repo| repo.split_once('/')) {
            Some((org, name)) if !org.is_empty() && !name.is_empty() && org.chars().chain(name.chars()).all(plain) => Source::hub(text),
            Some(_) => Source::Path(PathBuf::from(text)),
            None => Source::Name(text.to_owned()),
        }
    }

    fn hub(text: &str) -> Self {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        Source::Hub { repo: repo.to_owned(), revision: revision.to_owned() }
    }
}

/// The model cache of this machine.
#[derive(Clone)]
pub struct Hub {
    options: HubOptions,
}

impl Hub {
    /// A cache as described.
    pub fn new(options: HubOptions) -> Self {
        Self { options }
    }

    /// The files of a source, from this machine if they are here, else by download unless that is switched off.
    /// `name` is the model's name for messages, `file` the one ONNX file wanted. Blocking.
    pub fn locate(&self, name: &str, source: &Source, file: Option<&str>) -> Result<Located> {
        match source {
            Source::Path(path) => local(path),
            Source::Hub { repo, revision } => match self.cached(repo, revision) {
                Some(folder) if file.is_none_or(|f| folder.join(f).is_file()) => Ok(Located { folder, file: None }),
                found => self.download(name, repo, revision, file, found.is_some()),
            },
            Source::Url(url) => self.fetch(name, url),
            Source::Name(name) => Err(Error::new(Kind::ModelUnknown, format!("model \"{name}\" does not exist"))),
        }
    }

    /// Downloads a source even if a copy is here already, as `squilla models pull` does. Blocking.
    pub fn pull(&self, name: &str, source: &Source, file: Option<&str>) -> Result<Located> {
        match source {
            Source::Hub { repo, revision } => self.download(name, repo, revision, file, false),
            Source::Url(url) => {
                let folder = self.url_folder(url);
                if folder.exists() {
                    std::fs::remove_dir_all(&folder).map_err(|e| Error::io(folder.display(), e))?;
                }
                self.fetch(name, url)
            }
            other => self.locate(name, other, file),
        }
    }

    /// `org/name` of every repository in the cache.
    pub fn repositories(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.options.home.join("hub")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|e| e.ok()?.file_name().into_string().ok()?.strip_prefix("models--").map(|n| n.replacen("--", "/", 1))).collect();
        names.sort();
        names
    }

    /// The snapshot folder of a repository, when it is in the cache.
    pub fn cached(&self, repo: &str, revision: &str) -> Option<PathBuf> {
        if revision.split('/').any(|part| part == "..") {
            return None;
        }
        let root = repository_folder(&self.options.home.join("hub"), repo);
        let commit = std::fs::read_to_string(root.join("refs").join(revision)).unwrap_or_else(|_| revision.to_owned());
        let folder = root.join("snapshots").join(commit.trim());
        (folder.is_dir() && !unfinished(&root, commit.trim()).exists()).then_some(folder)
    }

    fn absent(&self, name: &str, source: &str, why: String) -> Error {
        Error::new(Kind::ModelUnknown, format!("model \"{name}\" is not on this machine and cannot be downloaded"))
            .detail(format!("Its source is {source}. {why}"))
            .hint(format!("Run \"squilla models pull {name}\" where the hub can be reached and copy its cache to {}.", self.options.home.display()))
    }

    fn download(&self, name: &str, repo: &str, revision: &str, file: Option<&str>, partly: bool) -> Result<Located> {
        if self.options.offline {
            let what = if partly { format!("The file {} is missing.", file.unwrap_or("")) } else { "Downloads are switched off.".to_owned() };
            return Err(self.absent(name, repo, what));
        }
        let token = self.options.token.clone().or_else(|| {
            let text = std::fs::read_to_string(self.options.home.join("token")).ok()?;
            Some(text.trim().to_owned()).filter(|t| !t.is_empty())
        });
        let remote = Remote { cache: self.options.home.join("hub"), endpoint: self.options.endpoint.as_deref(), token };
        let folder = remote.download(repo, revision, file).map_err(|e| match e {
            Failure::Unreachable(why) => self.absent(name, repo, format!("{why}.")),
            Failure::Other(error) => error,
        })?;
        Ok(Located { folder, file: None })
    }

    fn url_folder(&self, url: &str) -> PathBuf {
        self.options.home.join("urls").join(hex::encode(Sha256::digest(url.as_bytes())))
    }

    fn fetch(&self, name: &str, url: &str) -> Result<Located> {
        let folder = self.url_folder(url);
        let file = url.rsplit('/').next().filter(|n| n.ends_with(".onnx")).map(str::to_owned);
        if !folder.is_dir() {
            if self.options.offline {
                return Err(self.absent(name, url, "Downloads are switched off.".to_owned()));
            }
            let part = folder.with_extension(format!("{}.part", std::process::id()));
            std::fs::create_dir_all(&part).map_err(|e| Error::io(part.display(), e))?;
            let fetched = match &self.options.fetch {
                Some(fetch) => fetch(url, &part),
                None => fetch_file(url, &part).map_err(|e| match e {
                    Failure::Unreachable(why) => self.absent(name, url, format!("{why}.")),
                    Failure::Other(error) => error,
                }),
            };
            if let Err(error) = fetched {
                let _ = std::fs::remove_dir_all(&part);
                return Err(error);
            }
            if let Err(error) = std::fs::rename(&part, &folder) {
                let _ = std::fs::remove_dir_all(&part);
                // Another caller was faster: its copy is as good.
                if !folder.is_dir() {
                    return Err(Error::io(folder.display(), error));
                }
            }
        }
        Ok(Located { folder, file })
    }
}

fn local(path: &Path) -> Result<Located> {
    let missing = || {
        Error::new(Kind::ModelUnknown, format!("there is no model at {}", path.display())).hint("Name a folder with an ONNX file, or the ONNX file.")
    };
    let found = path.canonicalize().map_err(|_| missing())?;
    if found.is_dir() {
        return Ok(Located { folder: found, file: None });
    }
    // The link's own name counts, not the blob's behind it.
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(missing()) };
    let mut folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_path_buf() };
    let mut file = name.to_string_lossy().into_owned();
    if folder.ends_with("onnx") && folder.parent().is_some_and(|f| f.join("config.json").is_file()) {
        folder.pop();
        file = format!("onnx/{file}");
    }
    Ok(Located { folder, file: Some(file) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn hub(name: &str, fetch: Option<Fetch>) -> Hub {
        let home = std::env::temp_dir().join(format!("squilla-hub-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        Hub::new(HubOptions { home, offline: fetch.is_none(), fetch, ..HubOptions::default() })
    }

    #[test]
    fn sources() {
        let hub = |repo: &str, revision: &str| Source::Hub { repo: repo.into(), revision: revision.into() };
        assert_eq!(Source::parse("org/name"), hub("org/name", "main"));
        assert_eq!(Source::parse("org/name@v1"), hub("org/name", "v1"));
        assert_eq!(Source::parse("hf://org/name"), hub("org/name", "main"));
        assert_eq!(Source::parse("file:///a/b"), Source::Path("/a/b".into()));
        assert_eq!(Source::parse("models/m.onnx"), Source::Path("models/m.onnx".into()));
        assert_eq!(Source::parse("s3://b/k"), Source::Url("s3://b/k".into()));
        assert_eq!(Source::parse("resnet18"), Source::Name("resnet18".into()));
    }

    #[test]
    fn cache_layout_is_read_through_refs_and_links() {
        let hub = hub("layout", None);
        let root = hub.options.home.join("hub/models--org--name");
        std::fs::create_dir_all(root.join("snapshots/abc/onnx")).unwrap();
        std::fs::create_dir_all(root.join("refs")).unwrap();
        std::fs::create_dir_all(root.join("blobs")).unwrap();
        std::fs::write(root.join("refs/main"), "abc\n").unwrap();
        std::fs::write(root.join("blobs/b1"), "graph").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("../../../blobs/b1", root.join("snapshots/abc/onnx/model.onnx")).unwrap();
        let located = hub.locate("m", &Source::parse("org/name"), Some("onnx/model.onnx")).unwrap();
        assert_eq!(std::fs::read(located.folder.join("onnx/model.onnx")).unwrap(), b"graph");
        assert!(hub.locate("m", &Source::parse("org/name@abc"), None).is_ok());
        assert_eq!(hub.repositories(), ["org/name"]);
        let error = hub.locate("m", &Source::parse("org/other"), None).unwrap_err();
        assert_eq!(error.sqlstate(), "SQ001");
        assert!(error.hint.unwrap().contains("squilla models pull m"));
        assert!(hub.locate("m", &Source::parse("org/name@../x"), None).is_err());
    }

    #[test]
    fn other_urls_go_through_the_hook_once() {
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let inner = Arc::clone(&count);
        let fetch: Fetch = Arc::new(move |_, folder| {
            inner.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            std::fs::write(folder.join("m.onnx"), "x").map_err(|e| Error::io("m", e))
        });
        let hub = hub("url", Some(fetch));
        for _ in 0..2 {
            let located = hub.locate("m", &Source::parse("s3://bucket/m.onnx"), None).unwrap();
            assert!(located.folder.join(located.file.unwrap()).is_file());
        }
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}
