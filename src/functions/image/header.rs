//! Facts about pictures without their pixels, for the functions that ask for size and kind alone.
//!
//! In: a call whose overload takes `image`, `data bytea` or `file file`. Out: facts, by row. Invariant: of a file no more
//! than the header is read, [`PREFIX_BYTES`] at first; many files at one time. Width and height are those of the upright
//! picture, as `decode_image` gives it. Deliberately absent: any decoding.

use futures::stream::{self, StreamExt};
use squilla_core::columns::Output;
use squilla_core::error::Result;
use squilla_core::kernel::{Call, Outcome, guarded};
use squilla_core::values::FileRef;
use squilla_media::image::info::{Header, ImageInfo, PREFIX_BYTES, image_info, read_header};

/// Headers that are read at one time.
const FILES_AT_ONCE: usize = 32;

/// What is known of one picture.
pub(super) struct Facts {
    /// Pixels of the upright picture.
    pub(super) width: i32,
    /// Pixels of the upright picture.
    pub(super) height: i32,
    /// Channels.
    pub(super) channels: i32,
    /// Mode.
    pub(super) mode: String,
    /// What only the header of a file tells.
    pub(super) info: Option<ImageInfo>,
}

impl From<ImageInfo> for Facts {
    fn from(info: ImageInfo) -> Self {
        let turned = info.exif_orientation >= 5;
        let (width, height) = if turned { (info.height, info.width) } else { (info.width, info.height) };
        Self { width: width as i32, height: height as i32, channels: i32::from(info.channels), mode: info.mode.to_owned(), info: Some(info) }
    }
}

/// The facts of every row. Blocks while files are read.
pub(super) fn facts(call: &Call) -> Result<Vec<Result<Option<Facts>>>> {
    if call.find("file")?.is_some() {
        return futures::executor::block_on(facts_of_files(call));
    }
    if call.find("image")?.is_some() {
        return Ok((0..call.rows)
            .map(|row| {
                Ok(call.image("image", row)?.map(|image| Facts {
                    width: image.width as i32,
                    height: image.height as i32,
                    channels: i32::from(image.channels),
                    mode: image.mode(),
                    info: None,
                }))
            })
            .collect());
    }
    Ok((0..call.rows).map(|row| call.bytes("data", row)?.map(|bytes| guarded(|| image_info(bytes)).map(Facts::from)).transpose()).collect())
}

/// The kernel of the functions that tell one fact of a picture.
pub(super) fn one_fact<T: Output>(call: &Call, fact: impl Fn(Facts) -> Option<T>) -> Result<Outcome> {
    let rows = facts(call)?;
    call.collect_rows(rows.into_iter().map(|row| Ok(row?.and_then(&fact))).collect())
}

/// The facts of the files of every row.
pub(super) async fn facts_of_files(call: &Call) -> Result<Vec<Result<Option<Facts>>>> {
    let rows = stream::iter(0..call.rows).map(|row| async move {
        match call.file("file", row)? {
            Some(file) => header_of_file(call, &file).await.map(|info| Some(Facts::from(info))),
            None => Ok(None),
        }
    });
    Ok(rows.buffered(FILES_AT_ONCE).collect().await)
}

async fn header_of_file(call: &Call, file: &FileRef) -> Result<ImageInfo> {
    let mut wanted = PREFIX_BYTES;
    loop {
        let prefix = call.env.files.read(file, Some((0, wanted)), call.env.limits.file_bytes_max).await?;
        let whole = (prefix.len() as u64) < wanted;
        match guarded(|| read_header(&prefix, whole))? {
            Header::Info(info) => return Ok(info),
            // Doubles at least, so that a strange file costs few requests.
            Header::More(more) => wanted = more.max(wanted * 2),
        }
        call.env.cancel.check()?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use arrow::array::{Array, ArrayRef};
    use arrow::util::display::array_value_to_string;
    use squilla_core::kernel::{Kernel, SqlFunction};

    use super::super::{image_channels, image_height, image_mode, image_width, testing};
    use super::*;
    use crate::testing::{bytes_column, call, call_overload, fixture, fixture_path, texts};

    /// The functions, and what they say of a picture of 120 x 80 and of one that its header turns upright.
    static FACTS: [(&SqlFunction, &str, &str); 4] = [
        (&image_width::IMAGE_WIDTH, "120", "80"),
        (&image_height::IMAGE_HEIGHT, "80", "120"),
        (&image_channels::IMAGE_CHANNELS, "3", "3"),
        (&image_mode::IMAGE_MODE, "RGB", "RGB"),
    ];

    fn run(function: &'static SqlFunction, call: &Call) -> Outcome {
        let Kernel::Media(kernel) = &function.kernel else { panic!("not a media function") };
        kernel(call).unwrap()
    }

    fn text(array: &ArrayRef, row: usize) -> String {
        array_value_to_string(array, row).unwrap()
    }

    #[test]
    fn from_bytes_the_upright_picture() {
        for (function, level, turned) in FACTS.iter().copied() {
            let rows = [Some(fixture("image/scene.jpg")), Some(b"junk".to_vec()), None, Some(fixture("image/turned.jpg"))];
            let outcome = run(function, &call_overload(function, 1, vec![bytes_column(&rows)], 4));
            assert_eq!((text(&outcome.array, 0), text(&outcome.array, 3)), (level.into(), turned.into()));
            assert_eq!(outcome.array.null_count(), 2);
            assert_eq!(outcome.errors.len(), 1);
        }
    }

    #[test]
    fn from_files_and_images() {
        for (function, level, _) in FACTS.iter().copied() {
            let path = fixture_path("image/scene.png");
            let files = vec![texts(&[path.to_str(), Some("/does/not/exist")])];
            let outcome = run(function, &call_overload(function, 2, files, 2));
            assert_eq!(text(&outcome.array, 0), level);
            assert_eq!(outcome.errors[0].1.sqlstate(), "58P01");
            let image = testing::images(&["image/scene.webp"]);
            assert_eq!(text(&run(function, &call(function, vec![image], 1)).array, 0), level);
        }
    }
}
