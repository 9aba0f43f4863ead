//! Ways of hiding a text.

pub(super) fn mapped(text: &str, each: impl Fn(char) -> String) -> String {
    text.chars().map(each).collect()
}

pub(super) fn shifted(text: &str, lower: u32) -> String {
    mapped(text, |c| match c {
        'a'..='z' => char::from_u32(u32::from(c) - 97 + lower).map(String::from).unwrap_or_default(),
        _ => c.to_string(),
    })
}

pub(super) fn behind(text: &str, mark: &[char]) -> String {
    let letters = text.chars().enumerate();
    letters
        .map(|(at, c)| if c == ' ' { " ".into() } else { format!("{c}{}", mark[at % mark.len()]) })
        .collect()
}

pub(super) fn imitated(text: &str, every: usize) -> String {
    let pairs =
        [('a', 'а'), ('e', 'е'), ('o', 'о'), ('p', 'р'), ('c', 'с'), ('x', 'х'), ('s', 'ѕ'), ('i', 'і')];
    let imitation = |c| pairs.iter().find(|(from, _)| *from == c).map_or(c, |(_, to)| *to);
    text.chars().enumerate().map(|(at, c)| if at % every == 0 { imitation(c) } else { c }).collect()
}

pub(super) fn leet(text: &str) -> String {
    mapped(text, |c| {
        let pairs = ["a4", "e3", "i1", "o0", "s5", "t7"];
        pairs.iter().find(|pair| pair.starts_with(c)).map_or(c.to_string(), |pair| pair[1..].to_owned())
    })
}

pub(super) fn joined_by(text: &str, signs: &[&str]) -> String {
    let words = text.split(' ').enumerate().map(|(at, word)| {
        let letters: Vec<String> = word.chars().map(String::from).collect();
        letters.join(signs[at % signs.len()])
    });
    words.collect::<Vec<_>>().join(if signs.iter().all(|sign| sign.trim().is_empty()) { "   " } else { " " })
}

pub(super) fn base64(text: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.chunks(3).flat_map(|three| {
        let bits = three.iter().chain(&[0; 2]).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        (0..4).map(move |at| {
            if at > three.len() { '=' } else { char::from(alphabet[(bits >> (18 - 6 * at) & 63) as usize]) }
        })
    });
    digits.collect()
}

pub(super) fn base32(text: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digits = text.chunks(5).flat_map(|five| {
        let bits = five.iter().chain(&[0; 4]).take(5).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (0..8).map(move |at| {
            if 5 * at >= 8 * five.len() {
                '='
            } else {
                char::from(alphabet[(bits >> (35 - 5 * at) & 31) as usize])
            }
        })
    });
    digits.collect()
}

/// Letters in Morse; what has no sign in it is left out.
pub(super) fn morse(text: &str) -> String {
    let signs = [
        ".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.",
        "---", ".--.", "--.-", ".-.", "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--..",
    ];
    let sign = |c: char| signs.get((c as usize).wrapping_sub('a' as usize)).copied();
    let word = |word: &str| word.chars().filter_map(sign).collect::<Vec<_>>().join(" ");
    text.split(' ').map(word).collect::<Vec<_>>().join(" / ")
}

/// The alphabet from its end.
pub(super) fn atbash(text: &str) -> String {
    mapped(text, |c| match c {
        'a'..='z' => char::from(b'a' + b'z' - c as u8).to_string(),
        _ => c.to_string(),
    })
}

/// Each small letter so many places on in the alphabet.
pub(super) fn caesar(text: &str, by: u8) -> String {
    mapped(text, |c| match c {
        'a'..='z' => char::from((c as u8 - b'a' + by) % 26 + b'a').to_string(),
        _ => c.to_string(),
    })
}

pub(super) fn bytes(text: &str, each: impl Fn(u8) -> String) -> String {
    text.bytes().map(each).collect()
}

/// In pieces of so many characters.
pub(super) fn broken(text: &str, every: usize, by: &str) -> String {
    text.as_bytes().chunks(every).map(String::from_utf8_lossy).collect::<Vec<_>>().join(by)
}

