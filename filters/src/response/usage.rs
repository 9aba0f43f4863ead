//! Reported tokens: what a server's `usage` objects say, which of several stands, and whether the report or
//! our own count is charged.
//!
//! Reported usage wins, because the owner of the server is billed or planned by it; our own count stands where
//! a stream was cut before its usage came, or none came. What the engines report differs:
//! - reasoning is within `completion_tokens`, except at xAI, whose `total_tokens` betrays it;
//! - cached input is within `prompt_tokens` and `input_tokens`, except in Anthropic's shape, whose
//!   `input_tokens` leaves it out (<https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching>);
//! - the last report of a stream stands, except that llama.cpp reports each choice by itself.
//!
//! Invariant: no token is in two fields of a [`Charge`], except that cached input is a part of input.
//! Cost: no allocation, except one small vector in a stream whose usage comes beside choices.

use super::Api;
use crate::json::{JsonError, Kind, Reader};

/// What a server reported. `None` where it said nothing, or nothing final.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: Option<u64>,
    /// The part of `input` that the server had in its cache.
    pub cached_input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// The part of `output` that is reasoning.
    pub reasoning: u64,
}

/// Who counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Source {
    /// The server.
    Reported,
    /// We, with the model's own tokenizer, because the server did not.
    Tokenizer,
    /// We, by a rule of thumb or from a sample.
    #[default]
    Estimated,
}

/// Our own count, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of the prompt.
    pub input: u64,
    /// The part of `input` that is the text of system and developer messages.
    pub system: u64,
    /// Tokens of the visible answer, without reasoning.
    pub output: u64,
    /// Tokens of reasoning.
    pub reasoning: u64,
    /// How `input` and `system` were counted.
    pub input_source: Source,
    /// How `output` and `reasoning` were counted.
    pub output_source: Source,
}

/// What is charged. The fields add up: input + output + reasoning is every token there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// The part of `input` that the server had in its cache; never more than `input`.
    pub cached_input: u64,
    /// The part of `input` that is the text of system and developer messages, by our own count: no server tells.
    /// Never more than `input`.
    pub system: u64,
    /// Tokens of the answer, without reasoning.
    pub output: u64,
    /// Tokens of reasoning.
    pub reasoning: u64,
    /// Our own count of the prompt, whether or not it is charged.
    pub counted_input: u64,
    /// Our own count of `output` and `reasoning` together, whether or not it is charged.
    pub counted_output: u64,
    /// Who counted `input`.
    pub input_source: Source,
    /// Who counted `output` and `reasoning` together.
    pub output_source: Source,
    /// Who told `reasoning` apart.
    pub reasoning_source: Source,
}

/// What is charged for an answer, given what the server reported and what we counted. `is_complete` says
/// whether the answer came to its end.
///
/// A cut answer is charged by a report only if that is of output already streamed: a server that reports
/// nothing yet (0 tokens) while text has come through is not believed.
///
/// A report that tells no reasoning apart, though there was some, is divided as our own count is.
#[must_use]
pub fn charge(reported: Option<Usage>, estimate: Estimate, is_complete: bool) -> Charge {
    let reported = reported.unwrap_or_default();
    let (input, input_source) = match reported.input {
        Some(input) => (input, Source::Reported),
        None => (estimate.input, estimate.input_source),
    };
    let counted = estimate.output.saturating_add(estimate.reasoning);
    let (output, reasoning, output_source) = match reported.output {
        Some(output) if is_complete || output > 0 || counted == 0 => {
            // OpenRouter was seen to report 11 of 10 tokens as reasoning.
            let told = reported.reasoning.min(output);
            let reasoning = if told == 0 { share(output, estimate.reasoning, counted) } else { told };
            (output - reasoning, reasoning, Source::Reported)
        }
        _ => (estimate.output, estimate.reasoning, estimate.output_source),
    };
    let is_told = output_source == Source::Reported && (reported.reasoning > 0 || estimate.reasoning == 0);
    Charge {
        input,
        cached_input: reported.cached_input.min(input),
        system: estimate.system.min(input),
        output,
        reasoning,
        counted_input: estimate.input,
        counted_output: counted,
        input_source,
        output_source,
        reasoning_source: if is_told { Source::Reported } else { estimate.output_source },
    }
}

