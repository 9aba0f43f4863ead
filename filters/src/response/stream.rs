//! What the relay calls for each chunk of a `text/event-stream` answer: it corrects events where they stand,
//! counts them, and says at the end whether the stream came to a clean one.
//!
//! The corrections, all there are:
//! - the model's name is set back to the one that the client asked for: top-level `model` (chat, completions),
//!   `response.model` (responses), `message.model` (messages);
//! - the usage event that only we asked for is kept back: an empty `choices` array and a `usage` object,
//!   strictly. Azure's first chunk, with empty `choices` and no usage, passes; so does usage beside choices;
//! - an error event is brought to the shape that [`super::error`] gives, unless it is in it already or stands
//!   beside `choices`;
//! - a missing `data: [DONE]` is added where a chat or completion came to its end without.
//!
//! A whole event is never delayed. The beginning of a cut one is held until its end comes, so that a stream
//! that breaks off does not end in half an event, and so that the usage event can be kept back.
//!
//! Invariants: what goes out does not depend on how the bytes were cut; where nothing is corrected, it is what
//! came in. Cost: one walk over each event; no allocation once the buffers have grown to the size of an event,
//! and no copy where a chunk ends with an event and nothing is corrected.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::Api;
use super::closing::Closing;
use super::error::{self, Fault};
use super::event::Reading;
use super::sse::{BOM, Event, Piece, Splitter};
use super::tokens::Meter;
use super::usage::{Estimate, charge};
use crate::json::Str;
use crate::tokenizer::Tokenizer;

const DONE: &[u8] = b"data: [DONE]\n\n";

/// What is to be done with a stream.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// The interface it belongs to.
    pub api: Api,
    /// The model's name as the client asked for it.
    pub model: Arc<str>,
    /// Whether only we asked for usage, so that the client must not see it.
    pub withhold_usage: bool,
    /// An event of more bytes is forwarded as it is and not counted.
    pub max_event_bytes: usize,
    /// What counts its text; four characters are a token without.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// The last bytes to forward. If the caller has an error event to add, it can come right after them.
    pub bytes: Bytes,
    /// Whether the answer came to its end. If not, the client must be told so, by the server's own error
    /// event ([`StreamFilter::saw_error_event`]) or by one that the caller adds.
    pub is_clean: bool,
}

/// One stream on its way to the client.
// No `Debug`: it would print a customer's text.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamFilter {
    api: Api,
    model: Arc<str>,
    /// `model` as it stands in JSON, without its quotes.
    model_json: Box<str>,
    withhold_usage: bool,
    splitter: Splitter,
    /// Where an answer that is not a stretch of the chunk is put together. Empty between calls.
    out: BytesMut,
    /// Where data of several lines is joined. Means nothing between calls.
    joined: Vec<u8>,
    meter: Meter,
    is_at_start: bool,
    has_done: bool,
    /// The last event of a Responses or Messages stream came.
    has_ended: bool,
    saw_error: bool,
    error_fault: Option<Fault>,
    last_push: Duration,
    /// Output tokens by our count at which the stream is held.
    ceiling: u64,
    /// What has come after it was held.
    unread: Bytes,
    closing: Closing,
}

/// What becomes of one event.
enum Verdict {
    Pass,
    Withhold,
    /// The stretch of the event is replaced by the model's name.
    Rename(Range<usize>),
    /// The stretch of the event is replaced by the text.
    Replace(Range<usize>, String),
}

impl StreamFilter {
    /// A filter at the start of a stream.
    ///
    /// # Cost
    /// One allocation.
    #[must_use]
    pub fn new(plan: StreamPlan) -> Self {
        let quoted = serde_json::Value::from(&*plan.model).to_string();
        Self {
            api: plan.api,
            model_json: quoted[1..quoted.len() - 1].into(),
            model: plan.model,
            withhold_usage: plan.withhold_usage,
            splitter: Splitter::new(plan.max_event_bytes),
            out: BytesMut::new(),
            joined: Vec::new(),
            meter: Meter::new(plan.api, plan.tokenizer),
            is_at_start: true,
            has_done: false,
            has_ended: false,
            saw_error: false,
            error_fault: None,
            last_push: Duration::ZERO,
            ceiling: u64::MAX,
            unread: Bytes::new(),
            closing: Closing::default(),
        }
    }

