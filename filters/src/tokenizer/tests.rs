use proptest::prelude::*;

use super::chat::Overhead;
use super::counter::Counter;
use super::image::ImageRule;
use super::*;
use crate::endpoint::Endpoint;
use crate::request::body::{Prompt, parse};
use crate::response::usage::{Estimate, Source};

/// One small tokenizer of each kind that models have; tests/data/tokenizers says how they were made.
const FILES: [(&str, &[u8]); 4] = [
    ("byte-level", include_bytes!("../../../tests/data/tokenizers/byte-level.json")),
    ("byte-fallback", include_bytes!("../../../tests/data/tokenizers/byte-fallback.json")),
    ("unigram", include_bytes!("../../../tests/data/tokenizers/unigram.json")),
    ("wordpiece", include_bytes!("../../../tests/data/tokenizers/wordpiece.json")),
];

const TEXTS: [(&str, &str); 4] = [
    ("english", include_str!("../../../ARCHITECTURE.md")),
    ("code", include_str!("cut.rs")),
    ("chinese", include_str!("../../../tests/data/scan/zh.jsonl")),
    ("hindi", include_str!("../../../tests/data/scan/hi.jsonl")),
];

fn file(name: &str) -> Tokenizer {
    let (_, json) = FILES.iter().find(|(known, _)| *known == name).expect("it is one of them");
    Tokenizer::from_json(json, 5).expect("it is a tokenizer")
}

fn all() -> Vec<(&'static str, Tokenizer)> {
    let files = FILES.map(|(name, _)| (name, file(name)));
    let encodings = ENCODINGS.map(|(name, _)| (name, Tokenizer::encoding(name, 5).expect("it ships")));
    files.into_iter().chain(encodings).collect()
}

/// Asserts that two counts of `what` are within one percent of each other.
fn assert_close(what: &str, counted: u64, encoded: u64) {
    assert!(counted.abs_diff(encoded) * 100 <= encoded, "{what}: {counted} for {encoded}");
}

#[test]
fn hardly_a_token_of_an_encoding_reaches_across_a_place() {
    for (name, full) in ENCODINGS {
        let encoding = tiktoken::get_encoding(full).expect("it ships");
        let ids = 0..u32::try_from(encoding.vocab_size()).expect("a small number");
        // What is no text, as `<SPECIAL_20>`, stands among the others.
        let is_text =
            |token: &Vec<u8>| !(token.len() > 6 && token.starts_with(b"<") && token.ends_with(b">"));
        let tokens = ids.map(|id| encoding.decode(&[id])).filter(is_text);
        assert_eq!(Cut::of(tokens), Cut::ALL, "{name}");
    }
}

#[test]
fn pieces_have_as_many_tokens_as_the_whole() {
    for (name, tokenizer) in all() {
        // Unigram makes one unknown token of all letters in a row that it does not know, across any place.
        let known = if name == "unigram" { 2 } else { TEXTS.len() };
        for (what, text) in &TEXTS[..known] {
            let encoded = tokenizer.encode(text).expect("it can be encoded");
            assert_close(&format!("{name}, {what}"), tokenizer.count(text), encoded);
            // And again from the table.
            assert_close(&format!("{name}, {what}, again"), tokenizer.count(text), encoded);
        }
    }
}

/// What is counted ahead of time is found, and as it would be counted when it comes.
#[test]
fn words_are_counted_before_they_come() {
    for (name, json) in FILES {
        let tokenizer = Tokenizer::from_json(json, 5).expect("it is a tokenizer");
        while tokenizer.warm(7) {}
        let vocabulary = tokenizers::Tokenizer::from_bytes(json).expect("it is a tokenizer").get_vocab(false);
        let is_byte_level = name == "byte-level";
        let words = tokenizer.pieces_of(&vocabulary, is_byte_level);
        let mut found = 0;
        for word in &words {
            let by_itself = tokenizer.encode_piece(word, tokenizer.is_anchored);
            let counted = tokenizer.memo.count(word, || {
                found -= 1;
                by_itself
            });
            assert_eq!(counted, by_itself, "{name}: {:?}", String::from_utf8_lossy(word));
            found += 1;
        }
        // Three words may fall on the two places of a pair.
        assert!(words.len() > 100 && found * 100 > words.len() * 95, "{name}: {found} of {}", words.len());
    }
}

/// Whether a line's end may be cut off is asked of each tokenizer: where whitespace becomes what follows it decides, it is
/// no place.
#[test]
fn lines_are_cut_apart_where_that_changes_nothing() {
    for (name, tokenizer) in all() {
        for text in ["one\ntwo", "one.\n\nTwo", "- a\n- b\n\n1. c\nd", "x\n\n\ny", "a \n \nb", "(\n7"] {
            let encoded = tokenizer.encode(text).expect("it can be encoded");
            assert_eq!(tokenizer.count(text), encoded, "{name}: {text:?}");
        }
    }
}

