//! What kind of file these bytes begin.
//!
//! In: the first bytes of a file (8 KiB are enough) and, if known, its name. Out: a MIME type.
//! Invariant: bytes win over the name; the name only decides among kinds that look alike (text formats, unknown binaries).
//! Deliberately absent: parsing. A file that begins like a JPEG is called one, damaged or not.

/// How many first bytes are worth giving to [`mime_of`].
pub const SNIFF_BYTES: usize = 8192;

/// A signature: bytes at an offset, and what they mean.
type Magic = (usize, &'static [u8], &'static str);

/// Signatures that tell the kind by themselves, the longer before the shorter.
const MAGIC: &[Magic] = &[
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (0, b"\0\0\x01\0", "image/vnd.microsoft.icon"),
    (0, b"qoif", "image/qoi"),
    (0, b"v/1\x01", "image/x-exr"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b".snd", "audio/basic"),
    (0, b"#!AMR", "audio/amr"),
    (0, b"MThd", "audio/midi"),
    (0, b"wvpk", "audio/x-wavpack"),
    (0, b"\x0b\x77", "audio/ac3"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\0\0\x01\xba", "video/mpeg"),
    (0, b"\0\0\x01\xb3", "video/mpeg"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
    (0, b"ARROW1", "application/vnd.apache.arrow.file"),
    (0, b"Obj\x01", "application/avro"),
    (0, b"ORC", "application/orc"),
    (0, b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (0, b"\x93NUMPY", "application/x-numpy"),
    (0, b"SQLite format 3\0", "application/vnd.sqlite3"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\0", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"\x04\x22\x4d\x18", "application/x-lz4"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"{\\rtf", "application/rtf"),
    (0, b"%!PS", "application/postscript"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"\0asm", "application/wasm"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
    (0, b"OTTO", "font/otf"),
    (0, b"\0\x01\0\0\0", "font/ttf"),
    (257, b"ustar", "application/x-tar"),
];

/// Suffixes of names, for files whose bytes leave it open.
const SUFFIXES: &[(&str, &str)] = &[
    ("csv", "text/csv"),
    ("tsv", "text/tab-separated-values"),
    ("md", "text/markdown"),
    ("markdown", "text/markdown"),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("xml", "application/xml"),
    ("svg", "image/svg+xml"),
    ("json", "application/json"),
    ("jsonl", "application/x-ndjson"),
    ("ndjson", "application/x-ndjson"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("sql", "application/sql"),
    ("css", "text/css"),
    ("js", "text/javascript"),
    ("eml", "message/rfc822"),
    ("srt", "application/x-subrip"),
    ("vtt", "text/vtt"),
    ("tex", "application/x-tex"),
    ("txt", "text/plain"),
    ("doc", "application/msword"),
    ("xls", "application/vnd.ms-excel"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("msg", "application/vnd.ms-outlook"),
    ("mp3", "audio/mpeg"),
    ("aac", "audio/aac"),
    ("onnx", "application/onnx"),
    ("safetensors", "application/vnd.safetensors"),
];

/// Names in an archive that tell a document of an office suite.
const ZIP_MEMBERS: &[(&[u8], &str)] = &[
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    (b"META-INF/MANIFEST.MF", "application/java-archive"),
    (b"AndroidManifest.xml", "application/vnd.android.package-archive"),
];

/// The MIME type of a file. `application/octet-stream` when nothing tells, `application/x-empty` for no bytes.
pub fn mime_of(first: &[u8], name: Option<&str>) -> &'static str {
    if first.is_empty() {
        return by_suffix(name).unwrap_or("application/x-empty");
    }
    if let Some(mime) = container(first) {
        return mime;
    }
    if let Some((_, _, mime)) = MAGIC.iter().find(|(at, magic, _)| first.get(*at..).is_some_and(|rest| rest.starts_with(magic))) {
        return match *mime {
            "application/x-ole-storage" => by_suffix(name).unwrap_or(mime),
            mime => mime,
        };
    }
    if let Some(mime) = frames(first) {
        return mime;
    }
    if let Some(mime) = text(first, name) {
        return mime;
    }
    by_suffix(name).filter(|mime| !mime.starts_with("text/")).unwrap_or("application/octet-stream")
}

fn by_suffix(name: Option<&str>) -> Option<&'static str> {
    let name = name?;
    let name = name.split(['?', '#']).next().unwrap_or(name);
    let suffix = super::path::extension(name)?.to_ascii_lowercase();
    SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, mime)| *mime)
}

/// Formats whose kind stands behind a common head: RIFF, ISO media, Ogg, Matroska, AIFF, zip.
fn container(first: &[u8]) -> Option<&'static str> {
    let at = |from: usize, to: usize| first.get(from..to.min(first.len())).unwrap_or_default();
    match at(0, 4) {
        b"RIFF" | b"RF64" => match at(8, 12) {
            b"WAVE" => Some("audio/wav"),
            b"WEBP" => Some("image/webp"),
            b"AVI " => Some("video/x-msvideo"),
            _ => None,
        },
        b"FORM" => matches!(at(8, 12), b"AIFF" | b"AIFC").then_some("audio/aiff"),
        b"OggS" => Some(ogg(first)),
        b"\x1a\x45\xdf\xa3" => Some(if contains(at(0, 64), b"webm") { "video/webm" } else { "video/x-matroska" }),
        b"PK\x03\x04" => Some(zip(first)),
        b"PK\x05\x06" => Some("application/zip"),
        _ if at(4, 8) == b"ftyp" => Some(iso_media(at(8, 12), at(16, 64))),
        _ if matches!(at(4, 8), b"moov" | b"mdat" | b"wide") => Some("video/quicktime"),
        _ if at(0, 2) == b"BM" && at(6, 10) == [0; 4] && first.len() >= 14 => Some("image/bmp"),
        _ => None,
    }
}

fn iso_media(brand: &[u8], compatible: &[u8]) -> &'static str {
    match brand {
        b"avif" | b"avis" => "image/avif",
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" => "image/heic",
        b"mif1" | b"msf1" if contains(compatible, b"avif") => "image/avif",
        b"mif1" | b"msf1" => "image/heif",
        b"M4A " | b"M4B " | b"F4A " => "audio/mp4",
        b"qt  " => "video/quicktime",
        b"3gp4" | b"3gp5" | b"3gp6" | b"3ge6" | b"3gr6" => "video/3gpp",
        b"3g2a" | b"3g2b" => "video/3gpp2",
        b"M4V " => "video/x-m4v",
        b"crx " => "image/x-canon-cr3",
        _ => "video/mp4",
    }
}

fn ogg(first: &[u8]) -> &'static str {
    // The first page holds the first packet, which names the codec.
    let head = first.get(28..).unwrap_or_default();
    if head.starts_with(b"\x80theora") || head.starts_with(b"\x01video") || contains(first, b"\x80theora") {
        "video/ogg"
    } else if head.starts_with(b"fishead") && !contains(first, b"vorbis") && !contains(first, b"OpusHead") {
        "application/ogg"
    } else {
        "audio/ogg"
    }
}

fn zip(first: &[u8]) -> &'static str {
    // OpenDocument and EPUB store their type in a first member without compression.
    let mimetype = first.get(30..).and_then(|rest| rest.strip_prefix(b"mimetype"));
    if let Some(rest) = mimetype {
        let known = [
            "application/epub+zip",
            "application/vnd.oasis.opendocument.text",
            "application/vnd.oasis.opendocument.spreadsheet",
            "application/vnd.oasis.opendocument.presentation",
            "application/vnd.oasis.opendocument.graphics",
        ];
        if let Some(mime) = known.iter().find(|mime| rest.starts_with(mime.as_bytes())) {
            return mime;
        }
    }
    for name in member_names(first) {
        if let Some((_, mime)) = ZIP_MEMBERS.iter().find(|(start, _)| name.starts_with(start)) {
            return mime;
        }
    }
    "application/zip"
}

