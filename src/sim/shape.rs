//! The bytes of answers, in the shapes recorded from vLLM 0.32. Everything of an event that does not change
//! from token to token is rendered once a request; a token costs its own escaping and one buffer.

use bytes::Bytes;
use serde_json::Value;

use super::answer::Finish;
use super::driver::Flight;
use super::request::{Ask, Endpoint};
use super::text;

/// Renders one request's answer.
#[derive(Debug)]
pub(super) struct Shape {
    endpoint: Endpoint,
    /// Through `"choices":[`, for events and for whole answers.
    event_head: String,
    whole_head: String,
    continuous_usage: bool,
}

/// Tokens of a request so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) completion: u64,
    pub(super) cached: u64,
}

impl Usage {
    /// What `flight` has done for `ask`: prompts are counted once, also when continued several times.
    pub(super) fn of(ask: &Ask, flight: &Flight) -> Self {
        let mut usage = Self {
            prompt: ask.prompts.iter().map(|prompt| u64::from(prompt.tokens)).sum(),
            ..Self::default()
        };
        let mut counted = None;
        for (choice, sequence) in ask.choices.iter().zip(&flight.sequences) {
            usage.completion += u64::from(sequence.produced());
            if counted != Some(choice.prompt) {
                counted = Some(choice.prompt);
                usage.cached += u64::from(sequence.cached());
            }
        }
        usage
    }

    fn json(self, tail: &str) -> String {
        let Self { prompt, completion, .. } = self;
        let total = prompt + completion;
        format!(
            r#"{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}{tail}}}"#
        )
    }
}

/// A token about to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) choice: usize,
    pub(super) text: &'a str,
    /// Set with the last one.
    pub(super) finish: Option<&'a Finish>,
    /// It belongs to a tool call.
    pub(super) is_tool: bool,
}

/// The fingerprint vLLM makes of its version and configuration.
const FINGERPRINT: &str = "tollgate-sim";

