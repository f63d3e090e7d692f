//! Outputs of object detectors to boxes in pixels of the source image.
//!
//! In: the rows of the outputs of one image, and where its pixels went. Out: detections, best score first.
//! Invariants: boxes lie inside the image; NMS never mixes classes; ties keep the order of the model's output.
//! Deliberately absent: masks and key points.

use squilla_core::error::{Error, Kind, Result};
use squilla_core::values::{BoundingBox, Tensor};

use crate::pixels::Placement;

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Label, or the class number where the model has no labels.
    pub label: String,
    /// Class number.
    pub class_id: usize,
    /// 0.0 to 1.0.
    pub score: f32,
    /// In pixels of the source image.
    pub bbox: BoundingBox,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectOptions {
    /// Only scores above this.
    pub min_score: f32,
    /// Boxes of one class that overlap more than this are one object (grid detectors only).
    pub iou: f32,
    /// Only these labels; `None` = all.
    pub classes: Option<Vec<String>>,
    /// At most this many, the best ones.
    pub max_detections: usize,
}

impl Default for DetectOptions {
    fn default() -> Self {
        Self { min_score: 0.25, iou: 0.45, classes: None, max_detections: 300 }
    }
}

/// The source image and its way into the model.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Pixels of the source.
    pub width: u32,
    /// Pixels of the source.
    pub height: u32,
    /// Where its pixels went.
    pub placement: Placement,
}

#[derive(Clone, Copy)]
struct Candidate {
    class: usize,
    score: f32,
    bbox: BoundingBox,
}

/// Intersection over union; 0 for empty boxes.
pub fn iou(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let w = (a.x2.min(b.x2) - a.x1.max(b.x1)).max(0.0);
    let h = (a.y2.min(b.y2) - a.y1.max(b.y1)).max(0.0);
    let area = |r: &BoundingBox| (r.x2 - r.x1).max(0.0) * (r.y2 - r.y1).max(0.0);
    let union = area(a) + area(b) - w * h;
    if union > 0.0 { w * h / union } else { 0.0 }
}

/// Class and score of each anchor: the first of the best among the features from `first` on.
fn best_classes(output: &Tensor, first: usize, features: usize, features_first: bool) -> Vec<(u32, f32)> {
    let columns = output.shape.get(1).copied().unwrap_or(1).max(1);
    let mut best = vec![(0, f32::NEG_INFINITY); output.data.len() / features.max(1)];
    if features_first {
        // A feature after the other, as they lie in memory.
        for (class, row) in (0..).zip(output.data.chunks_exact(columns).take(features).skip(first)) {
            for (best, score) in best.iter_mut().zip(row) {
                *best = if *score > best.1 { (class, *score) } else { *best };
            }
        }
        return best;
    }
    for (best, row) in best.iter_mut().zip(output.data.chunks_exact(columns)) {
        for (class, score) in (0..).zip(&row[first.min(row.len())..]) {
            *best = if *score > best.1 { (class, *score) } else { *best };
        }
    }
    best
}

