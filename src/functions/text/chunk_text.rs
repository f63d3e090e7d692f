//! `chunk_text`: a text in pieces that a model can take.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Env, Expansion, Kernel, SqlFunction};
use squilla_infer::models::{Models, Resolved};
use squilla_infer::registry::Task;
use squilla_media::text::chunk::{Chunk, ChunkBy, ChunkOptions, chunk_text};

/// `chunk_text`: text to setof (chunk_no, text, start_char, end_char, token_count).
/// Errors: 22023 sizes that make no sense, an unknown way to cut. Runs no model; a model named lends its tokenizer.
pub static CHUNK_TEXT: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/text/chunk_text.sql"), Kernel::Expand(expand)).with_check(check);

/// Rows of one batch.
const BATCH_ROWS: usize = 1024;

/// The overlap when none is given, unless a tenth of the chunk is less.
const OVERLAP: i64 = 100;

fn check(call: &Call) -> Result<()> {
    call.option_text("by")?.map(ChunkBy::parse).transpose()?;
    if call.arg("chunk_size")?.constant && call.arg("overlap")?.constant {
        options(call)?;
    }
    if call.arg("model")?.constant {
        model(call)?.map(|name| call.env.models::<Models>()?.resolve_tokenizer(&name)).transpose()?;
    }
    Ok(())
}

/// The model that lends its tokenizer: the one named, or the default for embedding where tokens are the measure.
fn model(call: &Call) -> Result<Option<String>> {
    if let Some(name) = call.option_text("model")? {
        return Ok(Some(name.to_owned()));
    }
    let by_tokens = call.option_text("by")?.is_some_and(|by| ChunkBy::parse(by).is_ok_and(|by| by == ChunkBy::Tokens));
    Ok(by_tokens.then(|| (call.env.default_models)(Task::EmbedText.name())).flatten().filter(|name| !name.is_empty()))
}

/// The models of the statements at work. A call has one text, and finding a model reads files.
static FOUND: Mutex<Vec<(Weak<Env>, Resolved)>> = Mutex::new(Vec::new());

fn tokenizer(call: &Call, models: &Models, name: &str) -> Result<Resolved> {
    let same = |(env, model): &(Weak<Env>, Resolved)| env.upgrade().is_some_and(|env| Arc::ptr_eq(&env, &call.env)) && model.name == name;
    if let Some((_, model)) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|entry| same(entry)) {
        return Ok(model.clone());
    }
    let model = models.resolve_tokenizer(name)?;
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.retain(|(env, _)| env.strong_count() > 0);
    found.push((Arc::downgrade(&call.env), model.clone()));
    Ok(model)
}

fn options(call: &Call) -> Result<ChunkOptions> {
    let size = call.int("chunk_size", 0)?.unwrap_or(1000);
    let overlap = call.int("overlap", 0)?.unwrap_or_else(|| OVERLAP.min(size / 10));
    ChunkOptions::new(size, overlap, ChunkBy::parse(call.option_text("by")?.unwrap_or("recursive"))?)
}

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let options = options(&call)?;
    let Some(text) = call.text("text", 0)? else { return Ok(Box::new(std::iter::empty())) };
    let chunks = match model(&call)? {
        None => chunk_text(text, &options, None)?,
        Some(name) => {
            let models = call.env.models::<Models>()?;
            let model = tokenizer(&call, &models, &name)?;
            let count = |texts: &[&str]| models.token_count(&model, texts)?.into_iter().collect();
            chunk_text(text, &options, Some(&count))?
        }
    };
    let batches: Vec<Result<RecordBatch>> = chunks.chunks(BATCH_ROWS).map(batch).collect();
    Ok(Box::new(batches.into_iter()))
}

