//! A whole request → one verdict. Every text is judged by itself; the worst decides. What a person wrote is also read
//! together: the turns of one request with each other, and its last turn with what the same key sent before.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::behaviour::{self, Asked, Attached, History, Pattern, Seen, declines, prompt_hash, text_hash};
use super::pattern::{Event, Subject};
use super::policy::{Action, Aside, Judgement, LEARNED_RULE, Mode, Policy};
use super::scanner::{Scanner, Scratch};
use super::structure::as_completion;
use super::{Category, Finding, Role, Severity, View};
use crate::request::body::Place;
use crate::units::Day;

mod together;

use together::Together;

/// Texts of one request whose rule words are read together, the first ones.
const TURNS: usize = 32;

/// How to look at a request.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'t> {
    /// What counts and what is done.
    pub policy: &'t Policy,
    /// The most that is done about behaviour.
    pub behaviour: Mode,
    /// How histories are kept.
    pub history: behaviour::Settings,
    /// The day, for exemptions.
    pub today: Day,
    /// Whose texts these are: what was seen in one is remembered for its owner alone.
    pub owner: u64,
    /// Whether each text is a prompt of its own, in a batch: they are no turns of one conversation.
    pub is_batch: bool,
    /// Whether texts reach the model as they are, without a template around them.
    pub is_raw: bool,
}

/// What is done with a request, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// The score of the worst text, 0 to 1.
    pub score: f32,
    /// Which text that is, by its place in the request.
    pub text: usize,
    /// What was found in it and counts, the weightiest first.
    pub findings: Vec<Finding>,
    /// Whether an exemption kept something from counting, in any text.
    pub is_exempt: bool,
    /// What was found in any text and did not count.
    pub aside: Aside,
}

impl Verdict {
    /// Takes what was found in another text for the worst. What did not count stays.
    fn replace(&mut self, text: usize, judgement: &Judgement, findings: Vec<Finding>) {
        (self.action, self.score) = (judgement.action, judgement.score);
        (self.text, self.findings) = (text, findings);
    }

    /// The rules that count, each once.
    #[must_use]
    pub fn rules(&self) -> Vec<Arc<str>> {
        let mut rules: Vec<Arc<str>> = Vec::new();
        for finding in &self.findings {
            if !rules.contains(&finding.rule) {
                rules.push(Arc::clone(&finding.rule));
            }
        }
        rules
    }
}

/// Looks over the texts of one request, one after the other.
#[derive(Debug)]
pub struct Inspection<'i> {
    scanner: &'i Scanner,
    scratch: &'i mut Scratch,
    terms: Terms<'i>,
    verdict: Verdict,
    count: usize,
    /// What is attached to messages that come yet.
    attached: Attached,
    /// The message under way.
    place: Option<Place>,
    /// What the request asks anew.
    asked: Asked,
    /// How often one prompt comes in a row in this request, at most.
    times: u32,
    /// The turns of this request, read together.
    turns: History,
    /// The last short ones, to be read as one text.
    together: Together,
    /// The last text of the person asking.
    last: Option<Turn>,
}

/// A text of the person asking, kept until the end of the request.
#[derive(Debug, Default)]
struct Turn {
    number: usize,
    hash: u64,
    text: String,
    events: Vec<Event>,
    findings: Vec<Finding>,
    judgement: Judgement,
    learned: f32,
    learned_span: Range<usize>,
    /// Whether the model's answer to it, further on in the request, declines.
    is_declined: bool,
}

impl<'i> Inspection<'i> {
    /// Begins.
    #[must_use]
    pub fn new(scanner: &'i Scanner, scratch: &'i mut Scratch, terms: Terms<'i>) -> Self {
        let verdict = Verdict {
            action: Action::Allow,
            score: 0.0,
            text: 0,
            findings: Vec::new(),
            is_exempt: false,
            aside: Aside::default(),
        };
        Self {
            scanner,
            scratch,
            terms,
            verdict,
            count: 0,
            attached: Attached::default(),
            place: None,
            asked: Asked::default(),
            times: 0,
            turns: History::default(),
            together: Together::default(),
            last: None,
        }
    }

    /// Takes note of what is attached to the messages, which tells equal words apart.
    #[must_use]
    pub fn with_attached(mut self, attached: Attached) -> Self {
        self.attached = attached;
        self
    }

