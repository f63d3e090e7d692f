//! How many leading frames an MP4 audio track says to skip.
//!
//! In: an MP4 file. Out: the start of the first edit of its first sound track, in seconds: the encoder's priming. The
//! pure-Rust demuxer ignores edit lists, so the decoder cuts these frames itself. Invariant: a damaged file gives `None`,
//! never an error: the demuxer has the last word on what is damaged. Deliberately absent: any other edit.

use std::io::{Read, Seek, SeekFrom};

/// Boxes looked at before giving up.
const BOXES_MAX: usize = 4096;

/// Bytes of a leaf box that are read.
const LEAF_BYTES_MAX: u64 = 4096;

#[derive(Default)]
struct Track {
    sound: bool,
    timescale: u32,
    /// Media time of the first edit that is not empty.
    media_time: Option<u64>,
}

/// Seconds to skip at the start of the first sound track, when an edit list says so.
pub fn leading_seconds(file: &mut (impl Read + Seek)) -> Option<f64> {
    let end = file.seek(SeekFrom::End(0)).ok()?;
    let mut tracks: Vec<Track> = Vec::new();
    let mut boxes = 0;
    walk(file, 0, end, &mut tracks, &mut boxes)?;
    let track = tracks.into_iter().find(|track| track.sound)?;
    let media_time = track.media_time?;
    (track.timescale > 0 && media_time > 0).then(|| media_time as f64 / f64::from(track.timescale))
}

/// Goes through the boxes between two offsets and into the ones that lead to a track's edits.
fn walk(file: &mut (impl Read + Seek), from: u64, to: u64, tracks: &mut Vec<Track>, boxes: &mut usize) -> Option<()> {
    let mut at = from;
    while at + 8 <= to {
        *boxes += 1;
        if *boxes > BOXES_MAX {
            return None;
        }
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut head = [0_u8; 16];
        file.read_exact(head.get_mut(..8)?).ok()?;
        let mut size = u64::from(be32(&head, 0)?);
        let kind: [u8; 4] = head.get(4..8)?.try_into().ok()?;
        let mut body = at + 8;
        if size == 1 {
            file.read_exact(head.get_mut(8..16)?).ok()?;
            size = be64(&head, 8)?;
            body = at + 16;
        } else if size == 0 {
            size = to - at;
        }
        let end = at.checked_add(size)?;
        if end <= at || body > end || end > to {
            return None;
        }
        match &kind {
            b"moov" | b"mdia" | b"edts" => walk(file, body, end, tracks, boxes)?,
            b"trak" => {
                tracks.push(Track::default());
                walk(file, body, end, tracks, boxes)?;
            }
            b"elst" | b"mdhd" | b"hdlr" => {
                let mut leaf = Vec::new();
                file.seek(SeekFrom::Start(body)).ok()?;
                file.take((end - body).min(LEAF_BYTES_MAX)).read_to_end(&mut leaf).ok()?;
                if let Some(track) = tracks.last_mut() {
                    read_leaf(&kind, &leaf, track)?;
                }
            }
            _ => {}
        }
        at = end;
    }
    Some(())
}

fn read_leaf(kind: &[u8; 4], leaf: &[u8], track: &mut Track) -> Option<()> {
    let long = *leaf.first()? == 1;
    match kind {
        b"hdlr" => track.sound = leaf.get(8..12)? == b"soun",
        b"mdhd" => track.timescale = be32(leaf, if long { 20 } else { 12 })?,
        _ => {
            let entry_bytes = if long { 20 } else { 12 };
            for index in 0..be32(leaf, 4)? as usize {
                let entry = leaf.get(8 + index * entry_bytes..)?;
                let media_time = if long { be64(entry, 8)? as i64 } else { i64::from(be32(entry, 4)? as i32) };
                // -1 is an empty edit: silence before the track, which no decoder here plays.
                if media_time >= 0 {
                    track.media_time = Some(media_time as u64);
                    break;
                }
            }
        }
    }
    Some(())
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::io::Cursor;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut out = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        out.extend_from_slice(kind);
        out.extend_from_slice(body);
        out
    }

    fn file(handler: &[u8; 4]) -> Vec<u8> {
        let mut elst = vec![0, 0, 0, 0, 0, 0, 0, 2];
        elst.extend_from_slice(&[0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0]);
        elst.extend_from_slice(&[0, 0, 0, 9, 0, 0, 4, 0, 0, 1, 0, 0]);
        let mut mdhd = vec![0; 24];
        mdhd[12..16].copy_from_slice(&44_100_u32.to_be_bytes());
        let mut hdlr = vec![0; 24];
        hdlr[8..12].copy_from_slice(handler);
        let mdia = boxed(b"mdia", &[boxed(b"mdhd", &mdhd), boxed(b"hdlr", &hdlr)].concat());
        let trak = boxed(b"trak", &[boxed(b"edts", &boxed(b"elst", &elst)), mdia].concat());
        [boxed(b"ftyp", b"M4A "), boxed(b"moov", &trak)].concat()
    }

    #[test]
    fn the_first_real_edit_of_the_sound_track_counts() {
        let seconds = leading_seconds(&mut Cursor::new(file(b"soun"))).unwrap();
        assert!((seconds - 1024.0 / 44_100.0).abs() < 1e-9);
        assert_eq!(leading_seconds(&mut Cursor::new(file(b"vide"))), None);
    }

    #[test]
    fn every_cut_is_harmless() {
        let whole = file(b"soun");
        for length in 0..whole.len() {
            let _ = leading_seconds(&mut Cursor::new(&whole[..length]));
        }
    }
}
