//! Events → when the first token came, how far apart the others were, and how many tokens that makes by our
//! own count: with the model's tokenizer as the text comes, or four characters a token where none is known.
//!
//! A content event is one that brings text: an answer's first chunk often holds only a role, and comes
//! seconds before the first token. Times are since the request's headers were read. Deltas are not tokens
//! (SGLang batches them, pieces of a character are merged), so that events are counted for timing only.
//!
//! Cost: a few additions an event, and what [`Running`] takes for its text; no allocation once a choice has begun.

use std::sync::Arc;
use std::time::Duration;

use super::Api;
use super::event::{Choices, Place, Reading, Said, Text};
use super::usage::{Estimate, Reports, Scope, Source, Usage};
use crate::tokenizer::{CHARS_PER_TOKEN, Running, Tokenizer};

/// Upper bounds, in seconds, of the buckets in [`Gaps::buckets`]: those of vLLM's `inter_token_latency_seconds`
/// (<https://docs.vllm.ai/en/latest/usage/metrics.html>), so that both can be read side by side, and two
/// smaller ones for fast models.
pub const GAP_BOUNDS_SECONDS: [f64; 15] =
    [0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

const GAP_BOUNDS: [Duration; GAP_BOUNDS_SECONDS.len()] = {
    let mut bounds = [Duration::ZERO; GAP_BOUNDS_SECONDS.len()];
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] = Duration::from_micros((GAP_BOUNDS_SECONDS[i] * 1e6 + 0.5) as u64);
        i += 1;
    }
    bounds
};

/// Choices that are counted each by itself; the texts of further ones are taken for one.
const MAX_CHOICES: usize = 128;

/// Tokens around the name and the arguments of a tool's call: what the engines take away when they read
/// `<tool_call>\n{"name": "…", "arguments": …}\n</tool_call>`.
pub(super) const TOKENS_PER_CALL: u64 = 12;

/// What one choice has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Spoken {
    choice: u64,
    visible: Running,
    reasoning: Running,
}