/// The names in the local headers within these bytes.
fn member_names(first: &[u8]) -> impl Iterator<Item = &[u8]> {
    first.windows(4).enumerate().filter(|(_, w)| *w == b"PK\x03\x04").filter_map(|(at, _)| {
        let length = first.get(at + 26..at + 28).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes)?;
        first.get(at + 30..at + 30 + usize::from(length))
    })
}

/// Streams of frames without a head: MPEG audio, ADTS, MPEG transport streams; and Netpbm, whose head is text.
fn frames(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xff, second, third, ..] if second & 0xe0 == 0xe0 => {
            if second & 0xf6 == 0xf0 {
                return Some("audio/aac");
            }
            // Layer, bit rate and sample rate must have values that exist.
            let valid = second & 0x06 != 0 && second & 0x18 != 0x08 && third & 0xf0 != 0xf0 && third & 0x0c != 0x0c;
            valid.then_some("audio/mpeg")
        }
        [b'P', b'1'..=b'6', b' ' | b'\n' | b'\r' | b'\t', b'0'..=b'9' | b'#', ..] => Some("image/x-portable-anymap"),
        [0x47, ..] if first.len() > 376 && first.get(188) == Some(&0x47) && first.get(376) == Some(&0x47) => Some("video/mp2t"),
        _ => None,
    }
}

/// Text and what is written in it; None for binary.
fn text(first: &[u8], name: Option<&str>) -> Option<&'static str> {
    if first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") {
        return Some(by_suffix(name).unwrap_or("text/plain"));
    }
    let bytes = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The sniffed part may end within a character.
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => std::str::from_utf8(bytes.get(..e.valid_up_to())?).ok()?,
        Err(_) => return latin(bytes).then(|| by_suffix(name).unwrap_or("text/plain")),
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}' | '\u{1b}' | '\u{85}')) {
        return None;
    }
    let start = text.trim_start();
    let lower = start.chars().take(1024).collect::<String>().to_ascii_lowercase();
    let begins = |what: &[&str]| what.iter().any(|w| lower.starts_with(w));
    if begins(&["<!doctype html", "<html", "<head", "<body"]) {
        return Some("text/html");
    }
    if begins(&["<svg"]) || (begins(&["<?xml", "<!doctype svg", "<!--"]) && lower.contains("<svg")) {
        return Some("image/svg+xml");
    }
    if begins(&["<?xml"]) {
        return Some(if lower.contains("<html") { "text/html" } else { "application/xml" });
    }
    let named = by_suffix(name);
    if named.is_none() && is_json(start, first.len() >= SNIFF_BYTES) {
        return Some("application/json");
    }
    Some(named.unwrap_or("text/plain"))
}

