//! Which frames of a video need not be decoded because nobody wants them.
//!
//! In: packets in the order of the file, and the rule that picks frames. Out: the same packets, each with whether its frame
//! is wanted, and how many frames were left out before one that the decoder gave. Invariants: the frames picked and their
//! numbers are those of decoding everything: the rule is applied to the times of the packets, sorted as frames are shown,
//! and a decoder leaves out only frames that no other frame refers to. Deliberately absent: formats whose packets do not
//! tell when their frame is shown; all of their frames are decoded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ffmpeg_next::Packet;

use crate::video::select::{FrameOptions, Selector, Verdict};

/// Packets read ahead: more than any format moves a frame from its place in the file.
const REORDERED_MAX: usize = 32;

/// Packets held at most, whatever their times are.
const HELD_MAX: usize = 3 * REORDERED_MAX;

/// Looks ahead in the packets of a track.
pub struct Lookahead {
    rule: Selector,
    held: VecDeque<Packet>,
    ended: bool,
    /// Ticks of held packets that the rule was not applied to yet.
    open: BTreeSet<i64>,
    /// Whether the frames of held packets are wanted, by tick.
    wanted: BTreeMap<i64, bool>,
    /// Ticks of frames that the decoder may have left out.
    left_out: BTreeSet<i64>,
}

impl Lookahead {
    /// For a track of this codec; `None` where every frame is wanted or the decoder can leave nothing out.
    pub fn new(codec: &str, options: &FrameOptions, rule: &Selector) -> Option<Self> {
        let some = options.interval().is_some() || options.start_s.is_some_and(|start| start > 0.0);
        (some && matches!(codec, "h264" | "hevc")).then(|| Self {
            rule: rule.clone(),
            held: VecDeque::new(),
            ended: false,
            open: BTreeSet::new(),
            wanted: BTreeMap::new(),
            left_out: BTreeSet::new(),
        })
    }

    /// The next packet, and whether its frame is wanted. `read` gives packets in the order of the file, `time` the seconds of
    /// a tick.
    pub fn next(&mut self, mut read: impl FnMut() -> Option<Packet>, time: impl Fn(i64) -> f64) -> Option<(Packet, bool)> {
        loop {
            if let Some(known) = self.verdict() {
                let packet = self.held.pop_front()?;
                if let Some(tick) = packet.pts().filter(|_| !known) {
                    self.left_out.insert(tick);
                }
                return Some((packet, known));
            }
            if self.ended {
                return None;
            }
            match read() {
                Some(packet) => {
                    self.open.extend(packet.pts());
                    self.held.push_back(packet);
                }
                None => self.ended = true,
            }
            while self.open.len() > REORDERED_MAX || self.ended {
                let Some(tick) = self.open.pop_first() else { break };
                let wanted = self.rule.judge(time(tick)) != Verdict::Leave;
                self.wanted.insert(tick, wanted);
            }
        }
    }

    /// Whether the frame of the first packet is wanted; `None` while that is open. A packet without a time of its own always is.
    fn verdict(&mut self) -> Option<bool> {
        let tick = self.held.front()?.pts();
        let known = tick.and_then(|tick| self.wanted.remove(&tick));
        let open = tick.is_some_and(|tick| self.open.contains(&tick)) && self.held.len() < HELD_MAX;
        if open { None } else { Some(known.unwrap_or(true)) }
    }

    /// How many frames from `not_before` on were left out before the one of this tick, which came from the decoder.
    pub fn left_out_before(&mut self, tick: Option<i64>, not_before: impl Fn(i64) -> bool) -> u64 {
        let Some(tick) = tick else { return 0 };
        // It may be one that could not be left out.
        self.left_out.remove(&tick);
        let later = self.left_out.split_off(&tick);
        let earlier = std::mem::replace(&mut self.left_out, later);
        earlier.into_iter().filter(|tick| not_before(*tick)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn packet(tick: i64) -> Packet {
        let mut packet = Packet::new(1);
        packet.set_pts(Some(tick));
        packet
    }

    fn looked(options: &FrameOptions, ticks: &[i64]) -> Vec<(i64, bool)> {
        let rule = Selector::new(options, 1e-4);
        let mut ahead = Lookahead::new("h264", options, &rule).unwrap();
        let mut rest = ticks.iter().copied();
        let mut out = Vec::new();
        while let Some((packet, wanted)) = ahead.next(|| rest.next().map(packet), |tick| tick as f64 / 25.0) {
            out.push((packet.pts().unwrap(), wanted));
        }
        out
    }

    #[test]
    fn the_rule_sees_frames_as_they_are_shown() {
        let options = FrameOptions { every_s: Some(0.4), ..Default::default() };
        // Groups of four, the last shown first in the file, with a hole after tick 47.
        let ticks: Vec<i64> = (0..200).flat_map(|g| [4 * g + 3, 4 * g, 4 * g + 1, 4 * g + 2]).filter(|t| !(48..75).contains(t)).collect();
        let found = looked(&options, &ticks);
        assert_eq!(found.iter().map(|(tick, _)| *tick).collect::<Vec<_>>(), ticks);
        let mut wanted: Vec<i64> = found.iter().filter(|(_, wanted)| *wanted).map(|(tick, _)| *tick).collect();
        wanted.sort_unstable();
        let mut rule = Selector::new(&options, 1e-4);
        let mut sorted = ticks.clone();
        sorted.sort_unstable();
        let all: Vec<i64> = sorted.into_iter().filter(|t| rule.judge(*t as f64 / 25.0) == Verdict::Take).collect();
        assert_eq!(wanted, all);
    }

    #[test]
    fn equal_and_missing_times_are_wanted_and_hold_nothing_up() {
        let options = FrameOptions { every_s: Some(100.0), ..Default::default() };
        let found = looked(&options, &[7; 500]);
        assert_eq!(found.len(), 500);
        let rule = Selector::new(&options, 1e-4);
        let mut ahead = Lookahead::new("h264", &options, &rule).unwrap();
        let mut packets = vec![Packet::new(1), Packet::new(1)].into_iter();
        assert!(ahead.next(|| packets.next(), |_| 0.0).unwrap().1);
        assert!(Lookahead::new("vp9", &options, &rule).is_none());
        assert!(Lookahead::new("h264", &FrameOptions::default(), &rule).is_none());
    }

    #[test]
    fn what_was_left_out_is_counted_once() {
        let options = FrameOptions { every_s: Some(100.0), ..Default::default() };
        let mut ahead = Lookahead::new("h264", &options, &Selector::new(&options, 1e-4)).unwrap();
        ahead.left_out.extend([1, 2, 3, 5, 8]);
        assert_eq!(ahead.left_out_before(Some(3), |tick| tick >= 2), 1);
        assert_eq!(ahead.left_out_before(Some(9), |_| true), 2);
        assert_eq!(ahead.left_out_before(Some(10), |_| true), 0);
    }
}