    /// Looks at the next text, which stands at `place`.
    pub fn text(&mut self, text: &str, role: Role, place: Place) {
        let number = self.count;
        self.count += 1;
        let Terms { policy, today, is_batch, .. } = self.terms;
        let has_behaviour = self.terms.behaviour > Mode::Off;
        if has_behaviour && self.place.replace(place) != Some(place) {
            self.begin(place);
        }
        let is_prompt = role == Role::User && has_behaviour;
        let is_joined = is_prompt && !is_batch;
        let scanned = self.scanner.scan_for(self.terms.owner, text, role, is_joined, self.scratch);
        let findings =
            if self.terms.is_raw { as_completion(scanned.findings) } else { scanned.findings.into() };
        let judgement = policy.judge(role, &findings, scanned.learned, today);
        self.verdict.is_exempt |= judgement.is_exempt;
        if judgement.is_exempt || judgement.is_ignored {
            policy.put_aside(&findings, scanned.learned, today, &mut self.verdict.aside);
        }
        let learned = (scanned.learned, scanned.learned_span.clone());
        if is_worse(&judgement, &self.verdict) {
            let findings = counting(policy, today, &findings, learned.clone());
            self.verdict.replace(number, &judgement, findings);
        }
        if has_behaviour && !is_prompt {
            self.asked.add(role, text_hash(text));
        }
        if is_prompt {
            let hash = prompt_hash(scanned.normalised);
            self.asked.add(role, hash);
            let turn = Turn {
                number,
                hash,
                text: scanned.normalised.to_owned(),
                events: scanned.events.to_vec(),
                findings: findings.into_owned(),
                judgement,
                learned: learned.0,
                learned_span: learned.1,
                is_declined: false,
            };
            if is_joined {
                self.together.add(text);
            }
            if let Some(before) = self.last.replace(turn)
                && self.count <= TURNS
                && is_joined
            {
                self.read(&before, Duration::ZERO);
                if before.is_declined {
                    self.turns.declined_last(&seen(&before, 0));
                }
            }
        } else if role == Role::Assistant
            && let Some(asked) = &mut self.last
        {
            asked.is_declined = declines(text);
        }
    }

    /// The verdict, with what the turns of the request show together.
    #[must_use]
    pub fn finish(self) -> Verdict {
        self.finish_in(Duration::ZERO, |_| ())
    }

    /// The verdict, also with what the history of the conversation shows. `now` is the time since some fixed moment;
    /// `lend` lends the history.
    #[must_use]
    pub fn finish_in(mut self, now: Duration, lend: impl FnOnce(&mut dyn FnMut(&mut History))) -> Verdict {
        let Some(last) = self.last.take() else { return self.verdict };
        while let Some(attached) = self.attached.next() {
            self.times = self.times.max(self.asked.begin(attached));
        }
        self.times = self.times.max(self.asked.end());
        let asked = self.asked.hash();
        if !self.terms.is_batch {
            self.read(&last, now);
            if self.times >= self.terms.history.repeats {
                self.add(&last, &[Pattern::Repeated { times: self.times }]);
            }
            self.read_as_one(&last);
        }
        lend(&mut |history| {
            let seen = seen(&last, asked);
            let rules_in = rules_in(self.scanner, self.scratch);
            let patterns = history.observe(&seen, &self.terms.history, now, rules_in);
            self.add(&last, &patterns);
            if self.verdict.action == Action::Block {
                history.refuse_last(&seen);
            }
        });
        self.verdict
    }

    /// Begins the message at `place`. Those before it without a text have something attached at most.
    fn begin(&mut self, place: Place) {
        while let Some(attached) = self.attached.next_before(place) {
            self.times = self.times.max(self.asked.begin(attached));
        }
        let attached = self.attached.at(place);
        self.times = self.times.max(self.asked.begin(attached));
    }

    /// Reads a turn together with the earlier ones of the request.
    fn read(&mut self, turn: &Turn, now: Duration) {
        let rules_in = rules_in(self.scanner, self.scratch);
        let patterns = self.turns.read(&seen(turn, 0), &self.terms.history, now, rules_in);
        self.add(turn, &patterns);
    }

