//! A whole JSON answer, searched at once: what is to be replaced in it, or that it must not go out.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::channel::{Channel, Search};
use super::gate::{emptied, replaced};
use super::leak::Leak;
use super::texts::Texts;
use super::{OutputPlan, OutputVerdict};
use crate::units::Day;

/// What is to be done with a whole answer.
#[derive(Debug)]
pub struct WholeOutcome {
    /// What was found.
    pub verdict: OutputVerdict,
    /// Stretches of the body and what stands in their place.
    pub edits: Vec<(Range<usize>, Bytes)>,
}

/// Searches the body of an answer. One that is no JSON is given up.
#[must_use]
pub fn scan_whole(plan: &Arc<OutputPlan>, leak: Option<Leak>, body: &[u8], today: Day) -> WholeOutcome {
    let mut search = Search::new(plan, leak, today);
    let mut texts = Texts::default();
    let mut edits: Vec<(Range<usize>, Bytes)> = Vec::new();
    if texts.read(body, b"", true).is_err() {
        search.give_up();
        texts.pieces.clear();
    }
    let mut unescaped = Vec::new();
    for piece in &texts.pieces {
        let str = piece.str(body);
        unescaped.clear();
        let text = if piece.has_escapes {
            str.write(&mut unescaped);
            &unescaped[..]
        } else {
            str.raw
        };
        let mut channel = Channel::new(0, 0, &search);
        channel.feed(text, &mut search);
        channel.finish(&mut search);
        edits.extend(channel.redactions.iter().map(|range| {
            let (span, mark) = replaced(&str, range, 0, u64::MAX);
            (piece.start + span.start..piece.start + span.end, Bytes::from_static(mark.as_bytes()))
        }));
    }
    if !edits.is_empty() {
        let empty = |span: &Range<usize>| emptied(&body[span.clone()]).as_bytes();
        edits.extend(texts.shadows.iter().map(|span| (span.clone(), Bytes::from_static(empty(span)))));
        edits.sort_by_key(|(span, _)| span.start);
    }
    WholeOutcome { verdict: search.verdict, edits }
}
