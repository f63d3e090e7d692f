//! What the media engine promises of every statement: flat memory, work that stops, answers that do not depend on how rows
//! were packed, counters and progress that tell what goes on.
//!
//! In: servers of the test's own over the fixtures, measured from outside. Out: bounds on resident memory and on time, equal
//! answers, figures in EXPLAIN ANALYZE and in `pg_stat_progress_query`. Deliberately absent: speed (`benches/pipelines`).

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::client::connect;
use crate::server_process::{Server, repository};

/// The first column of every row.
async fn column(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    let text = |m: SimpleQueryMessage| match m {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    };
    messages.into_iter().filter_map(text).collect()
}

async fn value(client: &Client, sql: &str) -> String {
    column(client, sql).await.into_iter().next().unwrap_or_default()
}

/// A folder with `count` links to fixtures, each under a name of its own.
fn folder(at: &Path, fixtures: &[&str], count: usize) -> String {
    let folder = at.join(count.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    for i in 0..count {
        let name = fixtures[i % fixtures.len()];
        let from = repository().join("tests/fixtures").join(name);
        std::os::unix::fs::symlink(&from, folder.join(format!("{i:06}-{}", from.file_name().unwrap().to_string_lossy()))).unwrap();
    }
    folder.to_string_lossy().into_owned()
}

/// Most resident bytes of a process since it began.
fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Processor seconds of the server and of the decoders that it started.
fn cpu_seconds(server: &Server) -> f64 {
    let of = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
        fields.get(11).zip(fields.get(12)).map_or(0, |(user, system)| user.parse::<u64>().unwrap_or(0) + system.parse::<u64>().unwrap_or(0))
    };
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid())).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(of).sum::<u64>();
    (of(server.pid()) + children) as f64 / 100.0
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_flat_from_few_files_to_many() {
    let links = tempfile::tempdir().unwrap();
    for (fixtures, call, few, many) in [
        (&["image/scene.jpg", "image/scene.png", "image/other.jpg"][..], "classify_image(file, model => 'tiny/resnet-shapes') AS a", 200, 3000),
        (&["audio/words.flac", "audio/tones.mp3", "audio/tones.wav"][..], "audio_duration(file) + length(decode_audio(file)::bytea) AS a", 100, 1500),
    ] {
        let server = Server::start(&[]);
        let client = connect(&server.config()).await.unwrap();
        let root = links.path().join(fixtures[0].split('/').next().unwrap());
        let mut peaks = Vec::new();
        for count in [few, many] {
            let files = folder(&root, fixtures, count);
            assert_eq!(value(&client, &format!("SELECT count(a) FROM (SELECT {call} FROM read_files('{files}/*')) t")).await, count.to_string());
            peaks.push(peak_bytes(&server));
        }
        // A tenth more, and what an allocator keeps.
        assert!(peaks[1] < peaks[0] + peaks[0] / 10 + (16 << 20), "{call}: {peaks:?} bytes for {few} and {many} files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_packs() {
    let server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    let models = repository().join("models/tiny");
    let files = format!("{}/model/*.*g", repository().join("tests/fixtures").display());
    let scores = |model: &str| {
        format!(
            "SELECT string_agg(f.name || ' ' || s.label || ' ' || round(s.score::numeric, 4), ',' ORDER BY f.name, s.label) FROM generate_series(1, 7) g, \
             read_files('{files}') f, LATERAL classify_image_scores(f.file, model => '{model}', top_k => 3) s"
        )
    };
    let places = |model: &str| {
        format!(
            "SELECT string_agg(f.name || ' ' || d.label || ' ' || round(d.x1::numeric, 1) || ' ' || round(d.score::numeric, 3), ',' ORDER BY f.name, d.det_no) \
             FROM generate_series(1, 3) g, read_files('{files}') f, LATERAL detect(f.file, model => '{model}') d"
        )
    };
    let (mut labels, mut boxes) = (Vec::new(), Vec::new());
    let texts = "SELECT string_agg(round(v::numeric, 3)::text, ',' ORDER BY g, n) FROM (SELECT g, embed_text(repeat('words ', g % 11) || g, model => 'packed_texts') AS e \
                 FROM generate_series(1, 66) g) t, LATERAL unnest(e::real[]) WITH ORDINALITY AS u(v, n) WHERE n <= 4";
    let mut vectors = Vec::new();
    for batch in 1..=64 {
        let models_of = [
            ("packed_shapes", "classify_image", "resnet-shapes"),
            ("packed_boxes", "detect", "yolo-shapes"),
            ("packed_texts", "embed_text", "clip-random"),
        ];
        for (name, task, folder) in models_of {
            let source = models.join(folder);
            let sql = format!("CREATE OR REPLACE MODEL {name} FOR {task} WITH (source = 'file://{}', max_batch = {batch})", source.display());
            client.simple_query(&sql).await.unwrap();
        }
        client.simple_query(&format!("SET squilla.pack_bytes = '{}kB'", 64 << (batch % 7))).await.unwrap();
        labels.push(value(&client, &scores("packed_shapes")).await);
        boxes.push(value(&client, &places("packed_boxes")).await);
        vectors.push(value(&client, texts).await);
    }
    assert!(labels[0].len() > 100 && boxes[0].len() > 20, "{labels:?} {boxes:?}");
    assert!(labels.iter().all(|l| *l == labels[0]), "{labels:#?}");
    assert!(boxes.iter().all(|b| *b == boxes[0]), "{boxes:#?}");
    // Padding moves a vector by the rounding of its sums: a step of the last digit that is looked at, and no more.
    let numbers = |text: &String| text.split(',').map(|v| v.parse::<f64>().unwrap()).collect::<Vec<_>>();
    let first = numbers(&vectors[0]);
    assert_eq!(first.len(), 66 * 4);
    assert!(vectors.iter().all(|v| numbers(v).iter().zip(&first).all(|(a, b)| (a - b).abs() < 0.0015)), "{vectors:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_stops_decoding_and_inference_within_a_second() {
    let server = Server::start(&[]);
    let fixtures = repository().join("tests/fixtures");
    let fixtures = fixtures.display();
    let many = "generate_series(1, 1000000) g";
    for (name, sql) in [
        (
            "decoding pictures",
            format!("SELECT sum(image_width(resize_image(decode_image(fixture('image/scene.jpg')), 900 + g::int % 9, 900))) FROM {many}"),
        ),
        ("decoding video", format!("SELECT count(f.image) FROM {many}, read_files('{fixtures}/video/square.mp4') v, LATERAL video_frames(v.file) f")),
        (
            "decoding sound",
            format!(
                "SELECT sum(length(decode_audio(file, start_s => g::float8 / 1e9)::bytea)) FROM {many}, read_files('{fixtures}/audio/words.flac')"
            ),
        ),
        ("texts", format!("SELECT count(embed_text(repeat('some words and ' || g || ' more. ', 40))) FROM {many}")),
        (
            "pictures",
            format!(
                "SELECT count(classify_image(rotate_image(decode_image(fixture('model/circle.png')), 90 * (g % 4)), model => 'tiny/resnet-shapes')) FROM {many}"
            ),
        ),
        (
            "speech",
            format!(
                "SELECT count(transcribe(decode_audio(file, start_s => g::float8 / 1e9), model => 'tiny/whisper-commands')) FROM {many}, read_files('{fixtures}/audio/words.flac')"
            ),
        ),
    ] {
        let client = connect(&server.config()).await.unwrap();
        let token = client.cancel_token();
        let cancelled = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            let start = Instant::now();
            token.cancel_query(NoTls).await.unwrap();
            start
        });
        let error = client.simple_query(&sql).await.expect_err(name);
        let took = cancelled.await.unwrap().elapsed();
        assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{name}: {error:?}");
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
        // A second later nothing works on it any more.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = cpu_seconds(&server);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let spent = cpu_seconds(&server) - before;
        assert!(spent < 0.25, "{name}: {spent} processor seconds in a second after the cancel");
        client.simple_query("SELECT 1").await.expect("the connection goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_counts_what_calls_cost() {
    let server = Server::start(&[]);
    let client = connect(&server.config()).await.unwrap();
    let files = format!("{}/model/*.*g", repository().join("tests/fixtures").display());
    let query = format!("SELECT classify_image(file, model => 'tiny/resnet-shapes') FROM read_files('{files}')");
    let rows: u64 = value(&client, &format!("SELECT count(*) FROM read_files('{files}')")).await.parse().unwrap();
    let text = column(&client, &format!("EXPLAIN ANALYZE {query}")).await.join("\n");
    let counter = |name: &str| -> u64 {
        let at = text.find(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        text[at + name.len() + 2..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    assert_eq!((counter("rows_in"), counter("model_items"), counter("errors")), (rows, rows, 0), "{text}");
    assert!(counter("packs") >= 1 && counter("model_runs") >= 1 && counter("model_runs") <= rows, "{text}");
    assert!(counter("bytes") > 0 && counter("peak_bytes") > 0 && counter("device_us") > 0, "{text}");
    assert!((1..=100).contains(&counter("fill_percent")) && text.contains("queue_us=") && text.contains(" device=cpu"), "{text}");
    assert!(text.contains("busy_us=") && text.contains("wait_us="), "{text}");
    let json = column(&client, &format!("EXPLAIN (ANALYZE, FORMAT json) {query}")).await.join("\n");
    for name in [
        "Rows In",
        "Packs",
        "Calls",
        "Errors",
        "Model Items",
        "Model Runs",
        "Device Us",
        "Queue Us",
        "Peak Bytes",
        "Fill Percent",
        "Busy Us",
        "Wait Us",
        "Device",
    ] {
        assert!(json.contains(&format!("\"{name}\":")), "no {name} in\n{json}");
    }
    // Rows that are alike go through the model once; texts are counted in tokens.
    let alike = "EXPLAIN ANALYZE SELECT embed_text('word ' || g % 2, model => 'tiny/clip-random') FROM generate_series(1, 200) g";
    let alike = column(&client, alike).await.join("\n");
    assert!(alike.contains("cache_hits=1") && !alike.contains("model_items=200") && alike.contains("tokens="), "{alike}");
    // Bad files are errors of the operator that met them.
    let bad =
        format!("EXPLAIN ANALYZE SELECT decode_image(content) FROM read_files('{}/model/*.wav')", repository().join("tests/fixtures").display());
    let bad = column(&client, &bad).await.join("\n");
    assert!(bad.contains("errors=") && !bad.contains(" errors=0"), "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_seen_from_another_session() {
    let server = Server::start(&[]);
    let links = tempfile::tempdir().unwrap();
    let files = folder(links.path(), &["audio/words.flac"], 400);
    let client = connect(&server.config()).await.unwrap();
    let token = client.cancel_token();
    let sql = format!("SELECT count(transcribe(file, model => 'tiny/whisper-commands')) FROM read_files('{files}/*')");
    let running = tokio::spawn(async move { client.simple_query(&sql).await.map(|_| ()) });
    let watcher = connect(&server.config()).await.unwrap();
    let mut seen: Vec<(u64, u64)> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while seen.len() < 3 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let row = column(
            &watcher,
            "SELECT model_items || ' ' || coalesce(percent::int, 0) FROM pg_stat_progress_query WHERE pid <> pg_backend_pid() AND model_items > 0",
        )
        .await;
        if let Some((items, percent)) = row.first().and_then(|r| r.split_once(' ')).map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
            && seen.last().is_none_or(|(before, _)| items > *before)
        {
            seen.push((items, percent));
        }
        if running.is_finished() {
            break;
        }
    }
    let _ = token.cancel_query(NoTls).await;
    let _ = running.await;
    assert!(seen.len() >= 2, "progress was seen {seen:?}");
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "{seen:?}");
    assert!(seen.iter().all(|(_, percent)| *percent <= 100), "{seen:?}");
}
