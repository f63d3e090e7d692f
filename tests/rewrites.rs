//! What the planner changes for speed, as EXPLAIN names it.
//!
//! In: queries over `tests/fixtures`. Out: the line `Rewrites:` and the calls that are left. Operators around them depend on
//! cores and workers and are not looked at. Deliberately absent: answers, which `pipelines/rewrites.slt` compares.

use crate::client::connect;
use crate::server_process::{repository, shared};

async fn explain(query: &str) -> String {
    let client = connect(&shared()).await.unwrap();
    let fixtures = repository().join("tests/fixtures").to_string_lossy().into_owned();
    let rows = client.query(&format!("EXPLAIN (COSTS OFF) {}", query.replace("$FIXTURES", &fixtures)), &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

fn rewrites(plan: &str) -> &str {
    plan.lines().find_map(|line| line.strip_prefix("Rewrites: ")).unwrap_or_default()
}

#[tokio::test]
async fn decoding_goes_into_the_model_call() {
    let plan = explain("SELECT classify_image(decode_image(content), model => 'tiny/resnet-shapes') FROM read_files('$FIXTURES/model/*.png')").await;
    assert_eq!(rewrites(&plan), "decoding folded into the model call", "{plan}");
    assert!(!plan.contains("decode_image("), "{plan}");
}

#[tokio::test]
async fn a_picture_that_is_used_twice_is_decoded_once() {
    let plan = explain(
        "SELECT classify_image(i, model => 'tiny/resnet-shapes'), image_mode(i)
         FROM (SELECT decode_image(content) AS i FROM read_files('$FIXTURES/model/*.png')) t",
    )
    .await;
    assert_eq!(plan.matches("decode_image(").count(), 1, "{plan}");
}

#[tokio::test]
async fn equal_calls_are_made_once_and_cheap_conditions_come_first() {
    let plan = explain(
        "SELECT uri, classify_image(file, model => 'tiny/resnet-shapes') FROM read_files('$FIXTURES/model/*')
         WHERE classify_image(file, model => 'tiny/resnet-shapes') <> 'ring' AND length(uri) > 1",
    )
    .await;
    assert!(rewrites(&plan).contains("one evaluation of equal calls"), "{plan}");
    assert_eq!(plan.matches("=classify_image(").count(), 1, "{plan}");
    let (model, length) = (plan.find("=classify_image("), plan.find("character_length("));
    assert!(length > model, "the cheap condition stands below the model call: {plan}");
}

#[tokio::test]
async fn a_condition_on_the_time_of_frames_bounds_the_decoding() {
    let plan = explain("SELECT frame_no FROM video_frames(fixture('video/square.mp4')) WHERE pts_s >= 1 AND pts_s < 1.5").await;
    assert_eq!(rewrites(&plan), "condition on a generated column bounds the call", "{plan}");
}

#[tokio::test]
async fn files_without_rows_for_a_condition_are_not_part_of_the_plan() {
    let client = connect(&shared()).await.unwrap();
    client.batch_execute("CREATE SCHEMA pruned; CREATE TABLE pruned.t (id int, v text)").await.unwrap();
    for first in [0, 100_000, 200_000] {
        let rows = format!("INSERT INTO pruned.t SELECT g, 'a' FROM generate_series({first} + 1, {first} + 2000) g");
        client.batch_execute(&rows).await.unwrap();
    }
    for (condition, files) in [("true", 3), ("id > 200000", 1), ("id < 5 OR id = 100001", 2), ("id > 300000", 0), ("length(v) = 1", 3)] {
        let plan = explain(&format!("SELECT id, v FROM pruned.t WHERE {condition}")).await;
        assert_eq!(plan.matches("1.parquet").count(), files, "{condition}: {plan}");
    }
    client.batch_execute("DROP SCHEMA pruned CASCADE").await.unwrap();
}
