//! Request bodies: bytes → what to answer, or the refusal vLLM 0.32 would give, in its words.

use serde::Deserialize;
use serde_json::Value;

use super::answer::{Answer, Wish};
use super::engine::Prompt;
use super::prompt::{self, Message};
use super::text::{self, mix};

/// What a server is, as far as requests can tell.
#[derive(Debug, Clone)]
pub(super) struct Serves {
    /// Names served; empty serves any.
    pub(super) models: Vec<String>,
    /// Most tokens of prompt and answer together.
    pub(super) context_length: u32,
    /// Tokens a KV block.
    pub(super) block_size: u32,
    /// Seed of all answers.
    pub(super) seed: u64,
}

/// The model listed when any name is served.
pub(super) const ANY_MODEL: &str = "tollgate-sim:1b";
/// Most choices of one request, prompts times `n`: bounds what one small body can make.
pub(super) const MOST_CHOICES: usize = 256;
/// Words an embedding has unless asked otherwise: that of all-MiniLM-L6-v2.
const DIMENSIONS: u32 = 384;
/// Most numbers of one embedding.
const MOST_DIMENSIONS: u32 = 8_192;

/// A refusal in vLLM's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) param: Option<String>,
    pub(super) message: String,
}

impl Reject {
    /// A refusal without `param`.
    pub(super) fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, param: None, message: message.into() }
    }

    /// A 400 that names the field.
    pub(super) fn at(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(400, "BadRequestError", message) }
    }

    /// The JSON body.
    pub(super) fn body(&self) -> String {
        let Self { status, kind, param, message } = self;
        let [message, param] = [Value::from(message.as_str()), Value::from(param.as_deref())];
        format!(r#"{{"error":{{"message":{message},"type":"{kind}","param":{param},"code":{status}}}}}"#)
    }
}

/// Which of the two generating endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completion,
}

/// One choice of the answer.
#[derive(Debug)]
pub(super) struct Choice {
    /// Which prompt it continues.
    pub(super) prompt: usize,
    pub(super) answer: Answer,
    /// The function called, when it is a tool call.
    pub(super) tool: Option<String>,
}

/// A generating request, answered but for the time it takes.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) prompts: Vec<Prompt>,
    pub(super) choices: Vec<Choice>,
    pub(super) is_streaming: bool,
    pub(super) include_usage: bool,
    pub(super) continuous_usage: bool,
}

