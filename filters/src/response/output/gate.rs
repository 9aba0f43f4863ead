//! The gate that an event stream passes: events go through as they came, wait, or lose words.
//!
//! An event waits only if its text ends in what may be the beginning of something to replace or to stop for, or if one before it
//! waits: the order is kept. It goes on as soon as more text has decided that, unchanged if it was nothing. Where
//! something is replaced, [`MARK`] stands in the event in which it began; in the others its words are left out, and
//! what repeats them (log-probabilities, token numbers) is emptied. Once a match is sure, nothing waits for its end: more
//! of it is left out as it comes.
//!
//! Where a rule stops the answer, the event that completed it and those that wait are dropped: of a pattern that could be
//! replaced nothing has gone out then, of other rules all but the last words.
//!
//! Invariants: what is not replaced goes out as it came in, in order, however it was cut. Cost: for an event that
//! passes no copy, and no allocation once the buffers have grown.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::channel::{Channel, Search};
use super::leak::Leak;
use super::texts::{Piece as TextPiece, Texts};
use super::{MARK, OutputPlan, OutputVerdict};
use crate::json::Str;
use crate::response::Api;
use crate::response::sse::{BOM, Event, Piece, Splitter};
use crate::units::Day;

/// The most that waits, in bytes of events. Where it is not decided by then, the answer is stopped.
const MOST_HELD: usize = 256 << 10;

/// Texts of one answer that are followed from event to event. One of a further text is searched by itself.
const MOST_CHANNELS: usize = 1024;

/// One answer's stream of events, on its way to the client.
// No `Debug`: it would print a customer's text.
pub struct OutputGate {
    /// Chats and completions, whose texts are all in `choices`.
    has_choices: bool,
    search: Search,
    splitter: Splitter,
    channels: Vec<Channel>,
    texts: Texts,
    /// Of each of `texts.pieces`, where it belongs.
    places: Vec<Place>,
    held: Held,
    /// Where an answer that is not a stretch of the chunk is put together. Empty between calls.
    out: BytesMut,
    /// Where data of several lines is joined, and where a text is unescaped. Mean nothing between calls.
    joined: Vec<u8>,
    text: Vec<u8>,
    /// Counts events.
    number: u64,
    is_at_start: bool,
}

/// Which text a piece of an event is part of.
#[derive(Debug)]
enum Place {
    /// This stretch of a text that goes on.
    Of { channel: usize, text: Range<u64> },
    /// One of its own, of which this is to be replaced.
    Whole(Vec<Range<u64>>),
}

/// Events that wait, the oldest first. Flat lists, so that nothing is allocated for one.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// How much of `bytes` has gone.
    gone: usize,
    events: VecDeque<HeldEvent>,
    pieces: VecDeque<(u64, HeldPiece)>,
    shadows: VecDeque<(u64, Range<usize>)>,
}

#[derive(Clone, Copy)]
struct HeldEvent {
    number: u64,
    length: usize,
}

struct HeldPiece {
    /// Its bytes in the event.
    span: Range<usize>,
    has_escapes: bool,
    place: Place,
}

impl Held {
    /// Makes room of what has gone. There may always be one that waits, so it cannot be left for when there is none.
    fn tidy(&mut self) {
        const MOST_GONE: usize = 1024;
        if self.events.is_empty() || self.gone > MOST_GONE {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
    }
}

impl OutputGate {
    /// A gate at the start of a stream. An event of more than `max_event_bytes` cannot be read.
    #[must_use]
    pub fn new(
        plan: &Arc<OutputPlan>,
        leak: Option<Leak>,
        api: Api,
        max_event_bytes: usize,
        today: Day,
    ) -> Self {
        Self {
            has_choices: matches!(api, Api::Chat | Api::Completions),
            search: Search::new(plan, leak, today),
            splitter: Splitter::new(max_event_bytes),
            channels: Vec::new(),
            texts: Texts::default(),
            places: Vec::new(),
            held: Held::default(),
            out: BytesMut::new(),
            joined: Vec::new(),
            text: Vec::new(),
            number: 0,
            is_at_start: true,
        }
    }