#[test]
fn encodings_count_what_openai_says() {
    // <https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>
    for (text, cl100k, o200k) in [
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("tiktoken is great!", 6, 6),
    ] {
        for (name, expected) in [("cl100k", cl100k), ("o200k", o200k)] {
            let tokenizer = Tokenizer::encoding(name, 5).expect("it ships");
            assert_eq!((tokenizer.count(text), tokenizer.encode(text)), (expected, Some(expected)), "{text}");
        }
    }
    assert!(Tokenizer::encoding("p50k", 5).is_none());
}

#[test]
fn a_text_without_places_costs_a_token_a_cut_at_most() {
    for text in ["a".repeat(50_000), "日本".repeat(10_000), " ".repeat(20_000), "\u{1f600}".repeat(5_000)] {
        for name in ["o200k", "cl100k"] {
            let tokenizer = Tokenizer::encoding(name, 5).expect("it ships");
            let (counted, encoded) = (tokenizer.count(&text), tokenizer.encode(&text).expect("text"));
            let cuts = text.len() as u64 / cut::MAX_PIECE as u64;
            assert!(counted.abs_diff(encoded) <= cuts, "{name}: {counted} for {encoded}");
        }
    }
}

#[test]
fn a_file_that_is_no_tokenizer_says_so() {
    for json in ["", "{}", "[]", r#"{"version":"1.0","model":{"type":"Nothing"}}"#, "\u{0}"] {
        let error = Tokenizer::from_json(json.as_bytes(), 5).expect_err(json);
        assert!(error.contains("expected a tokenizer.json"), "{error}");
    }
}

#[test]
fn tokenizers_betray_their_template_and_their_specials() {
    assert_eq!(file("byte-level").family(), Some(Family::ChatMl));
    assert_eq!(file("byte-fallback").family(), None);
    assert_eq!((file("byte-level").specials(), file("wordpiece").specials()), (0, 2));
    assert!(file("unigram").is_anchored && file("byte-fallback").is_anchored);
    assert!(!file("byte-level").is_anchored);
}

fn in_pieces(tokenizer: &Tokenizer, text: &str, cuts: &[usize]) -> u64 {
    let mut cuts: Vec<usize> =
        cuts.iter().map(|cut| text.floor_char_boundary(cut % (text.len() + 1))).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    let mut running = Running::default();
    for ends in cuts.windows(2) {
        running.push_str(tokenizer, &text[ends[0]..ends[1]]);
    }
    running.total(tokenizer)
}

thread_local! {
    static ALL: Vec<(&'static str, Tokenizer)> = all();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn however_a_text_comes_its_count_is_the_same(
        which in 0..TEXTS.len(), at in 0usize..50_000, length in 0usize..6000,
        cuts in proptest::collection::vec(0usize..6000, 0..200),
    ) {
        let text = TEXTS[which].1;
        let start = text.floor_char_boundary(at % text.len());
        let text = &text[start..text.floor_char_boundary((start + length).min(text.len()))];
        ALL.with(|all| {
            for (name, tokenizer) in all {
                let total = in_pieces(tokenizer, text, &cuts);
                assert_eq!(total, tokenizer.count(text), "{name}");
                if *name == "unigram" && which >= 2 {
                    continue;
                }
                let encoded = tokenizer.encode(text).expect("text");
                // Of few tokens one is more than a percent.
                assert!(total.abs_diff(encoded) * 100 <= encoded.max(200), "{name}: {total} for {encoded}");
            }
        });
    }

    #[test]
    fn any_text_has_the_same_count_in_pieces(
        text in r"([a-z]{1,9}|[ \n\t]{1,4}|\PC{1,3}|[.,;'()]{1,2}|[0-9]{1,5}|[一-龥]{1,5}|，|。){0,60}",
        cuts in proptest::collection::vec(0usize..600, 0..30),
    ) {
        ALL.with(|all| {
            for (name, tokenizer) in all {
                assert_eq!(in_pieces(tokenizer, &text, &cuts), tokenizer.count(&text), "{name}: {text:?}");
            }
        });
    }
}

fn prompt(endpoint: Endpoint, body: &str) -> Prompt {
    parse(endpoint, body.as_bytes(), 64).expect("a good body")
}

fn counter(name: &str, exact_bytes: usize) -> Counter {
    let images = ImageRule { tokens: 100, ..ImageRule::default() };
    Counter::new(Some(std::sync::Arc::new(file(name))), None, images, exact_bytes)
}

