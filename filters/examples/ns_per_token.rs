//! What counting costs: nanoseconds for each event of a recorded stream, and for each token of a stream of prose, with
//! every tokenizer; and how long a request's text takes.
//!
//! ```text
//! cargo run --release -p tollgate-filters --example ns_per_token [tokenizer.json …]
//! ```
//! The best of many runs is printed: the rest is the machine's noise. `filter` is the whole stream filter with the
//! tokenizer less the same without it, an event a chunk. `first` is a stream that is the first after the tokenizer was
//! loaded: of the prose, which is a manual with code in it, and of what models have answered in all recordings of
//! tests/data/streams. `warm ms` is what the tokenizer counts ahead of them, beside everything else.

#![expect(clippy::disallowed_methods, reason = "a timing reads the clock, and tokenizers are files")]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tollgate_filters::response::Api;
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};
use tollgate_filters::tokenizer::{ENCODINGS, Running, Tokenizer};

const RECORDED: &[u8] = include_bytes!("../../tests/data/streams/vllm/chat_stream_long.response.http");
const PROSE: &str = include_str!("../../docs/prompt-security.md");
const CODE: &str = include_str!("../src/tokenizer/cut.rs");
const CHINESE: &str = include_str!("../../tests/data/scan/zh.jsonl");
const RUNS: u32 = 200;

fn main() -> ExitCode {
    let files = std::env::args().skip(1).map(|path| {
        let json = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
        let name = path.rsplit('/').nth(1).unwrap_or(&path).to_owned();
        Ok((name, Box::new(move || Tokenizer::from_json(&json, 7)) as Box<dyn Fn() -> _>))
    });
    let encodings = ENCODINGS.map(|(name, _)| {
        let load = move || Tokenizer::encoding(name, 7).ok_or_else(|| name.to_owned());
        Ok((name.to_owned(), Box::new(load) as Box<dyn Fn() -> _>))
    });
    let Some(events) = events(RECORDED) else {
        eprintln!("the recording has no events");
        return ExitCode::FAILURE;
    };
    println!(
        "{:>20} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "load ms", "warm ms", "filter", "prose", "code", "chinese", "first", "answers", "MB/s", "encode"
    );
    for tokenizer in encodings.into_iter().chain(files) {
        let shown =
            tokenizer.and_then(|(name, load): (String, Box<dyn Fn() -> Result<Tokenizer, String>>)| {
                show(&name, &*load, &events)
            });
        if let Err(error) = shown {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    println!(
        "filter: ns an event of the recording; prose, code, chinese, first, answers: ns an event of four characters"
    );
    println!("MB/s: Tokenizer::count over the prose; encode: the tokenizer itself, MB/s");
    ExitCode::SUCCESS
}

fn show(name: &str, load: &dyn Fn() -> Result<Tokenizer, String>, events: &[Bytes]) -> Result<(), String> {
    let start = Instant::now();
    let tokenizer = Arc::new(load()?);
    let loaded = start.elapsed();
    let best = |run: &dyn Fn() -> Duration| (0..RUNS).map(|_| run()).min().unwrap_or_default();
    let with = best(&|| filter(events, Some(&tokenizer)));
    let without = best(&|| filter(events, None));
    let each = |text: &str| {
        let pieces = pieces(text);
        best(&|| stream(&tokenizer, &pieces)).as_nanos() / pieces.len() as u128
    };
    let (prose, code, chinese) = (each(PROSE), each(CODE), each(CHINESE));
    let mut warming = Duration::ZERO;
    // Each with a tokenizer that has counted nothing yet, but what it counts by itself.
    let mut first = |text: &str| -> Result<u128, String> {
        let fresh = load()?;
        let start = Instant::now();
        while fresh.warm(1000) {}
        warming = start.elapsed();
        let all = pieces(text);
        Ok(stream(&fresh, &all).as_nanos() / all.len() as u128)
    };
    let (first_prose, first_answers) = (first(PROSE)?, first(&answers()?)?);
    let speed = |count: &dyn Fn() -> u64| {
        let took = best(&|| {
            let start = Instant::now();
            black_box(count());
            start.elapsed()
        });
        PROSE.len() as f64 / took.as_secs_f64() / 1e6
    };
    println!(
        "{name:>20} {:>8.0} {:>8.0} {:>8} {prose:>8} {code:>8} {chinese:>8} {first_prose:>8} {first_answers:>8} {:>8.0} \
         {:>8.1}",
        loaded.as_secs_f64() * 1e3,
        warming.as_secs_f64() * 1e3,
        with.saturating_sub(without).as_nanos() / events.len() as u128,
        speed(&|| tokenizer.count(PROSE)),
        speed(&|| tokenizer.encode(PROSE).unwrap_or_default()),
    );
    Ok(())
}

fn filter(events: &[Bytes], tokenizer: Option<&Arc<Tokenizer>>) -> Duration {
    let mut filter = StreamFilter::new(StreamPlan {
        api: Api::Chat,
        model: "smollm2-135m-instruct".into(),
        withhold_usage: false,
        max_event_bytes: 1 << 20,
        tokenizer: tokenizer.cloned(),
    });
    let chunks: Vec<Bytes> = events.to_vec();
    let start = Instant::now();
    for chunk in chunks {
        black_box(filter.push(chunk, Duration::from_millis(1)));
    }
    black_box(filter.finish());
    start.elapsed()
}

fn stream(tokenizer: &Tokenizer, pieces: &[&str]) -> Duration {
    let start = Instant::now();
    let mut running = Running::default();
    for piece in pieces {
        running.push_str(tokenizer, piece);
    }
    black_box(running.total(tokenizer));
    start.elapsed()
}

/// What models have said in the recordings, without what they say twice.
fn answers() -> Result<String, String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/streams");
    let read = |path: &std::path::Path| std::fs::read_dir(path).map_err(|error| error.to_string());
    let (mut said, mut files) = (std::collections::BTreeSet::new(), Vec::new());
    for folder in read(root.as_ref())?.flatten().filter(|entry| entry.path().is_dir()) {
        files.extend(read(&folder.path())?.flatten().map(|entry| entry.path()));
    }
    for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "http")) {
        let text =
            String::from_utf8_lossy(&std::fs::read(file).map_err(|error| error.to_string())?).into_owned();
        let parts = text.split("\"content\":\"").skip(1).map(|rest| {
            let end =
                rest.match_indices('"').find(|(at, _)| !rest[..*at].ends_with('\\')).map_or(0, |(at, _)| at);
            rest[..end].replace("\\n", "\n").replace("\\\"", "\"")
        });
        said.insert(parts.collect::<String>());
    }
    Ok(said.into_iter().collect::<Vec<_>>().join("\n"))
}

/// The text in events of four characters.
fn pieces(text: &str) -> Vec<&str> {
    let ends: Vec<usize> = text.char_indices().step_by(4).map(|(at, _)| at).chain([text.len()]).collect();
    ends.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

/// The events of the recording, one a chunk.
fn events(recorded: &[u8]) -> Option<Vec<Bytes>> {
    let text = std::str::from_utf8(recorded).ok()?;
    // vLLM sends each event as an HTTP chunk, whose size line is no part of it.
    let events = text.split("\r\n").filter(|chunk| chunk.starts_with("data:"));
    let events: Vec<Bytes> = events.map(|event| Bytes::copy_from_slice(event.as_bytes())).collect();
    (!events.is_empty()).then_some(events)
}