/// An embeddings request.
#[derive(Debug)]
pub(super) struct EmbedAsk {
    pub(super) model: String,
    /// Each input with its token ids.
    pub(super) inputs: Vec<(Prompt, Vec<u32>)>,
    pub(super) dimensions: u32,
    pub(super) is_base64: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    prompt: Option<Value>,
    input: Option<Value>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    min_tokens: Option<u32>,
    ignore_eos: Option<bool>,
    n: Option<i64>,
    seed: Option<i64>,
    stop: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Value>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
    encoding_format: Option<String>,
    dimensions: Option<u32>,
    tokens: Option<Vec<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

/// Reads a generating request and decides its answer.
///
/// # Errors
/// What is wrong with it.
pub(super) fn ask(endpoint: Endpoint, bytes: &[u8], serves: &Serves) -> Result<Ask, Reject> {
    let body = read(bytes)?;
    let model = model_of(&body, serves)?;
    let is_streaming = body.stream.unwrap_or(false);
    if body.stream_options.is_some() && !is_streaming {
        return Err(Reject::at("stream_options", "Stream options can only be defined when `stream=True`."));
    }
    let read_prompts = match endpoint {
        Endpoint::Chat => {
            let messages = body.messages.as_ref().ok_or_else(|| missing("messages"))?;
            vec![prompt::of_chat(messages, body.tools.as_ref(), serves)?]
        }
        Endpoint::Completion => {
            let prompts = body.prompt.as_ref().ok_or_else(|| missing("prompt"))?;
            prompt::of_value("prompt", prompts, serves)?
                .into_iter()
                .map(|(prompt, hash, _)| (prompt, hash))
                .collect()
        }
    };
    let n = usize::try_from(body.n.unwrap_or(1)).ok().filter(|n| *n > 0).ok_or_else(|| {
        Reject::at("n", format!("n must be at least 1, got {}. (parameter=n)", body.n.unwrap_or(0)))
    })?;
    if n.saturating_mul(read_prompts.len()) > MOST_CHOICES {
        return Err(Reject::at("n", format!("n times prompts must be at most {MOST_CHOICES}.")));
    }
    let tool = if endpoint == Endpoint::Chat { forced_tool(&body)? } else { None };
    let mut choices = Vec::with_capacity(n * read_prompts.len());
    for (at, (prompt, hash)) in read_prompts.iter().enumerate() {
        let wish = wish(endpoint, &body, prompt.tokens, serves)?;
        for copy in 0..n {
            let seed = [serves.seed, body.seed.unwrap_or(0).cast_unsigned(), copy as u64]
                .into_iter()
                .fold(*hash, mix);
            let wish = Wish { seed, ..wish.clone() };
            let answer = match (&tool, schema_of(&body)) {
                (Some((_, parameters)), _) => Answer::instance(parameters, &wish, true),
                (None, Some(schema)) => Answer::instance(&schema, &wish, false),
                (None, None) => Answer::prose(&wish),
            };
            choices.push(Choice { prompt: at, answer, tool: tool.as_ref().map(|(name, _)| name.clone()) });
        }
    }
    let options = body.stream_options.unwrap_or_default();
    Ok(Ask {
        endpoint,
        model,
        prompts: read_prompts.into_iter().map(|(prompt, _)| prompt).collect(),
        choices,
        is_streaming,
        include_usage: options.include_usage.unwrap_or(false),
        continuous_usage: options.continuous_usage_stats.unwrap_or(false),
    })
}

/// Reads an embeddings request.
///
/// # Errors
/// What is wrong with it.
pub(super) fn embed(bytes: &[u8], serves: &Serves) -> Result<EmbedAsk, Reject> {
    let body = read(bytes)?;
    let model = model_of(&body, serves)?;
    let inputs = prompt::of_value("input", body.input.as_ref().ok_or_else(|| missing("input"))?, serves)?;
    let dimensions = body.dimensions.unwrap_or(DIMENSIONS);
    if dimensions == 0 || dimensions > MOST_DIMENSIONS {
        let message = format!("dimensions must be between 1 and {MOST_DIMENSIONS}, got {dimensions}.");
        return Err(Reject::at("dimensions", message));
    }
    let is_base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            let message = format!("encoding_format must be float or base64, got {other}.");
            return Err(Reject::at("encoding_format", message));
        }
    };
    let inputs = inputs.into_iter().map(|(prompt, _, ids)| (prompt, ids)).collect();
    Ok(EmbedAsk { model, inputs, dimensions, is_base64 })
}

/// The token ids of a `/tokenize` request.
///
/// # Errors
/// What is wrong with it.
pub(super) fn tokenize(bytes: &[u8], serves: &Serves) -> Result<Vec<u32>, Reject> {
    let body = read(bytes)?;
    model_of(&body, serves)?;
    let text = match (&body.prompt, &body.messages) {
        (Some(Value::String(text)), _) => text.clone(),
        (_, Some(messages)) => prompt::rendered(messages, body.tools.as_ref()),
        _ => return Err(missing("prompt")),
    };
    Ok(text::tokens(&text).map(|(id, _)| id).collect())
}

/// The text of a `/detokenize` request.
///
/// # Errors
/// What is wrong with it.
pub(super) fn detokenize(bytes: &[u8], serves: &Serves) -> Result<String, Reject> {
    let body = read(bytes)?;
    model_of(&body, serves)?;
    Ok(text::decode(&body.tokens.ok_or_else(|| missing("tokens"))?))
}

fn read(bytes: &[u8]) -> Result<Body, Reject> {
    serde_json::from_slice(bytes).map_err(|error| {
        let is_syntax = error.is_syntax() || error.is_eof();
        // serde_json counts columns in bytes from 1; vLLM gives the offset in the body.
        let before: usize = bytes
            .split(|byte| *byte == b'\n')
            .take(error.line().saturating_sub(1))
            .map(|l| l.len() + 1)
            .sum();
        let (kind, place, problem) = if is_syntax {
            ("Bad Request", format!("body.{}", before + error.column()), "'json_invalid'")
        } else {
            ("Bad Request", "body".to_owned(), "'value_error'")
        };
        let said = error.to_string().replace('\'', "\"");
        let message =
            format!("1 validation error:\n  {{'type': {problem}, 'loc': '{place}', 'msg': '{said}'}}");
        Reject { param: Some(place), ..Reject::new(400, kind, message) }
    })
}

