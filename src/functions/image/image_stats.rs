//! `image_stats`: numbers that tell good pictures from bad ones, one row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch};
use squilla_core::columns::Output;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_media::image::stats::{ImageStats, image_stats};

use super::source::with_image;

/// `image_stats`: image or bytea to (mean, std, brightness, contrast, sharpness, entropy). Errors: 22P03 damaged image.
pub static IMAGE_STATS: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_stats.sql"), Kernel::Expand(expand));

fn expand(call: Arc<Call>) -> Result<Expansion> {
    match with_image(&call, 0, None, image_stats)? {
        Some(stats) => Ok(Box::new(std::iter::once(row(stats)))),
        None => Ok(Box::new(std::iter::empty())),
    }
}

fn row(stats: ImageStats) -> Result<RecordBatch> {
    let real = |value: f32| -> ArrayRef { Arc::new(Float32Array::from(vec![value])) };
    let columns: [(&str, ArrayRef); 6] = [
        ("mean", Vec::<f32>::build(vec![Some(stats.mean)])?),
        ("std", Vec::<f32>::build(vec![Some(stats.std)])?),
        ("brightness", real(stats.brightness)),
        ("contrast", real(stats.contrast)),
        ("sharpness", real(stats.sharpness)),
        ("entropy", real(stats.entropy)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::images;
    use crate::testing::{bytes, call, call_overload, columns_match, fixture};
    use arrow::array::AsArray;
    use arrow::datatypes::Float32Type;

    #[test]
    fn one_row_of_the_declared_columns() {
        let rows: Vec<RecordBatch> = expand(call(&IMAGE_STATS, vec![images(&["image/four.png"])], 1)).unwrap().collect::<Result<_>>().unwrap();
        columns_match(&IMAGE_STATS, &rows[0]);
        assert_eq!(rows[0].column(2).as_primitive::<Float32Type>().value(0), 127.5);
        let again = expand(call_overload(&IMAGE_STATS, 1, vec![bytes(&fixture("image/four.png"))], 1)).unwrap().next().unwrap().unwrap();
        assert_eq!(again, rows[0]);
        let error = expand(call_overload(&IMAGE_STATS, 1, vec![bytes(b"junk")], 1)).err().unwrap();
        assert!(error.is_row_error());
    }
}