/// As much of `whole` as `part` is of `all`, rounded.
fn share(whole: u64, part: u64, all: u64) -> u64 {
    let (whole, part, all) = (u128::from(whole), u128::from(part), u128::from(all.max(1)));
    u64::try_from((whole * part + all / 2) / all).unwrap_or(u64::MAX)
}

/// Reads the `usage` value that comes next. `None` if it is no object or counts no tokens (`null`, audio by
/// the second).
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Usage>, JsonError> {
    if reader.peek()? != Kind::Object {
        reader.skip()?;
        return Ok(None);
    }
    let mut raw = Raw::default();
    reader.enter_object()?;
    while let Some(key) = reader.next_key()? {
        match key.raw {
            b"prompt_tokens" | b"input_tokens" => raw.input = read_tokens(reader)?,
            b"completion_tokens" | b"output_tokens" => raw.output = read_tokens(reader)?,
            b"total_tokens" => raw.total = read_tokens(reader)?,
            b"cache_read_input_tokens" => raw.cache_read = read_tokens(reader)?,
            b"cache_creation_input_tokens" => raw.cache_written = read_tokens(reader)?,
            b"prompt_cache_hit_tokens" => raw.cache_hit = read_tokens(reader)?,
            b"reasoning_tokens" => raw.top_reasoning = read_tokens(reader)?,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                raw.cached = detail(reader, b"cached_tokens")?;
            }
            b"completion_tokens_details" | b"output_tokens_details" => {
                raw.reasoning = detail(reader, b"reasoning_tokens")?;
            }
            _ => _ = reader.skip()?,
        }
    }
    Ok(raw.meaning())
}

/// The most tokens that a report can mean. What is beyond it is a fault of the server, and no report at all.
const MAX_TOKENS: u64 = 1_000_000_000;

fn read_tokens(reader: &mut Reader<'_>) -> Result<Option<u64>, JsonError> {
    Ok(reader.u64_or_skip()?.filter(|&tokens| tokens <= MAX_TOKENS))
}

/// The number called `name` in the object that comes next, if it is an object.
fn detail(reader: &mut Reader<'_>, name: &[u8]) -> Result<Option<u64>, JsonError> {
    let mut found = None;
    if reader.peek()? != Kind::Object {
        reader.skip()?;
        return Ok(None);
    }
    reader.enter_object()?;
    while let Some(key) = reader.next_key()? {
        if key.raw == name {
            found = read_tokens(reader)?;
        } else {
            reader.skip()?;
        }
    }
    Ok(found)
}

/// A `usage` object as it stands.
#[derive(Default)]
struct Raw {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    /// DeepSeek's `prompt_cache_hit_tokens`.
    cache_hit: Option<u64>,
    /// SGLang's `reasoning_tokens` beside the details.
    top_reasoning: Option<u64>,
    /// Anthropic's, which are not within `input_tokens`.
    cache_read: Option<u64>,
    cache_written: Option<u64>,
}

impl Raw {
    fn meaning(self) -> Option<Usage> {
        let mut input = self.input;
        let mut cached_input = self.cached.or(self.cache_hit).unwrap_or(0);
        if let (Some(rest), true) = (input, self.cache_read.is_some() || self.cache_written.is_some()) {
            let read = self.cache_read.unwrap_or(0);
            input = Some(rest.saturating_add(read).saturating_add(self.cache_written.unwrap_or(0)));
            cached_input = read;
        }
        let mut output = self.output;
        if let (None, Some(total)) = (output, self.total) {
            // Embeddings and rerank report the prompt and the total, or the total alone.
            output = Some(total.saturating_sub(*input.get_or_insert(total)));
        }
        let reasoning = self.reasoning.or(self.top_reasoning).unwrap_or(0);
        if let (Some(prompt), Some(visible), Some(total)) = (self.input, self.output, self.total) {
            let with_reasoning = visible.saturating_add(reasoning);
            if reasoning > 0 && prompt.saturating_add(with_reasoning) == total {
                output = Some(with_reasoning);
            }
        }
        if input.is_none() && output.is_none() {
            return None;
        }
        Some(Usage { input, cached_input, output, reasoning })
    }
}