/// The times between content events. Events of one chunk came together: only the first has a gap above zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// How many there were in each bucket of [`GAP_BOUNDS_SECONDS`], not cumulated; the last is above all bounds.
    pub buckets: [u64; GAP_BOUNDS_SECONDS.len() + 1],
    /// Their sum.
    pub sum: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Gaps {
    fn observe(&mut self, gap: Duration) {
        self.buckets[GAP_BOUNDS.partition_point(|bound| *bound < gap)] += 1;
        self.sum += gap;
        self.longest = self.longest.max(gap);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What one stream has come to so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    api: Api,
    first_token: Option<Duration>,
    last_content: Option<Duration>,
    content_events: u64,
    gaps: Gaps,
    visible_chars: u64,
    reasoning_chars: u64,
    tokenizer: Option<Arc<Tokenizer>>,
    spoken: Vec<Spoken>,
    calls: u64,
    events: u64,
    unparsed_events: u64,
    overlong_events: u64,
    reports: Reports,
    seen: Choices,
    finished: Choices,
    stopped: Choices,
}

impl Meter {
    pub(super) fn new(api: Api, tokenizer: Option<Arc<Tokenizer>>) -> Self {
        Self {
            api,
            tokenizer,
            spoken: Vec::new(),
            calls: 0,
            first_token: None,
            last_content: None,
            content_events: 0,
            gaps: Gaps::default(),
            visible_chars: 0,
            reasoning_chars: 0,
            events: 0,
            unparsed_events: 0,
            overlong_events: 0,
            reports: Reports::default(),
            seen: Choices::default(),
            finished: Choices::default(),
            stopped: Choices::default(),
        }
    }

    /// When the first event with content came.
    #[must_use]
    pub fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// When the last event with content came.
    #[must_use]
    pub fn last_content(&self) -> Option<Duration> {
        self.last_content
    }

    /// Events with content.
    #[must_use]
    pub fn content_events(&self) -> u64 {
        self.content_events
    }

    /// The times between content events.
    #[must_use]
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Characters of the visible answer, of all choices.
    #[must_use]
    pub fn visible_chars(&self) -> u64 {
        self.visible_chars
    }

    /// Characters of reasoning, of all choices.
    #[must_use]
    pub fn reasoning_chars(&self) -> u64 {
        self.reasoning_chars
    }

    /// Events with data, whatever it was.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Events whose data is no JSON. They were forwarded as they are.
    #[must_use]
    pub fn unparsed_events(&self) -> u64 {
        self.unparsed_events
    }

    /// Events above the cap. They were forwarded as they are, and nothing in them was counted.
    #[must_use]
    pub fn overlong_events(&self) -> u64 {
        self.overlong_events
    }

    /// What the server reported.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.reports.total(self.api, self.seen.count())
    }

    /// Our own count, given that of the prompt.
    ///
    /// # Cost
    /// With a tokenizer, the unfinished words of each choice are encoded.
    #[must_use]
    pub fn estimate(&self, prompt: Estimate) -> Estimate {
        let Some(tokenizer) = &self.tokenizer else {
            return Estimate {
                output: self.visible_chars.div_ceil(CHARS_PER_TOKEN),
                reasoning: self.reasoning_chars.div_ceil(CHARS_PER_TOKEN),
                output_source: Source::Estimated,
                ..prompt
            };
        };
        let total = |text: fn(&Spoken) -> &Running| -> u64 {
            self.spoken.iter().map(|spoken| text(spoken).total(tokenizer)).sum()
        };
        // A turn that the model ended took a token that is no text.
        let around = self.stopped.count() + self.calls * TOKENS_PER_CALL;
        Estimate {
            output: total(|spoken| &spoken.visible) + around,
            reasoning: total(|spoken| &spoken.reasoning),
            output_source: Source::Tokenizer,
            ..prompt
        }
    }

    /// All output so far by our own count, reasoning included. A word that is not finished is taken for a token of each
    /// four of its bytes.
    ///
    /// # Cost
    /// A few additions.
    #[must_use]
    pub fn counted_output(&self) -> u64 {
        if self.tokenizer.is_none() {
            return self.visible_chars.div_ceil(CHARS_PER_TOKEN)
                + self.reasoning_chars.div_ceil(CHARS_PER_TOKEN);
        }
        self.spoken.iter().map(|spoken| spoken.visible.so_far() + spoken.reasoning.so_far()).sum()
    }

    pub(super) fn observe_event(&mut self) {
        self.events += 1;
    }

    pub(super) fn observe_unparsed(&mut self) {
        self.unparsed_events += 1;
    }

    pub(super) fn observe_overlong(&mut self) {
        self.overlong_events += 1;
    }

    /// Whether every choice that was seen has ended, and there was one.
    pub(super) fn is_every_choice_finished(&self) -> bool {
        self.finished.is_all_of(&self.seen)
    }

    /// The choices that have not ended.
    pub(super) fn unfinished(&self) -> Choices {
        self.seen.without(&self.finished)
    }

    /// Counts what an event says. `name` is the event's type.
    pub(super) fn observe(&mut self, reading: &Reading<'_>, name: &[u8], now: Duration) {
        if reading.is_null {
            self.reports.observe_null();
        }
        self.seen.join(&reading.seen);
        self.finished.join(&reading.finished);
        self.stopped.join(&reading.stopped);
        self.calls += reading.calls;
        self.count(reading, name);
        let text = text_of(reading, name);
        if !text.is_empty() {
            self.observe_text(text, now);
        }
        self.observe_usage(reading, name);
    }

    /// Counts the texts of an event with the tokenizer, if there is one.
    fn count(&mut self, reading: &Reading<'_>, name: &[u8]) {
        let Some(tokenizer) = self.tokenizer.clone() else { return };
        let is_block = name == b"content_block_delta";
        for said in reading.texts.iter() {
            match said.place {
                Place::Choice => self.say(&tokenizer, *said),
                Place::Delta if is_block => self.say(&tokenizer, *said),
                // The whole of what came in pieces before.
                Place::Delta | Place::Output => {}
            }
        }
        if let Some(text) =
            reading.delta.filter(|_| name.ends_with(b".delta") && name != b"response.audio.delta")
        {
            let is_reasoning = name.starts_with(b"response.reasoning");
            self.say(&tokenizer, Said { text, choice: 0, is_reasoning, place: Place::Delta });
        }
    }

    fn say(&mut self, tokenizer: &Tokenizer, said: Said<'_>) {
        let known = self.spoken.iter().position(|spoken| spoken.choice == said.choice);
        let at = known.unwrap_or_else(|| {
            if self.spoken.len() < MAX_CHOICES {
                self.spoken.push(Spoken { choice: said.choice, ..Spoken::default() });
            }
            self.spoken.len() - 1
        });
        let spoken = &mut self.spoken[at];
        let text = if said.is_reasoning { &mut spoken.reasoning } else { &mut spoken.visible };
        text.push(tokenizer, said.text);
    }

    fn observe_text(&mut self, text: Text, now: Duration) {
        self.reports.observe_content();
        self.visible_chars += text.visible;
        self.reasoning_chars += text.reasoning;
        self.content_events += 1;
        self.first_token.get_or_insert(now);
        if let Some(last) = self.last_content.replace(now) {
            self.gaps.observe(now.saturating_sub(last));
        }
    }

    fn observe_usage(&mut self, reading: &Reading<'_>, name: &[u8]) {
        let Some(mut usage) = reading.usage.or(reading.inner_usage) else { return };
        if name == b"message_start" {
            // Anthropic's first event reports output before there is any; it is a placeholder.
            usage.output = None;
        }
        let scope = match reading.choices {
            Some(1) => Scope::Choice(reading.first_choice),
            // Several choices in one event: the report cannot be of one of them.
            Some(2..) | None => Scope::Whole,
            Some(0) if reading.has_timings => Scope::SomeChoice,
            Some(0) => Scope::Whole,
        };
        self.reports.observe(usage, scope, reading.has_timings);
    }
}