    /// What to forward now, having received `chunk`. May be empty. Nothing more once a rule has stopped the answer.
    ///
    /// # Cost
    /// No copy for events that pass, and no allocation once the buffers have grown, if what was returned before
    /// has been dropped.
    pub fn push(&mut self, mut chunk: Bytes) -> Bytes {
        debug_assert!(self.out.is_empty(), "what a call puts together it also returns");
        let mut pass = 0..0;
        let mut at = 0;
        while !self.is_stopped()
            && let Some(piece) = self.splitter.next(&chunk, &mut at)
        {
            match piece {
                Piece::Event(range) if self.passes(&chunk[range.clone()]) => {
                    if pass.end == range.start && !pass.is_empty() {
                        pass.end = range.end;
                    } else {
                        self.out.extend_from_slice(&chunk[std::mem::replace(&mut pass, range)]);
                    }
                }
                Piece::Event(range) => {
                    self.out.extend_from_slice(&chunk[std::mem::replace(&mut pass, 0..0)]);
                    self.keep(&chunk[range]);
                }
                Piece::KeptEvent => {
                    // The first bytes of any call.
                    let mut kept = std::mem::take(&mut self.splitter.kept);
                    if self.passes(&kept) {
                        self.out.extend_from_slice(&kept);
                    } else {
                        self.keep(&kept);
                    }
                    kept.clear();
                    self.splitter.kept = kept;
                }
                Piece::Overlong(range) | Piece::OverlongRest(range) => {
                    self.out.extend_from_slice(&chunk[std::mem::replace(&mut pass, 0..0)]);
                    self.give_up();
                    if !self.is_stopped() {
                        self.out.extend_from_slice(&chunk[range]);
                    }
                }
                Piece::KeptOverlong => {
                    self.give_up();
                    let mut kept = std::mem::take(&mut self.splitter.kept);
                    if !self.is_stopped() {
                        self.out.extend_from_slice(&kept);
                    }
                    kept.clear();
                    self.splitter.kept = kept;
                }
            }
        }
        if self.out.is_empty() {
            if pass.is_empty() {
                return Bytes::new();
            }
            chunk.truncate(pass.end);
            chunk.advance(pass.start);
            return chunk;
        }
        self.out.extend_from_slice(&chunk[pass]);
        self.out.split().freeze()
    }

    /// What is left to forward after the last bytes, `rest`: whatever still waits is decided now.
    pub fn finish(&mut self, rest: Bytes) -> Bytes {
        let first = self.push(rest);
        let tail = std::mem::take(&mut self.splitter.kept);
        if !self.is_stopped() && !tail.is_empty() {
            if self.passes(&tail) {
                self.out.extend_from_slice(&tail);
            } else {
                self.keep(&tail);
            }
        }
        if !self.is_stopped() {
            self.end_texts();
            self.release();
        }
        if self.out.is_empty() {
            return first;
        }
        let last = self.out.split().freeze();
        if first.is_empty() { last } else { Bytes::from([first, last].concat()) }
    }

    /// What was found so far.
    #[must_use]
    pub fn verdict(&self) -> &OutputVerdict {
        &self.search.verdict
    }

    /// Whether what was forwarded so far ends with an event.
    #[must_use]
    pub fn is_at_event_boundary(&self) -> bool {
        !self.splitter.is_inside_overlong()
    }

    fn is_stopped(&self) -> bool {
        self.search.verdict.stopped_by.is_some()
    }

    /// Reads an event. Whether it may go out as it is, at once; else it is to be kept.
    fn passes(&mut self, bytes: &[u8]) -> bool {
        self.number += 1;
        self.places.clear();
        let start = if self.is_at_start && bytes.starts_with(BOM) { BOM.len() } else { 0 };
        self.is_at_start = false;
        let mut joined = std::mem::take(&mut self.joined);
        let event = Event::read(&bytes[start..], &mut joined);
        self.texts.pieces.clear();
        self.texts.shadows.clear();
        if let Some(data) = event.data {
            self.read(&event, data);
            self.locate(&event, start);
        }
        self.joined = joined;
        !self.is_stopped()
            && self.held.events.is_empty()
            && self.places.iter().all(|place| self.is_decided(place) && !self.is_touched(place))
    }

