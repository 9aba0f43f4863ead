//! JSON bytes → [`Prompt`]: the few facts that decide how a request is treated, and where in the client's own
//! bytes the two declared splices go. The body is never parsed into a tree and never written again as a whole,
//! so whatever we do not know about (fields, key order, white space, large numbers) reaches the server as sent.
//!
//! Where a key that decides something occurs twice, parsers differ on which one counts. Two different models
//! are refused; for the rest the reading that costs the client more is taken, so nobody gains by repeating.
//!
//! Cost: one pass over the bytes; allocations only for the model's name and the lists of spans.

mod apart;
mod texts;

use std::ops::Range;

use bytes::Bytes;

use crate::endpoint::Endpoint;
use crate::json::{JsonError, Kind, Reader, Str};
use crate::refusal::Refusal;
use crate::request::scan::behaviour::text_hash;
use crate::response::usage::Estimate;
use crate::tokenizer::CHARS_PER_TOKEN;
use crate::tokenizer::counter::Counter;

pub use texts::{Place, Text, texts_of_messages};
use texts::{Texts, role_of_key};

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The model's name as the client wrote it.
    pub model: String,
    /// Where that name stands in the body, without quotes. More than one where the key is repeated.
    pub model_spans: Vec<Range<usize>>,
    /// Whether a streamed answer was asked for.
    pub is_streaming: bool,
    /// Whether and where to ask for usage.
    pub usage: UsageRequest,
    /// The cap on output tokens that the client set, over all choices.
    pub max_output: Option<u64>,
    /// Where caps stand in the body, and what they are.
    pub max_output_spans: Vec<(Range<usize>, u64)>,
    /// Choices asked for, at least 1.
    pub choices: u64,
    /// The texts that a model will read, in the order of the request.
    pub texts: Vec<Text>,
    /// Our count of the input: Unicode characters of those texts.
    pub text_chars: u64,
    /// Tokens given as numbers.
    pub token_ids: u64,
    /// Messages of a chat; 0 where it is none.
    pub messages: u64,
    /// Inputs that are no chat.
    pub inputs: u64,
    /// Where the definitions of tools stand, each list whole.
    pub tools: Vec<Range<usize>>,
    /// Parts that say that they are images.
    pub image_parts: u64,
    /// Where images in base64 stand.
    pub image_data: Vec<Range<usize>>,
    /// What a [`Counter`] made of it.
    pub counted: Option<Estimate>,
    /// A hash of whom the client calls the user (`safety_identifier`, `user` or `metadata.user_id`), where it does.
    pub user: Option<u64>,
    /// Whether the endpoint's own key (`messages`, `prompt`, `input`) is there.
    pub has_required_key: bool,
}

impl Prompt {
    /// Our count of the input, in tokens.
    #[must_use]
    pub fn estimated_input(&self) -> u64 {
        self.estimate().input
    }

    /// Our count of the input, with what is told apart of it. Four characters a token until [`Self::count`] was called.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        self.counted.unwrap_or_else(|| self.estimate_by_characters())
    }

    /// Counts the input as its model does. `body` is what it was read from.
    pub fn count(&mut self, counter: &Counter, body: &[u8]) {
        self.counted = Some(counter.prompt(self, body));
    }

    /// Four characters a token, plus the tokens given as numbers.
    #[must_use]
    pub fn estimate_by_characters(&self) -> Estimate {
        let system: u64 = self.texts.iter().filter(|text| text.is_system()).map(Text::chars).sum();
        Estimate {
            input: self.text_chars.div_ceil(CHARS_PER_TOKEN) + self.token_ids,
            system: system.div_ceil(CHARS_PER_TOKEN),
            ..Estimate::default()
        }
    }

    /// Its images: where the base64 of each stands, or nothing where it is elsewhere.
    pub fn images(&self) -> impl Iterator<Item = Option<Range<usize>>> {
        let elsewhere = self.image_parts.saturating_sub(self.image_data.len() as u64);
        let elsewhere = usize::try_from(elsewhere).unwrap_or(usize::MAX);
        self.image_data.iter().cloned().map(Some).chain(std::iter::repeat_n(None, elsewhere))
    }
}

