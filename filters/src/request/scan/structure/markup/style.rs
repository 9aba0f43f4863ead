//! Styles that keep a text from being seen: not drawn, off the screen, without size, or in the colour of the paper.
//! What is read is the handful of properties that can hide; comments, escapes and entities inside a style are
//! undone first, since browsers undo them.

use std::ops::Range;

use memchr::{memchr, memchr3, memmem};

use super::super::page::{contains, continues};

mod colour;

use colour::Colour;

/// The longest style that is read.
const LONGEST: usize = 512;
/// How much of a style sheet is read, and how many of its classes and names are remembered.
const SHEET: usize = 8 << 10;
const MOST: usize = 16;

/// Whether a style keeps its element from being seen.
pub(super) fn hides(style: &[u8]) -> bool {
    let style = &style[..style.len().min(LONGEST)];
    let mut room = [0; LONGEST];
    let declarations = Declarations::read(plain(style, &mut room));
    declarations.is_gone || declarations.is_paper()
}

/// Whether a rule of a style sheet does. White letters alone do not: sheets say elsewhere on what they stand.
fn rule_hides(style: &[u8]) -> bool {
    let style = &style[..style.len().min(LONGEST)];
    let mut room = [0; LONGEST];
    let declarations = Declarations::read(plain(style, &mut room));
    declarations.is_gone || declarations.background.is_some() && declarations.is_paper()
}

/// Whether a colour of letters, as `<font color>` gives it, is that of paper.
pub(super) fn is_paper(colour: &[u8]) -> bool {
    Colour::parse(colour).is_some_and(|colour| colour.is_clear() || colour.is_white())
}

/// Classes by which the common libraries keep an element from being drawn, or from all but screen readers.
const CLASSES: [&[u8]; 16] = [
    b"hidden",
    b"hide",
    b"is-hidden",
    b"u-hidden",
    b"d-none",
    b"display-none",
    b"invisible",
    b"sr-only",
    b"visually-hidden",
    b"visuallyhidden",
    b"screen-reader-text",
    b"screen-reader-only",
    b"screenreader-only",
    b"offscreen",
    b"off-screen",
    b"opacity-0",
];

/// Whether one of the classes hides; "hidden md:block" does on small screens only.
pub(super) fn class_hides(classes: &[u8]) -> bool {
    let mut words = classes.split(u8::is_ascii_whitespace);
    words.any(|word| CLASSES.iter().any(|class| word.eq_ignore_ascii_case(class)))
        && memchr(b':', classes).is_none()
        && !contains(classes, b"-block")
}

/// The classes and names that the style sheets of a text hide.
#[derive(Default)]
pub(in super::super) struct Sheets {
    names: [Range<usize>; MOST],
    count: usize,
    /// Up to where sheets have been read: one that nothing ends is read once.
    until: usize,
}

impl Sheets {
    /// Reads the style sheet that begins at `from`.
    pub(super) fn read(&mut self, bytes: &[u8], from: usize) {
        if from < self.until || self.count == MOST {
            return;
        }
        let sheet = &bytes[from..(from + SHEET).min(bytes.len())];
        let end = memmem::find(sheet, b"</").unwrap_or(sheet.len());
        self.until = from + end;
        let mut at = 0;
        while let Some(open) = memchr(b'{', &sheet[at..end]) {
            let open = at + open;
            let close = memchr(b'}', &sheet[open..end]).map_or(end, |hit| open + hit);
            // Within `@media` the first rule's declarations lie behind a second brace.
            let inner = memchr::memrchr(b'{', &sheet[open..close]).map_or(open, |hit| open + hit);
            if rule_hides(&sheet[inner + 1..close.max(inner + 1)]) {
                let selector = at.max(inner.saturating_sub(LONGEST));
                self.keep(sheet, selector..inner, from);
            }
            at = (close + 1).min(end);
        }
    }

