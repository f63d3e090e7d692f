//! The first directory of a TIFF file.
//!
//! In: a prefix of the file. Out: the facts, or how many bytes reach the directory. Invariant: at most [`PAGES_MAX`]
//! directories are followed, so a loop among them ends. Deliberately absent: BigTIFF, which the decoder does not read.

use crate::image::exif::Tiff;
use crate::image::info::{Format, ImageInfo, Miss, mode_name};

/// Directories that are counted at most.
const PAGES_MAX: u32 = 65_536;

pub(crate) fn tiff(bytes: &[u8]) -> Result<ImageInfo, Miss> {
    let tiff = Tiff::new(bytes).ok_or(Miss::Bad("an unknown header"))?;
    let need = |at: usize| Miss::More(at as u64);
    let ifd = tiff.u32(4).ok_or_else(|| need(8))? as usize;
    let entries = usize::from(tiff.u16(ifd).ok_or_else(|| need(ifd + 2))?);
    let (mut width, mut height, mut bits, mut samples, mut photometric) = (0, 0, 1_u32, None, 1);
    let (mut orientation, mut extra, mut float) = (1, false, false);
    for entry in 0..entries {
        let at = ifd + 2 + 12 * entry;
        let tag = tiff.u16(at).ok_or_else(|| need(at + 12))?;
        let kind = tiff.u16(at + 2).ok_or_else(|| need(at + 12))?;
        let count = tiff.u32(at + 4).ok_or_else(|| need(at + 12))? as usize;
        // SHORT arrays of more than two values stand elsewhere; only their first value matters here.
        let place = if kind == 3 && count > 2 { tiff.u32(at + 8).ok_or_else(|| need(at + 12))? as usize } else { at + 8 };
        let value = || match kind {
            3 => tiff.u16(place).map(u32::from).ok_or_else(|| need(place + 2)),
            _ => tiff.u32(place).ok_or_else(|| need(place + 4)),
        };
        match tag {
            256 => width = value()?,
            257 => height = value()?,
            258 => bits = value()?,
            262 => photometric = value()?,
            274 => orientation = u8::try_from(value()?).ok().filter(|o| (1..=8).contains(o)).unwrap_or(1),
            277 => samples = Some(value()?),
            338 => extra = true,
            339 => float = value()? == 3,
            _ => {}
        }
    }
    let samples = samples.unwrap_or(if photometric == 2 { 3 } else { 1 });
    let bits = u8::try_from(bits).map_err(|_| Miss::Bad("an impossible depth"))?;
    let (channels, mode) = match (photometric, samples) {
        (5, _) => (4, "CMYK"),
        (3, _) => (3, "RGB"),
        (_, 1) => (1, mode_name(1, depth(bits, float))),
        (_, 2) => (2, mode_name(2, depth(bits, float))),
        (_, 3) => (3, mode_name(3, depth(bits, float))),
        (_, 4) if extra => (4, mode_name(4, depth(bits, float))),
        (_, 4) => (4, mode_name(4, depth(bits, float))),
        _ => (3, mode_name(3, depth(bits, float))),
    };
    Ok(ImageInfo {
        width,
        height,
        channels,
        mode,
        format: Format::Tiff,
        bits,
        exif_orientation: orientation,
        frames: pages(&tiff, ifd),
        progressive: false,
    })
}

/// The depth after decoding.
fn depth(bits: u8, float: bool) -> u8 {
    match bits {
        _ if float => 32,
        9..=32 => 16,
        _ => 8,
    }
}

/// Whether the channels of the first picture stand in tiles of their own.
pub(crate) fn has_tiled_planes(bytes: &[u8]) -> bool {
    let find = |wanted: u16| {
        let tiff = Tiff::new(bytes)?;
        let ifd = tiff.u32(4)? as usize;
        let entries = usize::from(tiff.u16(ifd)?);
        (0..entries).map(|i| ifd + 2 + 12 * i).find(|&at| tiff.u16(at) == Some(wanted)).and_then(|at| tiff.u16(at + 8))
    };
    find(284) == Some(2) && find(322).is_some()
}

/// Directories in the chain; none where the chain leaves the bytes given.
fn pages(tiff: &Tiff<'_>, mut ifd: usize) -> Option<u32> {
    let mut pages = 0;
    while ifd != 0 && pages < PAGES_MAX {
        pages += 1;
        let entries = usize::from(tiff.u16(ifd)?);
        ifd = tiff.u32(ifd + 2 + 12 * entries)? as usize;
    }
    Some(pages)
}