fn missing(field: &str) -> Reject {
    let place = format!("body.{field}");
    let message =
        format!("1 validation error:\n  {{'type': 'missing', 'loc': '{place}', 'msg': 'Field required'}}");
    Reject { param: Some(place), ..Reject::new(400, "Bad Request", message) }
}

fn model_of(body: &Body, serves: &Serves) -> Result<String, Reject> {
    let default = || serves.models.first().map_or(ANY_MODEL, String::as_str).to_owned();
    match body.model.as_deref() {
        None | Some("") => Ok(default()),
        Some(name) if serves.models.is_empty() || serves.models.iter().any(|known| known == name) => {
            Ok(name.to_owned())
        }
        Some(name) => {
            let known = serves.models.join(", ");
            let message = format!("The model `{name}` does not exist. Valid aliases: {known}.");
            Err(Reject { param: Some("model".to_owned()), ..Reject::new(404, "NotFoundError", message) })
        }
    }
}

/// vLLM's default of `max_tokens` for `/v1/completions`; chat goes on to the end of the context.
const COMPLETION_TOKENS: u32 = 16;

fn wish(endpoint: Endpoint, body: &Body, prompt: u32, serves: &Serves) -> Result<Wish, Reject> {
    let room = serves.context_length.saturating_sub(prompt);
    let max_tokens = match body.max_completion_tokens.or(body.max_tokens) {
        None if endpoint == Endpoint::Completion => room.min(COMPLETION_TOKENS),
        None => room,
        Some(asked) => match u32::try_from(asked) {
            Ok(asked) if (1..=room).contains(&asked) => asked,
            Ok(asked) if asked > room => {
                let most = serves.context_length;
                let message = format!(
                    "This model's maximum context length is {most} tokens. However, you requested {asked} output \
                     tokens and your prompt contains at least {prompt} input tokens, for a total of at least {} \
                     tokens. Please reduce the length of the input prompt or the number of requested output tokens. \
                     (parameter=input_tokens, value={prompt})",
                    u64::from(asked) + u64::from(prompt)
                );
                return Err(Reject::at("input_tokens", message));
            }
            _ => {
                let message = format!(
                    "max_tokens must be at least 1, got {asked}. (parameter=max_tokens, value={asked})"
                );
                return Err(Reject::at("max_tokens", message));
            }
        },
    };
    if max_tokens == 0 {
        return Err(Reject::at(
            "input_tokens",
            "The prompt fills the context; there is no room for an answer.",
        ));
    }
    let stop = match &body.stop {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(_) => return Err(Reject::at("stop", "stop must be a string or an array of strings.")),
    };
    let ignore_eos = body.ignore_eos.unwrap_or(false);
    Ok(Wish { seed: 0, max_tokens, min_tokens: body.min_tokens.unwrap_or(0), ignore_eos, stop })
}

/// The function a request must call, with its parameters' schema.
fn forced_tool(body: &Body) -> Result<Option<(String, Value)>, Reject> {
    let name = match &body.tool_choice {
        Some(Value::String(word)) if word == "required" => None,
        Some(Value::Object(choice)) => {
            match choice.get("function").and_then(|f| f.get("name")).and_then(Value::as_str) {
                Some(name) => Some(name),
                None => {
                    return Err(Reject::at(
                        "tool_choice",
                        "Expected field `function.name` in `tool_choice`.",
                    ));
                }
            }
        }
        _ => return Ok(None),
    };
    let tools = body.tools.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if tools.is_empty() {
        return Err(Reject::at("tool_choice", "When using `tool_choice`, `tools` must be set."));
    }
    let functions = tools.iter().filter_map(|tool| tool.get("function"));
    let mut named = functions.filter_map(|of| Some((of.get("name")?.as_str()?, of.get("parameters"))));
    match named.find(|(found, _)| name.is_none_or(|name| name == *found)) {
        Some((found, parameters)) => {
            let schema = parameters.cloned().unwrap_or_else(|| serde_json::json!({"type": "object"}));
            Ok(Some((found.to_owned(), schema)))
        }
        None => Err(Reject::at(
            "tool_choice",
            "The tool specified in `tool_choice` does not match any of the specified `tools`",
        )),
    }
}

