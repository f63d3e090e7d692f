//! ONNX Runtime, loaded once per process from a shared library found at run time.
//!
//! In: the places where the library may lie. Out: the one [`Environment`] of the process.
//! Invariant: no other `ort` call happens before [`environment`] succeeded, because `ort` panics without a library.
//! A failed attempt is not remembered: installing the library and asking again works without a restart.
//! Deliberately absent: reading the environment (the caller passes what its settings say) and any download.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::environment::Environment;
use parking_lot::Mutex;
use squilla_core::error::{Error, Kind, Result};

/// Where the library is looked for.
#[derive(Clone, Debug, Default)]
pub struct RuntimeOptions {
    /// The path that a setting names; nothing else is tried when it is given.
    pub library: Option<PathBuf>,
    /// Places to try in this order; see [`candidates`].
    pub candidates: Vec<PathBuf>,
}

/// File name of the library on this system.
pub const LIBRARY: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else if cfg!(target_os = "windows") {
    "onnxruntime.dll"
} else {
    "libonnxruntime.so"
};

static LOADED: Mutex<Option<(Environment, PathBuf)>> = Mutex::new(None);

/// The usual places: the value of an environment variable if the caller has one, beside the binary, `lib` beside the
/// binary's folder, and `lib` in the project's cache folder.
pub fn candidates(named: Option<&Path>, cache: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = named.map(Path::to_path_buf).into_iter().collect();
    if let Some(folder) = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf)) {
        out.push(folder.join(LIBRARY));
        out.push(folder.join("lib").join(LIBRARY));
        if let Some(above) = folder.parent() {
            out.push(above.join("lib").join(LIBRARY));
        }
    }
    out.push(cache.join("lib").join(LIBRARY));
    out
}

/// The environment, loading the library on first use. Fails with [`Kind::DeviceLost`] naming every place tried.
pub fn environment(options: &RuntimeOptions) -> Result<Environment> {
    let mut loaded = LOADED.lock();
    if let Some((environment, _)) = loaded.as_ref() {
        return Ok(environment.clone());
    }
    let path = find(options)?;
    let environment = load(&path)?;
    *loaded = Some((environment.clone(), path));
    Ok(environment)
}

/// The library in use, once loaded.
pub fn library() -> Option<PathBuf> {
    LOADED.lock().as_ref().map(|(_, path)| path.clone())
}

/// Whether the loaded library's folder also holds the CUDA provider.
pub fn has_cuda_provider() -> bool {
    library()
        .and_then(|path| path.canonicalize().ok())
        .and_then(|path| path.parent().map(|folder| folder.join("libonnxruntime_providers_cuda.so").is_file()))
        .unwrap_or(false)
}

fn find(options: &RuntimeOptions) -> Result<PathBuf> {
    if let Some(path) = &options.library {
        return if path.is_file() { Ok(path.clone()) } else { Err(missing(std::slice::from_ref(path))) };
    }
    options.candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| missing(&options.candidates))
}

fn missing(tried: &[PathBuf]) -> Error {
    let list = tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    Error::new(Kind::DeviceLost, "the library of ONNX Runtime was not found")
        .detail(format!("Tried: {list}."))
        .hint("Run \"make setup\" to install it, or name it by the setting squilla.onnxruntime.")
}

fn load(path: &Path) -> Result<Environment> {
    let refuse = |why: String| {
        Error::new(Kind::DeviceLost, "the library of ONNX Runtime cannot be used")
            .detail(format!("{}: {why}.", path.display()))
            .hint("Version 1.24 or newer is needed. Run \"make setup\" to install one.")
    };
    let builder = ort::init_from(path).map_err(|e| refuse(e.to_string()))?;
    builder
        .with_name("squilla")
        .with_telemetry(false)
        .with_logger(Arc::new(|level, category: &str, _id: &str, _location: &str, message: &str| match level {
            ort::logging::LogLevel::Fatal | ort::logging::LogLevel::Error => {
                tracing::error!(target: "onnxruntime", category, "{message}");
            }
            ort::logging::LogLevel::Warning => tracing::debug!(target: "onnxruntime", category, "{message}"),
            _ => tracing::trace!(target: "onnxruntime", category, "{message}"),
        }))
        .build()
        .map_err(|e| refuse(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_missing_library_is_an_error_that_names_the_remedy() {
        let options = RuntimeOptions { library: Some("/nonexistent/lib.so".into()), candidates: vec![] };
        let error = find(&options).unwrap_err();
        assert_eq!(error.sqlstate(), "SQ003");
        assert!(error.hint.unwrap().contains("make setup"));
    }

    #[test]
    fn a_file_that_is_no_library_is_an_error() {
        let path = std::env::temp_dir().join("squilla-not-a-library.so");
        std::fs::write(&path, b"text").unwrap();
        assert_eq!(load(&path).unwrap_err().sqlstate(), "SQ003");
    }
}