    fn read(&mut self, event: &Event<'_>, data: &[u8]) {
        if data.trim_ascii() == b"[DONE]" {
            self.end_texts();
            return;
        }
        let is_json = match self.has_choices {
            true => self.texts.read_choices(data).is_ok(),
            false => self.texts.read(data, event.name, false).is_ok(),
        };
        if !is_json {
            // Searched as what it is: text of no known form, in which nothing can be replaced.
            let len = data.len();
            self.texts.pieces.clear();
            self.texts.shadows.clear();
            self.texts.pieces.push(TextPiece { start: 0, len, has_escapes: false, part: None });
        }
        for number in 0..self.texts.pieces.len() {
            let piece = self.texts.pieces[number];
            let place = self.search_piece(&piece, data);
            self.places.push(place);
        }
        if !is_json && self.places.iter().any(|place| self.is_touched(place)) {
            self.search.give_up();
        }
        self.pause_others();
        if self.texts.is_end && is_json {
            self.end_texts();
        }
    }

    fn search_piece(&mut self, piece: &TextPiece, data: &[u8]) -> Place {
        let str = piece.str(data);
        self.text.clear();
        let text = if piece.has_escapes {
            str.write(&mut self.text);
            &self.text[..]
        } else {
            str.raw
        };
        let known = piece.part.and_then(|(id, group)| {
            let known = self.channels.iter().position(|channel| channel.id == id && channel.group == group);
            if known.is_none() && self.channels.len() < MOST_CHANNELS {
                self.channels.push(Channel::new(id, group, &self.search));
                return Some(self.channels.len() - 1);
            }
            known
        });
        let Some(number) = known else {
            let mut whole = Channel::new(0, 0, &self.search);
            whole.feed(text, &mut self.search);
            whole.finish(&mut self.search);
            return Place::Whole(whole.redactions);
        };
        let channel = &mut self.channels[number];
        let from = channel.len();
        channel.feed(text, &mut self.search);
        channel.spoke_in = self.number;
        Place::Of { channel: number, text: from..channel.len() }
    }

    /// A choice says one thing at a time: where it goes on with another text, or has ended, the one before is over.
    fn pause_others(&mut self) {
        let number = self.number;
        let spoke = |channel: &Channel| channel.spoke_in == number;
        for at in 0..self.channels.len() {
            let group = self.channels[at].group;
            let is_over = self.texts.is_pause
                || self.texts.ended.contains(&group)
                || (!spoke(&self.channels[at])
                    && self.channels.iter().any(|other| other.group == group && spoke(other)));
            if is_over {
                self.channels[at].pause(&mut self.search);
            }
        }
    }

    fn end_texts(&mut self) {
        for channel in &mut self.channels {
            channel.finish(&mut self.search);
        }
    }

    /// Moves the spans of what was read from the event's data to its bytes.
    fn locate(&mut self, event: &Event<'_>, start: usize) {
        for piece in &mut self.texts.pieces {
            piece.start = start + event.locate(piece.start..piece.start + piece.len).start;
        }
        for span in &mut self.texts.shadows {
            let from = event.locate(span.start..span.start).start;
            let to = event.locate(span.end..span.end).start;
            *span = start + from..start + to;
        }
    }

    fn is_decided(&self, place: &Place) -> bool {
        match place {
            Place::Of { channel, text } => self.channels[*channel].undecided_from(&self.search) >= text.end,
            Place::Whole(_) => true,
        }
    }

    /// Whether something is to be replaced there.
    fn is_touched(&self, place: &Place) -> bool {
        !self.redactions(place).is_empty()
    }

    fn redactions<'p>(&'p self, place: &'p Place) -> &'p [Range<u64>] {
        match place {
            Place::Whole(ranges) => ranges,
            Place::Of { channel, text } => {
                let ranges = &self.channels[*channel].redactions;
                let from = ranges.partition_point(|range| range.end <= text.start);
                let until = ranges.partition_point(|range| range.start < text.end);
                &ranges[from..until.max(from)]
            }
        }
    }

