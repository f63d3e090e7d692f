//! Pictures of a pack of rows for a model, from either overload: decoded images, or the bytes of image files.
//!
//! In: a call whose overload takes `image image` or `data bytea`. Out: one result a row, in order.
//! Invariants: files are decoded a few at a time, the next ones while the model works on those before; their pixels are
//! reserved from the memory pool while they live; a file that cannot be decoded fails its row only.

use std::any::Any;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use squilla_core::error::Result;
use squilla_core::kernel::Call;
use squilla_core::values::{Image, ImageView};
use squilla_media::image::convert::Mode;
use squilla_media::image::decode::{check_pixels, decode_image, decoded_bytes};
use squilla_media::image::info::image_info;

/// A model call over borrowed pictures.
pub(super) trait PictureModel: Sync {
    /// What a picture becomes.
    type Out: Send;

    /// One result a picture, in order.
    fn run<'a>(&'a self, views: &'a [ImageView<'a>]) -> BoxFuture<'a, Result<Vec<Result<Self::Out>>>>;
}

/// A picture of a row.
enum Picture<'a> {
    /// In a column.
    View(ImageView<'a>),
    /// Decoded here.
    Owned(Image),
}

impl Picture<'_> {
    fn view(&self) -> ImageView<'_> {
        match self {
            Picture::View(view) => *view,
            Picture::Owned(image) => image.view(),
        }
    }
}

/// A picture, and what keeps its bytes reserved.
type Held<'a> = (Picture<'a>, Option<Box<dyn Any + Send>>);

/// Files decoded at one time.
const FILES: usize = 8;

/// Runs a model over the picture of each row that has one. `image` and `data` name the argument in either overload.
pub(super) async fn each_picture<M: PictureModel>(call: &Call, image: &str, data: &str, model: &M) -> Result<Vec<Result<Option<M::Out>>>> {
    if call.find(image)?.is_some() {
        let row = |row| Ok(call.image(image, row)?.map(|view| (Picture::View(view), None)));
        return over((0..call.rows).map(row).collect(), model).await;
    }
    let mut chunks = stream::iter((0..call.rows).step_by(FILES)).map(|first| chunk(call, data, first, model)).buffered(2);
    let mut out = Vec::with_capacity(call.rows);
    while let Some(chunk) = chunks.next().await {
        out.extend(chunk?);
    }
    Ok(out)
}

async fn chunk<M: PictureModel>(call: &Call, data: &str, first: usize, model: &M) -> Result<Vec<Result<Option<M::Out>>>> {
    call.env.cancel.check()?;
    let rows = first..(first + FILES).min(call.rows);
    let files = rows.map(|row| call.bytes(data, row)?.map(|bytes| decode(call, bytes)).transpose()).collect();
    over(files, model).await
}

async fn over<M: PictureModel>(rows: Vec<Result<Option<Held<'_>>>>, model: &M) -> Result<Vec<Result<Option<M::Out>>>> {
    let mut pictures = Vec::with_capacity(rows.len());
    let mut out: Vec<Result<Option<M::Out>>> = Vec::with_capacity(rows.len());
    let (mut places, mut reserved) = (Vec::new(), Vec::new());
    for (place, row) in rows.into_iter().enumerate() {
        match row {
            Ok(Some((picture, held))) => {
                pictures.push(picture);
                reserved.extend(held);
                places.push(place);
                out.push(Ok(None));
            }
            Ok(None) => out.push(Ok(None)),
            Err(error) => out.push(Err(error)),
        }
    }
    let views: Vec<ImageView<'_>> = pictures.iter().map(Picture::view).collect();
    for (place, result) in places.into_iter().zip(model.run(&views).await?) {
        out[place] = result.map(Some);
    }
    drop(reserved);
    Ok(out)
}

fn decode(call: &Call, bytes: &[u8]) -> Result<Held<'static>> {
    check_pixels(&image_info(bytes)?, &call.env.limits)?;
    let reserved = call.env.memory.reserve(decoded_bytes(bytes, Some(Mode::RGB))? as usize)?;
    let image = decode_image(bytes, Some(Mode::RGB), true, &call.env.limits)?;
    Ok((Picture::Owned(image), Some(reserved)))
}
