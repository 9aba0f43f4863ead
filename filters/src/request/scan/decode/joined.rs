//! Words written without anything between them ("ignoreallrules", "IgnoreAllRules"). Models read them as easily; rules are looked for
//! in them without regard to borders. Names in code and long words of German are as long at times and say nothing that a rule knows.

use std::ops::Range;

use super::super::view::Likelihood;
use super::{Budget, Encoding, Piece};

/// Letters of several words.
const SHORTEST: usize = 28;

/// Takes the long words out of the runs of letters and digits that the survey saw.
pub(super) fn find(whole: &str, runs: &[Range<usize>], budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let bytes = whole.as_bytes();
    let mut done = 0;
    for run in runs {
        let mut at = run.start.max(done);
        at -= bytes[done..at].iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
        while at < run.end {
            let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let word = at..at + length;
            if length >= SHORTEST && Likelihood::of(&bytes[word.clone()]).is_words() {
                let text = whole[word.clone()].to_ascii_lowercase();
                budget.keep(pieces, Piece { encoding: Encoding::Joined, span: word.clone(), text });
            }
            done = word.end;
            at = word.end + 1;
        }
    }
}
