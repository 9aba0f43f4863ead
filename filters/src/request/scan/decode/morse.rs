//! Morse (ITU-R M.1677-1): letters set apart by a space, words by a stroke or by three spaces.

use std::ops::Range;

use super::plausible::has_words;
use super::{Budget, Encoding, Piece};

/// Letters of a run that is worth reading, and its bytes.
const FEWEST: usize = 12;
const SHORTEST: usize = 2 * FEWEST;

/// Reads the runs in which the survey saw hardly anything but dots and dashes.
pub(super) fn find(whole: &str, runs: &[Range<usize>], budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let bytes = whole.as_bytes();
    let mut done = 0;
    for blocks in runs {
        let mut at = blocks.start.max(done);
        at -= bytes[done..at].iter().rev().take_while(|byte| is_part(**byte)).count();
        while at < blocks.end {
            let length = bytes[at..].iter().take_while(|byte| is_part(**byte)).count();
            done = at + length;
            if length >= SHORTEST {
                let span = budget.fit(at..done, 2, 1);
                if let Some(text) = read(&whole[span.clone()]) {
                    budget.keep(pieces, Piece { encoding: Encoding::Morse, span, text });
                }
            }
            at = done + 1;
        }
    }
}

fn is_part(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'/' | b'|' | b' ' | b'\n' | b'\r')
}

/// What it says, if nearly all of it are letters. One that is none is left out.
fn read(signs: &str) -> Option<String> {
    let (mut text, mut letters, mut unknown) = (String::new(), 0, 0);
    for word in signs.split(['/', '|', '\n']).flat_map(|line| line.split("   ")) {
        if !text.is_empty() && !text.ends_with(' ') {
            text.push(' ');
        }
        for sign in word.split_ascii_whitespace() {
            match LETTERS.iter().find(|(code, _)| *code == sign) {
                Some((_, letter)) => {
                    text.push(*letter);
                    letters += 1;
                }
                None => unknown += 1,
            }
        }
    }
    (letters >= FEWEST && unknown * 8 <= letters && has_words(&text)).then_some(text)
}

const LETTERS: [(&str, char); 44] = [
    (".-", 'a'),
    ("-...", 'b'),
    ("-.-.", 'c'),
    ("-..", 'd'),
    (".", 'e'),
    ("..-.", 'f'),
    ("--.", 'g'),
    ("....", 'h'),
    ("..", 'i'),
    (".---", 'j'),
    ("-.-", 'k'),
    (".-..", 'l'),
    ("--", 'm'),
    ("-.", 'n'),
    ("---", 'o'),
    (".--.", 'p'),
    ("--.-", 'q'),
    (".-.", 'r'),
    ("...", 's'),
    ("-", 't'),
    ("..-", 'u'),
    ("...-", 'v'),
    (".--", 'w'),
    ("-..-", 'x'),
    ("-.--", 'y'),
    ("--..", 'z'),
    ("-----", '0'),
    (".----", '1'),
    ("..---", '2'),
    ("...--", '3'),
    ("....-", '4'),
    (".....", '5'),
    ("-....", '6'),
    ("--...", '7'),
    ("---..", '8'),
    ("----.", '9'),
    (".-.-.-", '.'),
    ("--..--", ','),
    ("---...", ':'),
    ("..--..", '?'),
    (".----.", '\''),
    ("-....-", '-'),
    ("-..-.", '/'),
    ("-.-.--", '!'),
];
