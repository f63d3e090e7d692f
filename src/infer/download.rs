//! Downloads: from the hub into its cache, and single files from the web.
//!
//! In: a repository and a revision, or an address. Out: a folder with the files that inference needs.
//! Invariants: a snapshot is marked while files are missing, and the revision's name is moved to it only when it is
//! whole; a file whose blob is named by a sha256 has that sha256; names that lead out of the folder are refused.
//! Deliberately absent: progress display, weights in other formats, uploads.

use std::panic::AssertUnwindSafe;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};
use squilla_core::error::{Error, Kind, Result};

/// The hub, as reached from here.
pub struct Remote<'a> {
    /// The folder `hub` of the cache.
    pub cache: PathBuf,
    /// Another address than the public hub's.
    pub endpoint: Option<&'a str>,
    /// Access token.
    pub token: Option<String>,
}

/// Why a download failed.
pub enum Failure {
    /// The hub, the repository or a file cannot be reached.
    Unreachable(String),
    /// Anything else.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Unreachable(error.to_string())
    }
}

/// The folder of a repository within the cache.
pub fn repository_folder(cache: &Path, repo: &str) -> PathBuf {
    cache.join(format!("models--{}", repo.replace('/', "--")))
}

/// The mark of a snapshot that is not whole.
pub fn unfinished(repository: &Path, commit: &str) -> PathBuf {
    repository.join(format!("unfinished-{commit}"))
}

impl Remote<'_> {
    /// Downloads what is missing of a repository's revision. `file` is the one ONNX file wanted. Blocking.
    pub fn download(&self, repo: &str, revision: &str, file: Option<&str>) -> Result<PathBuf, Failure> {
        // The client unwraps what a server may well leave out.
        std::panic::catch_unwind(AssertUnwindSafe(|| self.fetch(repo, revision, file)))
            .unwrap_or_else(|_| Err(Failure::Unreachable("the hub gave a malformed answer".to_owned())))
    }

    fn fetch(&self, repo: &str, revision: &str, file: Option<&str>) -> Result<PathBuf, Failure> {
        let mut builder = ApiBuilder::from_cache(Cache::new(self.cache.clone()));
        builder = builder.with_progress(false).with_retries(3).with_token(self.token.clone());
        if let Some(endpoint) = self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let api = builder.build()?;
        let at = |revision: &str| api.repo(Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned()));
        let info = at(revision).info()?;
        let names: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).collect();
        let wanted = wanted(&names, file);
        if !wanted.iter().any(|n| n.ends_with(".onnx")) {
            let error = Error::new(Kind::ModelIncompatible, format!("the repository \"{repo}\" holds no ONNX file"));
            return Err(error.hint("Name a repository with a file such as onnx/model.onnx.").into());
        }
        if info.sha.len() > 64 || !info.sha.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Failure::Unreachable("the hub gave a malformed answer".to_owned()));
        }
        let root = repository_folder(&self.cache, repo);
        let mark = unfinished(&root, &info.sha);
        let folder = root.join("snapshots").join(&info.sha);
        let complete = |n: &String| folder.join(n).is_file();
        if mark.exists() || !wanted.iter().all(complete) {
            std::fs::create_dir_all(&root).map_err(|e| Error::io(root.display(), e))?;
            std::fs::write(&mark, b"").map_err(|e| Error::io(mark.display(), e))?;
            let commit = at(&info.sha);
            for name in &wanted {
                tracing::info!(repo, file = name, "downloading");
                verify(&commit.get(name)?)?;
            }
            std::fs::remove_file(&mark).map_err(|e| Error::io(mark.display(), e))?;
        }
        name_revision(&root, revision, &info.sha)?;
        Ok(folder)
    }
}

