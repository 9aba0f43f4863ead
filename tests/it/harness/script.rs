//! What a scripted server does with a request: bytes, pauses, gates and the several ways to go wrong.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::sse;

/// One step of an answer. When the steps are over the connection waits for its next request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// One write.
    Send(Vec<u8>),
    Pause(Duration),
    /// Waits for a permit of the test.
    Gate(Arc<Semaphore>),
    /// Says nothing more, and stays until the gateway leaves.
    Hang,
    /// Closes in order (FIN).
    Close,
    /// Closes in disorder (RST).
    Reset,
}

/// The head of an answer with a body of `length` bytes.
pub(crate) fn head(status: u16, content_type: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n")
        .into_bytes()
}

/// The head of a chunked event stream.
pub(crate) fn stream_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()
}

/// One HTTP chunk.
pub(crate) fn chunk(payload: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", payload.len()).into_bytes();
    framed.extend_from_slice(payload);
    framed.extend_from_slice(b"\r\n");
    framed
}

/// The last HTTP chunk.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A whole answer with a `Content-Length`.
pub(crate) fn whole(status: u16, content_type: &str, body: &[u8]) -> Vec<Step> {
    let mut bytes = head(status, content_type, body.len());
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

/// A JSON answer.
pub(crate) fn json_answer(status: u16, body: &Value) -> Vec<Step> {
    whole(status, "application/json", body.to_string().as_bytes())
}

/// An engine's error.
pub(crate) fn error_answer(status: u16) -> Vec<Step> {
    json_answer(
        status,
        &json!({"error": {"message": "scripted failure", "type": "server_error", "code": status}}),
    )
}

/// A chat completion of one word with 7 input and 3 output tokens.
pub(crate) fn chat(model: &str) -> Vec<Step> {
    json_answer(200, &chat_body(model))
}

/// The body of [`chat`].
pub(crate) fn chat_body(model: &str) -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    })
}

/// A chunked event stream, one event a write.
pub(crate) fn stream(events: &[String]) -> Vec<Step> {
    let mut steps = vec![Step::Send(stream_head())];
    steps.extend(events.iter().map(|event| Step::Send(chunk(event.as_bytes()))));
    steps.push(Step::Send(LAST_CHUNK.to_vec()));
    steps
}

/// The events of a chat stream of these words, with the usage an engine adds when asked.
pub(crate) fn chat_events(model: &str, words: &[&str], usage: Option<(u64, u64)>) -> Vec<String> {
    let mut events: Vec<String> = words.iter().map(|word| sse::delta(model, word)).collect();
    events.push(sse::finish(model));
    events.extend(usage.map(|(input, output)| sse::usage(model, input, output)));
    events.push(sse::DONE.to_owned());
    events
}

/// An event stream that waits at a gate before each event.
pub(crate) fn gated_stream(events: &[String], gate: &Arc<Semaphore>) -> Vec<Step> {
    let mut steps = vec![Step::Send(stream_head())];
    for event in events {
        steps.push(Step::Gate(Arc::clone(gate)));
        steps.push(Step::Send(chunk(event.as_bytes())));
    }
    steps.push(Step::Send(LAST_CHUNK.to_vec()));
    steps
}

/// The first `count` events of a stream, then `end`.
pub(crate) fn broken_stream(events: &[String], count: usize, end: Step) -> Vec<Step> {
    let mut steps = vec![Step::Send(stream_head())];
    steps.extend(events.iter().take(count).map(|event| Step::Send(chunk(event.as_bytes()))));
    steps.push(end);
    steps
}