/// The eighteen ways of hiding a text, and some more.
pub(super) fn hidden(text: &str) -> Vec<(&'static str, String)> {
    let rot13 = caesar(text, 13);
    let lines = |text: String| broken(&text, 64, "\n");
    vec![
        ("homoglyphs", imitated(text, 1)),
        ("mixed script", imitated(text, 3)),
        ("full width", shifted(text, 0xff41)),
        ("zero width", behind(text, &['\u{200b}', '\u{200c}', '\u{2060}', '\u{feff}'])),
        (
            "tags",
            format!(
                "What a fine day!{}",
                mapped(text, |c| match c {
                    ' '..='~' => char::from_u32(0xe0000 + u32::from(c)).map(String::from).unwrap_or_default(),
                    _ => c.to_string(),
                })
            ),
        ),
        ("soft hyphens", behind(text, &['\u{ad}'])),
        ("combining marks", behind(text, &['\u{336}', '\u{323}', '\u{307}'])),
        ("mathematical letters", shifted(text, 0x1d41a)),
        ("leet", leet(text)),
        ("spaced letters", joined_by(text, &[" "])),
        ("letters with wide spaces", joined_by(text, &["\u{a0}"])),
        ("letters with tabs", joined_by(text, &["\t"])),
        ("letters with points and spaces", joined_by(text, &[" . "])),
        ("letters with middle dots", joined_by(text, &["·", "•"])),
        ("dotted letters", joined_by(text, &[".", "-", "_", "*"])),
        ("base64", base64(text.as_bytes())),
        (
            "base64url without padding",
            base64(text.as_bytes()).replace('+', "-").replace('/', "_").replace('=', ""),
        ),
        ("base64 in lines", lines(base64(text.repeat(3).as_bytes()))),
        ("base64 in short lines", broken(&base64(text.as_bytes()), 20, "\n")),
        ("base64 in groups", broken(&base64(text.as_bytes()), 16, " ")),
        ("base64 of UTF-16", base64(&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())),
        ("base64 of spaced letters", base64(joined_by(text, &[" "]).as_bytes())),
        ("base64 of entities", base64(mapped(text, |c| format!("&#{};", u32::from(c))).as_bytes())),
        ("base64 of stacked marks", base64(behind(text, &['\u{336}', '\u{323}', '\u{307}']).as_bytes())),
        ("hex in lines", broken(&bytes(text, |byte| format!("{byte:02x}")), 64, "\n")),
        ("hex in groups of four", broken(&bytes(text, |byte| format!("{byte:02x}")), 4, " ")),
        ("hex with hyphens", bytes(text, |byte| format!("{byte:02x}-"))),
        ("percent of percent", bytes(text, |byte| format!("%25{byte:02X}"))),
        ("percent of code units", text.encode_utf16().map(|unit| format!("%u{unit:04X}")).collect()),
        ("entities of entities", mapped(text, |c| format!("&amp;#{};", u32::from(c)))),
        ("escapes of escapes", mapped(text, |c| format!("\\u005cu{:04x}", u32::from(c)))),
        ("names of code points", mapped(text, |c| format!("U+{:04X} ", u32::from(c)))),
        ("base64 twice", base64(base64(text.as_bytes()).as_bytes())),
        ("hex", bytes(text, |byte| format!("{byte:02x}"))),
        ("hex with spaces", bytes(text, |byte| format!("{byte:02X} "))),
        ("hex of C", bytes(text, |byte| format!("0x{byte:02x}, "))),
        ("hex escapes", bytes(text, |byte| format!("\\x{byte:02x}"))),
        ("binary", bytes(text, |byte| format!("{byte:08b} "))),
        ("percent", bytes(text, |byte| format!("%{byte:02X}"))),
        ("quoted-printable", bytes(text, |byte| format!("={byte:02X}"))),
        ("decimal entities", mapped(text, |c| format!("&#{};", u32::from(c)))),
        ("hex entities", mapped(text, |c| format!("&#x{:x};", u32::from(c)))),
        ("unicode escapes", mapped(text, |c| format!("\\u{:04x}", u32::from(c)))),
        ("unicode escapes of Rust", mapped(text, |c| format!("\\u{{{:x}}}", u32::from(c)))),
        ("base32", base32(text.as_bytes())),
        ("base32 in small letters", base32(text.as_bytes()).to_ascii_lowercase()),
        ("Morse", morse(text)),
        ("Morse behind words", format!("Do what this says, please: {}", morse(text))),
        ("letters moved to the other end", atbash(text)),
        ("letters moved by three", caesar(text, 3)),
        ("letters moved by nineteen", caesar(text, 19)),
        ("rot13", rot13.clone()),
        ("rot13 with a word before", format!("Decode this and do as it says: {rot13}")),
        ("reversed", text.chars().rev().collect()),
        (
            "variation selectors",
            format!(
                "ok 😀{}",
                mapped(text, |c| {
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes)
                        .bytes()
                        .map(|byte| match byte {
                            0..=15 => char::from(byte),
                            _ => char::from_u32(0xe0100 + u32::from(byte) - 16).unwrap_or_default(),
                        })
                        .collect()
                })
            ),
        ),
    ]
}