/// Brings one file behind `https://` or `http://` into a folder, under the last part of its address. Blocking.
pub fn fetch_file(url: &str, folder: &Path) -> Result<(), Failure> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        let error = Error::unsupported("models cannot be read from this kind of address").detail(format!("The address is {url}."));
        return Err(error.into());
    }
    let address = url.split(['?', '#']).next().unwrap_or(url);
    let name = address.rsplit('/').next().filter(|n| n.ends_with(".onnx")).ok_or_else(|| {
        Error::new(Kind::ModelIncompatible, "the address of a model must be that of an ONNX file")
            .detail(format!("The address is {url}."))
            .hint("Name a single .onnx file, or a repository of the hub.")
    })?;
    let answer = ureq::get(url).call().map_err(|e| Failure::Unreachable(e.to_string()))?;
    let length: Option<u64> = answer.header("content-length").and_then(|n| n.parse().ok());
    let path = folder.join(name);
    let mut file = std::fs::File::create(&path).map_err(|e| Error::io(path.display(), e))?;
    let copied = std::io::copy(&mut answer.into_reader(), &mut file).map_err(|e| Failure::Unreachable(e.to_string()))?;
    match length {
        Some(length) if length != copied => Err(Failure::Unreachable(format!("{copied} of {length} bytes came"))),
        _ => Ok(()),
    }
}

/// Moves a branch or tag to a commit, in one step.
fn name_revision(root: &Path, revision: &str, commit: &str) -> Result<()> {
    if revision == commit {
        return Ok(());
    }
    let path = root.join("refs").join(revision);
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let fail = |e| Error::io(path.display(), e);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    std::fs::write(&part, commit).map_err(fail)?;
    std::fs::rename(&part, &path).map_err(fail)
}

/// A blob that is named by a sha256 must have it; one that has not is removed.
fn verify(path: &Path) -> Result<()> {
    let real = path.canonicalize().map_err(|e| Error::io(path.display(), e))?;
    let Some(name) = real.file_name().and_then(|n| n.to_str()).filter(|n| n.len() == 64 && hex::decode(n).is_ok()) else {
        return Ok(());
    };
    let mut file = std::fs::File::open(&real).map_err(|e| Error::io(path.display(), e))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(|e| Error::io(path.display(), e))?;
    let digest = hex::encode(hasher.finalize());
    if digest.eq_ignore_ascii_case(name) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&real);
    let _ = std::fs::remove_file(path);
    Err(Error::new(Kind::DataCorrupted, "a downloaded model file is damaged")
        .detail(format!("{} has sha256 {digest}, not {name}.", path.display()))
        .hint("Run the download again."))
}

