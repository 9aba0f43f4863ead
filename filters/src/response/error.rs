//! A server's error → one shape, and whose fault it was.
//!
//! Engines answer errors in a dozen shapes: codes that are numbers, flat objects, FastAPI's `detail`, plain
//! text, HTML. Clients compare `error.code` with texts and go by the status. So every error is brought to
//! `{"error":{"message","type","param","code"}}`, with a status that says who has to act:
//! - the client, where the request was at fault, also where an engine calls that a 500. The message is the
//!   server's own, without file paths, stack lines and pieces of the request;
//! - us, where the server refused our credential, our account or a model that our catalogue says it has. The
//!   client is told nothing of it: the server's 401 is not the caller's;
//! - the server, or its load. The message is ours: what a failing server says is about its insides.
//!
//! Invariants: any bytes give an error; its message is UTF-8, one line, and bounded. Cost: one pass over the
//! body and a few allocations, on the error path only.

mod body;
mod clean;

use body::Said;

/// Whose fault an error was, and so what can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client's: the same request fails everywhere. Not retried, no mark against the server.
    Client,
    /// Ours, the operator's: credential, account or catalogue. Another server may be set up better.
    Ours,
    /// The server's. Another may succeed.
    Server,
    /// Nobody's: there is more load than the server takes. Another may succeed, or this one later.
    Busy,
}

/// A server's error, ready to be answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    /// The status to answer with.
    pub status: u16,
    /// `type` in OpenAI's shape.
    pub kind: &'static str,
    /// `code` in OpenAI's shape.
    pub code: Option<String>,
    /// What the client is told. One line, at most about 1 KiB.
    pub message: String,
    /// What part of the request it is about.
    pub param: Option<String>,
    /// Whose fault it was.
    pub fault: Fault,
}

const INVALID_REQUEST: &str = "invalid_request_error";
const SERVER_ERROR: &str = "server_error";

impl UpstreamError {
    /// `{"error":{"message","type","param","code"}}`, the code and the param being text or null.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let or_null = |value: &Option<String>| value.as_deref().map_or_else(|| "null".to_owned(), text);
        format!(
            r#"{{"error":{{"message":{},"type":{},"param":{},"code":{}}}}}"#,
            text(&self.message),
            text(self.kind),
            or_null(&self.param),
            or_null(&self.code),
        )
    }

    /// The same in Anthropic's shape, for `/v1/messages`: `{"type":"error","error":{"type","message"}}`, with
    /// the types of <https://docs.anthropic.com/en/api/errors>.
    #[must_use]
    pub fn to_messages_json(&self) -> String {
        let kind = match self.status {
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => INVALID_REQUEST,
        };
        let message = serde_json::Value::from(&*self.message);
        format!(r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}}}}"#)
    }
}

/// What to answer for a server's error with this `status` and `body`. A status below 400 is that of a stream
/// whose headers had gone out; the body's own code then stands for it, or 500.
#[must_use]
pub fn normalise(status: u16, body: &[u8]) -> UpstreamError {
    let said = Said::of(body);
    let status = if status >= 400 { status } else { said.status() };
    let text = said.text.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_refused = matches!(status, 401..=403 | 407);
    if !is_refused && status != 429 && is_context_length(&said, &text) {
        return client(400, Some("context_length_exceeded"), said);
    }
    match status {
        // 402: our account with the server has run dry.
        401..=403 | 407 => ours(),
        404 if is_about_model(&said, &text) => ours(),
        404 => match text.trim_end_matches('.') {
            "not found" | "file not found" | "" => {
                let text = "the server of this model does not offer this endpoint".to_owned();
                client(404, Some("not_found"), Said { text: Some(text), ..said })
            }
            _ => client(404, None, said),
        },
        400 if text.starts_with("server is pinned to") => ours(),
        400 | 422 if is_json_fault(&said, &text) => client(400, Some("invalid_json"), said),
        405 => client(405, Some("method_not_allowed"), said),
        413 => client(413, Some("request_too_large"), said),
        415 => client(415, Some("unsupported_media_type"), said),
        429 if said.code.as_deref() == Some("insufficient_quota") => ours(),
        429 => {
            let kind = if text.contains("token") { "tokens" } else { "requests" };
            let message = "the model server is taking no more requests for now; wait a moment and try again";
            failure(429, kind, "rate_limit_exceeded", message, Fault::Busy)
        }
        // 529 is Anthropic's.
        503 | 529 => {
            let message = "the model server is overloaded or still starting; wait a moment and try again";
            failure(503, SERVER_ERROR, "overloaded", message, Fault::Busy)
        }
        408 | 504 => {
            let message = "the model server failed to answer in time; the request may be tried again";
            failure(504, SERVER_ERROR, "upstream_timeout", message, Fault::Server)
        }
        409 | 410 | 424 => client(status, None, said),
        400..=499 => client(400, None, said),
        _ if is_client_mistake(&said, &text) => client(400, None, said),
        _ => {
            let message = "the model server failed to answer; the request may be tried again";
            failure(502, SERVER_ERROR, "upstream_error", message, Fault::Server)
        }
    }
}

