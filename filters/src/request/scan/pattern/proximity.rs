//! Atoms near each other → rules. What an atom's place is, for all of this, is where it *ends*.
//!
//! A rule fires in a text if, in one of its languages, there is a **chain**: one atom of each of its concepts, in
//! the order of their ends (in the rule's own order, where that counts), each ending at most `gap` characters
//! after the one before it and beginning after that one's end. A concept that a rule names twice needs two
//! atoms. An atom of an `unless` concept forbids every chain that it ends in, or ends at most `gap` characters
//! before the first atom's end of. An atom that begins inside one of an `except` concept does not count. Characters are counted as bytes times the width of the language's script.
//!
//! For each combination of concepts only the chain that ends last is kept: a later one can be extended by
//! whatever could extend an earlier one, except by an atom that overlaps its last. That exception is left as it
//! is: it makes the definition this program's, and the same for every engine.
//!
//! Cost: a text's atoms are collected first. A rule is looked at only if its rarest concept is there (rarest by
//! the packs, so one list lookup), then only if all are, and then only around the atoms of the concept that is
//! rarest in this text. So harmless text costs little more than writing its atoms down, and no text costs more
//! than the atoms near each other times the rules that name them.

use super::super::pack::{Languages, LinkedRule, MAX_CONCEPTS, Roles, Trigger, Views};
use super::super::{Role, View};
use super::workspace::{EXCEPTS, Event, FORBIDS, NONE, Workspace};

/// What is being scanned: rules for other views and roles stay silent.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The views that the text is, two for ASCII: raw and normalised.
    pub views: Views,
    /// Who wrote it.
    pub role: Role,
    /// Whether words are set apart in it; see [`crate::request::scan::view::Reading::has_lost_borders`].
    pub has_borders: bool,
    /// Whether it will be read together with other texts, so that all atoms at its ends are wanted.
    pub is_joined: bool,
}

impl Subject {
    /// One view of a text of this role.
    #[must_use]
    pub fn new(view: View, role: Role) -> Self {
        Self { views: Views::only(view), role, has_borders: true, is_joined: false }
    }
}

/// A rule that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Its number.
    pub rule: u32,
    /// Where its first atom begins, in bytes of the scanned view.
    pub start: u32,
    /// Where its last atom ends.
    pub end: u32,
}

/// The rules that are made of concepts.
#[derive(Debug, Default)]
pub(crate) struct Proximity {
    /// By the concept with which they are asked: the rarest they name.
    rules: Vec<Compiled>,
    /// For each concept where its rules begin; one more at the end.
    first_rule: Vec<u32>,
    /// How far before an atom that is still to come its chain, and what forbids that, can reach.
    reach: u32,
    /// How far behind an atom all has to be known to judge it: what is noted later than where it ends, and what takes it away.
    disorder: u32,
}

#[derive(Debug)]
struct Compiled {
    number: u32,
    /// As many as `steps`.
    named: [u16; MAX_CONCEPTS],
    steps: u8,
    unless: Vec<u16>,
    except: Vec<u16>,
    languages: Languages,
    ordered: Languages,
    gap: u32,
    views: Views,
    roles: Roles,
}

impl Proximity {
    /// `rarity` is larger the rarer a concept is likely to be. `disorder` is how much later than where it ends an
    /// atom may be noted.
    pub(crate) fn new(rules: &[LinkedRule], rarity: &[usize], disorder: usize) -> Self {
        let mut made = Self::default();
        let mut keyed = Vec::new();
        for (number, rule) in (0..).zip(rules) {
            let Trigger::Proximity { concepts, unless, except, ordered, gap } = &rule.trigger else {
                continue;
            };
            let Some(key) = concepts.iter().max_by_key(|concept| rarity[usize::from(**concept)]) else {
                continue;
            };
            let widest = rule.languages.each().map(Languages::bytes_per_letter).max().unwrap_or(1);
            made.reach = made.reach.max(gap * widest * concepts.len() as u32);
            // Reading a pack sees to it that there are no more than `MAX_CONCEPTS`.
            let mut named = [0; MAX_CONCEPTS];
            named[..concepts.len()].copy_from_slice(concepts);
            let compiled = Compiled {
                number,
                named,
                steps: concepts.len() as u8,
                unless: unless.clone(),
                except: except.clone(),
                languages: rule.languages,
                ordered: *ordered,
                gap: *gap,
                views: rule.views,
                roles: rule.roles,
            };
            keyed.push((*key, compiled));
        }
        keyed.sort_by_key(|(key, rule)| (*key, rule.number));
        let mut next = keyed.into_iter().peekable();
        for concept in 0..rarity.len() {
            made.first_rule.push(made.rules.len() as u32);
            while let Some((_, rule)) = next.next_if(|(key, _)| usize::from(*key) == concept) {
                made.rules.push(rule);
            }
        }
        made.first_rule.push(made.rules.len() as u32);
        made.disorder = u32::try_from(disorder).unwrap_or(u32::MAX / 2) + LONGEST_EXCEPT;
        made.reach += made.disorder;
        made
    }