fn schema_of(body: &Body) -> Option<Value> {
    let format = body.response_format.as_ref()?;
    match format.get("type")?.as_str()? {
        "json_schema" => format.get("json_schema")?.get("schema").cloned(),
        "json_object" => {
            Some(serde_json::json!({"type": "object", "properties": {"answer": {"type": "string"}}}))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves() -> Serves {
        Serves { models: vec!["m".to_owned()], context_length: 100, block_size: 16, seed: 1 }
    }

    fn refused(endpoint: Endpoint, body: &str, status: u16, part: &str) {
        let reject = ask(endpoint, body.as_bytes(), &serves()).expect_err(body);
        assert_eq!(reject.status, status, "{body}");
        assert!(reject.message.contains(part), "{body}: {}", reject.message);
        serde_json::from_str::<Value>(&reject.body()).expect("a refusal is JSON");
    }

    #[test]
    fn wrong_input_is_refused_in_vllm_words() {
        use Endpoint::{Chat, Completion};
        refused(Chat, "", 400, "json_invalid");
        refused(Chat, r#"{"model": "m", "messages": ["#, 400, "'loc': 'body.28'");
        refused(Chat, r#"{"model": "m", "messages": "hi"}"#, 400, "value_error");
        refused(Chat, r#"{"model": "m"}"#, 400, "'loc': 'body.messages'");
        refused(
            Chat,
            r#"{"model": "x", "messages": []}"#,
            404,
            "The model `x` does not exist. Valid aliases: m.",
        );
        refused(Completion, r#"{"model": "m", "prompt": []}"#, 400, "not empty");
        refused(Completion, r#"{"model": "m", "prompt": [-1]}"#, 400, "token ids");
        refused(Completion, r#"{"model": "m", "prompt": "a", "n": 0}"#, 400, "n must be at least 1");
        refused(Completion, r#"{"model": "m", "prompt": "a", "n": 99999}"#, 400, "at most");
        refused(Completion, r#"{"model": "m", "prompt": "a", "max_tokens": 0}"#, 400, "at least 1");
        refused(
            Completion,
            r#"{"model": "m", "prompt": "a", "max_tokens": 100}"#,
            400,
            "total of at least 101",
        );
        refused(Chat, r#"{"messages": [], "tool_choice": "required"}"#, 400, "`tools` must be set");
        refused(Chat, r#"{"messages": [], "stream_options": {}}"#, 400, "stream=True");
        let long = format!(r#"{{"model": "m", "prompt": "{}"}}"#, "word ".repeat(200));
        refused(Completion, &long, 400, "maximum context length is 100 tokens");
    }

    #[test]
    fn every_prompt_form_is_read() {
        let count = |prompt: &str| {
            let body = format!(r#"{{"prompt": {prompt}, "n": 2, "max_tokens": 5}}"#);
            let ask = ask(Endpoint::Completion, body.as_bytes(), &serves()).expect(prompt);
            assert_eq!(ask.choices.len(), 2 * ask.prompts.len());
            ask.prompts.iter().map(|prompt| prompt.tokens).collect::<Vec<_>>()
        };
        assert_eq!(count(r#""one two""#), [2]);
        assert_eq!(count(r#"["one", "one two"]"#), [1, 2]);
        assert_eq!(count("[1, 2, 3]"), [3]);
        assert_eq!(count("[[1, 2], [3]]"), [2, 1]);
    }

    #[test]
    fn a_forced_tool_is_called_with_its_schema() {
        let body = r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "tool_choice": "required",
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]}"#;
        let ask = ask(Endpoint::Chat, body.as_bytes(), &serves()).expect("well formed");
        assert_eq!(ask.choices[0].tool.as_deref(), Some("f"));
        let arguments: Value = serde_json::from_str(ask.choices[0].answer.text()).expect("JSON");
        assert!(arguments["a"].is_u64());
    }

    #[test]
    fn a_conversation_going_on_keeps_its_blocks() {
        let chain = |body: &str| {
            ask(Endpoint::Chat, body.as_bytes(), &serves()).expect("fits").prompts[0].chain.clone()
        };
        let question = r#"{"role": "user", "content": "please tell me a story about the long river"}"#;
        let one = chain(&format!(r#"{{"messages": [{question}]}}"#));
        let two = chain(&format!(
            r#"{{"messages": [{question}, {{"role": "assistant", "content": "no"}}, {question}]}}"#
        ));
        assert_eq!(one[0], two[0]);
        assert!(two.len() > one.len());
    }
}