    /// Puts the event that was read last behind those that wait, and lets go what may.
    fn keep(&mut self, bytes: &[u8]) {
        if self.is_stopped() {
            return;
        }
        let number = self.number;
        self.held.bytes.extend_from_slice(bytes);
        self.held.events.push_back(HeldEvent { number, length: bytes.len() });
        for (piece, place) in self.texts.pieces.iter().zip(self.places.drain(..)) {
            let span = piece.start..piece.start + piece.len;
            self.held.pieces.push_back((number, HeldPiece { span, has_escapes: piece.has_escapes, place }));
        }
        self.held.shadows.extend(self.texts.shadows.drain(..).map(|span| (number, span)));
        self.release();
        if self.held.bytes.len() - self.held.gone > MOST_HELD {
            self.give_up();
        }
    }

    /// Lets go the events that are decided, up to the first that is not.
    fn release(&mut self) {
        while let Some(event) = self.held.events.front().copied() {
            let pieces = self.held.pieces.iter().take_while(|(number, _)| *number == event.number);
            if !pieces.clone().all(|(_, piece)| self.is_decided(&piece.place)) {
                break;
            }
            let bytes = &self.held.bytes[self.held.gone..self.held.gone + event.length];
            let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
            let mut count = 0;
            for (_, piece) in pieces {
                count += 1;
                self.edit(piece, bytes, &mut edits);
            }
            let shadows = self.held.shadows.iter().take_while(|(number, _)| *number == event.number);
            let shadow_count = shadows.clone().count();
            if edits.is_empty() {
                self.out.extend_from_slice(bytes);
            } else {
                edits.extend(shadows.map(|(_, span)| (span.clone(), emptied(&bytes[span.clone()]))));
                write_edited(&mut self.out, bytes, &mut edits);
            }
            self.held.pieces.drain(..count);
            self.held.shadows.drain(..shadow_count);
            self.held.events.pop_front();
            self.held.gone += event.length;
        }
        self.held.tidy();
    }

    /// Adds what is to be done to a piece of text in the bytes of its event.
    fn edit(&self, piece: &HeldPiece, bytes: &[u8], edits: &mut Vec<(Range<usize>, &'static str)>) {
        let (from, until) = match &piece.place {
            Place::Of { text, .. } => (text.start, text.end),
            Place::Whole(_) => (0, u64::MAX),
        };
        let raw = &bytes[piece.span.clone()];
        let str = Str { raw, start: 0, has_escapes: piece.has_escapes };
        edits.extend(
            self.redactions(&piece.place)
                .iter()
                .map(|range| replaced(&str, range, from, until))
                .map(|(span, mark)| (piece.span.start + span.start..piece.span.start + span.end, mark)),
        );
    }

    /// An event that cannot be read, or too many that wait.
    fn give_up(&mut self) {
        self.search.give_up();
        if !self.is_stopped() {
            // Marked only: nothing waits for what was being said, so that the order is kept.
            for channel in &mut self.channels {
                channel.pause(&mut self.search);
            }
            self.release();
        }
    }
}

/// What to replace in a string for a range of the text, of which the string is `from..until`; the mark stands where the
/// range begins.
pub(super) fn replaced(
    str: &Str<'_>,
    range: &Range<u64>,
    from: u64,
    until: u64,
) -> (Range<usize>, &'static str) {
    let start = str.raw_at(range.start.saturating_sub(from) as usize);
    let end = if range.end >= until { str.raw.len() } else { str.raw_at((range.end - from) as usize) };
    (start..end.max(start), if range.start >= from { MARK } else { "" })
}

/// What stands for a value that repeated words which are gone.
pub(super) fn emptied(value: &[u8]) -> &'static str {
    if value.starts_with(b"[") { "[]" } else { "null" }
}

fn write_edited(out: &mut BytesMut, bytes: &[u8], edits: &mut [(Range<usize>, &str)]) {
    edits.sort_by_key(|(span, _)| span.start);
    let mut at = 0;
    for (span, by) in edits {
        if span.start >= at {
            out.extend_from_slice(&bytes[at..span.start]);
            out.extend_from_slice(by.as_bytes());
            at = span.end;
        }
    }
    out.extend_from_slice(&bytes[at..]);
}