    /// What judging one text after another needs.
    pub(crate) fn workspace(&self, rules: usize) -> Workspace {
        Workspace::new(self.first_rule.len() - 1, rules)
    }

    /// Drops what no atom that is still to come can be near to.
    pub(crate) fn forget(&self, found: &mut Workspace) {
        found.forget(self.reach);
    }

    /// Where atoms may still be missing, when the last one noted ends at `end`: from here on.
    pub(crate) fn known_until(&self, end: u32) -> u32 {
        end.saturating_sub(self.disorder)
    }

    /// Finds the concepts that can matter: those of rules of which all may be there, and what forbids those.
    pub(crate) fn choose(&self, found: &mut Workspace, subject: Subject) {
        for at in 0..found.candidates.len() {
            let concept = usize::from(found.candidates[at]);
            let rules = self.first_rule[concept] as usize..self.first_rule[concept + 1] as usize;
            for rule in &self.rules[rules] {
                let may_fire = rule.views.meets(subject.views)
                    && rule.roles.has(subject.role)
                    && rule
                        .concepts()
                        .iter()
                        .try_fold(rule.languages, |all, concept| {
                            Some(all.and(found.maybe(*concept))).filter(|all| !all.is_empty())
                        })
                        .is_some();
                if may_fire {
                    let all = rule.concepts().iter().chain(&rule.unless).chain(&rule.except);
                    all.for_each(|concept| found.need(*concept));
                }
            }
        }
    }

    /// Judges what has been collected and ends at `until` or before. Every rule fires once in a text, at the
    /// earliest end.
    pub(crate) fn settle(&self, found: &mut Workspace, until: u32, subject: Subject, hits: &mut Vec<Hit>) {
        found.index(until);
        for at in 0..found.touched.len() {
            let concept = usize::from(found.touched[at]);
            let rules = self.first_rule[concept] as usize..self.first_rule[concept + 1] as usize;
            for rule in &self.rules[rules] {
                if !rule.views.meets(subject.views)
                    || !rule.roles.has(subject.role)
                    || found.has_fired(rule.number)
                {
                    continue;
                }
                if let Some((start, end)) = rule.fires(found) {
                    found.set_fired(rule.number);
                    hits.push(Hit { rule: rule.number, start, end });
                }
            }
        }
    }
}

impl Compiled {
    fn concepts(&self) -> &[u16] {
        &self.named[..usize::from(self.steps)]
    }

    fn fires(&self, found: &mut Workspace) -> Option<(u32, u32)> {
        let mut there = self.languages;
        let mut shared = Languages::ANY;
        let mut rarest = (u32::MAX, 0);
        for concept in self.concepts() {
            let seen = found.seen(*concept)?;
            there = there.and(seen.in_any);
            shared = shared.and(seen.in_all);
            rarest = rarest.min((seen.count, seen.first));
        }
        if there.is_empty() {
            return None;
        }
        for concept in self.unless.iter().chain(&self.except) {
            shared = shared.and(found.seen(*concept).map_or(Languages::ANY, |seen| seen.in_all));
        }
        found.paint(self.concepts(), &self.unless, &self.except, true);
        let mut best: Option<(u32, u32)> = None;
        while let Some(language) = there.each().next() {
            // Languages that every atom belongs to see the same text, if they also count alike.
            let alike = if self.ordered.and(language).is_empty() {
                Languages::ANY.without(self.ordered)
            } else {
                self.ordered
            };
            let same = if shared.and(language).is_empty() {
                language
            } else {
                shared.and(alike).and(language.as_wide())
            };
            there = there.without(same.or(language));
            let chain = self.first_chain(found, language, rarest.1);
            best = match (best, chain) {
                (Some(one), Some(other)) if other.1 < one.1 => Some(other),
                (one, other) => one.or(other),
            };
        }
        found.paint(self.concepts(), &self.unless, &self.except, false);
        best
    }

