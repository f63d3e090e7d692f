//! Pictures to what a model sees in them: vectors, labels, objects.
//!
//! In: pictures made ready one by one ([`Pictures::prepare`], on the caller's thread and within its budget of cores), so
//! that the pixels of the source can be dropped before the model runs. Out: one result per picture, in order.
//! Invariant: what a picture becomes does not depend on the pictures around it. Deliberately absent: decoding of files.

use std::sync::Arc;

use squilla_core::error::{Error, Kind, Result, did_you_mean};
use squilla_core::values::{ImageView, Tensor};

use crate::detect::{self, DetectOptions, Detection, Frame, softmax};
use crate::engines::Engine;
use crate::manifest::Layout;
use crate::models::{EmbedOptions, Models, Resolved, Scores, finish, first, run_each, use_of, wrong_engine};
use crate::pixels::ImageItem;
use crate::vision::image_vector;

/// A loaded model that takes pictures.
pub struct Pictures {
    engine: Arc<Engine>,
}

/// A picture as the model takes it, and where its pixels came from.
#[derive(Clone, Debug)]
pub struct Picture {
    item: ImageItem,
    frame: Frame,
}

/// The outputs of a picture.
type Outputs = Vec<Result<(Vec<Tensor>, Frame)>>;

impl Pictures {
    /// A picture made ready. Dear: belongs on a thread that may be busy for a while.
    pub fn prepare(&self, image: &ImageView<'_>) -> Result<Picture> {
        let Engine::Vision { spec, .. } = self.engine.as_ref() else { return Err(wrong_engine()) };
        let (item, placement) = spec.apply(image)?;
        Ok(Picture { item, frame: Frame { width: image.width, height: image.height, placement } })
    }

    /// How many pictures made ready fit into so many bytes; at least one.
    pub fn fitting(&self, bytes: usize) -> usize {
        match self.engine.as_ref() {
            Engine::Vision { spec, .. } => spec.ready_bytes().map_or(1, |each| bytes / each.max(1)).max(1),
            _ => 1,
        }
    }

    /// The smallest size at which a picture of this size may be decoded without the model seeing much of a difference:
    /// twice what it is scaled to. `None` when it is not scaled down, or when places in it are the result.
    pub fn least(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        match self.engine.as_ref() {
            Engine::Vision { spec, .. } => spec.target(width, height).map(|(w, h)| (w.saturating_mul(2), h.saturating_mul(2))),
            _ => None,
        }
    }
}

impl Models {
    /// The model, loaded, for making pictures ready.
    pub async fn pictures(&self, model: &Resolved) -> Result<Pictures> {
        Ok(Pictures { engine: self.engine(model, use_of(model)).await? })
    }

    async fn outputs(&self, pictures: &Pictures, ready: Vec<Picture>) -> Result<Outputs> {
        let Engine::Vision { batcher, .. } = pictures.engine.as_ref() else { return Err(wrong_engine()) };
        let (items, frames): (Vec<_>, Vec<_>) = ready.into_iter().map(|p| (Ok(p.item), p.frame)).unzip();
        let outputs = run_each(batcher, self.caller(), items, ImageItem::size).await?;
        Ok(outputs.into_iter().zip(frames).map(|(output, frame)| output.map(|o| (o, frame))).collect())
    }

    /// One vector per picture.
    pub async fn embed_image(&self, pictures: &Pictures, ready: Vec<Picture>, options: &EmbedOptions) -> Result<Vec<Result<Vec<f32>>>> {
        let outputs = self.outputs(pictures, ready).await?;
        Ok(outputs.into_iter().map(|o| finish(image_vector(first(&o?.0)?)?, options)).collect())
    }

