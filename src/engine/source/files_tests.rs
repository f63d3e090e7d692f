//! Reading local files and objects behind a small HTTP server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn file(uri: &str) -> FileRef {
    FileRef { uri: uri.into(), ..FileRef::default() }
}

#[tokio::test]
async fn local_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b%.bin");
    std::fs::write(&path, b"0123456789").unwrap();
    let uri = path.to_str().unwrap().to_owned();
    let access = FileAccess::new();
    let head = access.head(&uri).await.unwrap();
    assert_eq!((head.size, head.uri.as_str()), (Some(10), uri.as_str()));
    assert_eq!(&access.read(&head, None, 100).await.unwrap()[..], b"0123456789");
    assert_eq!(&access.read(&head, Some((3, 4)), 100).await.unwrap()[..], b"3456");
    assert_eq!(&access.read(&head, Some((8, 100)), 100).await.unwrap()[..], b"89");
    assert!(access.read(&head, Some((50, 4)), 100).await.unwrap().is_empty());
    let as_uri = crate::source::location::file_uri(&path);
    assert_eq!(access.read(&file(&as_uri), None, 100).await.unwrap().len(), 10);
    assert_eq!(access.local_path(&as_uri), Some(path.clone()));
    let code = |r: Result<Bytes>| r.unwrap_err().sqlstate();
    assert_eq!(code(access.read(&head, None, 9).await), "54000");
    assert_eq!(access.read(&head, Some((0, 5)), 9).await.unwrap().len(), 5);
    assert_eq!(code(access.read(&file("/none/x"), None, 9).await), "58P01");
    assert_eq!(code(access.read(&file(dir.path().to_str().unwrap()), None, 9).await), "58030");
    std::fs::write(&path, b"changed").unwrap();
    assert_eq!(code(access.read(&head, None, 100).await), "SQ006");
    let streamed: Vec<Bytes> = access.stream(&file(&uri)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.concat(), b"changed");
}

#[tokio::test]
async fn objects_in_parts() {
    let store = Arc::new(InMemory::new());
    let bytes: Vec<u8> = (0..40_000_000_u32).map(|i| (i % 251) as u8).collect();
    store.put(&"big".into(), PutPayload::from(bytes.clone())).await.unwrap();
    let access = FileAccess::new();
    access.register_bucket("b", Arc::clone(&store) as Arc<dyn ObjectStore>);
    let head = access.head("s3://b/big").await.unwrap();
    assert_eq!(head.size, Some(40_000_000));
    assert_eq!(access.read(&head, None, u64::MAX).await.unwrap(), bytes);
    assert_eq!(access.read(&head, None, 100).await.unwrap_err().sqlstate(), "54000");
    assert_eq!(access.read(&file("s3://b/none"), None, 100).await.unwrap_err().sqlstate(), "58P01");
    store.put(&"big".into(), PutPayload::from_static(b"other")).await.unwrap();
    assert_eq!(access.read(&head, None, u64::MAX).await.unwrap_err().sqlstate(), "SQ006");
}

/// Serves `/ranged` with ranges, `/plain` without, `/signed?ok` for GET only, `/flaky` after two failures, else 404 or 403.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let failures = Arc::new(std::sync::atomic::AtomicUsize::new(2));
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let failures = Arc::clone(&failures);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if socket.read(&mut byte).await.unwrap_or(0) == 0 {
                        return;
                    }
                    request.push(byte[0]);
                }
                let answer = answer(&String::from_utf8(request).unwrap().to_lowercase(), &failures);
                let _ = socket.write_all(answer.as_bytes()).await;
            });
        }
    });
    base
}

fn answer(request: &str, failures: &std::sync::atomic::AtomicUsize) -> String {
    let body = "0123456789";
    let head = request.starts_with("head");
    let path = request.split(' ').nth(1).unwrap();
    let range = request.lines().find_map(|l| l.strip_prefix("range: bytes=")).map(|r| r.split_once('-').unwrap());
    let ok = |status: &str, extra: &str, body: &str| {
        let shown = if head { "" } else { body };
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: text/x-test\r\nETag: \"v1\"\r\nConnection: close\r\n{extra}\r\n{shown}",
            body.len()
        )
    };
    match (path, range) {
        ("/ranged", Some((from, to))) => {
            let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse::<usize>().unwrap().min(9));
            ok("206 Partial Content", &format!("Content-Range: bytes {from}-{to}/10\r\n"), &body[from..=to])
        }
        ("/ranged" | "/plain", _) => ok("200 OK", "", body),
        ("/signed?ok", _) if head => ok("403 Forbidden", "", ""),
        ("/signed?ok", _) => ok("200 OK", "", body),
        ("/secret?signature=abc", _) => ok("403 Forbidden", "", ""),
        ("/flaky", _)
            if failures.fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() =>
        {
            ok("503 Service Unavailable", "", "")
        }
        ("/flaky", _) => ok("200 OK", "", body),
        _ => ok("404 Not Found", "", ""),
    }
}

