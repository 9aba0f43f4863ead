//! What an event costs on its way through the filter, in nanoseconds, for a recorded stream of 300 tokens; and what the
//! gate adds that looks at answers.
//!
//! ```text
//! cargo run --release -p tollgate-filters --features hyperscan --example ns_per_event
//! ```
//! The best of many runs is printed: the rest is the machine's noise. Each event comes in a chunk of its own,
//! as from a server that is generating.

#![expect(clippy::disallowed_methods, reason = "a timing reads the clock")]

use std::borrow::Cow;
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tollgate_filters::request::scan::Category;
use tollgate_filters::request::scan::pack::{Pack, PackFault, Packs};
use tollgate_filters::request::scan::pattern::{Engine, Mode, Plan};
use tollgate_filters::request::scan::view::normalise;
use tollgate_filters::response::Api;
use tollgate_filters::response::output::{Action, Leak, OutputGate, OutputPlan, OutputPolicy, OutputScanner};
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};
use tollgate_filters::units::Day;

const RECORDED: &[u8] = include_bytes!("../../tests/data/streams/vllm/chat_stream_long.response.http");
const RULES: &str = include_str!("../../conf/rules/output.yaml");
const RUNS: u32 = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let events = events(RECORDED)?;
    let cost = |run: &dyn Fn() -> Duration| {
        let best = (0..RUNS).map(|_| run()).min().unwrap_or_default();
        best.as_nanos() / events.len() as u128
    };
    for (name, model, withhold_usage) in [
        ("unchanged", "smollm2-135m-instruct", false),
        ("usage withheld", "smollm2-135m-instruct", true),
        ("model renamed", "a/model", true),
    ] {
        println!("{name:>15}: {:>5} ns an event", cost(&|| filter(&events, model, withhold_usage)));
    }
    let scanner = scanner().map_err(|faults| format!("{faults:?}"))?;
    println!("added by the gate for answers:");
    let secret = Category::Secret;
    let leak = Category::SystemPromptLeak;
    for (name, actions) in [
        ("flag secrets", &[(secret, Action::Flag)][..]),
        ("redact secrets", &[(secret, Action::Redact)]),
        ("flag leaks", &[(leak, Action::Flag)]),
        ("redact both", &[(secret, Action::Redact), (leak, Action::Redact)]),
    ] {
        let mut policy = OutputPolicy::default();
        for (category, action) in actions {
            policy.categories[*category as usize] = *action;
        }
        let plan = scanner.plan(&policy).ok_or("nothing is asked for")?;
        println!("{name:>15}: {:>5} ns an event", cost(&|| gate(&events, &plan)));
    }
    Ok(())
}

fn filter(events: &[Bytes], model: &str, withhold_usage: bool) -> Duration {
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

fn gate(events: &[Bytes], plan: &Arc<OutputPlan>) -> Duration {
    let system = "You are a guide in a museum of clocks. Answer in two sentences, with one date at least, and never say \
                  what a clock is worth or where the keys of the cases are kept.";
    let leak = Leak::new([Cow::Borrowed(system)].into_iter(), std::iter::empty());
    let mut gate =
        OutputGate::new(plan, leak.filter(|_| plan.wants_leak(Day(1))), Api::Chat, 1 << 20, Day(1));
    let chunks: Vec<Bytes> = events.to_vec();
    let start = Instant::now();
    for chunk in chunks {
        black_box(gate.push(chunk));
    }
    black_box(gate.finish(Bytes::new()));
    start.elapsed()
}

fn scanner() -> Result<Arc<OutputScanner>, Vec<PackFault>> {
    let packs = Packs::link(vec![Pack::parse("output.yaml", RULES)?])?.for_output();
    let patterns = Plan::new(&packs, normalise)?.build(Engine::default(), Mode::Stream, None)?;
    Ok(Arc::new(OutputScanner::new(patterns)))
}

/// The events of the recording, one a chunk.
fn events(recorded: &[u8]) -> Result<Vec<Bytes>, Box<dyn Error>> {
    let text = std::str::from_utf8(recorded)?;
    // vLLM sends each event as an HTTP chunk, whose size line is no part of it.
    let events = text.split("\r\n").filter(|chunk| chunk.starts_with("data:"));
    let events: Vec<Bytes> = events.map(|event| Bytes::copy_from_slice(event.as_bytes())).collect();
    if events.is_empty() { Err("the recording has no events".into()) } else { Ok(events) }
}
