//! Event streams as tests write and read them.

/// Length of the first whole event or comment block of `bytes`, its closing empty line included.
pub(crate) fn first_event(bytes: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte != b'\n' {
            continue;
        }
        let line = &bytes[line_start..at];
        if line.is_empty() || line == b"\r" {
            return Some(at + 1);
        }
        line_start = at + 1;
    }
    None
}

/// The events of a whole stream; what follows the last empty line is an event of its own.
pub(crate) fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut events = Vec::new();
    while let Some(length) = first_event(rest) {
        events.push(&rest[..length]);
        rest = &rest[length..];
    }
    if !rest.is_empty() {
        events.push(rest);
    }
    events
}

/// One event with this data.
pub(crate) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// The data of an event, if it has any.
pub(crate) fn data(event: &str) -> Option<&str> {
    event.lines().find_map(|line| line.strip_prefix("data:")).map(str::trim)
}

/// The end of a chat stream.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// One delta of a chat stream for `model`.
pub(crate) fn delta(model: &str, content: &str) -> String {
    let text = serde_json::Value::from(content);
    event(&format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"{model}","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]}}"#
    ))
}

/// The event that ends the only choice.
pub(crate) fn finish(model: &str) -> String {
    event(&format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"{model}","choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]}}"#
    ))
}

/// The usage event that `stream_options.include_usage` asks for.
pub(crate) fn usage(model: &str, input: u64, output: u64) -> String {
    let total = input + output;
    event(&format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"{model}","choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{total}}}}}"#
    ))
}
