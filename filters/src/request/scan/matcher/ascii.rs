//! What is left of a pattern for texts that are ASCII. Half of the packs is written for other scripts, and a text in
//! English should not pay for them.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// The same pattern without what only bytes past ASCII match; `None` if that is all of it. Over a text in ASCII both
/// match the same.
pub(super) fn only(hir: &Hir) -> Option<Hir> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(hir.clone()),
        HirKind::Literal(literal) => literal.0.is_ascii().then(|| hir.clone()),
        HirKind::Class(Class::Bytes(class)) => {
            let mut class = class.clone();
            class.intersect(&ClassBytes::new([ClassBytesRange::new(0, 0x7f)]));
            (!class.ranges().is_empty()).then(|| Hir::class(Class::Bytes(class)))
        }
        HirKind::Class(Class::Unicode(class)) => {
            let mut class = class.clone();
            class.intersect(&ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7f')]));
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

#[cfg(test)]
mod tests {
    use super::super::dialect::for_hyperscan;
    use super::*;

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
        check("[^\\n]x", Some("[\\x00-\\x09\\x0b-\\x7f]x"));
        check(r"[\x80-\xff]x", None);
    }
}
