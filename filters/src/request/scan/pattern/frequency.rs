//! How often a word stands in ordinary texts. It decides by which word a phrase is looked up; what is found does not
//! depend on it.
//!
//! `frequency.txt`: a word and how many there are of it in a million, the most common first; counted in harmless prompts
//! and documents in English, and at a tenth of their share in French, German, Spanish, Italian, Portuguese and Turkish,
//! without accents. A word that is not there is taken for a rare one.

use std::collections::HashMap;

const COUNTED: &str = include_str!("frequency.txt");

/// What is not counted, in a million words.
const RARE: f32 = 8.0;

/// Words by how often they stand in a million.
#[derive(Debug)]
pub(super) struct Frequency {
    words: HashMap<&'static str, f32>,
}

impl Frequency {
    pub(super) fn new() -> Self {
        let words = COUNTED.lines().filter_map(|line| {
            let (word, count) = line.split_once(' ')?;
            Some((word, count.parse().ok()?))
        });
        Self { words: words.collect() }
    }

    /// Of this word, in lower case.
    pub(super) fn of_word(&self, word: &[u8]) -> f32 {
        str::from_utf8(word).ok().and_then(|word| self.words.get(word)).copied().unwrap_or(RARE)
    }

    /// Of all words that begin so.
    pub(super) fn of_beginning(&self, letters: &str) -> f32 {
        let counted = self.words.iter().filter(|(word, _)| word.starts_with(letters));
        RARE + counted.map(|(_, count)| count).sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_are_more_frequent_than_rare_ones() {
        let frequency = Frequency::new();
        let words = ["the", "you", "instructions", "xylophones"];
        let counts = words.map(|word| frequency.of_word(word.as_bytes()));
        assert!(counts.is_sorted_by(|one, other| one > other), "{counts:?}");
    }
}
