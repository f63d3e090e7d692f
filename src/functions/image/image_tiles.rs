//! `image_tiles`: a large picture in pieces, one row each.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use squilla_core::columns::Output;
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, Expansion, Kernel, SqlFunction};
use squilla_core::values::{BoundingBox, Image, ImageView};
use squilla_media::image::crop::{Rectangle, crop_image};

/// `image_tiles`: image to setof (tile_row, tile_column, box, image). Errors: 22023 sizes that are not positive, an overlap as
/// large as a tile.
pub static IMAGE_TILES: SqlFunction =
    SqlFunction::new(include_str!("../../../sql-functions/image/image_tiles.sql"), Kernel::Expand(expand)).with_check(check);

/// Tiles of a batch, and bytes after which it ends.
const BATCH_TILES: usize = 64;
const BATCH_BYTES: usize = 8 << 20;

fn check(call: &Call) -> Result<()> {
    sizes(call).map(|_| ())
}

/// Width, height and overlap; `None` when one of them is NULL.
fn sizes(call: &Call) -> Result<Option<(i64, i64, i64)>> {
    let (Some(width), Some(height), Some(overlap)) = (call.int("width", 0)?, call.int("height", 0)?, call.int("overlap", 0)?) else {
        return Ok(None);
    };
    if width < 1 || height < 1 || overlap < 0 || overlap >= width.min(height) {
        return Err(Error::invalid_argument(format!("tiles of {width}x{height} pixels cannot overlap by {overlap}"))
            .hint("Sides must be positive, and the overlap smaller than either."));
    }
    Ok(Some((width, height, overlap)))
}

fn expand(call: Arc<Call>) -> Result<Expansion> {
    let Some((width, height, overlap)) = sizes(&call)? else { return Ok(Box::new(std::iter::empty())) };
    let Some(image) = call.image("image", 0)? else { return Ok(Box::new(std::iter::empty())) };
    let columns = starts(image.width, width, overlap);
    let rows = starts(image.height, height, overlap);
    Ok(Box::new(Tiles { call: Arc::clone(&call), size: (width, height), columns, rows, next: 0 }))
}

/// Where tiles begin along one side: the last one may reach over the edge and is cut there, but none lies within another.
fn starts(side: u32, tile: i64, overlap: i64) -> Vec<i64> {
    let step = tile - overlap;
    let last = (i64::from(side) - overlap - 1).max(0) / step;
    (0..=last).map(|i| i * step).collect()
}

struct Tiles {
    call: Arc<Call>,
    size: (i64, i64),
    columns: Vec<i64>,
    rows: Vec<i64>,
    next: usize,
}

struct Tile {
    row: i32,
    column: i32,
    place: BoundingBox,
    image: Image,
}

impl Tiles {
    fn tile(&self, index: usize, image: &ImageView<'_>) -> Option<Tile> {
        let (row, column) = (index / self.columns.len(), index % self.columns.len());
        let (x, y) = (*self.columns.get(column)?, *self.rows.get(row)?);
        let image = crop_image(image, Rectangle { x, y, width: self.size.0, height: self.size.1 })?;
        let place = BoundingBox { x1: x as f32, y1: y as f32, x2: (x + i64::from(image.width)) as f32, y2: (y + i64::from(image.height)) as f32 };
        Some(Tile { row: row as i32, column: column as i32, place, image })
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        self.call.env.cancel.check()?;
        let Some(image) = self.call.image("image", 0)? else { return Ok(None) };
        let mut tiles = Vec::new();
        let mut bytes = 0;
        let mut next = self.next;
        while tiles.len() < BATCH_TILES && bytes < BATCH_BYTES {
            let Some(tile) = self.tile(next, &image) else { break };
            bytes += tile.image.data.len();
            tiles.push(tile);
            next += 1;
        }
        self.next = next;
        if tiles.is_empty() { Ok(None) } else { batch(tiles).map(Some) }
    }
}

impl Iterator for Tiles {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batch().transpose()
    }
}

fn batch(tiles: Vec<Tile>) -> Result<RecordBatch> {
    let ints = |get: fn(&Tile) -> i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values(tiles.iter().map(get))) };
    let (rows, columns) = (ints(|t| t.row), ints(|t| t.column));
    let places = BoundingBox::build(tiles.iter().map(|t| Some(t.place)).collect())?;
    let images = Image::build(tiles.into_iter().map(|t| Some(t.image)).collect())?;
    let columns = [("tile_row", rows), ("tile_column", columns), ("box", places), ("image", images)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::image::testing::{image_of, images};
    use crate::testing::{call, columns_match, int};

    fn tiles(width: i32, height: i32, overlap: i32) -> Result<Vec<RecordBatch>> {
        expand(call(&IMAGE_TILES, vec![images(&["image/scene.png"]), int(width), int(height), int(overlap)], 1))?.collect()
    }

    #[test]
    fn tiles_cover_the_picture() {
        let batches = tiles(50, 50, 0).unwrap();
        columns_match(&IMAGE_TILES, &batches[0]);
        assert_eq!(batches[0].num_rows(), 6);
        let sizes: Vec<_> = (0..6).map(|row| image_of(batches[0].column(3), row).map(|i| (i.width, i.height)).unwrap()).collect();
        assert_eq!(sizes, [(50, 50), (50, 50), (20, 50), (50, 30), (50, 30), (20, 30)]);
        assert_eq!(tiles(1, 1, 0).unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 9600);
        assert_eq!(tiles(1000, 1000, 10).unwrap()[0].num_rows(), 1);
    }

    #[test]
    fn none_lies_within_another() {
        assert_eq!(starts(100, 50, 10), [0, 40, 80]);
        assert_eq!(starts(90, 50, 10), [0, 40]);
        assert_eq!(starts(91, 50, 10), [0, 40, 80]);
        assert_eq!(starts(5, 50, 10), [0]);
    }

    #[test]
    fn sizes_are_checked() {
        for (width, height, overlap) in [(0, 5, 0), (5, 5, 5), (5, 5, -1)] {
            assert_eq!(tiles(width, height, overlap).unwrap_err().sqlstate(), "22023");
        }
    }
}
