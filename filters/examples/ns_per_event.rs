//! What an event costs on its way through the filter, in nanoseconds, for a recorded stream of 300 tokens.
//!
//! ```text
//! cargo run --release -p tollgate-filters --example ns_per_event
//! ```
//! The best of many runs is printed: the rest is the machine's noise. Each event comes in a chunk of its own,
//! as from a server that is generating.

#![expect(clippy::disallowed_methods, reason = "a timing reads the clock")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tollgate_filters::response::Api;
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};

const RECORDED: &[u8] = include_bytes!("../../tests/data/streams/vllm/chat_stream_long.response.http");
const RUNS: u32 = 300;

fn main() -> ExitCode {
    let Some(events) = events(RECORDED) else {
        eprintln!("the recording has no events");
        return ExitCode::FAILURE;
    };
    for (name, model, withhold_usage) in [
        ("unchanged", "smollm2-135m-instruct", false),
        ("usage withheld", "smollm2-135m-instruct", true),
        ("model renamed", "a/model", true),
    ] {
        let best = (0..RUNS).map(|_| run(&events, model, withhold_usage)).min().unwrap_or_default();
        println!("{name:>15}: {:>5} ns an event", best.as_nanos() / events.len() as u128);
    }
    ExitCode::SUCCESS
}

fn run(events: &[Bytes], model: &str, withhold_usage: bool) -> Duration {
    let plan = StreamPlan {
        api: Api::Chat,
        model: model.into(),
        withhold_usage,
        max_event_bytes: 1 << 20,
        tokenizer: None,
    };
    let mut filter = StreamFilter::new(plan);
    let chunks: Vec<Bytes> = events.to_vec();
    let start = Instant::now();
    for chunk in chunks {
        black_box(filter.push(chunk, Duration::from_millis(1)));
    }
    black_box(filter.finish());
    start.elapsed()
}

/// The events of the recording, one a chunk.
fn events(recorded: &[u8]) -> Option<Vec<Bytes>> {
    let text = std::str::from_utf8(recorded).ok()?;
    // vLLM sends each event as an HTTP chunk, whose size line is no part of it.
    let events = text.split("\r\n").filter(|chunk| chunk.starts_with("data:"));
    let events: Vec<Bytes> = events.map(|event| Bytes::copy_from_slice(event.as_bytes())).collect();
    (!events.is_empty()).then_some(events)
}