    /// Remembers the `.class` and `#id` of a selector, those of the element itself.
    fn keep(&mut self, sheet: &[u8], selector: Range<usize>, from: usize) {
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | 0x80..);
        for at in selector.clone() {
            if !matches!(sheet[at], b'.' | b'#') || self.count == MOST {
                continue;
            }
            let length = sheet[at + 1..selector.end].iter().take_while(|byte| is_name(byte)).count();
            // `.a .b` and `.a:hover` say nothing of `.a` itself.
            let next = sheet[at + 1 + length..selector.end].trim_ascii_start().first();
            if length > 0 && matches!(next, None | Some(b',')) {
                self.names[self.count] = from + at..from + at + 1 + length;
                self.count += 1;
            }
        }
    }

    /// Whether one of `words`, classes or a name by `mark`, is hidden.
    pub(super) fn hide(&self, bytes: &[u8], words: &[u8], mark: u8) -> bool {
        self.count > 0
            && words.split(u8::is_ascii_whitespace).any(|word| {
                self.names[..self.count].iter().any(|name| {
                    let name = &bytes[name.clone()];
                    name[0] == mark && &name[1..] == word
                })
            })
    }
}

/// What the declarations of a style come to.
#[derive(Default)]
struct Declarations {
    is_gone: bool,
    letters: Option<Colour>,
    background: Option<Option<Colour>>,
}

impl Declarations {
    fn read(style: &[u8]) -> Self {
        let mut found = Self::default();
        for rule in style.split(|&byte| byte == b';') {
            let Some(colon) = memchr(b':', rule) else { continue };
            let (name, value) = (rule[..colon].trim_ascii(), rule[colon + 1..].trim_ascii());
            match lower(name, &mut [0; 24]) {
                b"color" | b"-webkit-text-fill-color" => found.letters = Colour::parse(value),
                b"background" | b"background-color" => found.background = Some(Colour::parse(value)),
                name => found.is_gone |= is_gone(name, value),
            }
        }
        found
    }

    /// Letters in the colour of what they stand on; on white where nothing is said.
    fn is_paper(&self) -> bool {
        let Some(letters) = self.letters else { return false };
        letters.is_clear()
            || match self.background {
                None => letters.is_white(),
                Some(Some(background)) if background.is_clear() => letters.is_white(),
                Some(Some(background)) => letters.is_like(background),
                Some(None) => false,
            }
    }
}

/// Whether one declaration takes its element away. `name` is in lower case.
fn is_gone(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"display" => continues(value, 0, b"none"),
        b"visibility" => continues(value, 0, b"hidden") || continues(value, 0, b"collapse"),
        b"content-visibility" => continues(value, 0, b"hidden"),
        b"opacity" | b"fill-opacity" => {
            Length::parse(value).is_some_and(|n| n.number < if n.unit == b"%" { 6.0 } else { 0.06 })
        }
        b"filter" => function(value, b"opacity(").is_some_and(|n| n.number < 0.06),
        b"font-size" => Length::parse(value).is_some_and(Length::is_no_letter),
        b"font" => value
            .split(|byte| byte.is_ascii_whitespace() || *byte == b'/')
            .filter_map(Length::parse)
            // The weight comes before the size and is a number too, but none without a unit is 0.
            .any(|n| n.number == 0.0 || !n.unit.is_empty() && n.is_no_letter()),
        b"height" | b"width" | b"max-height" | b"max-width" => Length::parse(value)
            .is_some_and(|n| n.number <= 1.0 && (n.unit.is_empty() || n.unit.eq_ignore_ascii_case(b"px"))),
        b"left" | b"top" | b"right" | b"bottom" | b"inset" | b"text-indent" | b"margin-left"
        | b"margin-top" | b"margin" => {
            value.split(u8::is_ascii_whitespace).filter_map(Length::parse).any(Length::is_far)
        }
        b"clip" => contains(value, b"rect(0") || contains(value, b"rect(1px"),
        b"clip-path" => {
            function(value, b"inset(").is_some_and(|n| n.number >= 50.0)
                || function(value, b"circle(").is_some_and(|n| n.number <= 1.0)
        }
        b"transform" => {
            function(value, b"scale(").is_some_and(|n| n.number < 0.06)
                || [&b"translate("[..], b"translatex(", b"translatey(", b"translate3d("]
                    .iter()
                    .any(|call| function(value, call).is_some_and(Length::is_far))
        }
        _ => false,
    }
}