/// Whether the client asked for the usage of a streamed answer, and how to ask for it in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UsageRequest {
    /// The client asked; nothing to do, nothing to withhold.
    ByClient,
    /// Not a streamed completion: usage comes by itself.
    #[default]
    NotNeeded,
    /// Replace each span by its text; the usage event is then ours to withhold.
    Splice(Vec<(Range<usize>, &'static str)>),
}

const WHOLE_OPTION: &str = "\"stream_options\":{\"include_usage\":true},";
const WHOLE_VALUE: &str = "{\"include_usage\":true}";
const ONE_KEY: &str = "\"include_usage\":true";
const ONE_KEY_MORE: &str = "\"include_usage\":true,";

/// Reads a JSON request body.
///
/// # Errors
/// [`Refusal::InvalidJson`], [`Refusal::MissingModel`] or [`Refusal::UnsupportedValue`].
pub fn parse(endpoint: Endpoint, body: &[u8], max_depth: u32) -> Result<Prompt, Refusal> {
    if let Err(error) = simdutf8::compat::from_utf8(body) {
        return Err(Refusal::InvalidJson(format!("not UTF-8 at byte {}", error.valid_up_to())));
    }
    let mut found = Found::default();
    let mut reader = Reader::new(body, max_depth);
    read_object(&mut reader, endpoint, &mut found).map_err(|fault| match fault {
        Fault::Json(error) => Refusal::InvalidJson(error.to_string()),
        Fault::Refused(refusal) => refusal,
    })?;
    found.into_prompt(endpoint)
}

/// What one walk over the body has found so far.
#[derive(Default)]
struct Found<'a> {
    after_brace: usize,
    model: Option<Str<'a>>,
    model_spans: Vec<Range<usize>>,
    is_streaming: bool,
    options: Vec<(Range<usize>, &'static str)>,
    has_options: bool,
    client_asked: bool,
    max_output: Option<u64>,
    max_output_spans: Vec<(Range<usize>, u64)>,
    choices: u64,
    texts: Texts,
    tools: Vec<Range<usize>>,
    user: Option<u64>,
    has_required_key: bool,
}

enum Fault {
    Json(JsonError),
    Refused(Refusal),
}

impl From<JsonError> for Fault {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

fn read_object<'a>(reader: &mut Reader<'a>, endpoint: Endpoint, found: &mut Found<'a>) -> Result<(), Fault> {
    if reader.peek()? != Kind::Object {
        return Err(Fault::Json(JsonError { offset: reader.offset(), expected: "an object" }));
    }
    reader.enter_object()?;
    found.after_brace = reader.offset();
    let required = endpoint.required_keys();
    while let Some(key) = reader.next_key()? {
        let name = key.value();
        found.has_required_key |= required.contains(&&*name);
        match &*name {
            "model" => found.read_model(reader)?,
            "stream" => found.is_streaming |= read_flag(reader, "stream")?,
            "stream_options" => found.read_stream_options(reader)?,
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                // The copy finds where the number stands.
                let span = reader.clone().skip()?;
                let count = read_count(reader, "max_tokens")?;
                found.max_output_spans.extend(count.map(|count| (span, count)));
                found.max_output = found.max_output.max(count);
            }
            "n" => found.choices = found.choices.max(read_choices(reader, "n")?),
            "best_of" => found.choices = found.choices.max(read_choices(reader, "best_of")?),
            "user" | "safety_identifier" if reader.peek()? == Kind::String => {
                found.user = Some(text_hash(&reader.string()?.value()));
            }
            "metadata" if endpoint == Endpoint::Messages && reader.peek()? == Kind::Object => {
                found.read_metadata(reader)?;
            }
            other if let Some((key, role)) = role_of_key(other) => {
                reader.peek()?;
                let start = reader.offset();
                found.texts.read(reader, key, role)?;
                if matches!(key, "tools" | "functions") {
                    found.tools.push(start..reader.offset());
                }
            }
            other if let Some(param) = known_in_another_case(other) => {
                return Err(Fault::Refused(Refusal::UnsupportedValue {
                    param,
                    message: format!(
                        "A key differs only in case from \"{param}\", which decides what is asked for. Servers differ \
                         on which one counts; write it in lower case."
                    ),
                }));
            }
            _ => _ = reader.skip()?,
        }
    }
    reader.end()?;
    Ok(())
}

