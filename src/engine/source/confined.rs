//! Which files roles other than superusers may read: those that `squilla.allowed_paths` lists.
//!
//! In: the setting, and paths and URLs as users write them. Out: 42501, or nothing. Invariant: a local path is compared
//! with its links resolved as far as it exists; a URL begins with one that is listed. Deliberately absent: writing, which
//! is for superusers alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use squilla_core::error::{Error, Kind, Result};
use squilla_core::kernel::Files;
use squilla_core::values::FileRef;

use super::location::Location;

/// What is listed.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    directories: Vec<PathBuf>,
    prefixes: Vec<String>,
}

impl Allowed {
    /// From a list with commas. What is no location allows nothing.
    pub fn parse(list: &str) -> Self {
        let mut allowed = Self::default();
        for item in list.split(',').map(str::trim).filter(|i| !i.is_empty()) {
            match Location::parse(item) {
                Ok(Location::Local(path)) => allowed.directories.push(resolved(&path)),
                Ok(_) => allowed.prefixes.push(item.trim_end_matches('/').to_owned()),
                Err(_) => {}
            }
        }
        allowed
    }

    /// Fails with 42501 for a path, pattern or URL outside.
    pub fn check(&self, place: &str) -> Result<()> {
        let inside = match Location::parse(place)? {
            Location::Local(path) => {
                let fixed = resolved(&fixed_part(&path));
                self.directories.iter().any(|d| fixed.starts_with(d))
            }
            _ => self.prefixes.iter().any(|p| place.strip_prefix(p.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))),
        };
        if inside {
            return Ok(());
        }
        Err(Error::new(Kind::InsufficientPrivilege, format!("permission denied for file \"{place}\""))
            .hint("Roles that are not superusers may read what the setting squilla.allowed_paths lists."))
    }
}

/// The path up to the first part that is a pattern.
fn fixed_part(path: &Path) -> PathBuf {
    path.components().take_while(|c| !c.as_os_str().to_string_lossy().contains(['*', '?', '[', '{'])).collect()
}

/// Without links, as far as the path exists.
fn resolved(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut there = path;
    loop {
        if let Ok(real) = there.canonicalize() {
            return rest.iter().rev().fold(real, |all, part| all.join(part));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                there = parent;
            }
            // Nothing of it exists, or it ends in `..`: not inside anything.
            _ => return PathBuf::new(),
        }
    }
}

/// File access of a role that is not a superuser.
pub struct Confined {
    /// The access of the server.
    pub files: Arc<dyn Files>,
    /// What the role may read.
    pub allowed: Allowed,
}

#[async_trait]
impl Files for Confined {
    async fn head(&self, uri: &str) -> Result<FileRef> {
        self.allowed.check(uri)?;
        self.files.head(uri).await
    }

    async fn read(&self, file: &FileRef, range: Option<(u64, u64)>, bytes_max: u64) -> Result<Bytes> {
        self.allowed.check(&file.uri)?;
        self.files.read(file, range, bytes_max).await
    }

    fn local_path(&self, uri: &str) -> Option<PathBuf> {
        self.allowed.check(uri).ok()?;
        self.files.local_path(uri)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_is_listed() {
        let base = tempfile::tempdir().unwrap();
        let inside = base.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(base.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(base.path().join("secret"), inside.join("link")).unwrap();
        let allowed = Allowed::parse(&format!("{}, s3://bucket/lake/", inside.display()));
        let ok = |place: String| allowed.check(&place).is_ok();
        assert!(ok(format!("{}/a.csv", inside.display())) && ok(format!("{}/*/b.csv", inside.display())));
        assert!(!ok(format!("{}/secret", base.path().display())) && !ok(format!("{}/../secret", inside.display())));
        assert!(!ok(format!("{}/link", inside.display())) && !ok("/etc/passwd".into()));
        assert!(ok("s3://bucket/lake/x".into()) && !ok("s3://bucket/lakes/x".into()) && !ok("http://localhost/x".into()));
        assert!(Allowed::default().check("/etc/passwd").is_err());
    }
}
