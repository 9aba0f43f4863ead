//! Layer 3: what only a run of prompts shows. A [`History`] remembers one conversation of one key: how often the same was
//! asked in a row ([`Asked`]), what was left open at the ends of the last prompts ("ignore the" now, "previous instructions"
//! next, with a harmless question between), and what the refused ones looked like. It keeps hashes and the places of
//! rule words; no prompt.
//!
//! Read together: a prompt is read as if each of the last prompts stood directly before it, alone or as the end of a
//! chain. What is found then and in neither part alone is an attack in pieces. A harmless prompt between the pieces
//! does not part them, because chains skip it; and a harmless prompt rarely ends a word or two into an attack, so
//! little is found that is not there.
//!
//! Bounds: at most `MOST_CHAINS` chains of `MOST_EVENTS` words a prompt, and as many prompts as the settings say.
//! Time is passed in. One conversation is used by one request at a time; the caller holds the lock.

use std::collections::VecDeque;
use std::time::Duration;

use super::Severity;
use super::pattern::{EDGE, Event};
use super::policy::Action;

mod asked;
mod attached;
mod declined;
mod kept;
mod sketch;

pub use asked::{Asked, prompt_hash};
pub use attached::Attached;
pub(super) use declined::declines;
pub use kept::Kept;
pub use sketch::{Sketch, text_hash};

/// Bytes around a seam that are read together. Rules reach 40 characters by default; scripts of three bytes a
/// character need more.
const REACH: u32 = EDGE;
/// Chains that one prompt leaves behind: its own end, and that end after what came before.
const MOST_CHAINS: usize = 6;
/// Rule words of one chain.
const MOST_EVENTS: usize = 48;
/// Refused prompts that are remembered.
const MOST_REFUSED: usize = 4;
/// Prompts that the model declined that are remembered.
const MOST_DECLINED: usize = 4;
/// Times that a declined prompt may be asked again before that weighs more.
const INSISTING: u32 = 3;
/// Share of words in common from which a prompt is a variation of another.
const VARIATION: f32 = 0.6;
/// Refused prompts in memory from which a mark is one too many.
const TOO_MANY: f32 = 3.0;

/// How a history is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The same prompt this many times in a row is an attack.
    pub repeats: u32,
    /// Earlier prompts with which a prompt is read together.
    pub prompts: usize,
    /// Half of what is held against a conversation is forgotten in this time.
    pub half_life: Duration,
}

/// One prompt, as the other layers saw it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Hash of what its request asks anew; see [`Asked::hash`].
    pub asked: u64,
    /// Hash of its normalised text; see [`prompt_hash`].
    pub hash: u64,
    /// Its normalised text, for what must be compared with a refused one. Not kept.
    pub text: &'a str,
    /// Its rule words in the order of their ends.
    pub events: &'a [Event],
    /// What its own score came to.
    pub action: Action,
}

/// What the run of prompts shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// The same prompt again and again.
    Repeated {
        /// How many times in a row.
        times: u32,
    },
    /// A rule, by its number, that this prompt and earlier ones satisfy together.
    Pieces {
        /// The rule.
        rule: u32,
    },
    /// What the last turns of a request have in them as one text, and none of them alone.
    Together {
        /// How much that weighs.
        severity: Severity,
    },
    /// Nearly a prompt that was refused.
    Variation,
    /// Marked after several refusals.
    Escalation,
    /// Nearly a prompt that the model has declined to answer.
    AskedAgain {
        /// Whether it has been asked again several times by now.
        is_insisting: bool,
    },
}

/// What one conversation has left behind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    last_hash: u64,
    times: u32,
    /// Hash of the last prompt's text alone: it may come again in a request that asks something else.
    last_text: u64,
    ends: VecDeque<Vec<Chain>>,
    refused: VecDeque<(u64, Sketch)>,
    /// What the model declined to answer, and how often that was asked again.
    declined: VecDeque<Sketch>,
    asked_again: u32,
    heat: f32,
    heat_at: Duration,
}