/// The key that decides something or holds text, and that this one is but for its case. Go's JSON reader, which Ollama
/// uses, takes such a key for the other (and folds U+017F and U+212A as well), so it could ask for another model than we
/// have seen, or hand on a text that nobody has looked at.
fn known_in_another_case(key: &str) -> Option<&'static str> {
    const DECIDING: [&str; 8] = [
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "best_of",
    ];
    // Nearly every key that is not known is in lower case.
    if !key.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        return None;
    }
    let folds_to = |name: &&str| {
        let fold = |c: char| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        };
        key.chars().map(fold).eq(name.chars())
    };
    DECIDING.into_iter().chain(texts::text_keys()).find(folds_to)
}

/// A boolean; `null` is false, as it is for the engines.
fn read_flag(reader: &mut Reader<'_>, param: &'static str) -> Result<bool, Fault> {
    match reader.peek()? {
        Kind::Bool => Ok(reader.bool()?),
        Kind::Null => {
            reader.skip()?;
            Ok(false)
        }
        _ => Err(Fault::Refused(Refusal::UnsupportedValue {
            param,
            message: format!("\"{param}\" must be true or false."),
        })),
    }
}

/// Answers that a request may ask for at once. OpenAI's interface has 128; beyond thousands, what they come to could not be
/// counted.
const MOST_CHOICES: u64 = 4096;

/// How many answers are asked for.
fn read_choices(reader: &mut Reader<'_>, param: &'static str) -> Result<u64, Fault> {
    let choices = read_count(reader, param)?.unwrap_or(1);
    if choices > MOST_CHOICES {
        return Err(Fault::Refused(Refusal::UnsupportedValue {
            param,
            message: format!("\"{param}\" must be at most {MOST_CHOICES}."),
        }));
    }
    Ok(choices)
}

/// A whole number that bounds the cost; `null` is none. Anything else would leave the cost unbounded.
fn read_count(reader: &mut Reader<'_>, param: &'static str) -> Result<Option<u64>, Fault> {
    if reader.peek()? == Kind::Null {
        reader.skip()?;
        return Ok(None);
    }
    let count = reader.u64_or_skip()?;
    if count.is_none() {
        return Err(Fault::Refused(Refusal::UnsupportedValue {
            param,
            message: format!("\"{param}\" must be a whole number of at least 0."),
        }));
    }
    Ok(count)
}

impl<'a> Found<'a> {
    fn read_model(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        if reader.peek()? != Kind::String {
            return Err(Fault::Refused(Refusal::MissingModel));
        }
        let name = reader.string()?;
        if self.model.is_some_and(|before| before.value() != name.value()) {
            return Err(Fault::Refused(Refusal::UnsupportedValue {
                param: "model",
                message: "\"model\" is given twice with different names. Name one model.".to_owned(),
            }));
        }
        self.model = Some(name);
        self.model_spans.push(name.span());
        Ok(())
    }

    /// Anthropic's place for whom the client calls the user.
    fn read_metadata(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        reader.enter_object()?;
        while let Some(key) = reader.next_key()? {
            if key.is("user_id") && reader.peek()? == Kind::String {
                self.user = Some(text_hash(&reader.string()?.value()));
            } else {
                reader.skip()?;
            }
        }
        Ok(())
    }