/// A number with its unit.
#[derive(Clone, Copy)]
struct Length<'a> {
    number: f32,
    unit: &'a [u8],
}

impl<'a> Length<'a> {
    /// What a value begins with.
    fn parse(value: &'a [u8]) -> Option<Self> {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'+');
        let length = value.iter().take_while(|byte| is_digit(byte)).count();
        let number = std::str::from_utf8(&value[..length]).ok()?.parse().ok()?;
        let unit = &value[length..];
        let end = unit.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'%').count();
        Some(Self { number, unit: &unit[..end] })
    }

    /// Too small for a letter.
    fn is_no_letter(self) -> bool {
        match self.unit.first() {
            Some(b'p' | b'P') => self.number <= 1.0,
            Some(b'%') => self.number <= 5.0,
            Some(_) => self.number <= 0.06,
            None => self.number == 0.0,
        }
    }

    /// Beyond the edge of any screen. To the right and below a page may go on, so less than far is not enough.
    fn is_far(self) -> bool {
        match self.unit.first() {
            Some(b'v' | b'V' | b'%') => self.number <= -90.0 || self.number >= 200.0,
            Some(b'e' | b'E' | b'r' | b'R') => self.number <= -50.0 || self.number >= 500.0,
            _ => self.number <= -500.0 || self.number >= 5000.0,
        }
    }
}

/// The first argument of `call`, which ends with its bracket, in `value`.
fn function<'a>(value: &'a [u8], call: &[u8]) -> Option<Length<'a>> {
    let at = (0..value.len()).find(|&at| continues(value, at, call))?;
    Length::parse(value[at + call.len()..].trim_ascii_start())
}

/// A style without comments, escapes and entities; itself where it has none.
fn plain<'a>(style: &'a [u8], room: &'a mut [u8; LONGEST]) -> &'a [u8] {
    if memchr3(b'\\', b'*', b'&', style).is_none() {
        return style;
    }
    let mut length = 0;
    let mut at = 0;
    while at < style.len() {
        let rest = &style[at..];
        let (byte, taken) = match rest {
            [b'/', b'*', inner @ ..] => {
                at += memmem::find(inner, b"*/").map_or(rest.len(), |hit| hit + 4);
                continue;
            }
            [b'\\', digits @ ..] => code(digits, 16, 6).map_or((b'\\', 1), |(byte, taken)| {
                let gap = usize::from(digits.get(taken).is_some_and(u8::is_ascii_whitespace));
                (byte, 1 + taken + gap)
            }),
            [b'&', b'#', b'x' | b'X', digits @ ..] => entity(digits, 16, 3),
            [b'&', b'#', digits @ ..] => entity(digits, 10, 2),
            [byte, ..] => (*byte, 1),
            [] => break,
        };
        // What is taken is never shorter than what is written.
        room[length] = byte;
        length += 1;
        at += taken;
    }
    &room[..length]
}

/// The byte of a numeric entity and how long it is, with the `mark` bytes in front of its digits.
fn entity(digits: &[u8], radix: u32, mark: usize) -> (u8, usize) {
    code(digits, radix, 8).map_or((b'&', 1), |(byte, taken)| {
        (byte, mark + taken + usize::from(digits.get(taken) == Some(&b';')))
    })
}

/// The ASCII character with the number that `digits` begins with, and the count of its digits.
fn code(digits: &[u8], radix: u32, most: usize) -> Option<(u8, usize)> {
    let length = digits.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let text = std::str::from_utf8(&digits[..length]).ok()?;
    let byte = u8::try_from(u32::from_str_radix(text, radix).ok()?).ok()?;
    byte.is_ascii().then_some((byte, length))
}