/// Rule words near an end, which is at [`REACH`].
#[derive(Debug, Clone, Default, PartialEq)]
struct Chain {
    events: Vec<Event>,
}

impl Chain {
    /// These words with `events` after them, as one text. Words beyond reach of the seam are left out.
    fn join(&self, events: &[Event]) -> Vec<Event> {
        let after = events.iter().take_while(|event| event.end <= REACH).take(MOST_EVENTS);
        let after = after.map(|event| Event { start: REACH + event.start, end: REACH + event.end, ..*event });
        self.events.iter().copied().chain(after).collect()
    }

    /// The end of a text of `length` bytes, placed so that it ends at [`REACH`].
    fn end_of(events: &[Event], length: u32) -> Self {
        let near = || events.iter().filter(|event| length.saturating_sub(event.end) <= REACH);
        let skip = near().count().saturating_sub(MOST_EVENTS);
        let place = |at: u32| (at + REACH).saturating_sub(length);
        let placed = |event: &Event| Event { start: place(event.start), end: place(event.end), ..*event };
        Self { events: near().skip(skip).map(placed).collect() }
    }
}

impl History {
    /// Takes note of a prompt and tells what it shows together with the earlier ones. `rules_in` gives the numbers of
    /// the rules that a sequence of rule words satisfies.
    ///
    /// # Cost
    /// Nothing is allocated for a prompt without rule words near its ends, in a conversation without refusals.
    pub fn observe(
        &mut self,
        seen: &Seen<'_>,
        settings: &Settings,
        now: Duration,
        rules_in: impl FnMut(&[Event]) -> Vec<u32>,
    ) -> Vec<Pattern> {
        self.times = if self.last_hash == seen.asked { self.times.saturating_add(1) } else { 1 };
        self.last_hash = seen.asked;
        let repeated = (self.times >= settings.repeats).then_some(Pattern::Repeated { times: self.times });
        let mut patterns = self.read(seen, settings, now, rules_in);
        patterns.splice(0..0, repeated);
        patterns
    }

