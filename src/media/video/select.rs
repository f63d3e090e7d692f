//! Which frames of a video are wanted.
//!
//! In: the time of each frame in the order they are shown. Out: take it, leave it, or stop. The rule of sampling: with an
//! interval `d`, frame times `t` and a start `s`, the instants asked for are `s`, `s + d`, `s + 2d`, ... and for each of
//! them the first frame with `t >= instant` is taken, once, however many instants it answers. Without an interval every
//! frame from `start_s` (inclusive) to `end_s` (exclusive) is taken. Deliberately absent: any pixel.

use serde::{Deserialize, Serialize};
use squilla_core::error::{Error, Result};

/// What `video_frames` is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameOptions {
    /// Frames per second of video time; excludes `every_s`.
    pub fps: Option<f64>,
    /// Seconds of video time from one instant to the next.
    pub every_s: Option<f64>,
    /// Take only frames that are coded on their own. Much cheaper, much coarser; the interval applies to them.
    pub keyframes_only: bool,
    /// Seconds from the start of the track; earlier frames are left out.
    pub start_s: Option<f64>,
    /// Seconds from the start of the track; this and later frames are left out.
    pub end_s: Option<f64>,
    /// Pixels of the upright image.
    pub width: Option<u32>,
    /// Pixels of the upright image.
    pub height: Option<u32>,
    /// Frames to give at most.
    pub max_frames: Option<u64>,
}

impl FrameOptions {
    /// Fails with 22023 on numbers out of range or options that exclude each other.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str, rule: &str| Err(Error::invalid_argument(what).detail(rule.to_owned()));
        if self.fps.is_some() && self.every_s.is_some() {
            return refuse("fps and every exclude each other", "Both say how far apart the frames are.");
        }
        if self.fps.is_some_and(|fps| !(fps.is_finite() && fps > 0.0)) {
            return refuse("fps is out of range", "It is more than 0.");
        }
        if self.every_s.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
            return refuse("every is out of range", "It is longer than 0 seconds.");
        }
        if self.start_s.is_some_and(|s| !(s.is_finite() && s >= 0.0)) {
            return refuse("start_s is out of range", "It is 0 or more.");
        }
        if self.end_s.is_some_and(|s| s.is_nan() || s < self.start_s.unwrap_or(0.0)) {
            return refuse("end_s is out of range", "It is not before start_s.");
        }
        if [self.width, self.height].iter().flatten().any(|n| !(1..=65_535).contains(n)) {
            return refuse("the frame size is out of range", "Width and height are between 1 and 65535.");
        }
        Ok(())
    }

    /// Seconds from one instant to the next, when frames are sampled.
    pub fn interval(&self) -> Option<f64> {
        self.every_s.or(self.fps.map(|fps| 1.0 / fps))
    }
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Give it.
    Take,
    /// Not this one.
    Leave,
    /// Neither this one nor any later one.
    Stop,
}

/// Applies the rule to frames in the order they are shown.
#[derive(Clone, Debug)]
pub struct Selector {
    start: f64,
    end: f64,
    interval: Option<f64>,
    tolerance: f64,
    /// Number of the next instant.
    instant: f64,
    left: u64,
}

impl Selector {
    /// `tolerance`: seconds by which a frame may be early.
    pub fn new(options: &FrameOptions, tolerance: f64) -> Self {
        Self {
            start: options.start_s.unwrap_or(0.0),
            end: options.end_s.unwrap_or(f64::INFINITY),
            interval: options.interval(),
            tolerance,
            instant: 0.0,
            left: options.max_frames.unwrap_or(u64::MAX),
        }
    }

    /// Whether no frame can be wanted any more.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// What to do with the frame at `time` seconds.
    pub fn judge(&mut self, time: f64) -> Verdict {
        if self.left == 0 || time + self.tolerance >= self.end {
            return Verdict::Stop;
        }
        let since = time + self.tolerance - self.start;
        if since < 0.0 {
            return Verdict::Leave;
        }
        if let Some(interval) = self.interval {
            if since < self.instant * interval {
                return Verdict::Leave;
            }
            self.instant = (since / interval).floor().max(self.instant) + 1.0;
        }
        self.left -= 1;
        Verdict::Take
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn taken(options: &FrameOptions, times: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut selector = Selector::new(options, 1e-4);
        let mut out = Vec::new();
        for (index, time) in times.enumerate() {
            match selector.judge(time) {
                Verdict::Take => out.push(index),
                Verdict::Leave => {}
                Verdict::Stop => break,
            }
        }
        out
    }

    #[test]
    fn every_second_of_25_frames_a_second() {
        let times = || (0..100).map(|i| f64::from(i) / 25.0);
        let every = FrameOptions { every_s: Some(1.0), ..Default::default() };
        assert_eq!(taken(&every, times()), [0, 25, 50, 75]);
        let fps = FrameOptions { fps: Some(2.0), start_s: Some(1.1), end_s: Some(3.0), ..Default::default() };
        // Instants 1.1, 1.6, 2.1, 2.6: the first frames at or after them.
        assert_eq!(taken(&fps, times()), [28, 40, 53, 65]);
        let few = FrameOptions { max_frames: Some(2), start_s: Some(2.0), ..Default::default() };
        assert_eq!(taken(&few, times()), [50, 51]);
    }

    #[test]
    fn a_gap_answers_several_instants_with_one_frame() {
        let options = FrameOptions { every_s: Some(1.0), ..Default::default() };
        assert_eq!(taken(&options, [0.0, 0.5, 3.7, 3.9, 4.0, 4.5].into_iter()), [0, 2, 4]);
    }

    #[test]
    fn more_instants_than_frames_gives_every_frame() {
        let options = FrameOptions { fps: Some(100.0), ..Default::default() };
        assert_eq!(taken(&options, (0..10).map(|i| f64::from(i) / 30.0)).len(), 10);
    }

    #[test]
    fn bad_options() {
        for options in [
            FrameOptions { fps: Some(1.0), every_s: Some(1.0), ..Default::default() },
            FrameOptions { fps: Some(0.0), ..Default::default() },
            FrameOptions { every_s: Some(-1.0), ..Default::default() },
            FrameOptions { start_s: Some(2.0), end_s: Some(1.0), ..Default::default() },
            FrameOptions { width: Some(0), ..Default::default() },
        ] {
            assert_eq!(options.check().unwrap_err().sqlstate(), "22023");
        }
    }
}
