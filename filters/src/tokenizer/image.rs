//! Images → tokens, by a rule for each model: so many for an image, or so many for each tile of it. An image that is in
//! the request says how large it is in its first bytes; of one that is elsewhere nothing is known, and it is taken for a
//! square of [`UNKNOWN_PX`].
//!
//! Invariant: any bytes give an answer. Cost: the first bytes of an image are decoded, up to `LOOK_BYTES` of a JPEG,
//! and none where the rule asks for no size.

/// Side of an image of which nothing is known, in pixels.
pub const UNKNOWN_PX: u64 = 1024;

/// How far a JPEG is read for its size, which stands after its metadata.
const LOOK_BYTES: usize = 32 * 1024;

/// What the images of a model's requests come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageRule {
    /// Tokens of an image, whatever its size.
    pub tokens: u64,
    /// Side of a tile in pixels; `None` where only `tokens` counts.
    pub tile_px: Option<u64>,
    /// Tokens of each tile.
    pub tile_tokens: u64,
    /// A longer side is first brought down to this many pixels.
    pub fit_px: Option<u64>,
}

impl ImageRule {
    /// Tokens of an image whose base64 text is `data`; `None` if it is not in the request.
    #[must_use]
    pub fn count(&self, data: Option<&[u8]>) -> u64 {
        let Some(tile) = self.tile_px.filter(|tile| *tile > 0) else { return self.tokens };
        let (mut width, mut height) = data.and_then(size).unwrap_or((UNKNOWN_PX, UNKNOWN_PX));
        let longest = width.max(height);
        if let Some(fit) = self.fit_px.filter(|fit| *fit < longest) {
            (width, height) = ((width * fit / longest).max(1), (height * fit / longest).max(1));
        }
        let tiles = width.div_ceil(tile).saturating_mul(height.div_ceil(tile));
        self.tokens.saturating_add(tiles.saturating_mul(self.tile_tokens))
    }
}

/// Whether a string begins like an image in base64.
#[must_use]
pub fn is_image(base64: &[u8]) -> bool {
    [&b"iVBORw0KGgo"[..], b"/9j/", b"R0lGOD", b"UklGR"].iter().any(|magic| base64.starts_with(magic))
}

/// Width and height of the image whose base64 text is `data`, in pixels: PNG, GIF, JPEG and WebP.
fn size(data: &[u8]) -> Option<(u64, u64)> {
    let head = decode(data, 64);
    let number = |at: usize, count: usize, is_big: bool| -> Option<u64> {
        let bytes = head.get(at..at + count)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if is_big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    };
    let size = if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        (number(16, 4, true)?, number(20, 4, true)?)
    } else if head.starts_with(b"GIF8") {
        (number(6, 2, false)?, number(8, 2, false)?)
    } else if head.starts_with(b"RIFF") && head.get(8..12)? == b"WEBP" {
        match head.get(12..16)? {
            b"VP8X" => (number(24, 3, false)? + 1, number(27, 3, false)? + 1),
            b"VP8L" => {
                let bits = number(21, 4, false)?;
                ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
            }
            b"VP8 " => (number(26, 2, false)? & 0x3fff, number(28, 2, false)? & 0x3fff),
            _ => return None,
        }
    } else if head.starts_with(b"\xff\xd8") {
        jpeg_size(&decode(data, LOOK_BYTES))?
    } else {
        return None;
    };
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// The size in the frame header of a JPEG, which stands behind segments that say how long they are.
fn jpeg_size(bytes: &[u8]) -> Option<(u64, u64)> {
    let pair = |at: usize| Some(u64::from(*bytes.get(at)?) << 8 | u64::from(*bytes.get(at + 1)?));
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xff {
            return None;
        }
        match *bytes.get(at + 1)? {
            // Markers may be filled up.
            0xff => at += 1,
            // All frame headers, but not the tables among them.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((pair(at + 7)?, pair(at + 5)?));
            }
            _ => at += 2 + usize::try_from(pair(at + 2)?).ok()?,
        }
    }
}

/// The first `most` bytes of what base64 says; what is no base64 ends it.
pub(crate) fn decode(base64: &[u8], most: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(most.min(base64.len()));
    let (mut bits, mut count) = (0_u32, 0);
    for &letter in base64 {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            // JSON writes a slash with a backslash where it likes to.
            b'\\' => continue,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            if bytes.len() == most {
                break;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginnings of files of 1 × 1 to 640 × 480 pixels.
    const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAYAAAA10dzkAAAA";
    const GIF: &str = "R0lGODlhgALgAYAAAAAAAP///yH5BAEAAAAA";
    const JPEG: &str = "/9j/4AAQSkZJRgABAQAAAQABAAD/wAARCAHgAoADASIAAhEBAxEB";
    const WEBP_LOSSLESS: &str = "UklGRiYAAABXRUJQVlA4TBkAAAAvf8J3AA==";

    #[test]
    fn images_say_how_large_they_are() {
        for (name, data, expected) in [
            ("png", PNG, Some((640, 480))),
            ("gif", GIF, Some((640, 480))),
            ("jpeg", JPEG, Some((640, 480))),
            ("webp", WEBP_LOSSLESS, Some((640, 480))),
            ("cut", &PNG[..20], None),
            ("text", "aGVsbG8gd29ybGQ=", None),
            ("nothing", "", None),
        ] {
            assert_eq!(size(data.as_bytes()), expected, "{name}");
            assert_eq!(is_image(data.as_bytes()), expected.is_some() || name == "cut", "{name}");
        }
    }

    #[test]
    fn rules_count_by_image_and_by_tile() {
        let fixed = ImageRule { tokens: 256, tile_px: None, tile_tokens: 0, fit_px: None };
        // As Qwen2.5-VL: 28 × 28 pixels a token.
        let patches = ImageRule { tokens: 2, tile_px: Some(28), tile_tokens: 1, fit_px: Some(560) };
        // As OpenAI: 85, and 170 for each tile of 512.
        let tiles = ImageRule { tokens: 85, tile_px: Some(512), tile_tokens: 170, fit_px: Some(1024) };
        let png = Some(PNG.as_bytes());
        assert_eq!((fixed.count(png), fixed.count(None)), (256, 256));
        assert_eq!((patches.count(png), patches.count(None)), (2 + 20 * 15, 2 + 20 * 20));
        assert_eq!((tiles.count(png), tiles.count(None)), (85 + 170 * 2, 85 + 170 * 4));
    }
}