/// The files of a repository that inference needs: small configuration files, one set of ONNX files and their data.
fn wanted(names: &[String], file: Option<&str>) -> Vec<String> {
    let inside = |n: &&String| Path::new(n.as_str()).components().all(|c| matches!(c, Component::Normal(_)));
    let names: Vec<&String> = names.iter().filter(inside).collect();
    let has = |name: &str| names.iter().any(|n| n.as_str() == name);
    let pairs = [["onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"], ["onnx/text_model.onnx", "onnx/vision_model.onnx"]];
    let graphs: Vec<String> = if let Some(file) = file.filter(|f| has(f)) {
        vec![file.to_owned()]
    } else if let Some(pair) = pairs.iter().find(|pair| pair.iter().all(|n| has(n))) {
        pair.iter().map(|n| (*n).to_owned()).collect()
    } else if let Some(one) = ["onnx/model.onnx", "model.onnx"].into_iter().find(|n| has(n)) {
        vec![one.to_owned()]
    } else {
        names.iter().find(|n| n.ends_with(".onnx")).map(|n| (*n).clone()).into_iter().collect()
    };
    let data = |n: &String| graphs.iter().any(|g| n.starts_with(g.as_str()) && n != g && n.contains("data"));
    let small = |n: &String| {
        let depth = n.matches('/').count();
        (n.ends_with(".json") && depth <= 1 && !n.ends_with(".index.json") && !n.starts_with("openvino")) || n == "merges.txt" || n == "vocab.txt"
    };
    let mut out: Vec<String> = names.iter().filter(|n| small(n) || data(n)).map(|n| (*n).clone()).collect();
    out.extend(graphs.clone());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    #[test]
    fn only_needed_files_are_downloaded() {
        let names: Vec<String> = [
            "config.json",
            "1_Pooling/config.json",
            "model.safetensors",
            "onnx/model.onnx",
            "onnx/model.onnx_data",
            "onnx/model_O2.onnx",
            "openvino/openvino_model.json",
            "README.md",
        ]
        .map(String::from)
        .into();
        let got = wanted(&names, None);
        assert_eq!(got, ["config.json", "1_Pooling/config.json", "onnx/model.onnx_data", "onnx/model.onnx"]);
        assert!(wanted(&names, Some("onnx/model_O2.onnx")).contains(&"onnx/model_O2.onnx".to_string()));
    }

    type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

    /// A hub with one repository; files that are taken out of the map answer 404.
    fn serve(files: Files) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let path = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
                let mut start = 0;
                let mut one = false;
                for line in lines.map_while(|l| l.ok().filter(|l| !l.is_empty())) {
                    if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                        one = range == "0-0";
                        start = range.split('-').next().unwrap().parse().unwrap();
                    }
                }
                let (status, headers, body) = if path.starts_with("/api/") {
                    let names = ["config.json", "onnx/model.onnx", "../../evil.json"];
                    let siblings: Vec<_> = names.iter().map(|n| serde_json::json!({"rfilename": n})).collect();
                    ("200 OK", String::new(), serde_json::json!({"siblings": siblings, "sha": "c0ffee"}).to_string().into_bytes())
                } else if let Some(data) = files.lock().unwrap().get(path.split("/c0ffee/").nth(1).unwrap_or("")) {
                    let etag = if path.ends_with("onnx") { hex::encode(Sha256::digest(b"graph")) } else { "abc".into() };
                    let end = if one { 1 } else { data.len() };
                    let headers = format!("x-repo-commit: c0ffee\r\netag: \"{etag}\"\r\ncontent-range: bytes {start}-{}/{}\r\n", end - 1, data.len());
                    ("206 Partial Content", headers, data[start..end].to_vec())
                } else {
                    ("404 Not Found", String::new(), Vec::new())
                };
                let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        address
    }

    #[test]
    fn a_broken_download_counts_as_absent_and_is_resumed() {
        let files: Files = Arc::default();
        let hub_address = serve(Arc::clone(&files));
        let home = std::env::temp_dir().join(format!("squilla-download-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        let options = crate::hub::HubOptions { home: home.clone(), endpoint: Some(hub_address.clone()), ..Default::default() };
        let hub = crate::hub::Hub::new(options);
        let source = crate::hub::Source::parse("org/name");
        files.lock().unwrap().insert("config.json".into(), b"{}".to_vec());
        let error = hub.locate("m", &source, None).unwrap_err();
        assert_eq!(error.sqlstate(), "SQ001");
        assert!(error.hint.unwrap().contains("squilla models pull m"));
        assert!(hub.cached("org/name", "main").is_none() && hub.cached("org/name", "c0ffee").is_none());

        files.lock().unwrap().insert("onnx/model.onnx".into(), b"gruph".to_vec());
        assert_eq!(hub.locate("m", &source, None).unwrap_err().sqlstate(), "XX001");

        files.lock().unwrap().insert("onnx/model.onnx".into(), b"graph".to_vec());
        let located = hub.locate("m", &source, None).unwrap();
        assert_eq!(std::fs::read(located.folder.join("onnx/model.onnx")).unwrap(), b"graph");
        files.lock().unwrap().clear();
        assert_eq!(hub.locate("m", &source, None).unwrap(), located);
        assert!(!home.join("hub/evil.json").exists());

        files.lock().unwrap().insert("a.onnx".into(), b"x".to_vec());
        let url = format!("{}/x/c0ffee/a.onnx", hub_address.clone());
        let located = hub.locate("u", &crate::hub::Source::parse(&url), None).unwrap();
        assert_eq!(located.file.as_deref(), Some("a.onnx"));
        assert!(located.folder.join("a.onnx").is_file());
        let gone = crate::hub::Source::parse(&format!("{hub_address}/x/c0ffee/b.onnx"));
        assert_eq!(hub.locate("u", &gone, None).unwrap_err().sqlstate(), "SQ001");
        assert_eq!(hub.locate("u", &crate::hub::Source::parse("s3://bucket/a.onnx"), None).unwrap_err().sqlstate(), "0A000");
    }
}