impl Shape {
    /// `request_id` is the caller's own, if it sent one; vLLM builds its id on it.
    pub(super) fn new(ask: &Ask, request_id: Option<&str>, now_unix: u64) -> Self {
        let id = request_id.map_or_else(|| format!("{:016x}", text::fresh()), str::to_owned);
        let (prefix, event, whole) = match ask.endpoint {
            Endpoint::Chat => ("chatcmpl", "chat.completion.chunk", "chat.completion"),
            Endpoint::Completion => ("cmpl", "text_completion", "text_completion"),
        };
        let id = Value::from(format!("{prefix}-{id}"));
        let model = Value::from(ask.model.as_str());
        let head = |object| {
            format!(r#"{{"id":{id},"object":"{object}","created":{now_unix},"model":{model},"choices":["#)
        };
        Self {
            endpoint: ask.endpoint,
            event_head: format!("data: {}", head(event)),
            whole_head: head(whole),
            continuous_usage: ask.continuous_usage,
        }
    }

    /// The event that opens a chat choice, before its first token.
    pub(super) fn role(&self, choice: usize, usage: Usage) -> Bytes {
        let usage = self.running_usage(usage);
        Bytes::from(
            format!(
                r#"{}{{"index":{choice},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]{usage},"prompt_token_ids":null,"prompt_text":null}}"#,
                self.event_head
            ) + "\n\n",
        )
    }

    /// The event that names the function of a tool call.
    pub(super) fn tool_name(&self, choice: usize, name: &str, usage: Usage) -> Bytes {
        let delta = format!(
            r#"{{"content":null,"tool_calls":[{{"id":"{}","type":"function","index":0,"function":{{"name":{}}}}}]}}"#,
            tool_call_id(),
            Value::from(name)
        );
        self.delta(choice, &delta, None, usage)
    }

    /// The event of one token.
    pub(super) fn token(&self, token: Token<'_>, usage: Usage) -> Bytes {
        if self.endpoint == Endpoint::Chat && token.is_tool && token.text.is_empty() {
            return self.delta(token.choice, "{}", token.finish, usage);
        }
        let mut out = Vec::with_capacity(self.event_head.len() + token.text.len() + 192);
        out.extend_from_slice(self.event_head.as_bytes());
        out.extend_from_slice(br#"{"index":"#);
        write_number(&mut out, token.choice);
        out.extend_from_slice(match (self.endpoint, token.is_tool) {
            (Endpoint::Completion, _) => br#","text":"#.as_slice(),
            (Endpoint::Chat, false) => br#","delta":{"content":"#,
            (Endpoint::Chat, true) => {
                br#","delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"#
            }
        });
        // Writing a string into a Vec cannot fail.
        let _ = serde_json::to_writer(&mut out, token.text);
        out.extend_from_slice(match (self.endpoint, token.is_tool) {
            (Endpoint::Completion, _) => b"".as_slice(),
            (Endpoint::Chat, false) => b"}",
            (Endpoint::Chat, true) => b"}}]}",
        });
        self.finish_event(&mut out, token.finish, usage);
        Bytes::from(out)
    }

    /// The event that reports usage after all choices.
    pub(super) fn usage(&self, usage: Usage) -> Bytes {
        let created = if self.endpoint == Endpoint::Chat { r#","created_cache_tokens":0"# } else { "" };
        let details = format!(r#","prompt_tokens_details":{{"cached_tokens":{}{created}}}"#, usage.cached);
        Bytes::from(format!(
            "{}],\"usage\":{},\"system_fingerprint\":\"{FINGERPRINT}\"}}\n\n",
            self.event_head,
            usage.json(&details)
        ))
    }

    /// The whole answer.
    pub(super) fn whole(&self, ask: &Ask, usage: Usage) -> Bytes {
        let mut out = self.whole_head.clone();
        for (at, choice) in ask.choices.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            let text = Value::from(choice.answer.text());
            let finish = &choice.answer.finish;
            let (reason, stop) = (finish.reason(), stop_reason(finish));
            out.push_str(&match (self.endpoint, &choice.tool) {
                (Endpoint::Completion, _) => format!(
                    r#"{{"index":{at},"text":{text},"logprobs":null,"finish_reason":"{reason}","stop_reason":{stop},"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null}}"#
                ),
                (Endpoint::Chat, tool) => {
                    let (content, calls) = match tool {
                        None => (text, String::new()),
                        Some(name) => {
                            let (id, name) = (tool_call_id(), Value::from(name.as_str()));
                            let call = format!(
                                r#","tool_calls":[{{"id":"{id}","type":"function","function":{{"name":{name},"arguments":{text}}}}}]"#
                            );
                            (Value::Null, call)
                        }
                    };
                    format!(
                        r#"{{"index":{at},"message":{{"role":"assistant","content":{content},"refusal":null,"annotations":null,"audio":null,"function_call":null{calls},"reasoning":null}},"logprobs":null,"finish_reason":"{reason}","stop_reason":{stop},"token_ids":null}}"#
                    )
                }
            });
        }
        let details = format!(
            r#","prompt_tokens_details":{{"cached_tokens":{},"created_cache_tokens":0,"multimodal_tokens":null}},"completion_tokens_details":null"#,
            usage.cached
        );
        out.push_str(&format!(
            r#"],"service_tier":null,"system_fingerprint":"{FINGERPRINT}","usage":{},"kv_transfer_params":null}}"#,
            usage.json(&details)
        ));
        Bytes::from(out)
    }

    fn delta(&self, choice: usize, delta: &str, finish: Option<&Finish>, usage: Usage) -> Bytes {
        let mut out = format!(r#"{}{{"index":{choice},"delta":{delta}"#, self.event_head).into_bytes();
        self.finish_event(&mut out, finish, usage);
        Bytes::from(out)
    }

    fn finish_event(&self, out: &mut Vec<u8>, finish: Option<&Finish>, usage: Usage) {
        let is_completion = self.endpoint == Endpoint::Completion;
        match finish {
            None => out.extend_from_slice(br#","logprobs":null,"finish_reason":null"#),
            Some(finish) => {
                let (reason, stop) = (finish.reason(), stop_reason(finish));
                out.extend_from_slice(
                    format!(r#","logprobs":null,"finish_reason":"{reason}","stop_reason":{stop}"#).as_bytes(),
                );
            }
        }
        if is_completion {
            if finish.is_none() {
                out.extend_from_slice(br#","stop_reason":null"#);
            }
            out.extend_from_slice(br#","prompt_token_ids":null"#);
        }
        out.extend_from_slice(br#","token_ids":null}]"#);
        out.extend_from_slice(self.running_usage(usage).as_bytes());
        out.extend_from_slice(b"}\n\n");
    }

    fn running_usage(&self, usage: Usage) -> String {
        if !self.continuous_usage {
            return String::new();
        }
        let tail = if self.endpoint == Endpoint::Chat { r#","completion_tokens_details":null"# } else { "" };
        format!(r#","usage":{}"#, usage.json(tail))
    }
}

fn stop_reason(finish: &Finish) -> Value {
    match finish {
        Finish::StopString(stop) => Value::from(stop.as_str()),
        Finish::Stop | Finish::Length | Finish::ToolCalls => Value::Null,
    }
}

fn tool_call_id() -> String {
    format!("chatcmpl-tool-{:016x}", text::fresh())
}

fn write_number(out: &mut Vec<u8>, number: usize) {
    if number < 10 {
        out.push(b'0' + u8::try_from(number).unwrap_or(0));
    } else {
        out.extend_from_slice(number.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::request::{self, Serves};

    /// As recorded from vLLM 0.32.0, with our id, time and model.
    const TOKEN: &str = r#"data: {"id":"chatcmpl-r","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":" a\"\n"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#;
    const LAST: &str = r#"data: {"id":"chatcmpl-r","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}"#;
    const ROLE: &str = r#"data: {"id":"chatcmpl-r","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}"#;
    const USAGE: &str = r#"data: {"id":"chatcmpl-r","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":38,"total_tokens":62,"completion_tokens":24,"prompt_tokens_details":{"cached_tokens":16,"created_cache_tokens":0}},"system_fingerprint":"tollgate-sim"}"#;
    const COMPLETION: &str = r#"data: {"id":"cmpl-r","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":",","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":{"prompt_tokens":38,"total_tokens":62,"completion_tokens":24}}"#;
    const ARGUMENTS: &str = r#"data: {"id":"chatcmpl-r","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\""}}]},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#;

    fn asked(endpoint: Endpoint, body: &str) -> (Ask, Shape) {
        let serves = Serves { models: Vec::new(), context_length: 100, block_size: 16, seed: 1 };
        let ask = request::ask(endpoint, body.as_bytes(), &serves).expect("well formed");
        let shape = Shape::new(&ask, Some("r"), 7);
        (ask, shape)
    }

    fn check(event: &Bytes, expected: &str) {
        assert_eq!(std::str::from_utf8(event).expect("UTF-8"), format!("{expected}\n\n"));
    }

    #[test]
    fn events_are_those_of_vllm() {
        let usage = Usage { prompt: 38, completion: 24, cached: 16 };
        let (_, chat) = asked(Endpoint::Chat, r#"{"model": "m", "messages": []}"#);
        let token = Token { choice: 0, text: " a\"\n", finish: None, is_tool: false };
        check(&chat.token(token, usage), TOKEN);
        check(&chat.token(Token { text: "", finish: Some(&Finish::Length), ..token }, usage), LAST);
        check(&chat.token(Token { text: "\"", is_tool: true, ..token }, usage), ARGUMENTS);
        check(&chat.role(0, usage), ROLE);
        check(&chat.usage(usage), USAGE);
        let options = r#"{"model": "m", "prompt": "x", "stream": true, "stream_options": {"continuous_usage_stats": true}}"#;
        let (_, completion) = asked(Endpoint::Completion, options);
        check(&completion.token(Token { text: ",", ..token }, usage), COMPLETION);
    }

    #[test]
    fn every_rendering_is_json() {
        let tools = r#"{"messages": [], "n": 12, "tool_choice": "required", "model": "a\"b", "tools": [{"function": {"name": "f\""}}]}"#;
        let (ask, shape) = asked(Endpoint::Chat, tools);
        let whole: Value = serde_json::from_slice(&shape.whole(&ask, Usage::default())).expect("JSON");
        assert_eq!(whole["choices"][11]["message"]["tool_calls"][0]["function"]["name"], "f\"");
        let events = [
            shape.tool_name(11, "f\"", Usage::default()),
            shape.token(
                Token { choice: 11, text: "", finish: Some(&Finish::ToolCalls), is_tool: true },
                Usage::default(),
            ),
            shape.token(
                Token {
                    choice: 11,
                    text: "é",
                    finish: Some(&Finish::StopString("\"".into())),
                    is_tool: false,
                },
                Usage::default(),
            ),
        ];
        for event in events {
            let json: Value = serde_json::from_slice(&event["data: ".len()..]).expect("JSON");
            assert_eq!(json["choices"][0]["index"], 11);
        }
    }
}
