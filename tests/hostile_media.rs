//! Media that is damaged, enormous or meant to hurt, as whole files: each costs its row, and nothing else.
//!
//! In: fixtures mutated with fixed seeds, and files made here that claim or unfold to far more than they hold. Out: every row is
//! an answer or a named error, the server lives, a good file beside them has its answer. `MUTATIONS=1000` tries that many of each
//! fixture, `MUTATION_SEED` begins elsewhere. Deliberately absent: what good files give.

use std::io::Write;
use std::path::Path;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::client::connect;
use crate::server_process::{Server, repository};

async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    let row = |m: SimpleQueryMessage| match m {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect()),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await.into_iter().next().and_then(|row| row.into_iter().next()).unwrap_or_default()
}

/// The SQLSTATE of a statement; 00000 where it worked.
async fn state(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "00000".into(),
        Err(error) => error.code().unwrap_or_else(|| panic!("{error:?}\n{sql}")).code().to_owned(),
    }
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One of the ways in which files go wrong.
fn mutate(file: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut out = file.to_vec();
    let at = numbers.below(out.len());
    // Headers are a small part of a file and the larger part of what can go wrong.
    let near = numbers.below(out.len().min(512));
    match numbers.below(8) {
        0 => out.truncate(at),
        1 => (0..1 + numbers.below(16)).for_each(|_| {
            let at = numbers.below(file.len());
            out[at] = numbers.next() as u8;
        }),
        2 => (0..1 + numbers.below(4)).for_each(|_| out[near] = [0, 0xff, 0x7f, 0x80][numbers.below(4)]),
        3 => {
            let end = (at + 1 + numbers.below(4096)).min(out.len());
            out[at..end].fill(0);
        }
        4 => {
            let end = (at + 1 + numbers.below(4096)).min(out.len());
            out.drain(at..end);
        }
        5 => {
            let end = (at + 1 + numbers.below(4096)).min(out.len());
            let again = out[at..end].to_vec();
            out.splice(near..near, again);
        }
        6 => (0..1 + numbers.below(8)).for_each(|_| out[near] ^= 1 << numbers.below(8)),
        // A length of four bytes becomes enormous.
        _ => {
            let end = (near + 4).min(out.len());
            out[near..end].fill(0xff);
        }
    }
    out
}

/// Folder of the fixtures, and what is called over each mutated file.
const CALLS: &[(&str, &str)] = &[
    (
        "image",
        "coalesce(image_width(file), 0) + coalesce(cardinality(tensor_data(image_to_tensor(resize_image(decode_image(file_content(file)), 8, 8)))), 0) \
         + coalesce(length(classify_image(file, model => 'tiny/resnet-shapes')), 0) + coalesce(length(thumbnail(file_content(file), 8)), 0)",
    ),
    ("audio", "coalesce(audio_duration(file), 0)::int + coalesce(length(decode_audio(file, sample_rate => 8000, duration_s => 5)::bytea), 0)"),
    ("document", "(SELECT count(p.text) FROM pdf_pages(file) p) + coalesce((SELECT i.page_count FROM pdf_info(file) i), 0)"),
    ("video", "(SELECT count(f.image) FROM video_frames(file, width => 16, height => 16) f) + coalesce((SELECT i.width FROM video_info(file) i), 0)"),
];

#[tokio::test(flavor = "multi_thread")]
async fn mutated_files_cost_their_rows_only() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (count, seed) = (number("MUTATIONS", 24), number("MUTATION_SEED", 1));
    let server = Server::start(&["--set", "squilla.row_timeout=20s", "--set", "squilla.max_error_ratio=1"]);
    let client = connect(&server.config()).await.unwrap();
    for (kind, call) in CALLS {
        let folder = tempfile::tempdir().unwrap();
        let mut fixtures: Vec<_> = std::fs::read_dir(repository().join("tests/fixtures").join(kind)).unwrap().map(|e| e.unwrap().path()).collect();
        fixtures.sort();
        for (nth, fixture) in fixtures.iter().enumerate() {
            let (file, name) = (std::fs::read(fixture).unwrap(), fixture.file_name().unwrap().to_string_lossy());
            let mut numbers = Numbers(seed << 32 | nth as u64);
            for i in 0..count {
                std::fs::write(folder.path().join(format!("{i:03}-{name}")), mutate(&file, &mut numbers)).unwrap();
            }
        }
        let files = folder.path().display();
        let made = fixtures.len() as u64 * count;
        let answers = rows(&client, &format!("SELECT uri, {call} FROM read_files('{files}/*')")).await;
        assert_eq!(answers.len() as u64, made, "{kind}");
        // What failed says why; nothing is a failure of the server's own, and nothing took too long.
        let odd = "SELECT e.uri, e.function, e.sqlstate, e.message FROM squilla.row_errors e \
             WHERE e.sqlstate NOT IN ('22P03', '54000', '22023', '53200') OR e.message LIKE '%took longer%'";
        let odd = rows(&client, odd).await;
        assert!(odd.is_empty(), "{kind}: {odd:#?}");
        let good = repository().join("tests/fixtures").join(kind).join(match *kind {
            "image" => "scene.jpg",
            "audio" => "tones.mp3",
            "document" => "report.pdf",
            _ => "square.mp4",
        });
        let good = value(&client, &format!("SELECT {call} FROM read_files('{}')", good.display())).await;
        assert!(good.parse::<i64>().unwrap() > 0, "{kind}: a good file gives {good}");
    }
}

