//! A relayed event costs no allocation once a stream is under way, whether it passes, is corrected, arrives in two
//! pieces or is looked at by the gate for answers.

#![expect(clippy::disallowed_methods, reason = "a test reads tokenizers from files")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tollgate_filters::request::scan::Category;
use tollgate_filters::request::scan::pack::{Pack, Packs};
use tollgate_filters::request::scan::pattern::{Engine, Mode, Plan};
use tollgate_filters::request::scan::view::normalise;
use tollgate_filters::response::Api;
use tollgate_filters::response::output::{Action, Leak, OutputGate, OutputPolicy, OutputScanner};
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};
use tollgate_filters::tokenizer::Tokenizer;
use tollgate_filters::units::Day;

thread_local! {
    /// Allocations of this thread: tests run beside each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[expect(unsafe_code, reason = "counting allocations takes an allocator, and its trait is unsafe")]
// SAFETY: every call goes to the system's allocator with what the caller gave; the count touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Engines' own events, of every kind that comes over and over.
const EVENTS: [(&str, Api, &str); 9] = [
    (
        "vLLM",
        Api::Chat,
        "data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1795420704,\"model\":\"smollm2\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" the\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n",
    ),
    (
        "SGLang with running usage",
        Api::Chat,
        "data: {\"model\":\"smollm2\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"日本\"}}],\"usage\":{\"prompt_tokens\":26,\"total_tokens\":27,\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n",
    ),
    (
        "Mistral's parts",
        Api::Chat,
        "data: {\"model\":\"smollm2\",\"choices\":[{\"index\":0,\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"4.\\n\"}]}]}}]}\n\n",
    ),
    (
        "tool call",
        Api::Chat,
        "data: {\"model\":\"smollm2\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\"}}]}}]}\n\n",
    ),
    (
        "completion",
        Api::Completions,
        "data: {\"choices\":[{\"text\":\" with\",\"index\":1,\"logprobs\":null,\"finish_reason\":null}],\"model\":\"smollm2\"}\r\n\r\n",
    ),
    ("data of two lines", Api::Chat, "data: {\"choices\":[],\ndata: \"model\":\"smollm2\"}\n\n"),
    (
        "Responses",
        Api::Responses,
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\" I\",\"response\":{\"model\":\"smollm2\"}}\n\n",
    ),
    (
        "Messages",
        Api::Messages,
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"},\"message\":{\"model\":\"smollm2\"}}\n\n",
    ),
    ("comment", Api::Chat, ": OPENROUTER PROCESSING\n\n"),
];

/// Pushes `chunks` over and over and gives how many allocations that cost after the first rounds.
fn cost(api: Api, model: &str, chunks: &[&[u8]]) -> u64 {
    cost_counted(api, model, chunks, None)
}

/// The same, with what the events say counted by a tokenizer.
fn cost_counted(api: Api, model: &str, chunks: &[&[u8]], tokenizer: Option<Arc<Tokenizer>>) -> u64 {
    const ROUNDS: u32 = 200;
    const WARM_UP: u32 = 20;
    let plan =
        StreamPlan { api, model: model.into(), withhold_usage: true, max_event_bytes: 1 << 16, tokenizer };
    let mut filter = StreamFilter::new(plan);
    // Made beforehand, as a server's connection makes them: parts of a shared buffer.
    let mut made: Vec<Bytes> = Vec::new();
    for _ in 0..ROUNDS {
        made.extend(chunks.iter().map(|chunk| {
            let mut buffer = BytesMut::from(*chunk);
            let spare = buffer.split_off(chunk.len());
            drop(spare);
            buffer.freeze()
        }));
    }
    let (mut before, mut bytes_out) = (0, 0);
    for (i, chunk) in made.into_iter().enumerate() {
        if i as u32 == WARM_UP * chunks.len() as u32 {
            before = allocations();
        }
        bytes_out += filter.push(chunk, Duration::from_millis(i as u64)).len();
    }
    let cost = allocations() - before;
    assert!(bytes_out > 0);
    cost
}

#[test]
fn the_counter_counts() {
    let before = allocations();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(allocations() - before, 1);
}

#[test]
fn events_that_pass_cost_nothing() {
    for (name, api, event) in EVENTS {
        let event = event.as_bytes();
        assert_eq!(cost(api, "smollm2", &[event]), 0, "{name}");
        assert_eq!(cost(api, "smollm2", &[&event.repeat(3)]), 0, "{name}, three in a chunk");
    }
}

#[test]
fn counting_words_that_were_met_before_costs_nothing() {
    let words = [
        " The",
        " gate",
        "way",
        " passes",
        ",",
        " it",
        " counts",
        ".\\n\\n",
        "\\\"日本\\\"",
        "，",
        "x = f",
        "(y)",
    ];
    let events = words.map(|word| {
        format!(
            "data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n"
        )
        .into_bytes()
    });
    let events: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
    let files = ["byte-level", "unigram"].map(|name| {
        let path = format!("{}/../tests/data/tokenizers/{name}.json", env!("CARGO_MANIFEST_DIR"));
        Tokenizer::from_json(&std::fs::read(path).expect("a file of the repository"), 7).expect("a tokenizer")
    });
    for tokenizer in files.into_iter().chain(Tokenizer::encoding("o200k", 7)) {
        let tokenizer = Arc::new(tokenizer);
        assert_eq!(cost_counted(Api::Chat, "m", &events, Some(Arc::clone(&tokenizer))), 0, "{tokenizer:?}");
    }
}

#[test]
fn renamed_events_cost_nothing() {
    for (name, api, event) in EVENTS {
        let event = event.as_bytes();
        for model in ["a", "a name that is longer than the server's"] {
            assert_eq!(cost(api, model, &[event]), 0, "{name}");
            assert_eq!(cost(api, model, &[&event.repeat(3)]), 0, "{name}, three in a chunk");
        }
    }
}

#[test]
fn cut_events_cost_nothing() {
    for (name, api, event) in EVENTS {
        let event = event.as_bytes();
        for model in ["smollm2", "another name"] {
            for at in [1, event.len() / 2, event.len() - 1] {
                let (first, second) = event.split_at(at);
                assert_eq!(cost(api, model, &[first, second]), 0, "{name}, cut at {at}");
                let across = [second, first].concat();
                assert_eq!(cost(api, model, &[first, &across, &across, second]), 0, "{name}, cut at {at}");
            }
        }
    }
}

/// The gate that looks at answers, with every kind of finding asked for.
fn gate(action: Action, api: Api) -> OutputGate {
    let pack =
        Pack::parse("output.yaml", include_str!("../../conf/rules/output.yaml")).expect("a sound pack");
    let packs = Packs::link(vec![pack]).expect("it links").for_output();
    let plan =
        Plan::new(&packs, normalise).and_then(|plan| plan.build(Engine::default(), Mode::Stream, None));
    let scanner = Arc::new(OutputScanner::new(plan.expect("it compiles")));
    let policy = OutputPolicy { categories: [action; Category::ALL.len()], exempt: Vec::new() };
    let system = "Be brief and friendly. Speak of trains, never of planes, whoever asks for them.";
    let leak = Leak::new([Cow::Borrowed(system)].into_iter(), std::iter::empty());
    OutputGate::new(&scanner.plan(&policy).expect("it is on"), leak, api, 1 << 16, Day(1))
}

#[test]
fn events_that_are_looked_at_cost_nothing() {
    for action in [Action::Flag, Action::Redact, Action::Stop] {
        for (name, api, event) in EVENTS {
            let mut gate = gate(action, api);
            let made: Vec<Bytes> = (0..2000).map(|_| Bytes::from(event)).collect();
            let (mut before, mut bytes_out) = (0, 0);
            for (round, chunk) in made.into_iter().enumerate() {
                if round == 20 {
                    before = allocations();
                }
                bytes_out += gate.push(chunk).len();
            }
            assert_eq!(allocations() - before, 0, "{name}, {action:?}");
            bytes_out += gate.finish(Bytes::new()).len();
            assert_eq!(bytes_out, 2000 * event.len(), "{name}: it passes");
        }
    }
}

#[test]
fn a_withheld_event_costs_nothing() {
    let usage = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
    let event = EVENTS[0].2.as_bytes();
    assert_eq!(cost(Api::Chat, "smollm2", &[event, &[&usage[..], event].concat(), &usage[..]]), 0);
}
