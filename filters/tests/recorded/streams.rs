//! Every recorded stream, however it is cut: the same bytes out, the same counts, and those that the server
//! reported. What is expected is worked out here a second time, the slow way, with a JSON tree.

use std::time::Duration;

use crate::recordings::{Recording, every, own};
use bytes::Bytes;
use serde_json::Value;
use tollgate_filters::response::Api;
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};
use tollgate_filters::response::tokens::Meter;
use tollgate_filters::response::usage::Usage;

const ASKED: &str = "a name that no server has";

fn streams(all: Vec<Recording>) -> Vec<Recording> {
    let streams: Vec<Recording> =
        all.into_iter().filter(|found| found.is_stream && found.status == 200).collect();
    assert!(streams.len() > 50, "found {} streams", streams.len());
    streams
}

fn filter(recording: &Recording, model: &str, withhold_usage: bool) -> StreamFilter {
    let max_event_bytes = 1 << 20;
    StreamFilter::new(StreamPlan {
        api: recording.api,
        model: model.into(),
        withhold_usage,
        max_event_bytes,
        tokenizer: None,
    })
}

/// What comes out of chunks, and what was counted.
fn run<'a>(mut filter: StreamFilter, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool, Meter) {
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend(filter.push(Bytes::copy_from_slice(chunk), Duration::from_millis(5)));
    }
    let end = filter.finish();
    out.extend(&end.bytes);
    (out, end.is_clean, filter.into_meter())
}

/// The events of a stream whose lines end with LF, as all recorded ones do.
fn events(body: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(body).expect("recorded streams are UTF-8");
    assert!(!text.contains('\r'));
    text.split_inclusive("\n\n").collect()
}

fn json(event: &str) -> Option<Value> {
    let data = event.lines().find_map(|line| line.strip_prefix("data:"))?;
    serde_json::from_str(data).ok()
}

fn is_usage_event(event: &str) -> bool {
    json(event).is_some_and(|json| json["choices"] == Value::Array(Vec::new()) && json["usage"].is_object())
}

/// The name that the server gave the model. Azure gives an empty one in its first event.
fn model(recording: &Recording) -> String {
    let name = |json: Value| {
        let names = [&json["model"], &json["response"]["model"], &json["message"]["model"]];
        names.into_iter().find_map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned))
    };
    events(&recording.body).into_iter().filter_map(json).find_map(name).unwrap_or_default()
}

/// Whether the server ended a chat or completion without saying so.
fn lacks_done(recording: &Recording) -> bool {
    matches!(recording.api, Api::Chat | Api::Completions)
        && !recording.body.ends_with(b"data: [DONE]\n\n")
        && !recording.name.contains("_error_")
}

#[test]
fn bytes_out_are_bytes_in_but_for_what_is_corrected() {
    for recording in streams(every()) {
        let name = &recording.name;
        let done = if lacks_done(&recording) { "data: [DONE]\n\n" } else { "" };
        let given = events(&recording.body);
        let whole: String = given.concat() + done;
        let without_usage: String =
            given.iter().filter(|event| !is_usage_event(event)).copied().collect::<String>() + done;
        let model = model(&recording);
        // The two corrections that need no asking: an empty name, an error with a status code of its own.
        if !name.starts_with("azure/") && name != "groq/chat_stream_error_tool_use_failed" {
            let (out, is_clean, _) =
                run(filter(&recording, &model, false), [&recording.body[..]].into_iter());
            assert_eq!(String::from_utf8_lossy(&out), whole, "{name}");
            assert_eq!(is_clean, !name.contains("error"), "{name}");
            let (out, ..) = run(filter(&recording, &model, true), [&recording.body[..]].into_iter());
            assert_eq!(String::from_utf8_lossy(&out), without_usage, "{name}");
            let (out, ..) = run(filter(&recording, ASKED, true), [&recording.body[..]].into_iter());
            let out = String::from_utf8(out).expect("what goes in is text");
            assert!(model.is_empty() || out.contains(ASKED), "{name}");
            assert_eq!(out.replace(ASKED, &model), without_usage, "{name}");
        }
        let (out, ..) = run(filter(&recording, ASKED, false), [&recording.body[..]].into_iter());
        for json in events(&out).into_iter().filter_map(json) {
            let place = match recording.api {
                Api::Responses => &json["response"]["model"],
                Api::Messages => &json["message"]["model"],
                _ => &json["model"],
            };
            assert!(place.is_null() || place == ASKED, "{name}: {place}");
        }
    }
}