/// The text that an event brings.
fn text_of(reading: &Reading<'_>, name: &[u8]) -> Text {
    let mut text = reading.text;
    if name.ends_with(b".delta") {
        let delta = reading.delta.map_or(0, |delta| delta.chars());
        match name {
            _ if name.starts_with(b"response.reasoning") => text.reasoning += delta,
            b"response.audio.delta" => text.is_other |= delta > 0,
            _ => text.visible += delta,
        }
    }
    if name == b"content_block_delta" {
        text.visible += reading.delta_text.visible;
        text.reasoning += reading.delta_text.reasoning;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_fall_into_their_buckets() {
        let mut gaps = Gaps::default();
        for (millis, bucket) in [(0, 0), (2, 0), (5, 1), (6, 2), (25, 3), (26, 4), (2500, 14), (2501, 15)] {
            let before = gaps.buckets[bucket];
            gaps.observe(Duration::from_millis(millis));
            assert_eq!(gaps.buckets[bucket], before + 1, "{millis} ms");
        }
        assert_eq!(gaps.count(), 8);
        assert_eq!(gaps.sum, Duration::from_millis(5065));
        assert_eq!(gaps.longest, Duration::from_millis(2501));
    }

    #[test]
    fn events_of_one_moment_have_one_gap() {
        let mut meter = Meter::new(Api::Chat, None);
        let reading = Reading::of(br#"{"choices":[{"delta":{"content":"abcde"}}]}"#).expect("it is JSON");
        for millis in [100, 100, 130, 130, 130] {
            meter.observe(&reading, b"", Duration::from_millis(millis));
        }
        assert_eq!(meter.first_token(), Some(Duration::from_millis(100)));
        assert_eq!(meter.last_content(), Some(Duration::from_millis(130)));
        assert_eq!((meter.gaps().count(), meter.gaps().sum), (4, Duration::from_millis(30)));
        assert_eq!(meter.gaps().buckets[0], 3);
        let prompt = Estimate { input: 1, ..Estimate::default() };
        assert_eq!(meter.estimate(prompt), Estimate { output: 7, ..prompt });
    }

    #[test]
    fn knows_what_is_a_token() {
        for (name, json, visible, reasoning) in [
            ("role", r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, 0, 0),
            (
                "null",
                r#"{"choices":[{"delta":{"content":null,"reasoning_content":null,"tool_calls":null}}]}"#,
                0,
                0,
            ),
            ("content", r#"{"choices":[{"delta":{"content":"日本"}}]}"#, 2, 0),
            ("two choices", r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"bc"}}]}"#, 3, 0),
            ("reasoning", r#"{"choices":[{"delta":{"content":"","reasoning":"Hm"}}]}"#, 0, 2),
            ("both names", r#"{"choices":[{"delta":{"reasoning":"Hm","reasoning_content":"Hm"}}]}"#, 0, 2),
            (
                "parts",
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"4."}],"closed":true},{"type":"text","text":"1"}]}}]}"#,
                1,
                2,
            ),
            (
                "tool",
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}},{"function":{"arguments":"x"}}]}}]}"#,
                4,
                0,
            ),
            ("old call", r#"{"choices":[{"delta":{"function_call":{"name":"f","arguments":"{}"}}}]}"#, 3, 0),
            ("refusal", r#"{"choices":[{"delta":{"refusal":"No"}}]}"#, 2, 0),
            ("completion", r#"{"choices":[{"text":"a\nb"}]}"#, 3, 0),
            ("response.output_text.delta", r#"{"delta":"abc"}"#, 3, 0),
            ("response.function_call_arguments.delta", r#"{"delta":"{}"}"#, 2, 0),
            ("response.reasoning_text.delta", r#"{"delta":"abc"}"#, 0, 3),
            ("response.reasoning_summary_text.delta", r#"{"delta":"abc"}"#, 0, 3),
            ("response.output_text.done", r#"{"text":"abc"}"#, 0, 0),
            ("content_block_delta", r#"{"delta":{"type":"text_delta","text":"abc"}}"#, 3, 0),
            ("content_block_delta", r#"{"delta":{"type":"thinking_delta","thinking":"abc"}}"#, 0, 3),
            ("content_block_delta", r#"{"delta":{"type":"input_json_delta","partial_json":"{"}}"#, 1, 0),
            ("content_block_delta", r#"{"delta":{"type":"signature_delta","signature":"abc"}}"#, 0, 0),
            ("content_block_start", r#"{"content_block":{"type":"text","text":""}}"#, 0, 0),
        ] {
            let reading = Reading::of(json.as_bytes()).expect(name);
            let text = text_of(&reading, name.as_bytes());
            assert_eq!((text.visible, text.reasoning), (visible, reasoning), "{name}: {json}");
            assert_eq!(text.is_empty(), visible + reasoning == 0, "{name}");
        }
    }
}