/// A PNG of black grey levels, one bit each, that is what it claims to be.
fn black_png(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 }))
    };
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        out.extend((data.len() as u32).to_be_bytes());
        let body = [kind.as_slice(), data].concat();
        out.extend(&body);
        out.extend(crc(&body).to_be_bytes());
    };
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[1, 0, 0, 0, 0]].concat());
    let line = vec![0; width as usize / 8 + 1];
    let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    (0..height).for_each(|_| pixels.write_all(&line).unwrap());
    chunk(b"IDAT", &pixels.finish().unwrap());
    chunk(b"IEND", &[]);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_500_megapixels_is_an_error_of_its_row() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("huge.png"), black_png(25_000, 20_000)).unwrap();
    std::fs::write(folder.path().join("good.png"), black_png(64, 64)).unwrap();
    let server = Server::start(&["--set", "squilla.memory_limit=700MB", "--set", "squilla.max_error_ratio=1"]);
    let client = connect(&server.config()).await.unwrap();
    let files = folder.path().display();
    let widths = format!(
        "SELECT image_width(file) || ' ' || coalesce(image_width(decode_image(file_content(file)))::text, 'none') FROM read_files('{files}/*') ORDER BY uri"
    );
    // The default limit, from the header alone.
    let peak = peak_bytes(&server);
    assert_eq!(rows(&client, &widths).await.concat(), ["64 64", "25000 none"]);
    assert!(peak_bytes(&server) < peak + (100 << 20), "{} bytes for a picture that is not decoded", peak_bytes(&server) - peak);
    let one = format!("SELECT image_width(decode_image(file_content(file), mode => 'RGB', on_error => 'raise')) FROM read_files('{files}/huge.png')");
    assert_eq!(state(&client, &one).await, "54000");
    // Allowed, but larger than the memory of all statements: refused before it is allocated.
    client.simple_query("SET squilla.max_image_pixels = 1000000000").await.unwrap();
    let refused = state(&client, &one).await;
    assert!(["54000", "53200"].contains(&refused.as_str()), "{refused}");
    assert_eq!(rows(&client, &widths).await.concat(), ["64 64", "25000 none"]);
    assert!(peak_bytes(&server) < 700 << 20, "{} bytes", peak_bytes(&server));
}