    fn read_stream_options(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        self.has_options = true;
        match reader.peek()? {
            Kind::Null => {
                let span = reader.skip()?;
                self.options.push((span, WHOLE_VALUE));
            }
            Kind::Object => {
                reader.enter_object()?;
                let inside = reader.offset();
                let (mut keys, mut has_key, mut asked) = (0, false, false);
                while let Some(key) = reader.next_key()? {
                    keys += 1;
                    if !key.is("include_usage") {
                        reader.skip()?;
                        continue;
                    }
                    has_key = true;
                    asked = reader.peek()? == Kind::Bool && reader.clone().bool()?;
                    let span = reader.skip()?;
                    if !asked {
                        self.options.push((span, "true"));
                    }
                }
                self.client_asked |= asked;
                if !has_key {
                    self.options.push((inside..inside, if keys == 0 { ONE_KEY } else { ONE_KEY_MORE }));
                }
            }
            // Neither an object nor null: the server will say what it thinks of it.
            _ => _ = reader.skip()?,
        }
        Ok(())
    }

    fn into_prompt(self, endpoint: Endpoint) -> Result<Prompt, Refusal> {
        let model = self.model.map(|model| model.value().into_owned()).unwrap_or_default();
        if model.is_empty() {
            return Err(Refusal::MissingModel);
        }
        let usage = if !self.is_streaming || !endpoint.asks_for_usage() {
            UsageRequest::NotNeeded
        } else if self.client_asked {
            UsageRequest::ByClient
        } else if !self.has_options {
            UsageRequest::Splice(vec![(self.after_brace..self.after_brace, WHOLE_OPTION)])
        } else if self.options.is_empty() {
            UsageRequest::ByClient
        } else {
            UsageRequest::Splice(self.options)
        };
        let (messages, inputs) =
            if endpoint.is_chat() { (self.texts.items, 0) } else { (0, self.texts.items) };
        let has_required_key = self.has_required_key || endpoint.required_keys().is_empty();
        Ok(Prompt {
            model,
            model_spans: self.model_spans,
            is_streaming: self.is_streaming,
            usage,
            max_output: self.max_output.map(|each| each.saturating_mul(self.choices.max(1))),
            max_output_spans: self.max_output_spans,
            choices: self.choices.max(1),
            texts: self.texts.texts,
            text_chars: self.texts.chars,
            token_ids: self.texts.numbers,
            messages,
            inputs,
            tools: self.tools,
            image_parts: self.texts.image_parts,
            image_data: self.texts.image_data,
            counted: None,
            user: self.user,
            has_required_key,
        })
    }
}

/// The body that goes upstream: the client's bytes with each span replaced by its text, as pieces that share
/// the client's buffer. Spans must not overlap; they are sorted here.
///
/// # Cost
/// One small allocation for each replacement; the client's bytes are not copied.
#[must_use]
pub fn splice(body: &Bytes, mut replacements: Vec<(Range<usize>, Bytes)>) -> Vec<Bytes> {
    replacements.sort_by_key(|(span, _)| span.start);
    let mut pieces = Vec::with_capacity(replacements.len() * 2 + 1);
    let mut at = 0;
    for (span, text) in replacements {
        debug_assert!(
            at <= span.start && span.end <= body.len(),
            "spans are of this body and do not overlap"
        );
        if at < span.start {
            pieces.push(body.slice(at..span.start));
        }
        if !text.is_empty() {
            pieces.push(text);
        }
        at = span.end;
    }
    if at < body.len() {
        pieces.push(body.slice(at..));
    }
    pieces
}

