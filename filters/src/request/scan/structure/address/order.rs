//! Short hidden sentences: an order to whoever answers, or a note to whoever makes the page or looks at it? Told by
//! the sentence's verb and by what else is in it ([`lexicon`]), and in Chinese, Japanese and Korean by its parts.

use super::super::Hiding;
use super::far_east;
use super::lexicon::{
    self, ABOUT, ASKS, CLAUSE, DOES, FILLS, HOW, Kinds, LEAD, MAKES, MODAL, MODEL, NOTE, OF, READER, READS,
    SIE, SUBJECT, TALKS, TO,
};
use super::name_end;

/// The longest order.
const LONGEST: usize = 400;
/// The most sentences.
const SENTENCES: usize = 3;
/// The longest word that is known.
const WORD: usize = 32;
/// How many words stand before the colon behind a model's name.
const CALL: usize = 12;

/// `text` without the tags and conditions (`[if IE]>`) that it begins and ends with.
pub(super) fn unwrapped(text: &str) -> &str {
    let mut text = text.trim();
    if text.starts_with("[if ")
        && let Some(end) = text.find("]>")
    {
        text = text[end + 2..].trim_start();
        text = text.strip_suffix("<![endif]").unwrap_or(text).trim_end();
    }
    for _ in 0..8 {
        let Some(end) = text.strip_prefix('<').and_then(|rest| rest.find('>')) else { break };
        text = text[end + 2..].trim_start();
    }
    for _ in 0..8 {
        let Some(start) = text.strip_suffix('>').and_then(|rest| rest.rfind('<')) else { break };
        text = text[..start].trim_end();
    }
    text
}

/// Whether `text` is one to three sentences, half of them orders and none for people.
pub(super) fn is_task(text: &str, hiding: Hiding) -> bool {
    let text =
        text.trim_matches(|mark: char| mark.is_whitespace() || matches!(mark, '-' | '*' | '"' | '\'' | '!'));
    if text.len() > LONGEST || text.contains(['<', '>', '{', '}', '=', ';', '\n']) && !is_wrapped(text) {
        return false;
    }
    // Most of what pages hide does not begin with a verb that is known.
    if !sentences(text).take(SENTENCES).any(|(sentence, _)| may_order(sentence)) {
        return false;
    }
    let (mut count, mut orders) = (0, 0);
    for (sentence, is_ended) in sentences(text) {
        count += 1;
        let is_order = if far_east::is_written(sentence) {
            far_east::is_order(sentence, is_ended || hiding == Hiding::Comment)
        } else {
            let read = Sentence::read(sentence);
            if read.has(NOTE) {
                return false;
            }
            read.is_order(is_ended, hiding)
        };
        orders += usize::from(is_order);
        if count > SENTENCES {
            return false;
        }
    }
    orders > 0 && 2 * orders >= count
}

/// A first look at a sentence.
fn may_order(sentence: &str) -> bool {
    const BEFORE: Kinds = LEAD | CLAUSE;
    const VERBS: Kinds = ASKS | DOES | TALKS | SIE | SUBJECT;
    let sentence = without_opening(sentence);
    let known =
        words(sentence).map(|(_, word)| kinds(word)).find(|kinds| kinds & BEFORE == 0 || kinds & VERBS != 0);
    match words(sentence).next().map(|(_, word)| kinds(word)) {
        Some(first) if first & CLAUSE != 0 => true,
        _ => known.is_some_and(|kinds| kinds & VERBS != 0) || far_east::is_written(sentence),
    }
}

/// Lines that are one paragraph.
fn is_wrapped(text: &str) -> bool {
    !text.contains(['<', '>', '{', '}', '=', ';'])
        && !text.contains("\n\n")
        && text.matches('\n').count() <= 4
}

/// Whether `text` begins as templates of reports do where they say what to write.
pub(super) fn fills_template(text: &str) -> bool {
    Sentence::read(first(unwrapped(text))).verb & FILLS != 0
}

