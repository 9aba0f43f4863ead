//! Real tokenizers, which packages ship and `scripts/install-clients.sh` lays out: what they count piece by piece against
//! one encode of the whole, and what the gateway counts in recorded answers of SmolLM2 against what its servers reported.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tollgate_filters::response::answer::read;
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};
use tollgate_filters::response::usage::Estimate;
use tollgate_filters::tokenizer::counter::Counter;
use tollgate_filters::tokenizer::image::ImageRule;
use tollgate_filters::tokenizer::{Running, Tokenizer};

use crate::recordings::{Recording, own};

/// The tokenizer of this name, if the packages are installed.
fn real(name: &str) -> Option<Tokenizer> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/venv/tokenizers");
    let path = folder.join(format!("{name}.json"));
    match fs::read(&path) {
        Ok(json) => Some(Tokenizer::from_json(&json, 7).expect("it is a tokenizer")),
        Err(_) => {
            println!("SKIPPED: {} is not there; scripts/install-clients.sh makes it", path.display());
            None
        }
    }
}

/// Texts of several languages and of code.
fn texts() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| (path.to_owned(), fs::read_to_string(root.join(path)).expect(path));
    let languages = ["ar", "de", "es", "fr", "hi", "it", "ja", "ko", "pt", "ru", "tr", "zh"];
    let mut found: Vec<_> =
        languages.iter().map(|name| read(&format!("tests/data/scan/{name}.jsonl"))).collect();
    found.extend(
        ["ARCHITECTURE.md", "docs/prompt-security.md", "filters/src/json.rs", "conf/tollgate.yaml"].map(read),
    );
    found
}

#[test]
fn real_tokenizers_count_by_pieces_what_they_encode_at_once() {
    for name in ["smollm2", "deepseek"] {
        let Some(tokenizer) = real(name) else { continue };
        for (what, text) in texts() {
            let encoded = tokenizer.encode(&text).expect("a text");
            let counted = tokenizer.count(&text);
            assert!(counted.abs_diff(encoded) * 100 <= encoded, "{name}, {what}: {counted} for {encoded}");
            let mut running = Running::default();
            let mut rest = text.as_str();
            while let Some(next) = rest.chars().next() {
                // Events of one to seven characters.
                let length = 1 + u32::from(next) as usize % 7;
                let end = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
                running.push_str(&tokenizer, &rest[..end]);
                rest = &rest[end..];
            }
            assert_eq!(running.total(&tokenizer), counted, "{name}, {what}");
        }
    }
}

#[test]
fn the_encoding_that_ships_is_that_of_the_package() {
    let Some(package) = real("deepseek") else { return };
    let shipped = Tokenizer::encoding("deepseek_v3", 7).expect("it ships");
    for (what, text) in texts() {
        assert_eq!(package.encode(&text), shipped.encode(&text), "{what}");
    }
}

#[test]
fn recorded_answers_are_counted_as_their_servers_counted_them() {
    let Some(tokenizer) = real("smollm2").map(Arc::new) else { return };
    let mut checked = 0;
    for recording in own().iter().filter(|recording| is_plain(recording)) {
        let Some(reported) = reported(recording) else { continue };
        let estimate = estimate(recording, &tokenizer);
        let counted = estimate.output + estimate.reasoning;
        // Where the cap cut a character, its last token has no text.
        let allowed = (reported / 100).max(u64::from(reported % 100 > 0));
        assert!(counted.abs_diff(reported) <= allowed, "{}: {counted} for {reported}", recording.name);
        checked += 1;
    }
    assert!(checked > 20, "only {checked} were checked");
}

/// Answers whose text is all that the model said, and whose report is of all of it.
fn is_plain(recording: &Recording) -> bool {
    const OTHERWISE: [&str; 8] =
        ["n2", "prompts", "tool", "reasoning", "json_schema", "err_", "messages", "return_token"];
    let engines = ["llama.cpp/", "sglang/", "vllm/", "transformers-serve/"];
    recording.status == 200
        && engines.iter().any(|engine| recording.name.starts_with(engine))
        && !OTHERWISE.iter().any(|part| recording.name.contains(part))
}

/// The last `completion_tokens` of the body.
fn reported(recording: &Recording) -> Option<u64> {
    let text = std::str::from_utf8(&recording.body).ok()?;
    let documents = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let mut usages = documents
        .filter_map(|json| serde_json::from_str::<Value>(json).ok()?["usage"]["completion_tokens"].as_u64());
    usages.next_back().filter(|tokens| *tokens > 0)
}

fn estimate(recording: &Recording, tokenizer: &Arc<Tokenizer>) -> Estimate {
    if !recording.is_stream {
        let counter = Counter::new(Some(Arc::clone(tokenizer)), None, ImageRule::default(), 1 << 16);
        return read(recording.api, &recording.body, &counter).estimate(Estimate::default());
    }
    let mut filter = StreamFilter::new(StreamPlan {
        api: recording.api,
        model: "m".into(),
        withhold_usage: false,
        max_event_bytes: 1 << 20,
        tokenizer: Some(Arc::clone(tokenizer)),
    });
    for chunk in recording.body.chunks(37) {
        filter.push(Bytes::copy_from_slice(chunk), Duration::from_millis(5));
    }
    filter.finish();
    filter.into_meter().estimate(Estimate::default())
}