    /// The `top_k` best labels of each picture: the model's own classes, or `labels` for models that see text and image.
    pub async fn classify(
        &self,
        model: &Resolved,
        pictures: &Pictures,
        ready: Vec<Picture>,
        labels: Option<&[String]>,
        top_k: usize,
    ) -> Result<Vec<Result<Scores>>> {
        if let (Layout::TwoTowers, Some(labels)) = (model.manifest.layout, labels) {
            return self.classify_by_text(model, pictures, ready, labels, top_k).await;
        }
        check_labels(model, labels)?;
        let Engine::Vision { labels, .. } = pictures.engine.as_ref() else { return Err(wrong_engine()) };
        let outputs = self.outputs(pictures, ready).await?;
        let name = |class: usize| labels.get(class).cloned().unwrap_or_else(|| class.to_string());
        Ok(outputs.into_iter().map(|o| Ok(best(&softmax(&first(&o?.0)?.data), top_k, name))).collect())
    }

    async fn classify_by_text(
        &self,
        model: &Resolved,
        pictures: &Pictures,
        ready: Vec<Picture>,
        labels: &[String],
        top_k: usize,
    ) -> Result<Vec<Result<Scores>>> {
        if labels.is_empty() {
            return Err(Error::invalid_argument("the list of labels is empty"));
        }
        let texts = self.label_vectors(model, labels).await?;
        let vectors = self.embed_image(pictures, ready, &EmbedOptions::default()).await?;
        Ok(vectors
            .into_iter()
            .map(|vector| {
                let vector = vector?;
                // 100 is the scale that CLIP's training ends at.
                let logits: Vec<f32> = texts.iter().map(|t| 100.0 * t.iter().zip(&vector).map(|(a, b)| a * b).sum::<f32>()).collect();
                Ok(best(&softmax(&logits), top_k, |i| labels[i].clone()))
            })
            .collect())
    }

    /// The objects in each picture, best score first.
    pub async fn detect(
        &self,
        model: &Resolved,
        pictures: &Pictures,
        ready: Vec<Picture>,
        options: &DetectOptions,
    ) -> Result<Vec<Result<Vec<Detection>>>> {
        let Engine::Vision { labels, .. } = pictures.engine.as_ref() else { return Err(wrong_engine()) };
        if let Some(wrong) = options.classes.iter().flatten().find(|c| !labels.is_empty() && !labels.iter().any(|l| l.eq_ignore_ascii_case(c))) {
            let error = Error::invalid_argument(format!("model \"{}\" has no class \"{wrong}\"", model.name));
            return Err(match did_you_mean(wrong, labels.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
                None => error,
            });
        }
        let kind = model.manifest.config["model_type"].as_str().unwrap_or("");
        let sigmoid = ["rt_detr", "rtdetr", "deformable", "d_fine", "rf_detr", "dfine"].iter().any(|k| kind.contains(k));
        let outputs = self.outputs(pictures, ready).await?;
        let objects = |(tensors, frame): (Vec<Tensor>, Frame)| match tensors.as_slice() {
            [logits, boxes] => detect::set(logits, boxes, sigmoid, labels, &frame, options),
            [grid] => detect::grid(grid, labels, &frame, options),
            _ => Err(wrong_engine()),
        };
        Ok(outputs.into_iter().map(|o| objects(o?)).collect())
    }
}

/// Fails with [`Kind::ModelIncompatible`] where a model has no classes of its own, or has them and is given labels.
pub fn check_labels(model: &Resolved, labels: Option<&[String]>) -> Result<()> {
    let incompatible = |what: &str| Error::new(Kind::ModelIncompatible, format!("model \"{}\" {what}", model.name));
    match (model.manifest.layout, labels) {
        (Layout::TwoTowers, None) => Err(incompatible("has no classes of its own").hint("Give the labels to choose from.")),
        (Layout::TwoTowers, Some(_)) | (_, None) => Ok(()),
        (_, Some(_)) => {
            Err(incompatible("has its own classes and takes no labels").hint("Leave the labels out, or use a model with a text and an image tower."))
        }
    }
}

fn best(scores: &[f32], top_k: usize, name: impl Fn(usize) -> String) -> Scores {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.truncate(top_k);
    order.into_iter().map(|i| (name(i), scores[i])).collect()
}
