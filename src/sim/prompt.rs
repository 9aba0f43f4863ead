//! Prompts in every form clients send them, read into tokens and block hashes. Reading stops one token past
//! the context length: a body of 64 MB costs no more than one that just does not fit.

use serde::Deserialize;
use serde_json::Value;

use super::engine::Prompt;
use super::request::{MOST_CHOICES, Reject, Serves};
use super::text::{self, PromptReader};

/// One message of a conversation.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    role: String,
    content: Option<Value>,
    tool_calls: Option<Value>,
}

/// The prompt of a conversation, and a hash of it.
///
/// # Errors
/// It is longer than the context.
pub(super) fn of_chat(
    messages: &[Message],
    tools: Option<&Value>,
    serves: &Serves,
) -> Result<(Prompt, u64), Reject> {
    let mut reader = PromptReader::new(serves.block_size);
    reader.text(&rendered(messages, tools), serves.context_length);
    let (prompt, hash) = reader.finish();
    in_context(&prompt, serves)?;
    Ok((prompt, hash))
}

/// The prompt a ChatML template makes of `messages`.
pub(super) fn rendered(messages: &[Message], tools: Option<&Value>) -> String {
    let mut text = String::new();
    if let Some(tools) = tools {
        text.push_str(&format!("<|im_start|>system\n{tools}<|im_end|>\n"));
    }
    for message in messages {
        text.push_str("<|im_start|>");
        text.push_str(&message.role);
        text.push('\n');
        match &message.content {
            Some(Value::String(content)) => text.push_str(content),
            Some(Value::Array(parts)) => {
                for part in parts {
                    text.push_str(part.get("text").and_then(Value::as_str).unwrap_or("<|media|>"));
                }
            }
            _ => {}
        }
        if let Some(calls) = &message.tool_calls {
            text.push_str(&calls.to_string());
        }
        text.push_str("<|im_end|>\n");
    }
    text.push_str("<|im_start|>assistant\n");
    text
}

/// A prompt, a hash of it, and its token ids.
pub(super) type ReadPrompt = (Prompt, u64, Vec<u32>);

/// The prompts of `field`: a string, token ids, or an array of either.
///
/// # Errors
/// It is something else, empty, or longer than the context.
pub(super) fn of_value(field: &str, value: &Value, serves: &Serves) -> Result<Vec<ReadPrompt>, Reject> {
    let all = match value {
        Value::String(_) => std::slice::from_ref(value),
        Value::Array(items) if items.first().is_some_and(Value::is_number) => std::slice::from_ref(value),
        Value::Array(items) if !items.is_empty() => items.as_slice(),
        _ => {
            return Err(Reject::at(
                field,
                format!("{field} must be a string, token ids, or an array of these, not empty."),
            ));
        }
    };
    if all.len() > MOST_CHOICES {
        return Err(Reject::at(field, format!("{field} must have at most {MOST_CHOICES} items.")));
    }
    all.iter().map(|one| of_one(field, one, serves)).collect()
}

fn of_one(field: &str, value: &Value, serves: &Serves) -> Result<ReadPrompt, Reject> {
    let wrong = || Reject::at(field, format!("{field} must be a string or token ids below 2^32."));
    let limit = serves.context_length as usize + 1;
    let ids: Vec<u32> = match value {
        Value::String(text) => text::tokens(text).map(|(id, _)| id).take(limit).collect(),
        Value::Array(items) => {
            let ids =
                items.iter().take(limit).map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok()));
            ids.collect::<Option<_>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    let mut reader = PromptReader::new(serves.block_size);
    ids.iter().for_each(|id| reader.token(*id));
    let (prompt, hash) = reader.finish();
    in_context(&prompt, serves)?;
    Ok((prompt, hash, ids))
}

fn in_context(prompt: &Prompt, serves: &Serves) -> Result<(), Reject> {
    let (found, most) = (prompt.tokens, serves.context_length);
    if found <= most {
        return Ok(());
    }
    let message = format!(
        "This model's maximum context length is {most} tokens. However, your prompt contains at least {found} input \
         tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input \
         prompt. (parameter=input_tokens, value={found})"
    );
    Err(Reject::at("input_tokens", message))
}
