//! `audio_loudness`: how loud a recording is, one row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_media::audio::loudness::lufs;
use squilla_media::audio::shape::level;

/// `audio_loudness`: audio to (rms_db, peak_db, lufs). No errors.
pub static AUDIO_LOUDNESS: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/audio/audio_loudness.sql"), Kernel::Expand(expand));

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some(audio) = call.audio("data", 0)? else { return Ok(Box::new(std::iter::empty())) };
    let level = level(audio.view());
    let columns = [("rms_db", level.rms_db), ("peak_db", level.peak_db), ("lufs", lufs(audio.view()))]
        .map(|(name, value)| (name, Arc::new(Float64Array::from(vec![value])) as ArrayRef, true));
    let row = RecordBatch::try_from_iter_with_nullable(columns).map_err(|e| Error::internal(e.to_string()));
    Ok(Box::new(std::iter::once(row)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{call, columns_match};
    use squilla_core::columns::{Arg, Output};
    use squilla_core::values::Audio;

    #[test]
    fn one_row_of_the_declared_columns() {
        let one = Audio { samples: vec![0.5; 100], sample_rate: 100, channels: 1 };
        let data = Arg { array: Audio::build(vec![Some(one)]).unwrap(), constant: false };
        let rows: Vec<RecordBatch> = expand(call(&AUDIO_LOUDNESS, vec![data], 1)).unwrap().collect::<Result<_>>().unwrap();
        columns_match(&AUDIO_LOUDNESS, &rows[0]);
        assert_eq!(rows[0].num_rows(), 1);
    }
}