#[test]
fn a_recorded_error_event_that_clients_can_read_passes() {
    let Some(recording) =
        every().into_iter().find(|found| found.name == "groq/chat_stream_error_tool_use_failed")
    else {
        return;
    };
    let (out, is_clean, _) =
        run(filter(&recording, "openai/gpt-oss-120b", false), [&recording.body[..]].into_iter());
    assert_eq!(events(&out), events(&recording.body));
    assert!(!is_clean);
}

#[test]
fn a_cut_within_any_event_changes_nothing() {
    // A filter that has seen the events before and is given an event in two pieces must give the same bytes,
    // and be the same filter afterwards, as one that is given it whole. By induction any cut changes nothing.
    for recording in streams(every()) {
        let mut before = filter(&recording, ASKED, true);
        for event in events(&recording.body) {
            let event = event.as_bytes();
            let now = Duration::from_millis(5);
            let mut after = before.clone();
            let whole = after.push(Bytes::copy_from_slice(event), now);
            for at in 1..event.len() {
                let mut cut = before.clone();
                let first = cut.push(Bytes::copy_from_slice(&event[..at]), now);
                let second = cut.push(Bytes::copy_from_slice(&event[at..]), now);
                assert!(first.is_empty(), "{}: an incomplete event went out, cut at {at}", recording.name);
                assert!(second == whole && cut == after, "{}: cut at {at} of {event:?}", recording.name);
            }
            before = after;
        }
    }
}

#[test]
fn a_cut_at_any_byte_of_a_short_stream_changes_nothing() {
    for recording in streams(own()).into_iter().filter(|found| found.body.len() < 4000) {
        let whole = run(filter(&recording, ASKED, true), [&recording.body[..]].into_iter());
        for at in 0..=recording.body.len() {
            let (first, second) = recording.body.split_at(at);
            let cut = run(filter(&recording, ASKED, true), [first, second].into_iter());
            assert!(cut == whole, "{}: cut at {at}", recording.name);
        }
    }
}

#[test]
fn random_cuts_change_nothing() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        // xorshift64, <https://www.jstatsoft.org/article/view/v008i14>: the same cuts in every run.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for recording in streams(every()) {
        let own_name = model(&recording);
        for (model, withhold_usage) in [(&*own_name, false), (&*own_name, true), (ASKED, true)] {
            let whole = run(filter(&recording, model, withhold_usage), [&recording.body[..]].into_iter());
            for round in 0..20 {
                let longest = [3, 40, 400, 4000][round % 4];
                let mut rest = &recording.body[..];
                let chunks = std::iter::from_fn(|| {
                    let (chunk, later) = rest.split_at(rest.len().min(1 + random(longest)));
                    rest = later;
                    (!chunk.is_empty()).then_some(chunk)
                });
                let cut = run(filter(&recording, model, withhold_usage), chunks);
                assert!(cut == whole, "{}: {model} {withhold_usage} round {round}", recording.name);
            }
        }
    }
}

