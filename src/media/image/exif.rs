//! The orientation in EXIF metadata.
//!
//! In: an EXIF block (a small TIFF file). Out: 1 to 8, or nothing. Invariant: never fails; metadata that makes no sense
//! is no metadata. Deliberately absent: every other tag.

/// Reads numbers of the byte order that the block declares.
pub(crate) struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl<'a> Tiff<'a> {
    /// A classic TIFF structure, by its first four bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.get(..4)? {
            b"II\x2a\0" => Some(Self { bytes, little: true }),
            b"MM\0\x2a" => Some(Self { bytes, little: false }),
            _ => None,
        }
    }

    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        let raw: [u8; 2] = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little { u16::from_le_bytes(raw) } else { u16::from_be_bytes(raw) })
    }

    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        let raw: [u8; 4] = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) })
    }
}

/// The orientation, 1 to 8, of an EXIF block with or without its `Exif\0\0` prefix.
pub fn orientation(block: &[u8]) -> Option<u8> {
    const TAG: u16 = 0x0112;
    let tiff = Tiff::new(block.strip_prefix(b"Exif\0\0").unwrap_or(block))?;
    let ifd = tiff.u32(4)? as usize;
    let entries = usize::from(tiff.u16(ifd)?);
    (0..entries)
        .map(|i| ifd + 2 + 12 * i)
        .find(|&at| tiff.u16(at) == Some(TAG))
        .and_then(|at| tiff.u16(at + 8))
        .and_then(|value| u8::try_from(value).ok())
        .filter(|value| (1..=8).contains(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_and_nonsense() {
        let little = b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        assert_eq!(orientation(little), Some(6));
        let big = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0";
        assert_eq!(orientation(big), Some(8));
        assert_eq!(orientation(&little[..20]), None);
        assert_eq!(orientation(b"MM\0\x2a\xff\xff\xff\xff"), None);
        assert_eq!(orientation(b""), None);
    }
}