/// `name` as it stands between the quotes of a JSON string.
#[must_use]
pub fn escape(name: &str) -> Bytes {
    let quoted = serde_json::Value::from(name).to_string();
    Bytes::copy_from_slice(&quoted.as_bytes()[1..quoted.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_chat(body: &str) -> Result<Prompt, Refusal> {
        parse(Endpoint::ChatCompletions, body.as_bytes(), 128)
    }

    /// The body as it would go upstream with the model renamed to `to`.
    fn upstream(body: &str, to: Option<&str>) -> String {
        let prompt = parse_chat(body).expect("a good body");
        let mut splices = Vec::new();
        if let Some(to) = to {
            splices.extend(prompt.model_spans.iter().map(|span| (span.clone(), escape(to))));
        }
        if let UsageRequest::Splice(spans) = prompt.usage {
            splices.extend(spans.into_iter().map(|(span, text)| (span, Bytes::from_static(text.as_bytes()))));
        }
        let bytes = splice(&Bytes::copy_from_slice(body.as_bytes()), splices).concat();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn splices_change_only_what_they_name() {
        for (body, to, expected) in [
            (r#"{ "model" : "m" , "x":1.0}"#, None, r#"{ "model" : "m" , "x":1.0}"#),
            (r#"{ "model" : "m" , "x":1.0}"#, Some("org/n"), r#"{ "model" : "org/n" , "x":1.0}"#),
            (r#"{"model":"m"}"#, Some("a\"b"), r#"{"model":"a\"b"}"#),
            (r#"{"mod\u0065l":"m"}"#, Some("n"), r#"{"mod\u0065l":"n"}"#),
            (
                r#"{"model":"m","stream":true}"#,
                None,
                r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
            ),
            (
                r#"{"stream_options":null,"model":"m","stream":true}"#,
                None,
                r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
            ),
            (
                r#"{"stream_options": { },"model":"m","stream":true}"#,
                None,
                r#"{"stream_options": {"include_usage":true },"model":"m","stream":true}"#,
            ),
            (
                r#"{"stream_options":{"x":[1]},"model":"m","stream":true}"#,
                None,
                r#"{"stream_options":{"include_usage":true,"x":[1]},"model":"m","stream":true}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":false},"model":"m","stream":true}"#,
                Some("n"),
                r#"{"stream_options":{"include_usage":true},"model":"n","stream":true}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
                None,
                r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
            ),
            (r#"{"stream":false,"model":"m"}"#, None, r#"{"stream":false,"model":"m"}"#),
            (
                r#"{"model":"m","model":"m","temperature":1,"temperature":2}"#,
                Some("n"),
                r#"{"model":"n","model":"n","temperature":1,"temperature":2}"#,
            ),
        ] {
            assert_eq!(upstream(body, to), expected, "{body}");
        }
    }

    #[test]
    fn bad_bodies_are_refused_with_the_reason() {
        for (body, code) in [
            ("", "invalid_json"),
            ("[]", "invalid_json"),
            ("{\"model\":\"m\"", "invalid_json"),
            ("{\"model\":\"m\"} x", "invalid_json"),
            ("{}", "missing_model"),
            ("{\"model\":\"\"}", "missing_model"),
            ("{\"model\":null}", "missing_model"),
            ("{\"model\":7}", "missing_model"),
            ("{\"model\":\"a\",\"model\":\"b\"}", "unsupported_value"),
            ("{\"model\":\"a\",\"stream\":\"true\"}", "unsupported_value"),
            ("{\"model\":\"a\",\"max_tokens\":-1}", "unsupported_value"),
            ("{\"model\":\"a\",\"max_completion_tokens\":\"9\"}", "unsupported_value"),
            ("{\"model\":\"a\",\"n\":1.5}", "unsupported_value"),
            ("{\"model\":\"a\",\"Model\":\"b\"}", "unsupported_value"),
            ("{\"model\":\"a\",\"\u{17f}tream\":true}", "unsupported_value"),
            ("{\"model\":\"a\",\"max_to\u{212a}ens\":9}", "unsupported_value"),
        ] {
            let refusal = parse_chat(body).expect_err(body);
            assert_eq!(refusal.answer().code, code, "{body}");
        }
        for (key, param) in [
            ("Model", "model"),
            ("Messages", "messages"),
            ("MESSAGES", "messages"),
            ("me\u{17f}\u{17f}ages", "messages"),
            ("Me\\u0073sages", "messages"),
            ("Prompt", "prompt"),
            ("inPut", "input"),
            ("System", "system"),
            ("Tools", "tools"),
            ("Response_Format", "response_format"),
        ] {
            let body = format!("{{\"model\":\"m\",\"messages\":[],\"{key}\":\"x\"}}");
            let answer = parse_chat(&body).expect_err(&body).answer();
            assert_eq!((answer.code, answer.param.as_deref()), ("unsupported_value", Some(param)), "{body}");
        }
        assert!(parse_chat("{\"model\":\"a\",\"Temperature\":1,\"ünknown\":2}").is_ok());
        assert!(parse(Endpoint::ChatCompletions, b"{\"model\":\"\xff\"}", 128).is_err());
    }

    #[test]
    fn what_decides_the_cost_is_found() {
        let body = r#"{"model":"m","max_tokens":10,"max_completion_tokens":20,"n":3,"messages":[
            {"role":"user","content":"12345678"},
            {"role":"user","content":[{"type":"text","text":"abcd"},
             {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#;
        let prompt = parse_chat(body).expect("good");
        assert_eq!(prompt.max_output, Some(60));
        assert_eq!(prompt.text_chars, 12);
        assert_eq!(prompt.estimated_input(), 3);
        let tokens = parse(Endpoint::Completions, br#"{"model":"m","prompt":[[1,2],[3]]}"#, 8).expect("good");
        assert_eq!(tokens.estimated_input(), 3);
        assert!(!parse_chat(r#"{"model":"m"}"#).expect("good").has_required_key);
    }

    #[test]
    fn the_user_is_told_by_what_each_interface_calls_him() {
        let user = |endpoint, fields: &str| {
            let body = format!(r#"{{"model":"m",{fields},"messages":[]}}"#);
            parse(endpoint, body.as_bytes(), 8).expect("good").user
        };
        let known = Some(text_hash("ann"));
        for (endpoint, fields, expected) in [
            (Endpoint::ChatCompletions, r#""user":"ann""#, known),
            (Endpoint::ChatCompletions, r#""safety_identifier":"ann""#, known),
            (Endpoint::ChatCompletions, r#""metadata":{"user_id":"ann"}"#, None),
            (Endpoint::Messages, r#""metadata":{"a":[1],"user_id":"ann"}"#, known),
            (Endpoint::Messages, r#""metadata":{"user_id":null}"#, None),
            (Endpoint::Messages, r#""metadata":null"#, None),
        ] {
            assert_eq!(user(endpoint, fields), expected, "{fields}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(Endpoint::ChatCompletions, &bytes, 128);
        }

        #[test]
        fn a_spliced_body_means_the_same_but_for_the_splice(
            extra in r#"[a-z ]{0,12}"#, space in r"[ \n]{0,3}", options in 0usize..4,
        ) {
            let options = ["", r#""stream_options":{},"#, r#""stream_options":{"a":1},"#,
                r#""stream_options":null,"#][options];
            let body = format!(
                "{space}{{{space}{options}\"model\":{space}\"m\",\"x\":\"{extra}\",\"stream\":{space}true}}"
            );
            let mut expected: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            if expected["stream_options"].is_null() {
                expected["stream_options"] = serde_json::json!({});
            }
            expected["stream_options"]["include_usage"] = true.into();
            expected["model"] = "other".into();
            let sent: serde_json::Value = serde_json::from_str(&upstream(&body, Some("other"))).expect("JSON");
            prop_assert_eq!(sent, expected);
        }
    }
}
