//! Colours as styles write them, as far as letters can vanish by them.

use super::super::super::page::continues;

/// How far apart two colours may be, over all three parts, to be one for the eye.
const ALIKE: u16 = 24;

/// Red, green and blue, and how much of them is seen.
#[derive(Clone, Copy)]
pub(super) struct Colour {
    parts: [u8; 3],
    is_clear: bool,
}

/// The names that are used for hiding; others are no paper.
const NAMES: [(&[u8], [u8; 3]); 12] = [
    (b"whitesmoke", [0xF5; 3]),
    (b"white", [0xFF; 3]),
    (b"snow", [0xFF, 0xFA, 0xFA]),
    (b"ivory", [0xFF, 0xFF, 0xF0]),
    (b"ghostwhite", [0xF8, 0xF8, 0xFF]),
    (b"floralwhite", [0xFF, 0xFA, 0xF0]),
    (b"mintcream", [0xF5, 0xFF, 0xFA]),
    (b"azure", [0xF0, 0xFF, 0xFF]),
    (b"black", [0; 3]),
    (b"red", [0xFF, 0, 0]),
    (b"blue", [0, 0, 0xFF]),
    (b"yellow", [0xFF, 0xFF, 0]),
];

impl Colour {
    /// The colour that a value begins with; `None` if it has none that is known.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        if continues(value, 0, b"transparent") {
            return Some(Self { parts: [0; 3], is_clear: true });
        }
        if let Some(digits) = value.strip_prefix(b"#") {
            return Self::hex(digits);
        }
        let is_hsl = continues(value, 0, b"hsl");
        if is_hsl || continues(value, 0, b"rgb") {
            return Self::call(value, is_hsl);
        }
        let (_, parts) = NAMES.iter().find(|(name, _)| continues(value, 0, name))?;
        Some(Self { parts: *parts, is_clear: false })
    }

    /// `fff`, `ffff`, `ffffff` or `ffffffff`.
    fn hex(digits: &[u8]) -> Option<Self> {
        let count = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let digit =
            |at: usize| char::from(digits[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let part = |at: usize| match count {
            3 | 4 => digit(at).map(|digit| digit * 17),
            _ => Some(digit(2 * at)? * 16 + digit(2 * at + 1)?),
        };
        let alpha = match count {
            3 | 6 => 0xFF,
            4 | 8 => part(3)?,
            _ => return None,
        };
        Some(Self { parts: [part(0)?, part(1)?, part(2)?], is_clear: alpha < 16 })
    }

    /// `rgb(…)`, `rgba(…)`, `hsl(…)` and `hsla(…)`, with commas, spaces or a slash.
    fn call(value: &[u8], is_hsl: bool) -> Option<Self> {
        let open = value.iter().position(|&byte| byte == b'(')?;
        let mut numbers = [0.0_f32, 0.0, 0.0, 1.0];
        let mut arguments = value[open + 1..]
            .split(|byte| matches!(byte, b',' | b'/' | b')') || byte.is_ascii_whitespace())
            .filter(|argument| !argument.is_empty());
        for (at, number) in numbers.iter_mut().enumerate() {
            let Some(argument) = arguments.next() else {
                if at < 3 {
                    return None;
                }
                break;
            };
            let (digits, is_percent) = match argument {
                [digits @ .., b'%'] => (digits, true),
                digits => (digits, false),
            };
            let digits = digits.strip_suffix(b"deg").unwrap_or(digits);
            let written: f32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
            // Parts are read as shares of one but for the angle.
            *number = match (at, is_percent) {
                (_, true) => written / 100.0,
                (3, false) => written,
                (0, false) if is_hsl => written,
                _ => written / 255.0,
            };
        }
        let [a, b, c, alpha] = numbers;
        let parts = if is_hsl { of_light(a, b, c) } else { [a, b, c] };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "casts of numbers saturate"
        )]
        let parts = parts.map(|part| (part * 255.0).round() as u8);
        Some(Self { parts, is_clear: alpha < 0.06 })
    }

    /// Nothing of it is seen.
    pub(super) fn is_clear(self) -> bool {
        self.is_clear
    }

    /// White, or as good as white.
    pub(super) fn is_white(self) -> bool {
        self.is_like(Self { parts: [0xFF; 3], is_clear: false })
    }

    /// Whether the eye takes the two for one.
    pub(super) fn is_like(self, other: Self) -> bool {
        self.parts.iter().zip(other.parts).map(|(&a, b)| u16::from(a.abs_diff(b))).sum::<u16>() <= ALIKE
    }
}

/// Red, green and blue of hue, saturation and lightness
/// (<https://www.w3.org/TR/css-color-4/#hsl-to-rgb>).
fn of_light(hue: f32, saturation: f32, lightness: f32) -> [f32; 3] {
    let most = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|n| {
        let k = (n + hue / 30.0).rem_euclid(12.0);
        lightness - most * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0)
    })
}
