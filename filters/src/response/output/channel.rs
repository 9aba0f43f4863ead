//! One text of an answer on its way: a choice's content, its reasoning, the arguments of one tool call. Each is searched
//! by itself, since that is how a client reads it.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::leak::{Leak, Run};
use super::tail::{Tail, join};
use super::{Action, OutputPlan, OutputVerdict};
use crate::request::scan::pack::Views;
use crate::request::scan::pattern::{Hit, PatternScratch, PatternStream, Subject};
use crate::request::scan::{Role, view};
use crate::units::Day;

/// What a search needs beside the text: the same for all texts of an answer.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) plan: Arc<OutputPlan>,
    pub(super) leak: Option<Leak>,
    pub(super) verdict: OutputVerdict,
    /// By rule: what is done, and whether it is exempt.
    actions: Vec<(Action, bool)>,
    leak_action: Action,
    /// Whether any rule counts.
    has_rules: bool,
    folded: String,
    hits: Vec<Hit>,
}

impl Search {
    pub(super) fn new(plan: &Arc<OutputPlan>, leak: Option<Leak>, today: Day) -> Self {
        let actions = plan.actions(today);
        Self {
            plan: Arc::clone(plan),
            leak,
            verdict: OutputVerdict::default(),
            has_rules: actions.iter().any(|(action, is_exempt)| *action > Action::Off || *is_exempt),
            actions,
            leak_action: plan.leak_action(today),
            folded: String::new(),
            hits: Vec::new(),
        }
    }

    /// What cannot be read, or not decided, must not pass where something would have been done about it.
    pub(super) fn give_up(&mut self) {
        let action = if self.plan.enforces() { Action::Stop } else { Action::Flag };
        let rule = Arc::clone(&self.plan.scanner.unreadable_rule);
        self.verdict.note(&rule, action);
    }
}

/// How far one text is.
#[derive(Debug)]
pub(super) struct Channel {
    /// Which text of the answer it is.
    pub(super) id: u64,
    /// Which choice it is of: a choice says one thing at a time.
    pub(super) group: u64,
    /// What is to be replaced, apart and in order.
    pub(super) redactions: Vec<Range<u64>>,
    /// The number of the event in which it went on last.
    pub(super) spoke_in: u64,
    at: u64,
    patterns: Option<PatternStream>,
    tail: Tail,
    /// How many of the rules that the tail has found are noted.
    noted: usize,
    run: Run,
}

impl Channel {
    pub(super) fn new(id: u64, group: u64, search: &Search) -> Self {
        let subject =
            Subject { views: Views::ASCII, role: Role::Output, has_borders: true, is_joined: false };
        let patterns = search.has_rules.then(|| search.plan.scanner.patterns.open(subject));
        Self {
            id,
            group,
            redactions: Vec::new(),
            spoke_in: 0,
            at: 0,
            patterns,
            tail: Tail::default(),
            noted: 0,
            run: Run::default(),
        }
    }

    /// Bytes of the text so far.
    pub(super) fn len(&self) -> u64 {
        self.at
    }

    /// Goes on with more of the text.
    pub(super) fn feed(&mut self, text: &[u8], search: &mut Search) {
        let plan = Arc::clone(&search.plan);
        if let Some(redactor) = &plan.redactor {
            let counts = |rule: u32| search.actions[rule as usize].0 >= Action::Redact;
            self.tail.feed(redactor, text, counts, &mut self.redactions);
            self.note_tail(search);
        }
        self.look(text, false, search);
        if let Some(leak) = &search.leak {
            let (action, verdict, redactions) =
                (search.leak_action, &mut search.verdict, &mut self.redactions);
            self.run.feed(leak, text, |range| {
                verdict.note(&plan.scanner.leak_rule, action);
                if action == Action::Redact {
                    join(redactions, range);
                }
            });
        }
        self.at += text.len() as u64;
    }

    /// Nothing goes on with what was said so far, as far as replacing is concerned.
    pub(super) fn pause(&mut self, search: &mut Search) {
        if let Some(redactor) = &search.plan.redactor {
            let counts = |rule: u32| search.actions[rule as usize].0 >= Action::Redact;
            self.tail.finish(redactor, counts, &mut self.redactions);
            self.note_tail(search);
        }
        self.run.finish();
    }

    /// Notes the rules that the tail has found something for. The search by rules says the same, for a pattern that
    /// looks at what follows it a little later.
    fn note_tail(&mut self, search: &mut Search) {
        let found = self.tail.found();
        while let Some(rule) = found.get(self.noted) {
            self.noted += 1;
            let action = search.actions[*rule as usize].0;
            search.verdict.note(search.plan.scanner.patterns.rule(*rule).id, action);
        }
    }

    /// The text has ended.
    pub(super) fn finish(&mut self, search: &mut Search) {
        self.pause(search);
        self.look(b"", true, search);
        self.patterns = None;
    }

    /// The first byte of the text that may still have to be replaced.
    pub(super) fn undecided_from(&self, search: &Search) -> u64 {
        let run = match &search.leak {
            Some(leak) if search.leak_action >= Action::Redact => self.run.undecided_from(leak),
            _ => u64::MAX,
        };
        self.tail.undecided_from().min(run)
    }

    fn look(&mut self, text: &[u8], is_final: bool, search: &mut Search) {
        let Some(stream) = &mut self.patterns else { return };
        let Search { plan, verdict, actions, folded, hits, .. } = search;
        let text = if text.is_ascii() { text } else { fold(text, folded) };
        hits.clear();
        let patterns = &plan.scanner.patterns;
        with_scratch(
            || patterns.scratch(),
            |scratch| patterns.scan_piece(text, is_final, stream, scratch, hits),
        );
        for hit in hits.iter() {
            let (mut action, is_exempt) = actions[hit.rule as usize];
            verdict.is_exempt |= is_exempt;
            // Found in a reading of the text in which it is not replaced: full-width letters, say.
            if action == Action::Redact && !self.tail.found().contains(&hit.rule) {
                action = Action::Stop;
            }
            verdict.note(patterns.rule(hit.rule).id, action);
        }
    }
}

/// What is compared with rules: ASCII as it is, everything else normalised.
fn fold<'f>(text: &'f [u8], folded: &'f mut String) -> &'f [u8] {
    match str::from_utf8(text) {
        Ok(text) => {
            folded.clear();
            view::fold_into(text, folded);
            folded.as_bytes()
        }
        // No server sends that; rules are of ASCII mostly.
        Err(_) => text,
    }
}

/// Lends this thread's scratch. It is made anew by the patterns where it belongs to others.
fn with_scratch<R>(
    make: impl FnOnce() -> PatternScratch,
    use_it: impl FnOnce(&mut PatternScratch) -> R,
) -> R {
    thread_local! {
        static SCRATCH: RefCell<Option<PatternScratch>> = const { RefCell::new(None) };
    }
    SCRATCH.with_borrow_mut(|scratch| use_it(scratch.get_or_insert_with(make)))
}
