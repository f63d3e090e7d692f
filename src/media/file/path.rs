//! The parts of a path or URI: folder, name, suffix.
//!
//! In: a path or URI as text. Out: slices of it. Invariant: `dir + "/" + name` leads to the same file; a query and a
//! fragment of an http(s) URI belong to neither. Deliberately absent: percent decoding, resolving `..`.

/// The part before a query or fragment. Local paths and object keys may hold `?` and `#`.
fn without_query(uri: &str) -> &str {
    if uri.starts_with("http://") || uri.starts_with("https://") { uri.split(['?', '#']).next().unwrap_or(uri) } else { uri }
}

/// Where the path begins: after `scheme://host`.
fn path_start(uri: &str) -> usize {
    match uri.find("://") {
        Some(scheme) => uri.get(scheme + 3..).and_then(|rest| rest.find('/')).map_or(uri.len(), |slash| scheme + 3 + slash),
        None => 0,
    }
}

/// The last part of the path; empty when it ends in a slash or there is no path.
pub fn name(uri: &str) -> &str {
    let uri = without_query(uri);
    let path = uri.get(path_start(uri)..).unwrap_or_default();
    path.rsplit('/').next().unwrap_or(path)
}

/// The suffix of the name without the dot; None without one. A leading dot begins a name, not a suffix.
pub fn extension(uri: &str) -> Option<&str> {
    let (stem, extension) = name(uri).rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

/// What precedes the name, without the slash between them; empty for a bare name.
pub fn dir(uri: &str) -> &str {
    let uri = without_query(uri);
    let start = path_start(uri);
    let path = uri.get(start..).unwrap_or_default();
    match path.rfind('/') {
        Some(0) if start == 0 => "/",
        Some(slash) => uri.get(..start + slash).unwrap_or_default(),
        None => uri.get(..start).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_paths_and_uris() {
        let parts = |uri| (dir(uri), name(uri), extension(uri));
        assert_eq!(parts("s3://b/a/x.tar.gz"), ("s3://b/a", "x.tar.gz", Some("gz")));
        assert_eq!(parts("/tmp/x"), ("/tmp", "x", None));
        assert_eq!(parts("/x.png"), ("/", "x.png", Some("png")));
        assert_eq!(parts("x.png"), ("", "x.png", Some("png")));
        assert_eq!(parts("https://h/p/x.jpg?sig=a/b#c"), ("https://h/p", "x.jpg", Some("jpg")));
        assert_eq!(parts("https://host"), ("https://host", "", None));
        assert_eq!(parts("file:///a/.hidden"), ("file:///a", ".hidden", None));
        assert_eq!(parts("a/b/"), ("a/b", "", None));
        assert_eq!(parts("what?.txt"), ("", "what?.txt", Some("txt")));
    }
}
