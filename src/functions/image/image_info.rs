//! `image_info`: what an image file says of itself, one row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::datatypes::{Field, Fields};
use futures::future::BoxFuture;
use squilla_core::columns::list_of;
use squilla_core::declaration::Returns;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Kernel, Outcome, SqlFunction};
use squilla_media::image::info::ImageInfo;

use super::header::{Facts, facts, facts_of_files};

/// `image_info`: bytea or file to (width, height, channels, mode, format, bits, exif_orientation, frames), one row an image.
/// Errors: 22P03 not an image. Reads the header alone.
pub static IMAGE_INFO: SqlFunction = SqlFunction::new(include_str!("../../../sql-functions/image/image_info.sql"), Kernel::ExpandList(kernel));

fn kernel(call: Arc<Call>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let rows = if call.find("file")?.is_some() { facts_of_files(&call).await? } else { facts(&call)? };
        let mut errors = Vec::new();
        let mut found = Vec::with_capacity(rows.len());
        for (row, facts) in rows.into_iter().enumerate() {
            match facts {
                Ok(facts) => found.push(facts),
                Err(error) if error.is_row_error() => {
                    errors.push((row, error));
                    found.push(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Outcome { array: lists(&call, &found)?, errors })
    })
}

/// One list a row, of one struct or none.
fn lists(call: &Call, found: &[Option<Facts>]) -> Result<ArrayRef> {
    let Returns::Table(declared) = &call.signature()?.returns else {
        return Err(Error::internal("image_info does not return a table"));
    };
    let facts: Vec<&Facts> = found.iter().flatten().collect();
    let ints = |get: fn(&Facts) -> Option<i32>| -> ArrayRef { Arc::new(Int32Array::from_iter(facts.iter().map(|f| get(f)))) };
    let of_file =
        |get: fn(&ImageInfo) -> &'static str| -> ArrayRef { Arc::new(StringArray::from_iter(facts.iter().map(|f| f.info.as_ref().map(get)))) };
    let columns = vec![
        ints(|f| Some(f.width)),
        ints(|f| Some(f.height)),
        ints(|f| Some(f.channels)),
        of_file(|info| info.mode),
        of_file(|info| info.format.name()),
        ints(|f| f.info.as_ref().map(|info| i32::from(info.bits))),
        ints(|f| f.info.as_ref().map(|info| i32::from(info.exif_orientation))),
        ints(|f| f.info.as_ref().and_then(|info| info.frames).map(|frames| frames as i32)),
    ];
    let fields: Fields = declared.iter().map(|(name, ty)| Field::new(name, ty.arrow(), true)).collect();
    let values = arrow::array::StructArray::try_new(fields, columns, None).map_err(|e| Error::internal(e.to_string()))?;
    let lengths = found.iter().map(|facts| usize::from(facts.is_some()));
    let nulls = found.iter().map(Option::is_some).collect();
    list_of(Arc::new(values), lengths, Some(nulls))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{bytes_column, call, call_overload, columns_match, fixture, fixture_path, texts};
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::datatypes::Int32Type;

    fn run(call: Arc<Call>) -> Outcome {
        futures::executor::block_on(kernel(call)).unwrap()
    }

    #[test]
    fn one_struct_a_row_of_the_declared_columns() {
        let rows = [Some(fixture("image/turned.jpg")), Some(b"junk".to_vec()), None, Some(fixture("image/animated.gif"))];
        let outcome = run(call(&IMAGE_INFO, vec![bytes_column(&rows)], 4));
        let lists = outcome.array.as_list::<i32>();
        assert_eq!((lists.len(), lists.null_count(), outcome.errors.len()), (4, 2, 1));
        let batch = RecordBatch::from(lists.values().as_struct());
        columns_match(&IMAGE_INFO, &batch);
        let ints = |i: usize| batch.column(i).as_primitive::<Int32Type>().values().to_vec();
        assert_eq!((ints(0), ints(1)), (vec![80, 40], vec![120, 30]));
        assert_eq!((ints(6), ints(7)), (vec![6, 1], vec![1, 3]));
    }

    #[test]
    fn a_missing_file_fails_its_row() {
        let path = fixture_path("image/scene.webp");
        let outcome = run(call_overload(&IMAGE_INFO, 1, vec![texts(&[Some("/does/not/exist"), path.to_str()])], 2));
        assert_eq!((outcome.errors[0].0, outcome.errors[0].1.sqlstate()), (0, "58P01"));
        let values = outcome.array.as_list::<i32>().value(1);
        assert_eq!(values.as_struct().column(4).as_string::<i32>().value(0), "webp");
    }
}
