//! Where PDFium is.
//!
//! In: the configured path, if any. Out: the path of a library file, for jobs to load in their own process.
//! Invariant: nothing is loaded here, so a missing or broken library costs the caller nothing but the fallback.

use std::path::PathBuf;
use std::sync::OnceLock;

use parking_lot::RwLock;

static CONFIGURED: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Sets the library file (setting `squilla.pdfium_lib`); None goes back to the search.
pub fn configure(path: Option<PathBuf>) {
    *CONFIGURED.write() = path;
}

/// The library file: the configured one, whether it exists or not, else the first found next to the program or in the
/// cache folder (`$XDG_CACHE_HOME/squilla/lib`, else `~/.cache/squilla/lib`).
pub fn find() -> Option<PathBuf> {
    if let Some(path) = CONFIGURED.read().clone() {
        return Some(path);
    }
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| candidates().into_iter().find(|path| path.is_file())).clone()
}

fn candidates() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok().and_then(|exe| exe.parent().map(PathBuf::from));
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let mut folders = Vec::new();
    if let Some(program) = program {
        folders.push(program.join("../lib"));
        folders.push(program);
    }
    folders.extend(cache.map(|cache| cache.join("squilla/lib")));
    folders.into_iter().map(|folder| folder.join("libpdfium.so")).collect()
}