/// Whether text that is not UTF-8 is text of an eight-bit encoding: no control characters at all, mostly ASCII.
fn latin(bytes: &[u8]) -> bool {
    let control = |b: &u8| (*b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c)) || *b == 0x7f;
    !bytes.iter().any(control) && bytes.iter().filter(|b| b.is_ascii()).count() * 2 > bytes.len()
}

/// An object or array that ends with the text, is followed by another (one a line), or goes on past the sniffed bytes.
fn is_json(start: &str, cut: bool) -> bool {
    if !start.starts_with(['{', '[']) {
        return false;
    }
    let mut values = serde_json::Deserializer::from_str(start).into_iter::<serde::de::IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => {
            let rest = start.get(values.byte_offset()..).unwrap_or_default().trim_start();
            rest.is_empty() || rest.starts_with(['{', '['])
        }
        Some(Err(error)) => cut && error.is_eof(),
        None => false,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_tell_the_kind() {
        let cases: &[(&[u8], &str)] = &[
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
            (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
            (b"\0\0\0\x20ftypisom\0\0\0\0", "video/mp4"),
            (b"\0\0\0\x20ftypM4A \0\0\0\0", "audio/mp4"),
            (b"\0\0\0\x20ftypavif\0\0\0\0", "image/avif"),
            (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"P5\n2 2\n255\nabcd", "image/x-portable-anymap"),
            (b"P5 hello", "text/plain"),
            (b"ID3\x04\0", "audio/mpeg"),
            (b"\xff\xfb\x90\x64", "audio/mpeg"),
            (b"\xff\xf1\x50\x80", "audio/aac"),
            (b"PAR1\x15\x04", "application/vnd.apache.parquet"),
            (b"<!DOCTYPE html><html>", "text/html"),
            (b"<?xml version='1.0'?><svg>", "image/svg+xml"),
            (b"{\"a\": 1}", "application/json"),
            (b"[1, 2]", "application/json"),
            (b"[note] to self", "text/plain"),
            (b"[1] a footnote", "text/plain"),
            (b"{\"a\": 1}\n{\"a\": 2}\n", "application/json"),
            (b"{not json}", "text/plain"),
            (b"hello, world\n", "text/plain"),
            ("gr\u{fc}\u{df}e".as_bytes(), "text/plain"),
            (b"gr\xfc\xdfe und mehr", "text/plain"),
            (b"\0\x01\x02\x03junk", "application/octet-stream"),
            (b"", "application/x-empty"),
        ];
        for (bytes, mime) in cases {
            assert_eq!(mime_of(bytes, None), *mime, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn names_only_settle_what_bytes_leave_open() {
        assert_eq!(mime_of(b"a,b\n1,2\n", Some("s3://b/x.CSV?versionId=3")), "text/csv");
        assert_eq!(mime_of(b"# Title\n", Some("readme.md")), "text/markdown");
        assert_eq!(mime_of(b"\x89PNG\r\n\x1a\n", Some("photo.csv")), "image/png");
        assert_eq!(mime_of(b"\0\x01\x02", Some("photo.csv")), "application/octet-stream");
        assert_eq!(mime_of(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Some("old.doc")), "application/msword");
    }

    #[test]
    fn office_documents_are_told_from_archives() {
        let member = |name: &str| {
            let mut bytes = b"PK\x03\x04".to_vec();
            bytes.extend([0; 22]);
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend([0; 2]);
            bytes.extend(name.as_bytes());
            bytes
        };
        let docx = [member("[Content_Types].xml"), b"data".to_vec(), member("word/document.xml")].concat();
        assert!(mime_of(&docx, None).ends_with("wordprocessingml.document"));
        assert!(mime_of(&member("xl/workbook.xml"), None).ends_with("spreadsheetml.sheet"));
        let epub = [member("mimetype"), b"application/epub+zip".to_vec()].concat();
        assert_eq!(mime_of(&epub, None), "application/epub+zip");
        assert_eq!(mime_of(&member("notes.txt"), None), "application/zip");
    }

    #[test]
    fn long_json_is_told_by_its_beginning() {
        let long = format!("[{}", "{\"key\": \"value\"}, ".repeat(1000));
        assert_eq!(mime_of(&long.as_bytes()[..SNIFF_BYTES], None), "application/json");
        assert_eq!(mime_of(b"[1, 2,", None), "text/plain");
    }

    #[test]
    fn a_cut_character_is_still_text() {
        let text = "äöü".repeat(100);
        assert_eq!(mime_of(&text.as_bytes()[..101], None), "text/plain");
    }
}
