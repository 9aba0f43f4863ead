//! Every recorded answer that is one JSON text: the model's name where it stands, the usage as reported, the
//! text to the character.

use serde_json::Value;
use tollgate_filters::response::Api;
use tollgate_filters::response::answer::{Answer, read};
use tollgate_filters::response::usage::Usage;
use tollgate_filters::tokenizer::counter::Counter;

use crate::recordings::every;

#[test]
fn answers_are_read_as_they_stand() {
    let mut checked = 0;
    for recording in every() {
        let Ok(json) = serde_json::from_slice::<Value>(&recording.body) else { continue };
        if recording.status != 200 || json["usage"].is_null() {
            continue;
        }
        let name = &recording.name;
        let answer = read(recording.api, &recording.body, &Counter::default());
        let model = answer.model.clone().map(|span| &recording.body[span]);
        assert_eq!(model, json["model"].as_str().map(str::as_bytes), "{name}");
        let expected = match &**name {
            // llama.cpp reports the first of several choices alone.
            "llama.cpp/chat_json_n2" => Usage { input: Some(38), cached_input: 37, ..Usage::default() },
            "llama.cpp/completion_json_prompts" => Usage::default(),
            // `input_tokens` is 1, without what was cached.
            "llama.cpp/messages_json" => usage(38, 37, 6, 0),
            _ => reported(&json["usage"]),
        };
        assert_eq!(answer.usage, Some(expected), "{name}");
        assert_eq!((answer.output_chars, answer.reasoning_chars), chars(&json), "{name}");
        checked += 1;
    }
    assert!(checked > 20, "found {checked} answers");
}

#[test]
fn an_answer_cut_short_is_an_empty_one() {
    for recording in every().into_iter().filter(|found| found.is_json && found.body.len() < 3000) {
        let whole = recording.body.trim_ascii_end().len();
        for at in 0..whole {
            assert_eq!(
                read(Api::Chat, &recording.body[..at], &Counter::default()),
                Answer::default(),
                "{}",
                recording.name
            );
        }
    }
}

fn usage(input: u64, cached_input: u64, output: u64, reasoning: u64) -> Usage {
    Usage { input: Some(input), cached_input, output: Some(output), reasoning }
}

fn reported(json: &Value) -> Usage {
    let number = |names: &[&str]| names.iter().find_map(|name| json.pointer(name)?.as_u64()).unwrap_or(0);
    usage(
        number(&["/prompt_tokens", "/input_tokens"]),
        number(&["/prompt_tokens_details/cached_tokens", "/input_tokens_details/cached_tokens"]),
        number(&["/completion_tokens", "/output_tokens"]),
        number(&["/completion_tokens_details/reasoning_tokens", "/output_tokens_details/reasoning_tokens"]),
    )
}

/// Visible characters and those of reasoning.
fn chars(json: &Value) -> (u64, u64) {
    let length = |value: &Value| value.as_str().map_or(0, |text| text.chars().count() as u64);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (mut visible, mut reasoning) = (0, 0);
    for choice in list(&json["choices"]) {
        let message = &choice["message"];
        visible += length(&choice["text"]) + length(&message["content"]) + length(&message["refusal"]);
        reasoning += length(&message["reasoning"]).max(length(&message["reasoning_content"]));
        for call in list(&message["tool_calls"]) {
            visible += length(&call["function"]["name"]) + length(&call["function"]["arguments"]);
        }
    }
    for item in list(&json["output"]) {
        let text: u64 = list(&item["content"])
            .iter()
            .chain(&list(&item["summary"]))
            .map(|part| length(&part["text"]))
            .sum();
        *(if item["type"] == "reasoning" { &mut reasoning } else { &mut visible }) += text;
    }
    visible += list(&json["content"]).iter().map(|block| length(&block["text"])).sum::<u64>();
    (visible, reasoning)
}
