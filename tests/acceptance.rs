//! The four workloads, whole: files in a folder to answers, through the PostgreSQL protocol, with and without bad files.
//!
//! In: sample media made by `scripts/make-sample-media.py`, whose `truth.tsv` says what is in every file. Out: the answers
//! are compared with the truth; bad files cost their rows, are named in `squilla.row_errors` and counted in the warning.
//! Deliberately absent: single functions, which the examples of their contracts cover.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use futures::StreamExt;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

use crate::server_process::{repository, shared};

/// The sample: 40 recordings and pictures, 12 documents, 4 videos, and about 3 % bad files of each kind.
pub fn sample() -> &'static Path {
    static SAMPLE: OnceLock<PathBuf> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("acceptance-media");
        let script = repository().join("scripts/make-sample-media.py");
        let truth = folder.join("truth.tsv");
        let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        if modified(&truth) < modified(&script) {
            let _ = std::fs::remove_dir_all(&folder);
            let status = Command::new("python3").arg(&script).arg(&folder).args(["--count", "40", "--broken", "3"]).status().unwrap();
            assert!(status.success());
        }
        folder
    })
}

/// Path in the sample to what is in the file, of one kind; bad files are `broken: ...`.
fn truth(kind: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(sample().join("truth.tsv")).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[1] == kind).map(|row| (row[0].to_owned(), row[2].to_owned())).collect()
}

fn broken(kind: &str) -> BTreeSet<String> {
    truth(kind).into_iter().filter(|(_, what)| what.starts_with("broken")).map(|(path, _)| path).collect()
}

/// A connection that keeps the warnings.
struct Session {
    client: Client,
    warnings: Arc<Mutex<Vec<String>>>,
    out: tempfile::TempDir,
}

impl Session {
    async fn open() -> Session {
        let (client, mut connection) = tokio_postgres::connect(&shared(), NoTls).await.unwrap();
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&warnings);
        tokio::spawn(async move {
            let mut messages = futures::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.severity() == "WARNING"
                {
                    kept.lock().unwrap().push(format!("{} {}", notice.message(), notice.hint().unwrap_or_default()));
                }
            }
        });
        Session { client, warnings, out: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.out.path().join(name).to_string_lossy().into_owned()
    }

    /// Rows as text, and the count of the command tag.
    async fn run(&self, sql: &str) -> (Vec<Vec<Option<String>>>, u64) {
        let messages = self.client.simple_query(sql).await.unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
        let (mut rows, mut count) = (Vec::new(), 0);
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        (rows, count)
    }

    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.run(sql).await.0
    }

    fn no_warnings(&self) {
        assert_eq!(*self.warnings.lock().unwrap(), Vec::<String>::new());
    }

    /// The one warning of the last statement names the count; `squilla.row_errors` names exactly the bad files.
    async fn reported(&self, bad: &BTreeSet<String>) {
        let warnings = std::mem::take(&mut *self.warnings.lock().unwrap());
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(" rows failed in "), "{warnings:?}");
        let rest = warnings[0].split("query_id = ").nth(1).expect("the hint names the query");
        let query_id = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        let rows = self.rows(&format!("SELECT uri, sqlstate, message, function FROM squilla.row_errors WHERE query_id = {query_id}")).await;
        let named: BTreeSet<String> = rows.iter().map(|r| relative(r[0].as_deref().expect("a uri"))).collect();
        assert_eq!(&named, bad, "{rows:?}");
        for row in &rows {
            assert!(row[1].as_deref().is_some_and(|s| s.len() == 5), "{row:?}");
            assert!(row[2].as_deref().is_some_and(|s| !s.is_empty()), "{row:?}");
        }
    }
}

/// `audio/speech_00001.mp3` of a URI.
fn relative(uri: &str) -> String {
    let parts: Vec<&str> = uri.rsplitn(3, '/').collect();
    format!("{}/{}", parts[1], parts[0])
}

/// Words that must be changed, added or left out to make one text of the other.
fn word_errors(said: &str, heard: &str) -> usize {
    let (said, heard): (Vec<&str>, Vec<&str>) = (said.split_whitespace().collect(), heard.split_whitespace().collect());
    let mut line: Vec<usize> = (0..=heard.len()).collect();
    for (i, word) in said.iter().enumerate() {
        let mut diagonal = line[0];
        line[0] = i + 1;
        for j in 0..heard.len() {
            let change = diagonal + usize::from(*word != heard[j]);
            diagonal = line[j + 1];
            line[j + 1] = change.min(line[j] + 1).min(diagonal + 1);
        }
    }
    line[heard.len()]
}