    /// What to forward now, having received `chunk` at `now`, counted from the request's headers. May be empty.
    ///
    /// # Cost
    /// No allocation once the buffers have grown, if what was returned before has been dropped. No copy if
    /// nothing is held from before and nothing is corrected.
    pub fn push(&mut self, mut chunk: Bytes, now: Duration) -> Bytes {
        debug_assert!(self.out.is_empty(), "what a call puts together it also returns");
        self.last_push = now;
        // The stretch of the chunk that is to be forwarded and is not in `out`. It comes after what is there.
        let mut pass = 0..0;
        let mut at = 0;
        while let Some(piece) = self.splitter.next(&chunk, &mut at) {
            match piece {
                Piece::Event(range) => match self.judge(&chunk[range.clone()], now) {
                    Verdict::Pass => self.pass_on(&chunk, &mut pass, range),
                    verdict => {
                        self.out.extend_from_slice(&chunk[std::mem::replace(&mut pass, 0..0)]);
                        self.apply(&verdict, &chunk[range]);
                    }
                },
                Piece::KeptEvent => self.release_kept(|filter, event| filter.judge(event, now)),
                Piece::Overlong(range) => {
                    self.note_overlong(&chunk[range.clone()]);
                    self.pass_on(&chunk, &mut pass, range);
                }
                Piece::KeptOverlong => self.release_kept(|filter, event| {
                    filter.note_overlong(event);
                    Verdict::Pass
                }),
                Piece::OverlongRest(range) => self.pass_on(&chunk, &mut pass, range),
            }
            if self.is_held() {
                self.unread = chunk.split_off(at);
                break;
            }
        }
        if self.out.is_empty() {
            if pass.is_empty() {
                return Bytes::new();
            }
            if pass.end < chunk.len() {
                chunk.truncate(pass.end);
            }
            chunk.advance(pass.start);
            return chunk;
        }
        self.out.extend_from_slice(&chunk[pass]);
        self.out.split().freeze()
    }

    /// Holds the stream after the event with which our count of the output reaches `tokens`.
    pub fn hold_at(&mut self, tokens: u64) {
        self.ceiling = tokens;
    }