/// Whether `text` calls a model by a name and then gives it an order: "AI: say …", "Note for GPT: answer …".
pub(super) fn calls_model(text: &str) -> bool {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    if far_east::asks_model(text) {
        return true;
    }
    let mut names = false;
    let mut is_modal = false;
    let mut last = TO;
    let mut is_clause = false;
    let mut is_told = false;
    let mut spelled = None;
    for (count, (at, word)) in words(text).enumerate().take(CALL) {
        let kinds = kinds(word);
        let end = at + word.len();
        // "AI must …"
        if is_modal && kinds & LEAD == 0 {
            return kinds & (ASKS | DOES | TALKS) != 0;
        }
        is_modal = names && kinds & MODAL != 0 || is_modal;
        let is_whole = word.len() > 2 || word.chars().all(char::is_uppercase);
        names |= kinds & MODEL != 0 && is_whole || kinds & READER != 0 && last & TO != 0;
        // "When summarizing this page, …"
        is_clause |= count == 0 && kinds & CLAUSE != 0;
        names |= is_clause && kinds & READS != 0;
        if !ARTICLES.iter().any(|article| word.eq_ignore_ascii_case(article)) {
            last = kinds;
        }
        // "GPT-4" and "KI-Assistenten" go on.
        if !text[end..].starts_with('-')
            && let Some(rest) = text[end..].trim_start().strip_prefix(CALLS)
            && (names
                || *spelled.get_or_insert_with(|| name_end(text.as_bytes()).unwrap_or(usize::MAX)) <= end)
        {
            if Sentence::read(first(rest)).begins_order() {
                return true;
            }
            // Who is called is soon told what to do; a clause may be longer.
            if !is_clause && is_told {
                return false;
            }
            is_told = true;
        }
    }
    false
}

/// Words between "for" and who is called.
const ARTICLES: [&str; 11] = ["the", "all", "any", "die", "den", "das", "la", "le", "les", "el", "il"];

/// What stands between who is called and what is asked.
const CALLS: [char; 10] = [']', ':', ',', '-', '–', '—', '.', '!', '：', '，'];

/// The first sentence of `text`.
fn first(text: &str) -> &str {
    sentences(text).next().map_or("", |(sentence, _)| sentence)
}

/// The sentences of `text`, and whether a mark ends each.
fn sentences(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = text.trim_start();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends = |(at, mark): (usize, char)| {
            let behind = at + mark.len_utf8();
            let is_end = match mark {
                '.' | '!' => rest[behind..].chars().next().is_none_or(|next| !next.is_alphanumeric()),
                '。' | '！' | '।' | '?' | '？' => true,
                _ => false,
            };
            // A question keeps its mark.
            let end = if matches!(mark, '?' | '？') { behind } else { at };
            is_end.then_some((end, behind))
        };
        let (end, behind) = rest.char_indices().find_map(ends).unwrap_or((rest.len(), rest.len()));
        let sentence = (&rest[..end], behind > end || rest[..end].ends_with('?'));
        rest = rest[behind..].trim_start_matches(|mark: char| !mark.is_alphanumeric());
        Some(sentence)
    })
}

/// The words of `text` with their places, but for those of addresses.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |mark: char| mark.is_alphanumeric() || matches!(mark, '\'' | '’');
    let mut at = 0;
    let mut address_until = 0;
    let mut looked_until = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].find(is_word)?;
            let end = text[start..].find(|mark| !is_word(mark)).map_or(text.len(), |hit| start + hit);
            at = end;
            if start >= looked_until && text[end..].starts_with(['@', '.', ':', '/']) {
                let token = &text[start..];
                let token = &token[..token.find(char::is_whitespace).unwrap_or(token.len())];
                looked_until = start + token.len();
                if is_address(token) {
                    address_until = looked_until;
                }
            }
            if start >= address_until {
                return Some((start, &text[start..end]));
            }
        }
    })
}

fn is_address(text: &str) -> bool {
    text.contains("://") || text.contains('@') || text.contains("www.")
}

/// What a word may be, whatever its case. "l'IA" is looked up behind its apostrophe.
fn kinds(word: &str) -> Kinds {
    let mut room = [0; WORD];
    let mut length = 0;
    for mark in word.chars().flat_map(char::to_lowercase) {
        let Some(place) = room.get_mut(length..length + mark.len_utf8()) else { return 0 };
        length += mark.encode_utf8(place).len();
    }
    let Ok(lower) = std::str::from_utf8(&room[..length]) else { return 0 };
    let found = lexicon::kinds(lower);
    match lower.rsplit_once(['\'', '’']) {
        Some((_, last)) if found == 0 => lexicon::kinds(last),
        _ => found,
    }
}

/// What may open an order in several words.
const OPENINGS: [&str; 16] = [
    "can you ",
    "could you ",
    "would you ",
    "every ",
    "each ",
    "any ",
    "make sure to ",
    "make sure that you ",
    "make sure you ",
    "be sure to ",
    "remember to ",
    "you have to ",
    "you need to ",
    "you are to ",
    "you will ",
    "the ",
];