    /// The chain that ends first. `key` is the first atom of the concept that is rarest here.
    fn first_chain(&self, found: &mut Workspace, language: Languages, mut key: u32) -> Option<(u32, u32)> {
        let gap = self.gap * language.bytes_per_letter();
        let steps = u32::from(self.steps);
        let reach = gap * (steps - 1);
        while key != NONE {
            let first = found.events[key as usize].end;
            let mut until = first.saturating_add(reach);
            let mut from = key as usize;
            // What a chain with this atom can begin with, and what can forbid it.
            let oldest = first.saturating_sub(reach + gap);
            while from > 0 && found.events[from - 1].end >= oldest {
                from -= 1;
            }
            key = found.next[key as usize];
            while key != NONE && found.events[key as usize].end <= until.saturating_add(reach + gap) {
                until = found.events[key as usize].end.saturating_add(reach);
                key = found.next[key as usize];
            }
            // Of what could forbid a chain that begins just after what is forgotten, some is forgotten too.
            let known = if found.kept_from == 0 { 0 } else { found.kept_from + gap };
            let chains = Chains::new(self, language, gap, known.max(first.saturating_sub(reach)));
            let known = found.next.len() - from;
            if let Some(chain) = chains.first(&found.events[from..], known, until, &found.colours) {
                return Some(chain);
            }
        }
        None
    }
}

/// Bytes behind an atom up to which one that takes it away may end.
const LONGEST_EXCEPT: u32 = 64;

/// The chains that end last, for every combination of a rule's concepts.
struct Chains {
    /// `(start, end)` by set of concepts; `end` is 0 where there is none.
    latest: [(u32, u32); 1 << MAX_CONCEPTS],
    whole: usize,
    is_ordered: bool,
    has_except: bool,
    language: Languages,
    gap: u32,
    /// Where chains may begin.
    since: u32,
    /// Where the last atom of an `unless` concept ended.
    forbidden: Option<u32>,
}

impl Chains {
    fn new(rule: &Compiled, language: Languages, gap: u32, since: u32) -> Self {
        Self {
            latest: [(0, 0); 1 << MAX_CONCEPTS],
            whole: (1 << rule.steps) - 1,
            is_ordered: !rule.ordered.and(language).is_empty(),
            has_except: !rule.except.is_empty(),
            language,
            gap,
            since,
            forbidden: None,
        }
    }

    /// The first chain of the first `known` of these atoms. Those behind them may take some away.
    fn first(mut self, events: &[Event], known: usize, until: u32, all_colours: &[u8]) -> Option<(u32, u32)> {
        let language = self.language;
        let mut at = 0;
        while let Some(first) = events[..known].get(at)
            && first.end <= until
        {
            let ties = events[at..known].iter().take_while(|event| event.end == first.end).count();
            let group = &events[at..at + ties];
            at += ties;
            let mine = |event: &&Event| !event.languages.and(language).is_empty();
            if group.iter().filter(mine).any(|event| all_colours[usize::from(event.concept)] & FORBIDS != 0) {
                self.latest[..=self.whole].fill((0, 0));
                self.forbidden = Some(first.end);
                continue;
            }
            for event in group {
                let colours = all_colours[usize::from(event.concept)];
                if colours & !EXCEPTS != 0
                    && mine(&event)
                    && !self.is_excepted(event, events, at, all_colours)
                {
                    self.extend(event, usize::from(colours));
                }
            }
            let (start, end) = self.latest[self.whole];
            if end != 0 {
                return Some((start, end));
            }
        }
        None
    }

    /// Whether an atom begins inside one that takes it away. `at` is the place behind those that end where it does.
    fn is_excepted(&self, atom: &Event, events: &[Event], at: usize, colours: &[u8]) -> bool {
        let excepts = |event: &Event| {
            colours[usize::from(event.concept)] == EXCEPTS
                && event.start <= atom.start
                && !event.languages.and(self.language).is_empty()
        };
        let (before, behind) = events.split_at(at);
        self.has_except
            && (before.iter().rev().take_while(|event| event.end > atom.start).any(excepts)
                || behind.iter().take_while(|event| event.end <= atom.end + LONGEST_EXCEPT).any(excepts))
    }

    fn extend(&mut self, event: &Event, colours: usize) {
        let may_begin = event.end >= self.since
            && self.forbidden.is_none_or(|forbidden| event.end - forbidden > self.gap);
        // From the largest set down, so that an atom never follows itself.
        for set in (1..=self.whole).rev() {
            let mut last = set & colours;
            if self.is_ordered {
                // Only the first few concepts make a set, and only the last of them may come now.
                last &= if (set + 1).is_power_of_two() { (set + 1) >> 1 } else { 0 };
            }
            let mut start = None;
            while last != 0 {
                let concept = last & last.wrapping_neg();
                last ^= concept;
                let before = set ^ concept;
                let (begun, ended) = self.latest[before];
                if before == 0 {
                    start = start.max(may_begin.then_some(event.start));
                } else if ended != 0 && ended <= event.start && event.end - ended <= self.gap {
                    start = start.max(Some(begun));
                }
            }
            if let Some(start) = start {
                self.latest[set] = (start, event.end);
            }
        }
    }
}