/// A name in lower case; nothing if it is longer than any that is known.
fn lower<'r>(name: &[u8], room: &'r mut [u8; 24]) -> &'r [u8] {
    let Some(part) = room.get_mut(..name.len()) else { return &[] };
    part.copy_from_slice(name);
    part.make_ascii_lowercase();
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_that_hide_are_told_from_those_that_draw() {
        for (style, expected) in [
            ("display:none", true),
            ("DISPLAY : NONE !important", true),
            ("display:\nnone", true),
            ("display&#58;none", true),
            ("dis\\70lay:none", true),
            ("display:/**/none", true),
            ("display:block", false),
            ("display:/*none*/block", false),
            ("visibility:collapse", true),
            ("content-visibility:hidden", true),
            ("opacity:.01", true),
            ("opacity:0%", true),
            ("opacity:50%", false),
            ("opacity:0.9", false),
            ("filter:opacity(0)", true),
            ("filter: blur(2px)", false),
            ("font-size:0", true),
            ("font-size:1px", true),
            ("font-size:0.01em", true),
            ("font-size:1em", false),
            ("font-size:0.8em", false),
            ("font-size:110%", false),
            ("font:0/0 a", true),
            ("font:bold 12px/1.5 serif", false),
            ("left:-9999px", true),
            ("left:-100vw", true),
            ("left:-999em", true),
            ("left:-50%", false),
            ("left:100%", false),
            ("margin:0 auto", false),
            ("margin-top:-20px", false),
            ("inset:-9999px auto auto -9999px", true),
            ("text-indent:-9999px", true),
            ("text-indent:2em", false),
            ("transform:translateX(-9999px)", true),
            ("transform:translate(-50%, -50%)", false),
            ("transform:scale(0)", true),
            ("transform:scale(0.9)", false),
            ("clip:rect(0,0,0,0)", true),
            ("clip-path:inset(50%)", true),
            ("clip-path:inset(5px)", false),
            ("clip-path:circle(40%)", false),
            ("width:1px;height:1px", true),
            ("width:100px", false),
            ("color:#fff", true),
            ("color:#FCFCFC;background:#ffffff", true),
            ("color:white;background:#036", false),
            ("color:#fff;background:url(a.png)", false),
            ("color:rgba(255, 255, 255, 1)", true),
            ("color:rgb(255 255 255)", true),
            ("color:rgb(100%,100%,100%)", true),
            ("color:hsl(0,0%,100%)", true),
            ("color:hsl(200, 50%, 40%)", false),
            ("color:#000;background:#000", true),
            ("color:#eee;background-color:#eee", true),
            ("color:#eee;background-color:#333", false),
            ("color:#333", false),
            ("color:transparent", true),
            ("color:rgba(0,0,0,0)", true),
            ("color:rgb(0 0 0 / 0%)", true),
            ("color:rgba(0,0,0,0.87)", false),
            ("color:#00000000", true),
            ("color:#0000", true),
            ("color:#000000ff", false),
            ("-webkit-text-fill-color:transparent", true),
            ("", false),
            (";;:;\\;&#;/*", false),
        ] {
            assert_eq!(hides(style.as_bytes()), expected, "{style}");
        }
    }

    #[test]
    fn classes_of_the_common_libraries_hide() {
        for (classes, expected) in [
            ("sr-only", true),
            ("note d-none", true),
            ("hidden", true),
            ("hidden md:block", false),
            ("d-none d-md-block", false),
            ("nav", false),
        ] {
            assert_eq!(class_hides(classes.as_bytes()), expected, "{classes}");
        }
    }

    #[test]
    fn style_sheets_hide_by_class_and_name() {
        let page =
            b"<style>.k7{display:none} #z, p.note\n{ left:-9999px }\n.a .b{opacity:0}.c:hover{opacity:0}\n\
            .w{color:#fff}.x{color:#eee;background:#eee}@media print{.p{display:none}}</style>";
        let mut sheets = Sheets::default();
        sheets.read(page, 7);
        for (words, mark, expected) in [
            ("k7", b'.', true),
            ("big k7", b'.', true),
            ("k7", b'#', false),
            ("z", b'#', true),
            ("note", b'.', true),
            ("a", b'.', false),
            ("b", b'.', true),
            ("c", b'.', false),
            ("w", b'.', false),
            ("x", b'.', true),
            ("p", b'.', true),
        ] {
            assert_eq!(sheets.hide(page, words.as_bytes(), mark), expected, "{words}");
        }
    }
}
