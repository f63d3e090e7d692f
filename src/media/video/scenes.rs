//! Where one scene of a video ends and the next begins.
//!
//! In: a payload and a threshold. Out: [`Scene`]s in order, without a hole. A scene begins where the colours of a small
//! picture differ from those of the frame before by more than the threshold: half the sum of the differences of their
//! histograms, 0 for equal, 1 for nothing in common. Invariant: one small frame is in memory at a time.
//! Deliberately absent: slow fades, which no two neighbouring frames show.

use squilla_core::error::{Error, Result};
use squilla_core::limits::{Deadline, Limits};

use crate::sandbox::job::Payload;
use crate::video::frames::video_frames;
use crate::video::select::FrameOptions;

/// Pixels of the pictures that are compared.
const WIDTH: u32 = 64;

/// Steps of each colour; the histogram has this many to the third power cells.
const STEPS: usize = 4;

/// A stretch of a video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// 0, 1, 2, ...
    pub number: u64,
    /// Seconds of its first frame.
    pub start_s: f64,
    /// Seconds of the first frame that is no longer in it; of the last frame for the last scene.
    pub end_s: f64,
}

/// Fails with 22023 on a threshold outside 0 to 1.
pub fn check_threshold(threshold: f64) -> Result<()> {
    if (0.0..=1.0).contains(&threshold) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("threshold {threshold} is out of range")).detail("It is between 0 and 1."))
}

/// Finds the scenes. Fails with 22023 on a threshold outside 0 to 1, and as [`video_frames`] does.
pub fn video_scenes(
    payload: &Payload<'_>,
    threshold: f64,
    limits: &Limits,
    deadline: &Deadline,
    emit: &mut dyn FnMut(Scene) -> Result<bool>,
) -> Result<()> {
    check_threshold(threshold)?;
    let options = FrameOptions { width: Some(WIDTH), ..FrameOptions::default() };
    let mut before: Option<Vec<f64>> = None;
    let mut scene = Scene { number: 0, start_s: 0.0, end_s: 0.0 };
    let mut wanted = true;
    video_frames(payload, &options, limits, deadline, &mut |frame| {
        let now = histogram(&frame.image.data);
        match &before {
            None => scene.start_s = frame.pts_s,
            Some(before) if distance(before, &now) > threshold => {
                wanted = emit(Scene { end_s: frame.pts_s, ..scene })?;
                scene = Scene { number: scene.number + 1, start_s: frame.pts_s, end_s: frame.pts_s };
            }
            Some(_) => {}
        }
        scene.end_s = frame.pts_s;
        before = Some(now);
        Ok(wanted)
    })?;
    if wanted && before.is_some() {
        emit(scene)?;
    }
    Ok(())
}

/// The share of pixels in each cell of colours.
fn histogram(rgb: &[u8]) -> Vec<f64> {
    let mut cells = vec![0.0; STEPS * STEPS * STEPS];
    let step = |value: u8| usize::from(value) * STEPS / 256;
    let pixels = (rgb.len() / 3).max(1) as f64;
    for pixel in rgb.chunks_exact(3) {
        let [red, green, blue] = [0, 1, 2].map(|channel| pixel.get(channel).map_or(0, |value| step(*value)));
        if let Some(cell) = cells.get_mut((red * STEPS + green) * STEPS + blue) {
            *cell += 1.0 / pixels;
        }
    }
    cells
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn distances() {
        let (red, blue) = (histogram(&[250, 0, 0].repeat(50)), histogram(&[0, 0, 250].repeat(50)));
        assert!((distance(&red, &blue) - 1.0).abs() < 1e-9);
        assert_eq!(distance(&red, &red), 0.0);
    }

    #[test]
    fn one_scene_and_the_cuts_of_another_clip() {
        let limits = Limits::default();
        let scenes = |name: &str, threshold: f64| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/video").join(name);
            let mut out = Vec::new();
            video_scenes(&Payload::path(path), threshold, &limits, &limits.deadline(), &mut |scene| {
                out.push(scene);
                Ok(true)
            })
            .map(|()| out)
        };
        assert_eq!(scenes("square.mp4", 0.3).unwrap().len(), 1);
        let cuts = scenes("cuts.mp4", 0.3).unwrap();
        let starts: Vec<f64> = cuts.iter().map(|scene| scene.start_s).collect();
        assert_eq!(starts.len(), 3, "{starts:?}");
        assert!(starts[0] == 0.0 && (starts[1] - 1.0).abs() < 1e-3 && (starts[2] - 1.5).abs() < 1e-3, "{starts:?}");
        assert_eq!(scenes("square.mp4", 2.0).unwrap_err().sqlstate(), "22023");
    }
}