/// Whether a client of OpenAI reads `body` as the error it is: `message` and `type` are text, `param` and `code`
/// text, null or left out. What else is there harms nobody and may help.
/// `error` is what `body` was read as: a message that had to be cleaned is not passed on.
#[must_use]
pub fn is_readable(body: &[u8], error: &UpstreamError) -> bool {
    body::is_readable(body, &error.message)
}

/// Whether `body` is exactly OpenAI's shape: the one key `error`, and in it the four keys, code and param
/// being text or null. Such a body may be passed on byte for byte, if the fault is the client's.
#[must_use]
pub fn is_openai_shape(body: &[u8]) -> bool {
    body::is_openai_shape(body)
}

/// Whether `body`, which was read as `error`, may be passed on byte for byte: the fault is the client's, the
/// shape is OpenAI's, and the message holds nothing that had to be cleaned away.
#[must_use]
pub fn may_pass(body: &[u8], error: &UpstreamError) -> bool {
    error.fault == Fault::Client && is_openai_shape(body) && is_readable(body, error)
}

fn client(status: u16, code: Option<&str>, said: Said) -> UpstreamError {
    let message = said.text.as_deref().map(clean::text).filter(|text| !text.is_empty());
    UpstreamError {
        status,
        kind: INVALID_REQUEST,
        code: code.map(str::to_owned).or(said.code),
        message: message
            .unwrap_or_else(|| "the model server refused the request without a reason".to_owned()),
        param: said.param,
        fault: Fault::Client,
    }
}

fn ours() -> UpstreamError {
    let message = "the gateway is not set up rightly for the server of this model; the request itself is not \
                   at fault, please tell the operator";
    failure(502, SERVER_ERROR, "upstream_error", message, Fault::Ours)
}

fn failure(status: u16, kind: &'static str, code: &str, message: &str, fault: Fault) -> UpstreamError {
    let (code, message) = (Some(code.to_owned()), message.to_owned());
    UpstreamError { status, kind, code, message, param: None, fault }
}

/// Every engine's way to say that the prompt, with or without the answer asked for, does not fit.
fn is_context_length(said: &Said, text: &str) -> bool {
    const PHRASES: [&str; 13] = [
        "maximum context length",          // vLLM, OpenAI, Mistral, Ollama
        "maximum model length",            // vLLM before 0.6
        "longer than the model's context", // SGLang
        "exceeds the model's context",     // SGLang
        "exceeds the available context",   // llama.cpp
        "exceed the available context",    // llama.cpp
        "exceeds the context length",      // Ollama
        "exceeds the context size",        // llama.cpp's older builds
        "is too large to process",         // llama.cpp, embeddings: the physical batch is the limit
        "prompt is too long",              // Anthropic
        "`max_new_tokens` must be <=",     // TGI: inputs and answer together
        "`inputs` must have less than",    // TGI
        "too long to fit into the model",  // vLLM, multimodal prompts
    ];
    let says = |label: &Option<String>| {
        label.as_deref().is_some_and(|label| {
            matches!(
                label,
                "context_length_exceeded" | "exceed_context_size_error" | "context_window_exceeded"
            )
        })
    };
    says(&said.code) || says(&said.kind) || PHRASES.iter().any(|phrase| text.contains(phrase))
}

/// A 404 for a model. Our catalogue sent the request to this server for it.
fn is_about_model(said: &Said, text: &str) -> bool {
    said.code.as_deref() == Some("model_not_found")
        || said.param.as_deref() == Some("model")
        || text.contains("model")
            && ["not exist", "not found", "unknown"].iter().any(|how| text.contains(how))
}

fn is_json_fault(said: &Said, text: &str) -> bool {
    said.kind.as_deref() == Some("json_invalid")
        || ["json decode error", "json_invalid", "json.exception.parse_error"]
            .iter()
            .any(|p| text.contains(p))
}

/// A 5xx of llama.cpp for what the client did. It answers any exception with 500 and the type `server_error`.
/// Where the server lacks what was asked for (501), no retry helps either.
fn is_client_mistake(said: &Said, text: &str) -> bool {
    const PHRASES: [&str; 8] = [
        "does not support", // logits or embeddings of the other kind of model; reranking
        "not supported",
        "is required",
        "must be a",
        "must contain",
        "must not be",
        "json.exception",
        "failed to parse",
    ];
    let is_llama_cpp =
        said.number.is_some() && matches!(said.kind.as_deref(), Some("server_error" | "not_supported_error"));
    is_llama_cpp && PHRASES.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
#[path = "error/tests.rs"]
mod tests;