/// Most resident bytes of a server since it began.
fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The four bytes `after` the name of each box of this kind become `value`.
fn patch(file: &mut [u8], name: &[u8; 4], after: usize, value: u32) {
    for at in 0..file.len() - 4 - after - 4 {
        if &file[at..at + 4] == name {
            file[at + 4 + after..at + 8 + after].copy_from_slice(&value.to_be_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_of_ten_hours_is_read_where_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let square = std::fs::read(repository().join("tests/fixtures/video/square.mp4")).unwrap();
    // The clock of the track runs slower: the same few frames are shown over more than ten hours.
    let mut slow = square.clone();
    for (name, after, value) in
        [(b"mdhd", 12, 1), (b"mdhd", 16, 39_000), (b"mvhd", 12, 1), (b"mvhd", 16, 40_000), (b"elst", 8, 40_000), (b"stts", 12, 1300)]
    {
        patch(&mut slow, name, after, value);
    }
    std::fs::write(folder.path().join("slow.mp4"), &slow).unwrap();
    // Or the header alone claims ten hours.
    let mut claims = square;
    patch(&mut claims, b"mvhd", 12, 1000);
    patch(&mut claims, b"mvhd", 16, 36_000_000);
    patch(&mut claims, b"tkhd", 20, 36_000_000);
    std::fs::write(folder.path().join("claims.mp4"), &claims).unwrap();
    let server = Server::start(&["--set", "squilla.row_timeout=20s"]);
    let client = connect(&server.config()).await.unwrap();
    let files = folder.path().display();
    let hours =
        value(&client, &format!("SELECT floor(i.duration_s / 3600)::int FROM read_files('{files}/slow.mp4') f, LATERAL video_info(f.file) i")).await;
    assert!(hours.parse::<i64>().unwrap() >= 10, "{hours} hours");
    for name in ["slow", "claims"] {
        let frames = format!("FROM read_files('{files}/{name}.mp4') v, LATERAL video_frames(v.file, width => 16, height => 16");
        assert_eq!(value(&client, &format!("SELECT f.frame_no {frames}) f LIMIT 1")).await, "0", "{name}");
        let all: u64 = value(&client, &format!("SELECT count(*) {frames}) f")).await.parse().unwrap();
        assert!((10..100).contains(&all), "{name}: {all} frames");
        // A sample a second of ten hours is no more than the frames that there are.
        let sampled: u64 = value(&client, &format!("SELECT count(*) {frames}, every => interval '1 s') f")).await.parse().unwrap();
        assert!(sampled <= all, "{name}: {sampled} of {all}");
    }
    let late = format!("SELECT count(*) FROM read_files('{files}/slow.mp4') v, LATERAL video_frames(v.file, start_s => 35000) f");
    assert!(value(&client, &late).await.parse::<u64>().unwrap() >= 1);
    let at = format!("SELECT image_width(video_frame_at(file, 36000)) FROM read_files('{files}/slow.mp4')");
    assert_eq!(value(&client, &at).await, value(&client, "SELECT width FROM video_info(fixture('video/square.mp4'))").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_around_sound_is_skipped_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let tones = std::fs::read(repository().join("tests/fixtures/audio/tones.mp3")).unwrap();
    // Ten seconds of 128 kilobits that are no frames, before, in and after the recording.
    let mut numbers = Numbers(7);
    let junk: Vec<u8> = (0..160_000).map(|_| numbers.next() as u8 & 0x7f).collect();
    let (head, tail) = tones.split_at(tones.len() / 2);
    for (name, parts) in [("before", [&junk[..], head, tail]), ("inside", [head, &junk, tail]), ("after", [head, tail, &junk])] {
        std::fs::write(folder.path().join(format!("{name}.mp3")), parts.concat()).unwrap();
    }
    std::fs::write(folder.path().join("only.mp3"), &junk).unwrap();
    std::fs::write(folder.path().join("whole.mp3"), &tones).unwrap();
    let server = Server::start(&["--set", "squilla.row_timeout=20s", "--set", "squilla.max_error_ratio=1"]);
    let client = connect(&server.config()).await.unwrap();
    let sql = format!(
        "SELECT name, length(decode_audio(file, sample_rate => 16000, mono => true)::bytea) / 32000.0 FROM read_files('{}/*')",
        folder.path().display()
    );
    let found: std::collections::BTreeMap<String, String> = rows(&client, &sql).await.into_iter().map(|r| (r[0].clone(), r[1].clone())).collect();
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(found["only.mp3"], "NULL", "{found:?}");
    let whole: f64 = found["whole.mp3"].parse().unwrap();
    assert!(whole > 0.5, "{found:?}");
    for name in ["before.mp3", "inside.mp3", "after.mp3"] {
        // Frames lost where junk begins are a few; junk is never sound.
        let seconds = found[name].parse::<f64>().unwrap_or(whole);
        assert!(seconds <= whole + 0.2, "{found:?}");
    }
    let told = value(&client, "SELECT count(*) FROM squilla.row_errors WHERE sqlstate = '22P03'").await;
    assert!(told.parse::<u64>().unwrap() >= 1, "{found:?}");
}

/// A PDF of one page whose content stream is `content` under `filters`.
fn pdf(media_box: &str, filters: &str, content: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "%PDF-1.5\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n\
         3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [{media_box}] /Contents 4 0 R /Resources << >> >>\nendobj\n\
         4 0 obj\n<< /Length {} {filters} >>\nstream\n",
        content.len()
    )
    .into_bytes();
    out.extend(content);
    out.extend(b"\nendstream\nendobj\ntrailer\n<< /Root 1 0 R /Size 5 >>\n%%EOF\n");
    out
}

fn deflated(mut blocks: usize, block: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    while blocks > 0 {
        out.write_all(block).unwrap();
        blocks -= 1;
    }
    out.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_unfold_are_errors_of_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, file: Vec<u8>| std::fs::write(folder.path().join(name), file).unwrap();
    // Two gigabytes of blanks in two megabytes, and twice deflated in a few kilobytes.
    let once = deflated(2048, &vec![b' '; 1 << 20]);
    put("1-bomb.pdf", pdf("0 0 100 100", "/Filter /FlateDecode", &once));
    put("2-twice.pdf", pdf("0 0 100 100", "/Filter [/FlateDecode /FlateDecode]", &deflated(1, &once)));
    // A page as large as a field, a page tree that contains itself, nesting without an end.
    put("3-vast.pdf", pdf("0 0 1000000 1000000", "", b"0 0 m 10 10 l S"));
    let mut round = pdf("0 0 100 100", "", b"");
    let at = round.windows(9).position(|w| w == b"/Kids [3 ").unwrap();
    round[at + 7] = b'2';
    put("4-round.pdf", round);
    put("5-deep.pdf", pdf("0 0 100 100", "", "[".repeat(1 << 20).as_bytes()));
    put("6-good.pdf", std::fs::read(repository().join("tests/fixtures/document/report.pdf")).unwrap());
    let server = Server::start(&["--set", "squilla.row_timeout=30s", "--set", "squilla.max_error_ratio=1"]);
    let client = connect(&server.config()).await.unwrap();
    let files = folder.path().display();
    for call in [
        "(SELECT count(p.text) FROM pdf_pages(file) p)",
        "(SELECT i.page_count FROM pdf_info(file) i)",
        "image_width(render_page(file_content(file), 1, dpi => 72))",
        "length(pdf_text(file_content(file)))",
    ] {
        let found = rows(&client, &format!("SELECT name, {call} FROM read_files('{files}/*') ORDER BY uri")).await;
        assert_eq!(found.len(), 6, "{call}: {found:?}");
        assert!(found[5][1].parse::<u64>().unwrap_or(0) > 0, "{call}: {found:?}");
    }
    let odd =
        rows(&client, "SELECT uri, function, sqlstate, message FROM squilla.row_errors WHERE sqlstate NOT IN ('22P03', '54000', '53200', '22023')")
            .await;
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(peak_bytes(&server) < 1 << 30, "{} bytes", peak_bytes(&server));
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_tables_that_unfold_stay_small_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    // One gigabyte of lines in one megabyte.
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let block = format!("{},a\n", "x".repeat(1021)).repeat(1 << 10);
    (0..1024).for_each(|_| out.write_all(block.as_bytes()).unwrap());
    let path = folder.path().join("bomb.csv.gz");
    std::fs::write(&path, out.finish().unwrap()).unwrap();
    let server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    let counted = value(&client, &format!("SELECT count(*) FROM read_csv('{}')", path.display())).await;
    assert_eq!(counted, ((1u64 << 20) - 1).to_string());
    assert!(peak_bytes(&server) < 1 << 30, "{} bytes", peak_bytes(&server));
}

/// A folder with `count` links to one file.
fn links(at: &Path, file: &str, count: usize) {
    let from = repository().join("tests/fixtures").join(file);
    (0..count).for_each(|i| std::os::unix::fs::symlink(&from, at.join(format!("{i:06}.jpg"))).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_of_ten_thousand_files_reads_a_few() {
    let folder = tempfile::tempdir().unwrap();
    links(folder.path(), "model/square.jpg", 10_000);
    let server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    let files = folder.path().display();
    for query in [
        format!("SELECT classify_image(file, model => 'tiny/resnet-shapes') FROM read_files('{files}/*') LIMIT 1"),
        format!("SELECT d.label FROM read_files('{files}/*') f, LATERAL detect(f.file, model => 'tiny/yolo-shapes', min_score => 0.0) d LIMIT 1"),
        format!("SELECT count(*) FROM (SELECT image_stats(decode_image(content)) FROM read_files('{files}/*') LIMIT 1) t"),
    ] {
        let text: Vec<String> = rows(&client, &format!("EXPLAIN ANALYZE {query}")).await.concat();
        let read = |line: &String| -> Option<u64> {
            let at = line.find("rows_in=")?;
            line[at + 8..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
        };
        let most = text.iter().filter_map(read).max().unwrap_or_else(|| panic!("no counter in\n{}", text.join("\n")));
        assert!(most < 100, "{most} of 10000 files for one row:\n{}", text.join("\n"));
    }
}
