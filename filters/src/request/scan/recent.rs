//! Texts seen lately and what was seen in them. A conversation is sent whole with each of its turns, and an application
//! sends its system prompt with every request: most of what a gateway is given to look at, it has looked at before.
//!
//! A text is known again by a hash of 128 bits with a key of this process (HighwayHash,
//! <https://arxiv.org/abs/1612.06257>), so that nobody can make two texts that pass for each other; no text is kept. What
//! belongs to one owner is never found for another, also because the time an answer takes would tell that somebody else
//! has sent the same.
//!
//! Memory: at most [`MOST_FINDINGS`] findings and [`MOST_EVENTS`] rule words for each text, some 5 KiB; a text with more is
//! looked at each time. Cost: one hash of the text; a known prompt of 1.2 KB takes some 3 µs of a request in all
//! (`benches/record/2026-11-29-answers-amd-epyc.md`).

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::LazyLock;

use highway::{HighwayHash, HighwayHasher, Key};

use super::pattern::Event;
use super::{Finding, Role};

/// Texts with one rest of their hash.
const WAYS: usize = 4;

/// A shorter text is looked at faster than it is found here.
const SHORTEST: usize = 64;

/// Findings kept of one text.
const MOST_FINDINGS: usize = 16;

/// Rule words kept of one text.
const MOST_EVENTS: usize = 256;

/// The key of this process.
static KEY: LazyLock<[u64; 4]> = LazyLock::new(|| {
    let random = RandomState::new();
    std::array::from_fn(|part| random.hash_one(part))
});

/// By what a text is known again.
type Name = [u64; 2];

/// What was seen in a text.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) findings: Vec<Finding>,
    pub(super) learned: f32,
    pub(super) learned_span: Range<usize>,
    pub(super) events: Vec<Event>,
}

/// The last used first.
type Set = [Option<(Name, Box<Outcome>)>; WAYS];

/// The texts that one thread has seen lately: a few for each rest of the hash.
#[derive(Debug, Default)]
pub(super) struct Recent {
    sets: Vec<Set>,
    /// Whose findings these are; see [`Recent::of`].
    scanner: u64,
}

impl Recent {
    /// Makes room for `texts`, or as many more as make a power of two. Nothing is kept if that is 0.
    pub(super) fn resize(&mut self, texts: usize) {
        let sets = if texts == 0 { 0 } else { texts.div_ceil(WAYS).next_power_of_two() };
        if sets != self.sets.len() {
            self.sets = (0..sets).map(|_| [const { None }; WAYS]).collect();
        }
    }

    /// The same, with what another scanner has seen forgotten.
    pub(super) fn of(&mut self, scanner: u64) -> &mut Self {
        if self.scanner != scanner {
            self.scanner = scanner;
            self.sets.iter_mut().flatten().for_each(|kept| *kept = None);
        }
        self
    }

    /// By what a text is known again; `None` if it is not to be kept.
    pub(super) fn name(&self, text: &str, role: Role, owner: u64, is_joined: bool) -> Option<Name> {
        if self.sets.is_empty() || text.len() < SHORTEST {
            return None;
        }
        let [a, b, c, d] = *KEY;
        let mut hasher = HighwayHasher::new(Key([a ^ owner, b ^ role as u64, c ^ u64::from(is_joined), d]));
        hasher.append(text.as_bytes());
        Some(hasher.finalize128())
    }

    /// What was seen in the text of this name.
    pub(super) fn get(&mut self, name: Name) -> Option<&Outcome> {
        let set = self.set(name);
        let way = set.iter().position(|kept| kept.as_ref().is_some_and(|(other, _)| *other == name))?;
        set[..=way].rotate_right(1);
        set[0].as_ref().map(|(_, outcome)| &**outcome)
    }

    /// Keeps what was seen in the text of this name, in the place of what has not been asked for longest.
    pub(super) fn keep(
        &mut self,
        name: Name,
        findings: &[Finding],
        events: &[Event],
        learned: (f32, Range<usize>),
    ) {
        if findings.len() > MOST_FINDINGS || events.len() > MOST_EVENTS {
            return;
        }
        let set = self.set(name);
        set.rotate_right(1);
        // The memory of what goes is used again.
        let (_, mut outcome) = set[0].take().unwrap_or_default();
        outcome.findings.clear();
        outcome.findings.extend_from_slice(findings);
        outcome.events.clear();
        outcome.events.extend_from_slice(events);
        (outcome.learned, outcome.learned_span) = learned;
        set[0] = Some((name, outcome));
    }

    fn set(&mut self, name: Name) -> &mut Set {
        let at = name[0] as usize & (self.sets.len() - 1);
        &mut self.sets[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(texts: usize) -> Recent {
        let mut recent = Recent::default();
        recent.resize(texts);
        recent
    }

    fn keep(recent: &mut Recent, text: &str, learned: f32) {
        let name = recent.name(text, Role::User, 7, false).expect("long enough");
        recent.keep(name, &[], &[], (learned, 0..1));
    }

    fn learned(recent: &mut Recent, text: &str, role: Role, owner: u64) -> Option<f32> {
        let name = recent.name(text, role, owner, false)?;
        recent.get(name).map(|outcome| outcome.learned)
    }

    #[test]
    fn a_text_is_known_again_to_its_owner_in_its_role() {
        let mut recent = recent(64);
        let (text, other) = ("a".repeat(100), "b".repeat(100));
        keep(&mut recent, &text, 0.25);
        keep(&mut recent, &other, 0.5);
        assert_eq!(learned(&mut recent, &text, Role::User, 7), Some(0.25));
        assert_eq!(learned(&mut recent, &other, Role::User, 7), Some(0.5));
        assert_eq!(learned(&mut recent, &text, Role::System, 7), None);
        assert_eq!(learned(&mut recent, &text, Role::User, 8), None);
        assert_eq!(learned(&mut recent, &text[1..], Role::User, 7), None);
        recent.of(1);
        assert_eq!(learned(&mut recent, &text, Role::User, 7), None, "another scanner may say otherwise");
    }

    #[test]
    fn what_is_asked_for_stays() {
        let mut recent = recent(WAYS);
        let texts: Vec<String> = (0..=WAYS).map(|number| format!("{number}").repeat(100)).collect();
        for text in &texts[..WAYS] {
            keep(&mut recent, text, 0.0);
        }
        assert!(learned(&mut recent, &texts[0], Role::User, 7).is_some());
        keep(&mut recent, &texts[WAYS], 0.0);
        let left = texts.iter().map(|text| learned(&mut recent, text, Role::User, 7).is_some());
        assert_eq!(left.collect::<Vec<_>>(), [true, false, true, true, true]);
    }

    #[test]
    fn nothing_is_kept_without_room_or_of_short_texts() {
        assert_eq!(recent(0).name(&"a".repeat(100), Role::User, 7, false), None);
        assert_eq!(recent(64).name("short", Role::User, 7, false), None);
    }
}
