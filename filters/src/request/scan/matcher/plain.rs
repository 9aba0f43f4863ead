//! What is left of atoms and patterns for plain texts: those in ASCII letters, with typographic signs and emoji among
//! them. Half of the packs is written for other scripts, and a text in English should not pay for them.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// Whether a text has no letters but those of ASCII: no byte that begins a character of U+00C0 to U+1FFF or of U+3000 to
/// U+EFFF. What has such a byte cannot be found in one that has none.
///
/// # Cost
/// Some thirtieth of a nanosecond a byte.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    // Without a branch inside, so that many bytes are looked at together.
    text.chunks(256).all(|part| part.iter().fold(true, |all, byte| all & is_plain_byte(*byte)))
}

#[inline]
fn is_plain_byte(byte: u8) -> bool {
    (byte < 0xc3) | (byte == 0xe2) | (byte >= 0xef)
}

/// The characters that plain texts are made of.
fn characters() -> ClassUnicode {
    let ranges = [('\0', '\u{bf}'), ('\u{2000}', '\u{2fff}'), ('\u{f000}', '\u{10ffff}')];
    ClassUnicode::new(ranges.map(|(from, to)| ClassUnicodeRange::new(from, to)))
}

/// The same pattern without what only other texts match; `None` if that is all of it. Over a plain text both match the
/// same.
pub(crate) fn only(hir: &Hir) -> Option<Hir> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => Some(hir.clone()),
        HirKind::Literal(literal) => is_plain(&literal.0).then(|| hir.clone()),
        HirKind::Class(Class::Unicode(class)) => {
            let mut class = class.clone();
            class.intersect(&characters());
            (!class.ranges().is_empty()).then(|| Hir::class(Class::Unicode(class)))
        }
        HirKind::Repetition(repetition) => match only(&repetition.sub) {
            Some(sub) => Some(Hir::repetition(repetition.with(sub))),
            None => (repetition.min == 0).then(Hir::empty),
        },
        HirKind::Capture(capture) => only(&capture.sub),
        HirKind::Concat(parts) => Some(Hir::concat(parts.iter().map(only).collect::<Option<_>>()?)),
        HirKind::Alternation(parts) => {
            let parts: Vec<Hir> = parts.iter().filter_map(only).collect();
            (!parts.is_empty()).then(|| Hir::alternation(parts))
        }
    }
}

#[cfg(all(test, feature = "hyperscan"))]
mod tests {
    use super::super::dialect::for_hyperscan;
    use super::*;

    #[test]
    fn plain_texts_have_signs_and_no_letters_of_other_scripts() {
        for (text, expected) in [
            ("", true),
            ("plain text, “quoted” — with signs… • and 🔓", true),
            ("déjà", false),
            ("指令", false),
            ("ﬁ\u{fe0f}\u{fffd} 10 €", true),
            ("\u{e000}", false),
            ("правила", false),
        ] {
            assert_eq!(is_plain(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_only_other_scripts_match_is_left_out() {
        let check = |pattern: &str, expected: Option<&str>| {
            let parsed = |pattern: &str| {
                let mut parser = regex_syntax::ParserBuilder::new().utf8(false).unicode(false).build();
                parser.parse(pattern).expect("the pattern is sound")
            };
            let left = only(&parsed(pattern)).map(|hir| for_hyperscan(&hir));
            assert_eq!(left, expected.map(|expected| for_hyperscan(&parsed(expected))), "{pattern}");
        };
        check("abc", Some("abc"));
        check("指令", None);
        check("a指", None);
        check("abc|指令|(指|x)y", Some("abc|xy"));
        check("a(指令)?b", Some("ab"));
        check("a指*b+", Some("ab+"));
        check("a指+b", None);
        check(r"(?u:[a-zа-я])\b", Some(r"(?u:[a-z])\b"));
        check("[^\\n]x", Some("[^\\n]x"));
        check("“x|«指", Some("“x"));
        check(r"(?u:[“指])x", Some(r"(?u:[“])x"));
    }
}