    /// Reads the last short turns as one text, where the verdict may change by it.
    fn read_as_one(&mut self, last: &Turn) {
        let Terms { policy, today, .. } = self.terms;
        for between in [" ", ""] {
            if self.verdict.action == Action::Block {
                return;
            }
            let Some(joined) = self.together.joined(between) else { return };
            let scanned = self.scanner.scan(&joined.text, Role::User, self.scratch);
            let counting = scanned.findings.iter().filter(|finding| policy.counts(finding, today));
            let severity = joined.severity(counting);
            if let Some(severity) = severity {
                self.add(last, &[Pattern::Together { severity }]);
            }
        }
    }

    /// Judges a turn again with what the run of turns shows.
    fn add(&mut self, turn: &Turn, patterns: &[Pattern]) {
        if patterns.is_empty() {
            return;
        }
        let Terms { policy, behaviour, today, .. } = self.terms;
        let mut findings = turn.findings.clone();
        findings.extend(patterns.iter().map(|pattern| finding(self.scanner, pattern, &turn.text)));
        let mut bounded = policy.clone();
        bounded.mode = bounded.mode.min(behaviour).max(mode_of(turn.judgement.action));
        let judgement = bounded.judge(Role::User, &findings, turn.learned, today);
        self.verdict.is_exempt |= judgement.is_exempt;
        if judgement.is_exempt || judgement.is_ignored {
            policy.put_aside(&findings, turn.learned, today, &mut self.verdict.aside);
        }
        if is_worse(&judgement, &self.verdict) {
            let findings = counting(policy, today, &findings, (turn.learned, turn.learned_span.clone()));
            self.verdict.replace(turn.number, &judgement, findings);
        }
    }
}

fn is_worse(judgement: &Judgement, verdict: &Verdict) -> bool {
    (judgement.action, judgement.score) > (verdict.action, verdict.score)
}

fn mode_of(action: Action) -> Mode {
    match action {
        Action::Allow => Mode::Off,
        Action::Flag => Mode::Flag,
        Action::Block => Mode::Block,
    }
}

/// The findings that count, the weightiest first, with one for the learned layer where that counts.
fn counting(policy: &Policy, today: Day, findings: &[Finding], learned: (f32, Range<usize>)) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        findings.iter().filter(|finding| policy.counts(finding, today)).cloned().collect();
    if learned.0 >= policy.flag_at {
        let severity = if learned.0 >= policy.block_at { Severity::High } else { Severity::Medium };
        let finding = Finding {
            rule: LEARNED_RULE.into(),
            category: Category::Learned,
            severity,
            view: View::Normalised,
            span: learned.1,
        };
        if policy.counts(&finding, today) {
            findings.push(finding);
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn seen(turn: &Turn, asked: u64) -> Seen<'_> {
    let Turn { hash, text, events, judgement, .. } = turn;
    Seen { asked, hash: *hash, text, events, action: judgement.action }
}

/// Tells which rules a row of rule words of a person's satisfies.
fn rules_in<'s>(scanner: &'s Scanner, scratch: &'s mut Scratch) -> impl FnMut(&[Event]) -> Vec<u32> + 's {
    let subject = Subject::new(View::Normalised, Role::User);
    move |events| scanner.patterns().rules_in(events, subject, scratch.patterns_mut())
}

/// What a pattern of behaviour is as a finding.
fn finding(scanner: &Scanner, pattern: &Pattern, text: &str) -> Finding {
    let (rule, severity): (Arc<str>, Severity) = match pattern {
        Pattern::Repeated { .. } => ("behaviour.repeated-prompt".into(), Severity::High),
        Pattern::Pieces { rule } => {
            ("behaviour.attack-in-pieces".into(), scanner.patterns().rule(*rule).severity)
        }
        Pattern::Together { severity } => ("behaviour.attack-in-pieces".into(), *severity),
        Pattern::Variation => ("behaviour.variation-of-refused".into(), Severity::Medium),
        Pattern::Escalation => ("behaviour.escalation".into(), Severity::Medium),
        Pattern::AskedAgain { is_insisting } => {
            let severity = if *is_insisting { Severity::Medium } else { Severity::Low };
            ("behaviour.asked-again-after-refusal".into(), severity)
        }
    };
    Finding { rule, category: Category::Behaviour, severity, view: View::Normalised, span: 0..text.len() }
}