#[test]
fn a_request_is_counted_with_all_that_is_in_it() {
    let counter = counter("byte-level", 1 << 16);
    let count = |text: &str| counter.tokenizer().expect("there is one").count(text);
    let chat = |rest: &str| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"system","content":"Be\nbrief."}},{{"role":"user","content":"Why the servers?"}}]{rest}}}"#
        );
        counter.prompt(&prompt(Endpoint::ChatCompletions, &body), body.as_bytes())
    };
    let plain = Estimate {
        input: count("Be\nbrief.") + count("Why the servers?") + 3 + 2 * 5,
        system: count("Be\nbrief."),
        input_source: Source::Tokenizer,
        ..Estimate::default()
    };
    assert_eq!(chat(""), plain);
    let tools = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#;
    let with_tools = Estimate { input: plain.input + count(tools) + 90, ..plain };
    assert_eq!(chat(&format!(r#","tools":{tools}"#)), with_tools);
    // What an answer must look like is enforced, not read.
    assert_eq!(chat(r#","response_format":{"type":"json_schema","json_schema":{"name":"n"}}"#), plain);
    let image = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"the"},
        {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAYAAAA="}},
        {"type":"image_url","image_url":{"url":"https://example.org/x.png"}}]}]}"#;
    let seen = counter.prompt(&prompt(Endpoint::ChatCompletions, image), image.as_bytes());
    assert_eq!((seen.input, seen.input_source), (count("the") + 200 + 3 + 5, Source::Estimated));
}

#[test]
fn other_requests_have_no_template() {
    let counter = counter("wordpiece", 1 << 16);
    let count = |text: &str| counter.tokenizer().expect("there is one").count(text);
    for (endpoint, body, expected) in [
        (
            Endpoint::Embeddings,
            r#"{"model":"m","input":["the server","a"]}"#,
            count("the server") + count("a") + 4,
        ),
        (Endpoint::Embeddings, r#"{"model":"m","input":[[1,2],[3]]}"#, 3 + 4),
        (Endpoint::Embeddings, r#"{"model":"m","input":[1,2,3]}"#, 3 + 2),
        (Endpoint::Completions, r#"{"model":"m","prompt":"the server"}"#, count("the server") + 2),
    ] {
        let estimate = counter.prompt(&prompt(endpoint, body), body.as_bytes());
        assert_eq!((estimate.input, estimate.input_source), (expected, Source::Tokenizer), "{body}");
    }
}

#[test]
fn without_a_tokenizer_four_characters_are_a_token() {
    let body = r#"{"model":"m","messages":[{"role":"system","content":"1234"},{"role":"user","content":"12345678"}]}"#;
    let prompt = prompt(Endpoint::ChatCompletions, body);
    let bare = Estimate { input: 3, system: 1, ..Estimate::default() };
    assert_eq!(Counter::default().prompt(&prompt, body.as_bytes()), bare);
    assert_eq!((prompt.estimate(), prompt.estimated_input()), (bare, 3));
    let told = Overhead { request: 3, message: 4, tools: 0 };
    let counter = Counter::new(None, Some(told), ImageRule::default(), 1 << 16);
    assert_eq!(counter.prompt(&prompt, body.as_bytes()), Estimate { input: 3 + 3 + 8, ..bare });
}

#[test]
fn of_a_long_request_a_sample_is_counted() {
    // Each time from another line on: stretches of a text that repeats itself evenly may all fall on the same few lines.
    let texts: Vec<String> = TEXTS[..2]
        .iter()
        .map(|(_, text)| {
            let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
            let mut all = String::new();
            for round in 1..=12 {
                let count = lines.len();
                lines.rotate_left(round * 7 % count);
                all.extend(lines.iter().copied());
            }
            all
        })
        .collect();
    let messages: Vec<_> =
        texts.iter().map(|text| serde_json::json!({"role": "user", "content": text})).collect();
    let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
    let prompt = prompt(Endpoint::ChatCompletions, &body);
    assert!(body.len() > 200_000, "{}", body.len());
    let (exact, sampled) = (counter("byte-level", usize::MAX), counter("byte-level", 1 << 16));
    let exact = exact.prompt(&prompt, body.as_bytes());
    let sampled = sampled.prompt(&prompt, body.as_bytes());
    assert_eq!((exact.input_source, sampled.input_source), (Source::Tokenizer, Source::Estimated));
    assert!(exact.input.abs_diff(sampled.input) * 100 <= exact.input * 3, "{sampled:?} for {exact:?}");
}

#[test]
fn a_sample_reads_no_more_than_it_may() {
    // Small texts and large ones alike: what is not read here cannot have been counted.
    for size in [10, 3000, 100_000] {
        let text = "the servers ".repeat(size / 10);
        let messages: Vec<_> =
            (0..1_000_000 / size).map(|_| serde_json::json!({"role": "user", "content": text})).collect();
        let body = serde_json::json!({"model": "m", "messages": messages}).to_string();
        let counted =
            counter("byte-level", 1 << 16).prompt(&prompt(Endpoint::ChatCompletions, &body), body.as_bytes());
        let exact = counter("byte-level", usize::MAX)
            .prompt(&prompt(Endpoint::ChatCompletions, &body), body.as_bytes());
        assert_eq!(counted.input_source, Source::Estimated, "{size}");
        assert!(counted.input.abs_diff(exact.input) * 50 <= exact.input, "{size}: {counted:?} for {exact:?}");
    }
}
