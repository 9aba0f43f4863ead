//! Pattern → a looser one: what it finds is wherever the pattern is, and sometimes where it is not. A gap of up to forty letters is forty
//! states for each way to come to it, and a lazy automaton makes a new state for each set of those that it meets; a gap of any length
//! is one. In most places where a pattern could be even the looser one is not there, and the pattern itself is not tried.

use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};

/// Repetitions that are kept as they are.
const COUNTED: u32 = 3;

/// The looser pattern; `None` if that is the pattern itself.
pub(super) fn loosened(pattern: &Hir) -> Option<Hir> {
    let loose = loosen(pattern);
    (loose != *pattern).then_some(loose)
}

fn loosen(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let sub = Box::new(loosen(&repetition.sub));
            let Repetition { min, max, greedy, .. } = *repetition;
            let is_kept = max.unwrap_or(min) <= COUNTED;
            let (min, max) = if is_kept { (min, max) } else { (min.min(1), None) };
            Hir::repetition(Repetition { min, max, greedy, sub })
        }
        HirKind::Capture(capture) => {
            let sub = Box::new(loosen(&capture.sub));
            Hir::capture(Capture { sub, ..capture.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(loosen).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(loosen).collect()),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::regex::parse;
    use super::*;

    #[test]
    fn a_looser_pattern_has_gaps_of_any_length() {
        let of = |pattern: &str| loosened(&parse(pattern).expect(pattern));
        for (pattern, expected) in [
            ("drop .{0,40} act", "drop .* act"),
            ("drop .{5,40}? act", "drop .+? act"),
            ("drop .{9} act", "drop .+ act"),
            ("(drop (it|them){1,4}) ?act{2,}", "(drop (it|them)+) ?act{2,}"),
        ] {
            assert_eq!(of(pattern), Some(parse(expected).expect(expected)), "{pattern}");
        }
        for same in ["drop the act", "a?b+c*", r"\bdo (as|what) [a-z]{1,3}\b"] {
            assert_eq!(of(same), None, "{same}");
        }
    }
}