#[test]
fn usage_is_what_the_server_reported() {
    let of = |input, cached_input, output, reasoning| {
        Some(Usage { input: Some(input), cached_input, output: Some(output), reasoning })
    };
    for recording in streams(every()) {
        let (_, _, meter) = run(filter(&recording, ASKED, true), [&recording.body[..]].into_iter());
        let expected = match &*recording.name {
            // One report for each choice.
            "llama.cpp/chat_stream_n2" => of(38, 0, 16, 0),
            "llama.cpp/completion_stream_prompts" => of(11, 0, 18, 0),
            "llama.cpp/completion_stream_n2" => of(4, 3, 12, 0),
            "llama.cpp/completion_stream_prompts_n2" => of(4, 0, 24, 0),
            // Reported in two events.
            "llama.cpp/anthropic_messages_stream" => of(33, 24, 12, 0),
            "vllm/anthropic_messages_stream" => of(33, 0, 12, 0),
            // Reasoning left out of `completion_tokens`.
            "xai/chat_stream_reasoning_usage" => of(12, 11, 342, 340),
            _ => last_usage(&recording),
        };
        assert_eq!(meter.usage(), expected, "{}", recording.name);
    }
}

/// The last usage of a stream, as it stands.
fn last_usage(recording: &Recording) -> Option<Usage> {
    let reported = |json: Value| -> Option<Usage> {
        let usage =
            [&json["usage"], &json["response"]["usage"]].into_iter().find(|usage| usage.is_object())?;
        let number = |names: [&str; 2]| names.iter().find_map(|name| usage.pointer(name)?.as_u64());
        Some(Usage {
            input: number(["/prompt_tokens", "/input_tokens"]),
            cached_input: number([
                "/prompt_tokens_details/cached_tokens",
                "/input_tokens_details/cached_tokens",
            ])
            .unwrap_or(0),
            output: number(["/completion_tokens", "/output_tokens"]),
            reasoning: number([
                "/completion_tokens_details/reasoning_tokens",
                "/output_tokens_details/reasoning_tokens",
            ])
            .unwrap_or(0),
        })
    };
    events(&recording.body).into_iter().rev().filter_map(json).find_map(reported)
}

#[test]
fn text_is_counted_to_the_character() {
    for recording in streams(every()) {
        let (_, _, meter) = run(filter(&recording, ASKED, true), [&recording.body[..]].into_iter());
        let (mut visible, mut reasoning, mut content_events) = (0, 0, 0);
        for json in events(&recording.body).into_iter().filter_map(json) {
            let (more_visible, more_reasoning) = text(&json);
            visible += more_visible;
            reasoning += more_reasoning;
            content_events += u64::from(more_visible + more_reasoning > 0);
        }
        let counted = (meter.visible_chars(), meter.reasoning_chars(), meter.content_events());
        assert_eq!(counted, (visible, reasoning, content_events), "{}", recording.name);
        assert!(content_events > 0, "{}", recording.name);
        assert_eq!(meter.gaps().count(), content_events - 1, "{}", recording.name);
        assert_eq!(meter.unparsed_events() + meter.overlong_events(), 0, "{}", recording.name);
    }
}

/// Visible characters and those of reasoning in one event.
fn text(json: &Value) -> (u64, u64) {
    let length = |value: &Value| value.as_str().map_or(0, |text| text.chars().count() as u64);
    let (mut visible, mut reasoning) = (0, 0);
    for choice in json["choices"].as_array().into_iter().flatten() {
        let delta = &choice["delta"];
        visible += length(&choice["text"]) + length(&delta["content"]) + length(&delta["refusal"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            visible += length(&call["function"]["name"]) + length(&call["function"]["arguments"]);
        }
        for part in delta["content"].as_array().into_iter().flatten() {
            visible += length(&part["text"]);
            reasoning += part["thinking"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|part| length(&part["text"]))
                .sum::<u64>();
        }
        reasoning += length(&delta["reasoning"]).max(length(&delta["reasoning_content"]));
    }
    let kind = json["type"].as_str().unwrap_or_default();
    if kind.starts_with("response.") && kind.ends_with(".delta") {
        *(if kind.contains("reasoning") { &mut reasoning } else { &mut visible }) += length(&json["delta"]);
    }
    if kind == "content_block_delta" {
        visible += length(&json["delta"]["text"]) + length(&json["delta"]["partial_json"]);
        reasoning += length(&json["delta"]["thinking"]);
    }
    (visible, reasoning)
}
