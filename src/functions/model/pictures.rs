//! Pictures of a pack of rows for a model, from either overload: decoded images, or the bytes of image files.
//!
//! In: a call whose overload takes `image image` or `data bytea`. Out: one result a row, in order.
//! Invariants: a few pictures at a time are decoded and made ready within the budget of cores, the next ones while the model
//! works on those before; a decoded picture is dropped as soon as it is ready, and its pixels are reserved from the memory
//! pool until then; equal pictures of a pack are run once; a file that cannot be decoded fails its row only.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use squilla_core::error::{Error, Result};
use squilla_core::kernel::{Call, guarded};
use squilla_core::values::ImageView;
use squilla_infer::models::{Models, Resolved};
use squilla_infer::pictures::{Picture, Pictures};
use squilla_media::image::convert::Mode;
use squilla_media::image::decode::{check_pixels, decode_at_least, decoded_bytes};
use squilla_media::image::info::image_info;

/// A model call over pictures.
pub(super) trait PictureModel: Sync {
    /// What a picture becomes.
    type Out: Clone + Send;

    /// Whether the results are places in the picture, which must then be decoded at its own size.
    const PLACES: bool = false;

    /// The service and the model.
    fn model(&self) -> (&Models, &Resolved);

    /// One result a picture, in order.
    fn run<'a>(&'a self, pictures: &'a Pictures, ready: Vec<Picture>) -> BoxFuture<'a, Result<Vec<Result<Self::Out>>>>;
}

/// Pictures made ready at one time, and the bytes that they may then have.
const AT_ONCE: usize = 4;
const AT_ONCE_BYTES: usize = 4 << 20;

/// Groups of them under way: one in the model, one waiting for it, one being made ready.
const GROUPS: usize = 3;

/// Where the picture of a row is.
#[derive(Clone, Copy)]
enum Source<'a> {
    View(ImageView<'a>),
    File(&'a [u8]),
}

/// Equal where the picture is the same; hashed by a few of its bytes, so that telling pictures apart costs next to nothing.
struct Same<'a>(Source<'a>);

impl Source<'_> {
    fn data(&self) -> &[u8] {
        match self {
            Source::View(view) => view.data,
            Source::File(bytes) => bytes,
        }
    }

    fn shape(&self) -> (u32, u32, u8) {
        match self {
            Source::View(view) => (view.width, view.height, view.channels),
            Source::File(_) => (0, 0, 0),
        }
    }
}

impl PartialEq for Same<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.shape() == other.0.shape() && self.0.data() == other.0.data()
    }
}

impl Eq for Same<'_> {}

impl Hash for Same<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let data = self.0.data();
        data.len().hash(state);
        data.iter().step_by(data.len() / 64 + 1).for_each(|byte| byte.hash(state));
    }
}

/// Runs a model over the picture of each row that has one. `image` and `data` name the argument in either overload.
pub(super) async fn each_picture<M: PictureModel>(call: &Call, image: &str, data: &str, model: &M) -> Result<Vec<Result<Option<M::Out>>>> {
    let given = call.find(image)?.is_some();
    let source = |row| -> Result<Option<Source<'_>>> {
        if given { Ok(call.image(image, row)?.map(Source::View)) } else { Ok(call.bytes(data, row)?.map(Source::File)) }
    };
    let (mut places, mut unique, mut known) = (Vec::with_capacity(call.rows), Vec::new(), HashMap::new());
    for row in 0..call.rows {
        places.push(source(row)?.map(|source| {
            *known.entry(Same(source)).or_insert_with(|| {
                unique.push(source);
                unique.len() - 1
            })
        }));
    }
    model.model().0.shared(places.iter().flatten().count() - unique.len());
    let results = if unique.is_empty() { Vec::new() } else { run(call, &unique, model).await? };
    let lost = || Err(Error::internal("a picture has no result"));
    Ok(places.into_iter().map(|place| place.map(|p| results.get(p).cloned().unwrap_or_else(lost)).transpose()).collect())
}

/// One answer a picture, or why there are none at all.
type Answers<T> = Result<Vec<Result<T>>>;

async fn run<M: PictureModel>(call: &Call, sources: &[Source<'_>], model: &M) -> Result<Vec<Result<M::Out>>> {
    let (models, resolved) = model.model();
    let pictures = models.pictures(resolved).await?;
    // Boxed: a lazy closure over borrowed pictures would make this future unfit for other threads.
    let at_once = pictures.fitting(AT_ONCE_BYTES).min(AT_ONCE);
    let mut groups: Vec<BoxFuture<'_, Answers<M::Out>>> = Vec::with_capacity(sources.len().div_ceil(at_once));
    for some in sources.chunks(at_once) {
        groups.push(Box::pin(group(call, some, &pictures, model)));
    }
    let mut groups = stream::iter(groups).buffered(GROUPS);
    let mut out = Vec::with_capacity(sources.len());
    while let Some(done) = groups.next().await {
        out.extend(done?);
    }
    Ok(out)
}

async fn group<M: PictureModel>(call: &Call, sources: &[Source<'_>], pictures: &Pictures, model: &M) -> Result<Vec<Result<M::Out>>> {
    call.env.cancel.check()?;
    let permit = call.env.cores.acquire(1).await;
    let made: Vec<Result<Picture>> = tokio::task::block_in_place(|| {
        let ready = |source: &Source<'_>| {
            call.env.cancel.check()?;
            match source {
                Source::View(view) => pictures.prepare(view),
                Source::File(bytes) => guarded(|| decoded(call, bytes, pictures, !M::PLACES)),
            }
        };
        sources.iter().map(ready).collect()
    });
    drop(permit);
    call.env.cancel.check()?;
    let (mut ready, mut failed) = (Vec::with_capacity(made.len()), Vec::with_capacity(made.len()));
    for picture in made {
        failed.push(picture.map(|picture| ready.push(picture)));
    }
    let mut results = model.run(pictures, ready).await?.into_iter();
    let lost = || Err(Error::internal("a picture has no result"));
    Ok(failed.into_iter().map(|row| row.and_then(|()| results.next().unwrap_or_else(lost))).collect())
}

/// A file as the model takes it. `scaled`: it may be decoded at a part of its size when the model takes a smaller one.
fn decoded(call: &Call, bytes: &[u8], pictures: &Pictures, scaled: bool) -> Result<Picture> {
    let info = image_info(bytes)?;
    check_pixels(&info, &call.env.limits)?;
    let _reserved = call.env.memory.reserve(decoded_bytes(bytes, Some(Mode::RGB))? as usize)?;
    let upright = if info.exif_orientation > 4 { (info.height, info.width) } else { (info.width, info.height) };
    let least = pictures.least(upright.0, upright.1).filter(|_| scaled && call.env.limits.scaled_decode);
    let image = decode_at_least(bytes, Some(Mode::RGB), true, least.unwrap_or((u32::MAX, u32::MAX)), &call.env.limits)?;
    pictures.prepare(&image.view())
}