fn batch(chunks: &[Chunk<'_>]) -> Result<RecordBatch> {
    let ints = |get: fn(&Chunk<'_>) -> Option<usize>| -> ArrayRef {
        Arc::new(Int32Array::from_iter(chunks.iter().map(|c| get(c).and_then(|n| i32::try_from(n).ok()))))
    };
    let columns = [
        ("chunk_no", ints(|c| Some(c.chunk_no))),
        ("text", Arc::new(StringArray::from_iter_values(chunks.iter().map(|c| c.text))) as ArrayRef),
        ("start_char", ints(|c| Some(c.start_char))),
        ("end_char", ints(|c| Some(c.end_char))),
        ("token_count", ints(|c| c.token_count)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, columns_match, constant_text, int, null, texts};
    use arrow::array::AsArray;

    #[test]
    fn chunks_come_as_rows_of_the_declared_columns() {
        let text = "first paragraph here\n\nsecond paragraph here";
        let args = vec![texts(&[Some(text)]), int(25), int(0), constant_text("recursive"), null()];
        let rows: Vec<RecordBatch> = expand(call(&CHUNK_TEXT, args, 1)).unwrap().collect::<Result<_>>().unwrap();
        columns_match(&CHUNK_TEXT, &rows[0]);
        let chunks: Vec<&str> = rows[0].column(1).as_string::<i32>().iter().flatten().collect();
        assert_eq!(chunks, ["first paragraph here", "second paragraph here"]);
        assert_eq!(rows[0].column(2).as_ref(), &Int32Array::from(vec![0, 22]));
        assert_eq!(rows[0].column(4).null_count(), 2);
    }

    #[test]
    fn long_texts_come_in_several_batches() {
        let text = "word ".repeat(5000);
        let args = vec![texts(&[Some(&text)]), int(5), int(0), constant_text("recursive"), null()];
        let rows: Vec<RecordBatch> = expand(call(&CHUNK_TEXT, args, 1)).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 5000);
        assert!(rows.iter().all(|r| r.num_rows() <= 1024));
    }

    #[test]
    fn bad_options_are_plan_errors() {
        for (size, overlap, by) in [(0, 0, "chars"), (10, 10, "chars"), (10, 1, "words")] {
            let args = vec![texts(&[]), int(size), int(overlap), constant_text(by), null()];
            assert_eq!(check(&call(&CHUNK_TEXT, args, 0)).unwrap_err().sqlstate(), "22023");
        }
        let args = vec![texts(&[]), int(50), null(), constant_text("markdown"), null()];
        check(&call(&CHUNK_TEXT, args, 0)).unwrap();
    }

    #[test]
    fn a_model_lends_its_tokenizer() {
        use squilla_infer::engines::EngineOptions;
        use squilla_infer::hub::HubOptions;
        use squilla_infer::registry::RegisteredModel;
        let models = Models::new(HubOptions { offline: true, ..HubOptions::default() }, EngineOptions::default());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny/clip-random").to_owned();
        models.registry().add(RegisteredModel { name: "tiny".into(), source, ..Default::default() }, false).unwrap();
        let text = "a photo of a red circle and a photo of a blue square";
        let args = vec![texts(&[Some(text)]), int(8), int(0), constant_text("tokens"), constant_text("tiny")];
        let plain = call(&CHUNK_TEXT, args, 1);
        let env = Arc::new(Env { models: Arc::new(models), ..plain.env.as_ref().clone() });
        let call =
            || Arc::new(Call { function: Arc::clone(&plain.function), signature: 0, args: plain.args.clone(), rows: 1, env: Arc::clone(&env) });
        check(&call()).unwrap();
        for _ in 0..2 {
            let rows: Vec<RecordBatch> = expand(call()).unwrap().collect::<Result<_>>().unwrap();
            let chunks: Vec<&str> = rows[0].column(1).as_string::<i32>().iter().flatten().collect();
            assert_eq!(chunks.join(" "), text);
            assert_eq!(chunks[0], "a photo of a red circle");
            let counts = rows[0].column(4).as_primitive::<arrow::datatypes::Int32Type>();
            assert!(counts.values().iter().all(|n| (3..=8).contains(n)), "{counts:?}");
        }
    }
}