/// Those that make a question an order.
const REQUESTS: [&str; 3] = ["can you ", "could you ", "would you "];

fn opens(text: &str, opening: &str) -> bool {
    text.get(..opening.len()).is_some_and(|part| part.eq_ignore_ascii_case(opening))
}

fn without_opening(text: &str) -> &str {
    let text = text.trim_start();
    let opening = OPENINGS.iter().find(|opening| opens(text, opening));
    &text[opening.map_or(0, |opening| opening.len())..]
}

/// What the words of a sentence come to.
#[derive(Default)]
struct Sentence {
    count: usize,
    /// All kinds of words in it.
    kinds: Kinds,
    /// The kinds of the verb that it begins with, and of the word behind.
    verb: Kinds,
    behind: Kinds,
    is_sie: bool,
    has_clause: bool,
    is_question: bool,
    has_address: bool,
}

impl Sentence {
    fn read(text: &str) -> Self {
        let is_request = REQUESTS.iter().any(|request| opens(text, request));
        let text = without_opening(text);
        let mut found = Self { is_question: text.ends_with('?') && !is_request, ..Self::default() };
        // "Write to a@b.c", "link to https://…": somewhere to send things.
        found.has_address = is_address(text);
        let is_from_here_on = text.contains("from here on");
        let mut verb_at = None;
        let mut waits = false;
        let mut end = 0;
        for (at, word) in words(text) {
            let kinds = kinds(word);
            let is_here = is_from_here_on && word == "here";
            let position = found.count;
            found.count += 1;
            let before = found.kinds;
            // "You must" before the verb is no visitor.
            let is_opening = verb_at.is_none() && kinds & LEAD != 0;
            found.kinds |= if is_here || is_opening { 0 } else { kinds };
            match verb_at {
                Some(verb) if position == verb + 1 => {
                    found.behind = kinds;
                    found.is_sie = word == "Sie";
                }
                Some(_) => {}
                None if waits => {
                    if text[end..at].contains([',', '，']) {
                        waits = false;
                        // "Output" and "answer" are not what is asked about when they ask.
                        (found.verb, found.kinds) = (kinds, before | kinds & !ABOUT);
                        verb_at = (kinds & LEAD == 0 || kinds & (ASKS | DOES) != 0).then_some(position);
                    }
                }
                None if kinds & CLAUSE != 0 && kinds & (ASKS | DOES) == 0 => {
                    waits = true;
                    found.has_clause = true;
                }
                None if kinds & LEAD != 0 && kinds & (ASKS | DOES) == 0 => {}
                None => {
                    (found.verb, found.kinds) = (kinds, before | kinds & !ABOUT);
                    verb_at = Some(position);
                }
            }
            end = at + word.len();
        }
        found
    }

    /// "The summary must …".
    fn wants_answer(&self) -> bool {
        self.verb & SUBJECT != 0 && self.behind & MODAL != 0
    }

    fn has(&self, kinds: Kinds) -> bool {
        self.kinds & kinds != 0
    }

    /// Whether it begins with an order of any kind.
    fn begins_order(&self) -> bool {
        self.count >= 2 && (self.verb & (ASKS | TALKS | DOES) != 0 || self.verb & SIE != 0 && self.is_sie)
    }

    fn is_order(&self, is_ended: bool, hiding: Hiding) -> bool {
        if self.count < 3 || self.is_question {
            return false;
        }
        let about = self.has(ABOUT) || self.has_address;
        // "Reply by Friday" is for people, who have time.
        let is_late = self.verb & TALKS != 0 && self.behind & OF != 0;
        let asks = self.verb & ASKS != 0 && !is_late || self.verb & SIE != 0 && self.is_sie;
        let talks = self.verb & TALKS != 0 && self.behind & HOW != 0;
        let does = self.verb & (DOES | TALKS) != 0 && about && self.behind & OF == 0;
        let needs_about = self.has_clause || hiding == Hiding::Attribute && self.verb & MAKES != 0;
        let is_strong = (asks || talks) && (about || !needs_about);
        // Labels of pages are orders to visitors, but rarely sentences.
        let is_sentence = is_ended
            || hiding != Hiding::Attribute && talks && self.count >= 4
            || hiding == Hiding::Comment && asks && about && self.count >= 5;
        is_sentence && (is_strong || does || self.wants_answer() && hiding != Hiding::Attribute)
    }
}