/// Which choice a report belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The whole answer.
    Whole,
    /// The choice with this index.
    Choice(u64),
    /// One choice, but it does not say which: llama.cpp's chunk with no choices, one for each.
    SomeChoice,
}

/// More choices than any engine gives; a bound on memory, not a limit on anyone.
const MAX_CHOICES: usize = 1024;

/// The reports of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reports {
    whole: Option<Usage>,
    by_choice: Vec<(Option<u64>, Usage)>,
    /// llama.cpp sends a `null` event for each prompt of a completion but the first.
    nulls: u64,
    /// Content came after the last report, so that one cannot be of all the output.
    is_outdated: bool,
    /// Every choice is known to report by itself: until all have, the output is not known.
    is_each_by_itself: bool,
}

impl Reports {
    pub(super) fn observe_null(&mut self) {
        self.nulls += 1;
    }

    pub(super) fn observe_content(&mut self) {
        self.is_outdated = true;
    }

    pub(super) fn observe(&mut self, usage: Usage, scope: Scope, is_llama_cpp: bool) {
        self.is_outdated = false;
        self.is_each_by_itself |= is_llama_cpp && scope != Scope::Whole;
        let index = match scope {
            // A later report may be of less: Anthropic's `message_delta` often has the output alone.
            Scope::Whole => {
                let earlier = self.whole.unwrap_or_default();
                let cached_input =
                    if usage.input.is_some() { usage.cached_input } else { earlier.cached_input };
                let output = usage.output.or(earlier.output);
                self.whole =
                    Some(Usage { input: usage.input.or(earlier.input), cached_input, output, ..usage });
                return;
            }
            Scope::Choice(index) => Some(index),
            Scope::SomeChoice => None,
        };
        let known = self.by_choice.iter().position(|(known, _)| index.is_some() && *known == index);
        match known {
            Some(at) => self.by_choice[at].1 = usage,
            None if self.by_choice.len() < MAX_CHOICES => self.by_choice.push((index, usage)),
            None => {}
        }
    }

    /// What the stream's reports come to. `choices` is the number of choices seen.
    pub(super) fn total(&self, api: Api, choices: u64) -> Option<Usage> {
        let mut usage = match self.whole {
            Some(whole) => whole,
            None if self.by_choice.is_empty() => return None,
            None => self.sum(api, choices),
        };
        if self.is_outdated {
            usage.output = None;
        }
        Some(usage)
    }

    /// Output is summed over the choices. Input is not: the choices of one prompt share it, and the server
    /// has read it once. A chat has one prompt. A completion may have several, each with as many choices;
    /// llama.cpp's `null` events tell how many. Without them, reports that all have the same input are taken
    /// for choices of one prompt.
    fn sum(&self, api: Api, choices: u64) -> Usage {
        let reports = || self.by_choice.iter().map(|(_, usage)| usage);
        let add = |field: fn(&Usage) -> u64| reports().map(field).fold(0, u64::saturating_add);
        let input = |usage: &Usage| usage.input.unwrap_or(0);
        let count = self.by_choice.len() as u64;
        let is_one_prompt = api != Api::Completions
            || self.nulls == 0 && reports().all(|usage| usage.input == self.by_choice[0].1.input);
        let (input, cached_input) = if is_one_prompt {
            (reports().map(input).max(), reports().map(|usage| usage.cached_input).min())
        } else {
            let choices_each = if self.nulls == 0 { 1 } else { (count / (self.nulls + 1)).max(1) };
            (Some(add(input) / choices_each), Some(add(|usage| usage.cached_input) / choices_each))
        };
        let is_whole = !self.is_each_by_itself || (count >= choices && self.by_choice.len() < MAX_CHOICES);
        Usage {
            input,
            cached_input: cached_input.unwrap_or(0),
            output: is_whole.then(|| add(|usage| usage.output.unwrap_or(0))),
            reasoning: add(|usage| usage.reasoning),
        }
    }
}

#[cfg(test)]
#[path = "usage/tests.rs"]
mod tests;