/// Grid detectors: `(4 + C, A)` or `(A, 4 + C)` with centre boxes, `(A, 5 + C)` with objectness, or `(A, 6)` with final
/// corner boxes.
pub fn grid(output: &Tensor, labels: &[String], frame: &Frame, options: &DetectOptions) -> Result<Vec<Detection>> {
    let [rows, columns] = output.shape[..] else { return Err(wrong(output)) };
    if rows.min(columns) < 5 {
        return Err(wrong(output));
    }
    // The anchors are the longer side, unless the labels say otherwise.
    let features_first = if labels.is_empty() {
        rows < columns
    } else {
        rows == 4 + labels.len() || (columns != 4 + labels.len() && columns != 5 + labels.len() && columns != 6 && rows < columns)
    };
    let (features, anchors) = if features_first { (rows, columns) } else { (columns, rows) };
    let at = |anchor: usize, feature: usize| output.data[if features_first { feature * columns + anchor } else { anchor * columns + feature }];
    let wanted = wanted(labels, options);
    let end_to_end = !features_first && features == 6 && labels.len() != 2 && labels.len() != 1;
    let objectness = !end_to_end && !labels.is_empty() && features == 5 + labels.len();
    let first = if objectness { 5 } else { 4 };
    let best = if end_to_end { Vec::new() } else { best_classes(output, first, features, features_first) };
    let mut found = Vec::new();
    for anchor in 0..anchors {
        let corners = [at(anchor, 0), at(anchor, 1), at(anchor, 2), at(anchor, 3)];
        let (class, score, corners) = if end_to_end {
            (at(anchor, 5) as usize, at(anchor, 4), corners)
        } else {
            let (class, score) = best.get(anchor).copied().unwrap_or_default();
            let whole = if objectness { at(anchor, 4) } else { 1.0 };
            let [cx, cy, w, h] = corners;
            (class as usize, score * whole, [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0])
        };
        if score > options.min_score && wanted(class) {
            let bbox = BoundingBox { x1: corners[0], y1: corners[1], x2: corners[2], y2: corners[3] };
            found.push(Candidate { class, score, bbox });
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let kept = if end_to_end { found.into_iter().take(options.max_detections).collect() } else { nms(found, options) };
    let place = |value: f32, scale: f64, offset: f64, limit: u32| ((f64::from(value) - offset) / scale).clamp(0.0, f64::from(limit)) as f32;
    let p = frame.placement;
    let back = |b: BoundingBox| BoundingBox {
        x1: place(b.x1, p.scale_x, p.offset_x, frame.width),
        y1: place(b.y1, p.scale_y, p.offset_y, frame.height),
        x2: place(b.x2, p.scale_x, p.offset_x, frame.width),
        y2: place(b.y2, p.scale_y, p.offset_y, frame.height),
    };
    Ok(kept.into_iter().map(|c| detection(c.class, c.score, back(c.bbox), labels)).collect())
}

/// Set detectors: `logits` (Q, C or C + 1) and `pred_boxes` (Q, 4) with centre boxes relative to the image. `sigmoid`
/// says that classes are scored one by one; otherwise the last class means "nothing".
pub fn set(logits: &Tensor, boxes: &Tensor, sigmoid: bool, labels: &[String], frame: &Frame, options: &DetectOptions) -> Result<Vec<Detection>> {
    let ([queries, classes], [count, 4]) = (&logits.shape[..], &boxes.shape[..]) else { return Err(wrong(logits)) };
    if queries != count || *classes < 1 || (!sigmoid && *classes < 2) {
        return Err(wrong(logits));
    }
    let wanted = wanted(labels, options);
    let (w, h) = (frame.width as f32, frame.height as f32);
    let mut found = Vec::new();
    for (scores, b) in logits.data.chunks_exact(*classes).zip(boxes.data.chunks_exact(4)) {
        let corners = [b[0] - b[2] / 2.0, b[1] - b[3] / 2.0, b[0] + b[2] / 2.0, b[1] + b[3] / 2.0];
        let bbox = BoundingBox {
            x1: (corners[0] * w).clamp(0.0, w),
            y1: (corners[1] * h).clamp(0.0, h),
            x2: (corners[2] * w).clamp(0.0, w),
            y2: (corners[3] * h).clamp(0.0, h),
        };
        let probabilities: Vec<f32> = if sigmoid {
            scores.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect()
        } else {
            let mut all = softmax(scores);
            all.pop();
            all
        };
        let mut best = (0, f32::NEG_INFINITY);
        probabilities.iter().enumerate().for_each(|(class, p)| {
            if *p > best.1 {
                best = (class, *p)
            }
        });
        if best.1 > options.min_score && wanted(best.0) {
            found.push(Candidate { class: best.0, score: best.1, bbox });
        }
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(options.max_detections);
    Ok(found.into_iter().map(|c| detection(c.class, c.score, c.bbox, labels)).collect())
}

/// Probabilities that sum to 1.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

fn wanted<'a>(labels: &'a [String], options: &'a DetectOptions) -> impl Fn(usize) -> bool + 'a {
    move |class| {
        options.classes.as_ref().is_none_or(|names| match labels.get(class) {
            Some(label) => names.iter().any(|n| n.eq_ignore_ascii_case(label)),
            None => names.iter().any(|n| *n == class.to_string()),
        })
    }
}

fn wrong(output: &Tensor) -> Error {
    Error::new(Kind::ModelIncompatible, format!("an output of shape {:?} is none of an object detector", output.shape))
}

fn detection(class: usize, score: f32, bbox: BoundingBox, labels: &[String]) -> Detection {
    let label = labels.get(class).cloned().unwrap_or_else(|| class.to_string());
    Detection { label, class_id: class, score, bbox }
}

/// Greedy suppression within each class; `found` is sorted by score.
fn nms(found: Vec<Candidate>, options: &DetectOptions) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in found {
        if kept.len() >= options.max_detections {
            break;
        }
        if kept.iter().all(|k| k.class != candidate.class || iou(&k.bbox, &candidate.bbox) <= options.iou) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame() -> Frame {
        Frame { width: 100, height: 50, placement: Placement { scale_x: 2.0, scale_y: 2.0, offset_x: 0.0, offset_y: 10.0 } }
    }

    fn names() -> Vec<String> {
        vec!["a".into(), "b".into(), "c".into()]
    }

    #[test]
    fn grids_in_both_orders_agree() {
        // Two anchors of class b that overlap, one of class a at the same place, eight empty ones.
        let rows: Vec<[f32; 7]> = (0..11)
            .map(|i| match i {
                0 => [40.0, 50.0, 20.0, 20.0, 0.0, 0.9, 0.0],
                1 => [41.0, 50.0, 20.0, 20.0, 0.0, 0.8, 0.0],
                2 => [40.0, 50.0, 20.0, 20.0, 0.7, 0.0, 0.0],
                _ => [0.0; 7],
            })
            .collect();
        let by_anchor = Tensor { data: rows.concat(), shape: vec![11, 7] };
        let data = (0..7).flat_map(|f| rows.iter().map(move |r| r[f])).collect();
        let by_feature = Tensor { data, shape: vec![7, 11] };
        let found = grid(&by_feature, &names(), &frame(), &DetectOptions::default()).unwrap();
        assert_eq!(found, grid(&by_anchor, &names(), &frame(), &DetectOptions::default()).unwrap());
        assert_eq!(found.iter().map(|d| d.label.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(found[0].bbox, BoundingBox { x1: 15.0, y1: 15.0, x2: 25.0, y2: 25.0 });
        let only = DetectOptions { classes: Some(vec!["A".into()]), ..DetectOptions::default() };
        assert_eq!(grid(&by_feature, &names(), &frame(), &only).unwrap().len(), 1);
    }

    #[test]
    fn objectness_and_final_boxes() {
        let data = vec![40.0, 50.0, 20.0, 20.0, 0.5, 0.0, 0.8, 0.0];
        let with = Tensor { data: [data, vec![0.0; 64]].concat(), shape: vec![9, 8] };
        let found = grid(&with, &names(), &frame(), &DetectOptions::default()).unwrap();
        assert_eq!((found.len(), found[0].score), (1, 0.4));
        let last = Tensor { data: [vec![20.0, 30.0, 40.0, 50.0, 0.9, 2.0], vec![0.0; 54]].concat(), shape: vec![10, 6] };
        let found = grid(&last, &names(), &frame(), &DetectOptions::default()).unwrap();
        assert_eq!((found[0].label.as_str(), found[0].bbox.x1), ("c", 10.0));
    }

    #[test]
    fn sets_drop_the_empty_class() {
        let logits = Tensor { data: vec![3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0], shape: vec![2, 4] };
        let boxes = Tensor { data: vec![0.5, 0.5, 0.2, 0.2, 0.5, 0.5, 1.0, 1.0], shape: vec![2, 4] };
        let found = set(&logits, &boxes, false, &names(), &frame(), &DetectOptions::default()).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].bbox.x1 - 40.0).abs() < 1e-4 && (found[0].bbox.y2 - 30.0).abs() < 1e-4);
        assert!(set(&logits, &Tensor { data: vec![], shape: vec![0, 4] }, false, &names(), &frame(), &DetectOptions::default()).is_err());
    }
}
