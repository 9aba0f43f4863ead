//! A whole JSON answer → where the model's name stands, what usage it reports and how much text it holds.
//!
//! Invariant: any bytes give an answer, garbage an empty one. Cost: one pass, no allocation.

use std::ops::Range;

use super::Api;
use super::event::{Reading, Said};
use super::tokens::TOKENS_PER_CALL;
use super::usage::{Estimate, Source, Usage};
use crate::tokenizer::CHARS_PER_TOKEN;
use crate::tokenizer::counter::Counter;

/// What is to be known of a whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Where the contents of the string `model` stand in the body, without the quotes.
    pub model: Option<Range<usize>>,
    /// What the server reported.
    pub usage: Option<Usage>,
    /// Characters of the visible answer, of all choices.
    pub output_chars: u64,
    /// Characters of reasoning, of all choices.
    pub reasoning_chars: u64,
    /// Our own count of the visible answer, in tokens.
    pub output: u64,
    /// Our own count of reasoning, in tokens.
    pub reasoning: u64,
    /// How those were counted.
    pub source: Source,
}

impl Answer {
    /// Our own count, given that of the prompt.
    #[must_use]
    pub fn estimate(&self, prompt: Estimate) -> Estimate {
        Estimate { output: self.output, reasoning: self.reasoning, output_source: self.source, ..prompt }
    }
}

/// Reads the body of an answer: chat, completions, responses, messages, embeddings, rerank, transcriptions.
#[must_use]
pub fn read(api: Api, body: &[u8], counter: &Counter) -> Answer {
    let Ok(reading) = Reading::of(body) else { return Answer::default() };
    let mut usage = reading.usage;
    if let (Some(usage), Some(2..), true) = (&mut usage, reading.choices, reading.has_timings) {
        // Of several choices in one answer, llama.cpp reports the first alone. A chat has one prompt, which is
        // then reported rightly; a completion may have as many as choices.
        usage.output = None;
        if api != Api::Chat {
            (usage.input, usage.cached_input) = (None, 0);
        }
    }
    let mut text = reading.text;
    text.visible += reading.output_text.visible;
    text.reasoning += reading.output_text.reasoning;
    let (output, reasoning, source) = count(&reading, counter).unwrap_or((
        text.visible.div_ceil(CHARS_PER_TOKEN),
        text.reasoning.div_ceil(CHARS_PER_TOKEN),
        Source::Estimated,
    ));
    Answer {
        model: reading.model.map(|model| model.span()),
        usage,
        output_chars: text.visible,
        reasoning_chars: text.reasoning,
        output,
        reasoning,
        source,
    }
}

/// Tokens of what is visible and of reasoning, with the model's tokenizer. `None` if it has none.
fn count(reading: &Reading<'_>, counter: &Counter) -> Option<(u64, u64, Source)> {
    let length = reading.texts.iter().map(|said| said.text.raw.len()).sum();
    let of = |wanted: bool| {
        let texts = reading.texts.iter().filter(move |said: &&Said<'_>| said.is_reasoning == wanted);
        counter.texts(texts.map(|said| said.text.value()), length)
    };
    let (visible, reasoning) = (of(false)?, of(true)?);
    let source = if visible.is_exact && reasoning.is_exact { Source::Tokenizer } else { Source::Estimated };
    let around = reading.stopped.count() + reading.calls * TOKENS_PER_CALL;
    Some((visible.tokens + around, reasoning.tokens, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(api: Api, body: &str, model: Option<&str>, usage: Option<(u64, u64)>, chars: (u64, u64)) {
        let answer = read(api, body.as_bytes(), &Counter::default());
        assert_eq!(answer.model.map(|span| &body[span]), model, "{body}");
        let reported = answer.usage.map(|usage| (usage.input.unwrap_or(0), usage.output.unwrap_or(0)));
        assert_eq!(reported, usage, "{body}");
        assert_eq!((answer.output_chars, answer.reasoning_chars), chars, "{body}");
    }

    #[test]
    fn reads_every_interface() {
        check(
            Api::Chat,
            r#"{"model":"m","choices":[{"message":{"content":"abc","reasoning":"de","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
            Some("m"),
            Some((3, 2)),
            (6, 2),
        );
        check(
            Api::Completions,
            r#"{"choices":[{"text":"abc"},{"text":"d"}],"model":"m"}"#,
            Some("m"),
            None,
            (4, 0),
        );
        check(
            Api::Responses,
            r#"{"model":"m","output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"content":[{"text":"x"}]},{"type":"message","content":[{"type":"output_text","text":"abc"}]},{"type":"function_call","name":"f","arguments":"{}"}],"usage":{"input_tokens":5,"output_tokens":6}}"#,
            Some("m"),
            Some((5, 6)),
            (6, 3),
        );
        check(
            Api::Messages,
            r#"{"type":"message","model":"m","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"abc"},{"type":"tool_use","name":"f","input":{"a":1}}],"usage":{"input_tokens":5,"output_tokens":6}}"#,
            Some("m"),
            Some((5, 6)),
            (11, 2),
        );
        check(Api::Other, r#"{"text":"said"}"#, None, None, (4, 0));
        check(
            Api::Other,
            r#"{"object":"list","data":[{"embedding":[0.5,1]}],"model":"m","usage":{"prompt_tokens":6,"total_tokens":6}}"#,
            Some("m"),
            Some((6, 0)),
            (0, 0),
        );
    }

    #[test]
    fn garbage_is_an_empty_answer() {
        for body in [
            "",
            "<html>",
            "{\"model\":\"m\"",
            "[]",
            "null",
            "{\"model\":5,\"usage\":[],\"choices\":{}}",
            "\u{0}",
        ] {
            check(Api::Chat, body, None, None, (0, 0));
        }
    }

    #[test]
    fn llama_cpp_reports_one_of_several_choices() {
        let body = r#"{"choices":[{"text":"a"},{"text":"b"}],"usage":{"completion_tokens":5,"prompt_tokens":34},"timings":{}}"#;
        let usage = |input| Some(Usage { input, ..Usage::default() });
        assert_eq!(read(Api::Chat, body.as_bytes(), &Counter::default()).usage, usage(Some(34)));
        assert_eq!(read(Api::Completions, body.as_bytes(), &Counter::default()).usage, usage(None));
    }
}