    /// The same for a turn of a request that goes on: how often a request comes is not counted.
    pub fn read(
        &mut self,
        seen: &Seen<'_>,
        settings: &Settings,
        now: Duration,
        mut rules_in: impl FnMut(&[Event]) -> Vec<u32>,
    ) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        let is_other = std::mem::replace(&mut self.last_text, seen.hash) != seen.hash;
        if is_other && settings.prompts > 0 && !seen.events.is_empty() {
            let found = self.read_together(seen, settings.prompts, &mut rules_in);
            patterns.extend(found.into_iter().map(|rule| Pattern::Pieces { rule }));
        }
        self.weigh(seen, settings, now, &mut patterns);
        patterns
    }

    /// Says that the prompt observed last was refused after all, by what was found in it and its forerunners.
    pub fn refuse_last(&mut self, seen: &Seen<'_>) {
        if !self.refused.iter().any(|(hash, _)| *hash == seen.hash) {
            self.refused.truncate(MOST_REFUSED - 1);
            self.refused.push_front((seen.hash, Sketch::of(seen.text)));
        }
        self.heat += 1.0;
        // The pieces have done their work; what follows begins anew.
        self.ends.clear();
    }

    /// Says that the model declined to answer the prompt observed last.
    pub fn declined_last(&mut self, seen: &Seen<'_>) {
        self.declined.truncate(MOST_DECLINED - 1);
        self.declined.push_front(Sketch::of(seen.text));
    }

    /// Hash of what the request observed last asked.
    #[must_use]
    pub fn last_hash(&self) -> u64 {
        self.last_hash
    }

    /// Forgets the rule words of the last prompts: other rules are in force, which have other ones.
    pub fn forget_words(&mut self) {
        self.ends.clear();
    }

    /// Says that a request, by the hash of what it asked, got no answer: asking it again is no repeat. One that is not the last any more counts no more.
    pub fn unanswered(&mut self, hash: u64) {
        if self.last_hash == hash {
            self.times = self.times.saturating_sub(1);
        }
    }

    /// Adds what another gateway has seen of the same conversation, where this one has seen something that it does not know.
    pub fn merge(&mut self, other: Self, settings: &Settings, now: Duration) {
        if self.last_hash == other.last_hash {
            self.times = self.times.max(other.times);
        }
        for chains in other.ends {
            if !self.ends.contains(&chains) {
                self.ends.push_back(chains);
            }
        }
        self.ends.truncate(settings.prompts);
        for refused in other.refused {
            if !self.refused.iter().any(|(hash, _)| *hash == refused.0) {
                self.refused.push_back(refused);
            }
        }
        self.refused.truncate(MOST_REFUSED);
        for declined in other.declined {
            if !self.declined.contains(&declined) {
                self.declined.push_back(declined);
            }
        }
        self.declined.truncate(MOST_DECLINED);
        self.asked_again = self.asked_again.max(other.asked_again);
        self.cool(now.saturating_sub(self.heat_at), settings);
        self.heat_at = now;
        self.heat = self.heat.max(other.heat);
    }

    fn read_together(
        &mut self,
        seen: &Seen<'_>,
        prompts: usize,
        rules_in: &mut impl FnMut(&[Event]) -> Vec<u32>,
    ) -> Vec<u32> {
        let length = u32::try_from(seen.text.len()).unwrap_or(u32::MAX);
        let own_end = Chain::end_of(seen.events, length);
        let mut left = vec![own_end];
        let mut found = Vec::new();
        let mut alone: Option<Vec<u32>> = None;
        for chain in self.ends.iter().flatten() {
            if seen.events[0].end > REACH {
                break;
            }
            let joined = chain.join(seen.events);
            let mut rules = rules_in(&joined);
            if !rules.is_empty() {
                let alone = alone.get_or_insert_with(|| rules_in(seen.events));
                let before = rules_in(&chain.join(&[]));
                rules.retain(|rule| !alone.contains(rule) && !before.contains(rule) && !found.contains(rule));
                found.extend(rules);
            }
            // Only a prompt short enough to be a piece itself lets a chain go on through it.
            if length <= REACH && left.len() < MOST_CHAINS {
                let end = Chain::end_of(&joined, REACH + length);
                if !left.contains(&end) {
                    left.push(end);
                }
            }
        }
        left.retain(|chain| !chain.events.is_empty());
        if !left.is_empty() {
            self.ends.truncate(prompts.saturating_sub(1));
            self.ends.push_front(left);
        }
        found
    }

    /// What is held against a conversation fades.
    fn cool(&mut self, passed: Duration, settings: &Settings) {
        self.heat *= (-passed.as_secs_f32() / settings.half_life.as_secs_f32().max(1.0)).exp2();
    }

    fn weigh(&mut self, seen: &Seen<'_>, settings: &Settings, now: Duration, patterns: &mut Vec<Pattern>) {
        if !self.refused.is_empty() && seen.action < Action::Block {
            let is_new = self.refused.iter().all(|(hash, _)| *hash != seen.hash);
            if is_new {
                let sketch = Sketch::of(seen.text);
                if self.refused.iter().any(|(_, other)| sketch.likeness(other) >= VARIATION) {
                    patterns.push(Pattern::Variation);
                }
            }
        }
        if !self.declined.is_empty() {
            let sketch = Sketch::of(seen.text);
            if self.declined.iter().any(|other| sketch.likeness(other) >= VARIATION) {
                self.asked_again += 1;
                patterns.push(Pattern::AskedAgain { is_insisting: self.asked_again >= INSISTING });
            }
        }
        self.cool(now.saturating_sub(self.heat_at), settings);
        self.heat_at = now;
        if seen.action == Action::Flag && self.heat >= TOO_MANY - 0.5 {
            patterns.push(Pattern::Escalation);
        }
    }
}

#[cfg(test)]
mod tests;