#[test]
fn word_errors_are_counted() {
    assert_eq!(word_errors("one two three", "one two three"), 0);
    assert_eq!(word_errors("one two three", "one tree"), 2);
    assert_eq!(word_errors("", "one"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_to_text() {
    let session = Session::open().await;
    let media = sample().display();
    let good = session.path("good.parquet");
    let statement = |files: &str, to: &str| {
        format!(
            "COPY (SELECT uri, transcribe(file, model => 'tiny/whisper-commands') AS text FROM read_files('{media}/audio/{files}')) TO '{to}' (FORMAT parquet)"
        )
    };
    let (_, count) = session.run(&statement("speech_*", &good)).await;
    let spoken: BTreeMap<String, String> = truth("audio").into_iter().filter(|(_, t)| !t.starts_with("broken")).collect();
    assert_eq!(count as usize, spoken.len());
    session.no_warnings();
    let (mut words, mut errors) = (0, 0);
    for row in session.rows(&format!("SELECT uri, text FROM read_parquet('{good}')")).await {
        let said = &spoken[&relative(row[0].as_deref().unwrap())];
        words += said.split_whitespace().count();
        errors += word_errors(said, &row[1].as_deref().unwrap().to_lowercase().replace(['.', ','], ""));
    }
    assert!(errors * 100 <= words * 8, "{errors} word errors in {words} words");

    let all = session.path("all.parquet");
    let (_, count) = session.run(&statement("*", &all)).await;
    assert_eq!(count as usize, truth("audio").len());
    session.reported(&broken("audio")).await;
    let rows = session.rows(&format!("SELECT uri FROM read_parquet('{all}') WHERE text IS NULL")).await;
    let nulls: BTreeSet<String> = rows.iter().map(|r| relative(r[0].as_deref().unwrap())).collect();
    assert_eq!(nulls, broken("audio"));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_to_nearest_passages() {
    let session = Session::open().await;
    let media = sample().display();
    session.run("CREATE SCHEMA IF NOT EXISTS acceptance").await;
    let good = format!("(SELECT * FROM read_files('{media}/pdf/*.pdf') WHERE name NOT LIKE 'broken%')");
    session.run(&create_chunks("good_chunks", &good)).await;
    session.no_warnings();
    session.run(&create_chunks("every_chunk", &format!("read_files('{media}/pdf/*.pdf')"))).await;
    session.reported(&broken("pdf")).await;
    let counts = session.rows("SELECT (SELECT count(*) FROM acceptance.every_chunk), (SELECT count(*) FROM acceptance.good_chunks)").await;
    assert_eq!(counts[0][0], counts[0][1], "bad files give no chunk");
    let documents = session.rows("SELECT count(DISTINCT uri), count(*) > 12, min(vector_dims(embedding)) FROM acceptance.good_chunks").await;
    let good = truth("pdf").len() - broken("pdf").len();
    assert_eq!(documents[0], [Some(good.to_string()), Some("t".into()), Some("384".into())]);
    for (question, topic) in [
        ("How does sourdough make bread rise?", "baking_bread"),
        ("Which telescope shows the moons of Jupiter?", "astronomy"),
        ("How do bees survive the winter in their hive?", "beekeeping"),
        ("Why do volcanoes erupt?", "volcanoes"),
        ("When should the king be moved in the endgame?", "chess"),
    ] {
        let sql = format!("SELECT uri FROM acceptance.good_chunks ORDER BY embedding <=> embed_text('{question}') LIMIT 1");
        let rows = session.rows(&sql).await;
        assert!(rows[0][0].as_deref().unwrap().contains(topic), "{question}: {rows:?}");
    }
    session.run("DROP SCHEMA acceptance CASCADE").await;
}

fn create_chunks(table: &str, source: &str) -> String {
    format!(
        "CREATE TABLE acceptance.{table} AS
         SELECT f.uri, p.page_no, c.chunk_no, c.text, embed_text(c.text) AS embedding
         FROM {source} f, LATERAL pdf_pages(f.file, max_pages => 100) p,
              LATERAL chunk_text(p.text, chunk_size => 2048, overlap => 200, by => 'recursive') c"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn images_to_labels() {
    let session = Session::open().await;
    let media = sample().display();
    let labels = |columns: &str, tail: &str| {
        format!(
            "SELECT {columns} FROM (SELECT name, classify_image(decode_image(content), model => 'tiny/resnet-shapes') AS label
             FROM read_files('{media}/images/*')) t {tail}"
        )
    };
    let counted = session.rows(&labels("label, count(*)", "GROUP BY label ORDER BY label")).await;
    session.reported(&broken("image")).await;
    let total: usize = counted.iter().map(|r| r[1].as_deref().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(total, truth("image").len());
    let unlabelled = counted.iter().find(|r| r[0].is_none()).expect("bad files have no label");
    assert_eq!(unlabelled[1], Some(broken("image").len().to_string()));

    let rows = session.rows(&labels("name, label", "WHERE name NOT LIKE 'broken%'")).await;
    let right = rows.iter().filter(|r| r[0].as_deref().unwrap().starts_with(r[1].as_deref().unwrap())).count();
    assert!(right * 10 >= rows.len() * 9, "{right} of {} right", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn videos_to_objects() {
    let session = Session::open().await;
    let media = sample().display();
    let target = session.path("objects.parquet");
    session
        .run(&format!(
            "COPY (SELECT v.uri, f.frame_no, d.label, d.score, d.box, encode_image(crop_image(f.image, d.box), format => 'png') AS object
             FROM read_files('{media}/video/*') v,
                  LATERAL video_frames(v.file, width => 640, height => 640, every => interval '0.4 s') f,
                  LATERAL detect(f.image, model => 'tiny/yolo-shapes') d) TO '{target}' (FORMAT parquet)"
        ))
        .await;
    session.reported(&broken("video")).await;
    let rows = session.rows(&format!("SELECT uri, label, count(*) FROM read_parquet('{target}') GROUP BY uri, label HAVING count(*) >= 3")).await;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in &rows {
        found.entry(relative(row[0].as_deref().unwrap())).or_default().insert(row[1].clone().unwrap());
    }
    let (mut right, mut videos) = (0, 0);
    for (path, shapes) in truth("video").into_iter().filter(|(_, t)| !t.starts_with("broken")) {
        let shapes: BTreeSet<String> = shapes.split(' ').map(str::to_owned).collect();
        videos += 1;
        right += usize::from(found.get(&path).is_some_and(|f| f.is_superset(&shapes)));
    }
    assert!(right * 4 >= videos * 3, "all shapes found in {right} of {videos} videos: {found:?}");
    let objects = session
        .rows(&format!(
            "SELECT count(*), count(*) FILTER (WHERE substring(object FROM 1 FOR 4) = '\\x89504e47'::bytea) FROM read_parquet('{target}')"
        ))
        .await;
    assert_eq!(objects[0][0], objects[0][1], "every object is a PNG");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bad_rows_fail_the_statement() {
    let session = Session::open().await;
    let target = session.path("never.parquet");
    let sql = format!("COPY (SELECT decode_image(decode(md5(g::text), 'hex')) AS i FROM generate_series(1, 1000) g) TO '{target}' (FORMAT parquet)");
    let error = session.client.simple_query(&sql).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "SQ005");
    assert!(error.message().contains("decode_image"), "{error:?}");
    assert!(error.detail().is_some(), "the reasons are named: {error:?}");
    assert!(!Path::new(&target).exists(), "nothing is visible of a failed COPY");
    assert_eq!(std::fs::read_dir(session.out.path()).unwrap().count(), 0, "nothing is left behind");
}

/// A wrong model or option is an error at once, whatever on_error says, and no file is touched.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_statement_are_no_row_errors() {
    let session = Session::open().await;
    let media = sample().display();
    for (sql, code) in [
        (format!("SELECT transcribe(file, model => 'no/such-model') FROM read_files('{media}/audio/*')"), "SQ001"),
        (format!("SELECT classify_image(decode_image(content), model => 'tiny/whisper-commands') FROM read_files('{media}/images/*')"), "SQ002"),
        (format!("SELECT decode_image(content, mode => 'RBG') FROM read_files('{media}/images/*')"), "22023"),
        (format!("SELECT decode_image(content, colour => 'RGB') FROM read_files('{media}/images/*')"), "42883"),
        (format!("SELECT decode_image(content, on_error => 'ignore') FROM read_files('{media}/images/*')"), "22023"),
        ("SELECT * FROM read_parquet('/no/such/file.parquet')".to_owned(), "58P01"),
    ] {
        let error = session.client.simple_query(&sql).await.expect_err(&sql);
        assert_eq!(error.code().map(|c| c.code()), Some(code), "{sql}: {error:?}");
    }
}