    /// Whether the stream is held: nothing more is to be forwarded before [`StreamFilter::hold_at`] has been called
    /// with more, and [`StreamFilter::resume`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        if self.ceiling == u64::MAX {
            return false;
        }
        self.meter.counted_output() >= self.ceiling
    }

    /// What to forward of what had come when the stream was held.
    pub fn resume(&mut self, now: Duration) -> Bytes {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() { unread } else { self.push(unread, now) }
    }

    /// The events that end a held stream in its server's place, as if the model had reached its cap. `prompt` is our
    /// own count of the prompt.
    #[must_use]
    pub fn close(&self, prompt: Estimate) -> Bytes {
        let charge = charge(self.meter.usage(), self.meter.estimate(prompt), false);
        let unfinished = self.meter.unfinished();
        let tells_usage = !self.withhold_usage;
        let events = self.closing.events(self.api, &self.model_json, &unfinished, &charge, tells_usage);
        let bytes = [self.missing_end(), events.as_bytes()].concat();
        Bytes::from(bytes)
    }

    /// What is left to forward after the server's body ended without a transport error, and whether that was a
    /// clean end. After a transport error it is not to be called: what is held then is half an event.
    ///
    /// An unterminated event at the end goes out as it is. It is finished with line ends only if something has
    /// to follow: our `[DONE]`, or the caller's error event.
    pub fn finish(&mut self) -> StreamEnd {
        let tail = std::mem::take(&mut self.splitter.kept);
        let broken_before = self.meter.unparsed_events();
        let is_withheld = !tail.is_empty() && matches!(self.judge(&tail, self.last_push), Verdict::Withhold);
        // A body that ends inside JSON was cut, whatever came before.
        let is_cut = self.splitter.is_inside_overlong() || self.meter.unparsed_events() > broken_before;
        let is_chat = matches!(self.api, Api::Chat | Api::Completions);
        let is_clean = !self.saw_error
            && match self.api {
                Api::Chat | Api::Completions => {
                    self.has_done || self.meter.is_every_choice_finished() && !is_cut
                }
                Api::Responses | Api::Messages => self.has_ended,
                Api::Other => true,
            };
        let is_done_missing = is_chat && is_clean && !self.has_done;
        let is_inside_event = self.splitter.is_inside_overlong() || !(tail.is_empty() || is_withheld);
        let mut bytes = if is_withheld { BytesMut::new() } else { tail };
        if is_inside_event && (is_done_missing || !is_clean && !self.saw_error) {
            bytes.extend_from_slice(self.splitter.missing_end());
        }
        if is_done_missing {
            bytes.extend_from_slice(DONE);
            self.has_done = true;
        }
        StreamEnd { bytes: bytes.freeze(), is_clean }
    }

    /// Whether what was forwarded so far ends with an event, so that a keep-alive comment may be put in.
    #[must_use]
    pub fn is_at_event_boundary(&self) -> bool {
        !self.splitter.is_inside_overlong()
    }

    /// Whether the server sent an error event, or an error beside choices.
    #[must_use]
    pub fn saw_error_event(&self) -> bool {
        self.saw_error
    }

    /// Whose fault the server's error event says it was.
    #[must_use]
    pub fn error_fault(&self) -> Option<Fault> {
        self.error_fault
    }

    /// Whether the event came that ends a stream of this interface: nothing of worth follows it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_done || self.has_ended
    }

    /// What must be written before another event may follow, where what was forwarded ends within one.
    #[must_use]
    pub fn missing_end(&self) -> &'static [u8] {
        if self.splitter.is_inside_overlong() { self.splitter.missing_end() } else { b"" }
    }

    /// What was counted so far.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What was counted.
    #[must_use]
    pub fn into_meter(self) -> Meter {
        self.meter
    }

    /// Forwards `range` of the chunk, after `pass`.
    fn pass_on(&mut self, chunk: &[u8], pass: &mut Range<usize>, range: Range<usize>) {
        if pass.end == range.start && pass.start < pass.end {
            pass.end = range.end;
            return;
        }
        self.out.extend_from_slice(&chunk[std::mem::replace(pass, range)]);
    }

    /// Applies what `judge` says to the bytes kept. They are the first to go out in any call.
    fn release_kept(&mut self, judge: impl FnOnce(&mut Self, &[u8]) -> Verdict) {
        let mut kept = std::mem::take(&mut self.splitter.kept);
        match judge(self, &kept) {
            // The two buffers change places, which saves a copy.
            Verdict::Pass => std::mem::swap(&mut self.out, &mut kept),
            verdict => self.apply(&verdict, &kept),
        }
        kept.clear();
        self.splitter.kept = kept;
    }

    fn apply(&mut self, verdict: &Verdict, event: &[u8]) {
        let (span, by) = match verdict {
            Verdict::Pass => (0..0, ""),
            Verdict::Withhold => return,
            Verdict::Rename(span) => (span.clone(), &*self.model_json),
            Verdict::Replace(span, by) => (span.clone(), &**by),
        };
        self.out.extend_from_slice(&event[..span.start]);
        self.out.extend_from_slice(by.as_bytes());
        self.out.extend_from_slice(&event[span.end..]);
    }

    /// Counts an event and decides what becomes of it.
    fn judge(&mut self, bytes: &[u8], now: Duration) -> Verdict {
        let start = if self.is_at_start && bytes.starts_with(BOM) { BOM.len() } else { 0 };
        self.is_at_start = false;
        let mut joined = std::mem::take(&mut self.joined);
        let event = Event::read(&bytes[start..], &mut joined);
        let shift = |span: Range<usize>| start + span.start..start + span.end;
        let verdict = match self.judge_fields(&event, now) {
            Verdict::Rename(span) => Verdict::Rename(shift(event.locate(span))),
            Verdict::Replace(span, by) => {
                let (first, last) = (event.locate(0..0).start, event.locate(span.end..span.end).end);
                Verdict::Replace(shift(first..last), by)
            }
            verdict => verdict,
        };
        self.joined = joined;
        verdict
    }

    /// The same, with spans of the event's data.
    fn judge_fields(&mut self, event: &Event<'_>, now: Duration) -> Verdict {
        let Some(data) = event.data else { return Verdict::Pass };
        self.meter.observe_event();
        if data.trim_ascii() == b"[DONE]" {
            self.has_done = true;
            return Verdict::Pass;
        }
        let Ok(reading) = Reading::of(data) else {
            self.meter.observe_unparsed();
            if event.name == b"error" {
                self.saw_error = true;
                return self.correct_error(data);
            }
            return Verdict::Pass;
        };
        let kind = reading.kind.map(|kind| kind.raw).filter(|kind| !kind.is_empty()).unwrap_or(event.name);
        self.meter.observe(&reading, kind, now);
        self.closing.observe(&reading, kind);
        self.note_end(kind);
        if self.is_error(&reading, event.name, kind) {
            self.saw_error = true;
            if reading.choices.is_none() && !self.is_own_error_shape(&reading, kind) {
                return self.correct_error(data);
            }
        }
        let (is_openai, model) = match self.api {
            Api::Chat | Api::Completions => (true, reading.model),
            Api::Responses | Api::Messages => (false, reading.inner_model),
            Api::Other => (false, None),
        };
        let is_usage_event = is_openai && reading.choices == Some(0) && reading.has_usage_object;
        if self.withhold_usage && is_usage_event && !reading.has_error {
            return Verdict::Withhold;
        }
        match model {
            Some(model) if self.is_renamed(&model) => Verdict::Rename(model.span()),
            _ => Verdict::Pass,
        }
    }

    fn is_renamed(&self, model: &Str<'_>) -> bool {
        // Allocates for a name that the server escaped, which no name of a model needs.
        model.raw != self.model_json.as_bytes() && !(model.has_escapes && model.value() == *self.model)
    }

    fn is_error(&self, reading: &Reading<'_>, event_name: &[u8], kind: &[u8]) -> bool {
        let is_flat = reading.is_flat_error && matches!(self.api, Api::Chat | Api::Completions);
        reading.has_error || is_flat || event_name == b"error" || kind == b"error"
    }

    /// Whether an error stands in the shape that the interface gives its own: Responses `{"type":"error",
    /// "code", "message"}`, Messages `{"type":"error","error":{}}`.
    fn is_own_error_shape(&self, reading: &Reading<'_>, kind: &[u8]) -> bool {
        match self.api {
            Api::Responses => reading.kind.is_some() && kind == b"error",
            Api::Messages => reading.kind.is_some() && kind == b"error" && reading.has_error,
            Api::Chat | Api::Completions | Api::Other => false,
        }
    }

    fn correct_error(&mut self, data: &[u8]) -> Verdict {
        // The stream's own status was 200; the error's is what its body says.
        let error = error::normalise(200, data);
        self.error_fault = Some(error.fault);
        if self.api != Api::Messages && error.fault == Fault::Client && error::is_readable(data, &error) {
            return Verdict::Pass;
        }
        let json = if self.api == Api::Messages { error.to_messages_json() } else { error.to_json() };
        Verdict::Replace(0..data.len(), json)
    }

    fn note_overlong(&mut self, beginning: &[u8]) {
        self.meter.observe_overlong();
        self.is_at_start = false;
        // A Responses answer repeats itself whole in its last event. The name comes first, and is enough to
        // know that it ended. Only as much is read as is there however the bytes were cut.
        let beginning = &beginning[..beginning.len().min(self.splitter.max_event_bytes())];
        if let Some(end) = memchr::memrchr(b'\n', beginning) {
            let mut joined = std::mem::take(&mut self.joined);
            self.note_end(Event::read(&beginning[..end], &mut joined).name);
            self.joined = joined;
        }
    }

    fn note_end(&mut self, kind: &[u8]) {
        self.has_ended |= match self.api {
            Api::Responses => {
                matches!(kind, b"response.completed" | b"response.incomplete" | b"response.failed")
            }
            Api::Messages => kind == b"message_stop",
            Api::Chat | Api::Completions | Api::Other => false,
        };
    }
}

#[cfg(test)]
#[path = "stream/tests.rs"]
mod tests;
