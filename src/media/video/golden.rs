//! Compares frames with FFmpeg's, from files that `scripts/golden/video.py` wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use squilla_core::error::Result;
use squilla_core::limits::Limits;

use crate::sandbox::job::Payload;
use crate::video::frames::{VideoFrame, video_frame_at, video_frames};
use crate::video::info::video_info;
use crate::video::select::FrameOptions;

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

fn clip(name: &str) -> Payload<'static> {
    Payload::path(tests_folder().join("fixtures/video").join(name))
}

fn frames(payload: &Payload<'_>, options: &FrameOptions, limits: &Limits) -> Result<Vec<VideoFrame>> {
    let mut out = Vec::new();
    video_frames(payload, options, limits, &limits.deadline(), &mut |frame| {
        out.push(frame);
        Ok(true)
    })?;
    Ok(out)
}

fn numbers(frames: &[VideoFrame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.frame_no).collect()
}

#[derive(Deserialize)]
struct Clip {
    file: String,
    width: u32,
    height: u32,
    kept: Vec<usize>,
    frames: Vec<(f64, bool)>,
}

fn clips() -> Vec<Clip> {
    serde_json::from_slice(&std::fs::read(tests_folder().join("golden/video/frames.json")).unwrap()).unwrap()
}

/// The mean difference of two pictures.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

#[test]
fn frames_are_ffmpeg_s() {
    let limits = Limits::default();
    for case in clips() {
        let payload = clip(&case.file);
        let all = frames(&payload, &FrameOptions::default(), &limits).unwrap();
        assert_eq!(numbers(&all), (0..case.frames.len() as u64).collect::<Vec<_>>(), "{}", case.file);
        for (frame, (time, key)) in all.iter().zip(&case.frames) {
            assert!((frame.pts_s - time).abs() < 1e-3, "{} frame {}: {} s, FFmpeg {time} s", case.file, frame.frame_no, frame.pts_s);
            assert_eq!(frame.is_keyframe, *key, "{} frame {}", case.file, frame.frame_no);
            assert_eq!((frame.image.width, frame.image.height), (case.width, case.height));
        }
        let options = FrameOptions { width: Some(40), height: Some(30), ..FrameOptions::default() };
        let small = frames(&payload, &options, &limits).unwrap();
        for (got, kind) in [(&all, "full"), (&small, "small")] {
            let raw = std::fs::read(tests_folder().join(format!("golden/video/{}.{kind}.rgb", case.file))).unwrap();
            for (kept, wanted) in case.kept.iter().zip(raw.chunks(raw.len() / case.kept.len())) {
                let mean = difference(&got[*kept].image.data, wanted);
                assert!(mean < 3.0, "{} frame {kept} {kind}: mean difference {mean}", case.file);
            }
        }
    }
}

#[test]
fn starting_late_changes_neither_numbers_nor_pixels() {
    let limits = Limits::default();
    for case in clips() {
        let payload = clip(&case.file);
        let all = frames(&payload, &FrameOptions::default(), &limits).unwrap();
        for start in [0.4, 1.0, 1.55, 2.9] {
            let options = FrameOptions { start_s: Some(start), end_s: Some(start + 0.35), ..FrameOptions::default() };
            let wanted: Vec<&VideoFrame> = all.iter().filter(|f| f.pts_s >= start - 1e-6 && f.pts_s < start + 0.35 - 1e-6).collect();
            let got = frames(&payload, &options, &limits).unwrap();
            assert_eq!(got.iter().collect::<Vec<_>>(), wanted, "{} from {start}", case.file);
        }
        let keys = frames(&payload, &FrameOptions { keyframes_only: true, ..FrameOptions::default() }, &limits).unwrap();
        let wanted: Vec<&VideoFrame> = all.iter().filter(|f| f.is_keyframe).collect();
        assert_eq!(keys.iter().collect::<Vec<_>>(), wanted, "{}", case.file);
        for at in [0.0, 0.5, 1.95, 2.95] {
            let shown = video_frame_at(&payload, at, &limits, &limits.deadline()).unwrap();
            let wanted = all.iter().rev().find(|f| f.pts_s <= at + 1e-6).unwrap();
            assert_eq!((shown.frame_no, &shown.image), (wanted.frame_no, &wanted.image), "{} at {at}", case.file);
        }
    }
}

#[test]
fn it_stops_when_told_and_keeps_to_the_limits() {
    let payload = clip("square.mp4");
    let limits = Limits::default();
    let mut seen = 0;
    video_frames(&payload, &FrameOptions::default(), &limits, &limits.deadline(), &mut |_| {
        seen += 1;
        Ok(seen < 3)
    })
    .unwrap();
    assert_eq!(seen, 3);
    let few = Limits { video_frames_max: 5, ..Limits::default() };
    assert_eq!(frames(&payload, &FrameOptions::default(), &few).unwrap_err().sqlstate(), "54000");
    let tiny = Limits { image_pixels_max: 1000, ..Limits::default() };
    assert_eq!(frames(&payload, &FrameOptions::default(), &tiny).unwrap_err().sqlstate(), "54000");
    let large = FrameOptions { width: Some(60_000), height: Some(60_000), ..FrameOptions::default() };
    assert_eq!(frames(&payload, &large, &limits).unwrap_err().sqlstate(), "54000");
}

#[test]
fn what_is_no_video_is_a_row_error() {
    let limits = Limits::default();
    let sound = Payload::path(tests_folder().join("fixtures/audio/tones.m4a"));
    for payload in [clip("truncated.mp4"), sound, Payload::borrowed(b""), Payload::borrowed(&[1; 4000])] {
        assert_eq!(frames(&payload, &FrameOptions::default(), &limits).unwrap_err().sqlstate(), "22P03");
        assert_eq!(video_info(&payload, &limits, &limits.deadline()).unwrap_err().sqlstate(), "22P03");
    }
    assert_eq!(frames(&clip("absent.mp4"), &FrameOptions::default(), &limits).unwrap_err().sqlstate(), "58P01");
    let playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n";
    assert_eq!(video_info(&Payload::borrowed(playlist), &limits, &limits.deadline()).unwrap_err().sqlstate(), "22P03");
}