#[tokio::test]
async fn http() {
    let base = serve().await;
    let access = FileAccess::new();
    let at = |path: &str| file(&format!("{base}{path}"));
    let head = access.head(&at("/ranged").uri).await.unwrap();
    assert_eq!((head.size, head.etag.as_deref(), head.content_type.as_deref()), (Some(10), Some("\"v1\""), Some("text/x-test")));
    assert_eq!(&access.read(&head, None, 100).await.unwrap()[..], b"0123456789");
    assert_eq!(&access.read(&head, Some((2, 3)), 100).await.unwrap()[..], b"234");
    assert_eq!(&access.read(&at("/plain"), Some((2, 3)), 100).await.unwrap()[..], b"234");
    assert_eq!(access.head(&at("/signed?ok").uri).await.unwrap().size, Some(10));
    assert_eq!(access.read(&at("/signed?ok"), None, 100).await.unwrap().len(), 10);
    assert_eq!(access.read(&at("/flaky"), None, 100).await.unwrap().len(), 10);
    assert_eq!(access.read(&at("/plain"), None, 9).await.unwrap_err().sqlstate(), "54000");
    assert_eq!(access.read(&at("/none"), None, 9).await.unwrap_err().sqlstate(), "58P01");
    let denied = access.read(&at("/secret?signature=abc"), None, 9).await.unwrap_err();
    assert_eq!(denied.sqlstate(), "58030");
    assert!(!format!("{denied:?}").contains("signature=abc"), "{denied:?}");
    let stale = FileRef { etag: Some("\"v0\"".into()), ..at("/plain") };
    assert_eq!(access.read(&stale, None, 100).await.unwrap_err().sqlstate(), "SQ006");
    let listed: Vec<FileRef> = access.list(&at("/ranged").uri, &crate::source::listing::ListOptions::default()).unwrap().try_collect().await.unwrap();
    assert_eq!(listed[0].size, Some(10));
    let streamed: Vec<Bytes> = access.stream(&at("/ranged")).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.concat(), b"0123456789");
}

#[tokio::test]
#[ignore = "measures; run it by name with --nocapture"]
async fn throughput() {
    let dir = tempfile::tempdir().unwrap();
    let count = 100_000;
    for i in 0..count {
        let sub = dir.path().join(format!("d{:02}", i % 50));
        if i < 50 {
            std::fs::create_dir(&sub).unwrap();
        }
        std::fs::write(sub.join(format!("file_{i:06}.jpg")), [0_u8; 100]).unwrap();
    }
    let access = FileAccess::new();
    let pattern = format!("{}/**/*.jpg", dir.path().display());
    for details in [true, false] {
        let options = crate::source::listing::ListOptions { details, ..Default::default() };
        let start = std::time::Instant::now();
        let files: Vec<FileRef> = access.list(&pattern, &options).unwrap().try_collect().await.unwrap();
        println!("list details={details}: {} files in {:?}", files.len(), start.elapsed());
        if details {
            let start = std::time::Instant::now();
            let read: Vec<Bytes> = stream::iter(files.iter().map(|f| access.read(f, None, 1 << 20))).buffered(64).try_collect().await.unwrap();
            println!("read {} small files in {:?}", read.len(), start.elapsed());
        }
    }
    let start = std::time::Instant::now();
    let first = access.list(&pattern, &Default::default()).unwrap().next().await;
    println!("first file after {:?}: {}", start.elapsed(), first.unwrap().unwrap().uri);
    let big = dir.path().join("big.bin");
    std::fs::write(&big, vec![1_u8; 1 << 30]).unwrap();
    for _ in 0..2 {
        let start = std::time::Instant::now();
        let bytes = access.read(&file(big.to_str().unwrap()), None, u64::MAX).await.unwrap();
        println!("read {} bytes in {:?}", bytes.len(), start.elapsed());
    }
}
