//! What the pattern layer costs a byte: packs and a text file in, best of many passes out, for texts of several
//! lengths and for each engine.
//!
//!     cargo run --release -p tollgate-filters --features hyperscan --example ns_per_byte -- conf/rules text.txt [ENGINE]

#![expect(
    clippy::disallowed_methods,
    reason = "an example program, not a decision: it reads files and the clock"
)]

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, Instant};

use tollgate_filters::request::scan::pack::{Pack, Packs, Views};
use tollgate_filters::request::scan::pattern::{Engine, Mode, Patterns, Plan, Subject};
use tollgate_filters::request::scan::{Role, View};

/// Enough that the best one had the processor to itself.
const SAMPLES: usize = 12;

/// Text of one sample: some fifty milliseconds.
const SAMPLE_BYTES: usize = 8 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: ns_per_byte FOLDER TEXT [ENGINE]";
    let folder = arguments.next().expect(usage);
    let text = std::fs::read_to_string(arguments.next().expect(usage)).expect("the text can be read");
    let packs = load(Path::new(&folder));
    let lower: fn(&str) -> Cow<'_, str> = |text| Cow::Owned(text.to_lowercase());
    let only = arguments.next();
    let mut engines = vec![Engine::default(), Engine::Reference];
    engines.dedup();
    for engine in engines {
        if only.as_ref().is_some_and(|only| *only != format!("{engine:?}")) {
            continue;
        }
        let began = Instant::now();
        let plan = Plan::new(&packs, lower).expect("the packs are sound");
        let patterns = plan.build(engine, Mode::Block, None).expect("the engine takes them");
        let (literals, expressions) = patterns.sizes();
        let built = began.elapsed();
        println!("{engine:?}: {} rules, {literals} literals, {expressions} patterns", patterns.rule_count());
        println!("  built in {built:.0?}{}", reloaded(&packs, engine, &patterns, lower));
        for length in [800, 4 << 10, 64 << 10, 1 << 20] {
            measure(&patterns, &text, length);
        }
    }
}

fn load(folder: &Path) -> Packs {
    let mut packs = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).expect("the folder can be read").flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path).expect("the pack can be read");
                packs.push(Pack::parse(&path.display().to_string(), &text).expect("the pack is sound"));
            }
        }
    }
    Packs::link(packs).expect("the packs fit together")
}

fn reloaded(packs: &Packs, engine: Engine, patterns: &Patterns, lower: fn(&str) -> Cow<'_, str>) -> String {
    let Some(saved) = patterns.save() else { return String::new() };
    let began = Instant::now();
    let plan = Plan::new(packs, lower).expect("the packs are sound");
    let _ = plan.build(engine, Mode::Block, Some(&saved)).expect("the engine takes them");
    format!(", in {:.0?} from {} KB saved", began.elapsed(), saved.len() >> 10)
}

/// Time this thread has had a processor: other work on the machine does not count, as far as it can be told.
fn processor_time() -> Duration {
    let schedule =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux keeps account of threads");
    let nanoseconds = schedule.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number is nanoseconds on a processor"))
}

fn measure(patterns: &Patterns, text: &str, length: usize) {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((piece, after)) =
        rest.split_at_checked((length..length + 4).find(|at| rest.is_char_boundary(*at)).unwrap_or(0))
    {
        if piece.is_empty() {
            break;
        }
        pieces.push(piece);
        rest = after;
    }
    let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    if bytes == 0 {
        return;
    }
    let mut scratch = patterns.scratch();
    let mut hits = Vec::new();
    let mut best = f64::MAX;
    let mut fired = 0;
    // The account is kept by the scheduler's tick, so a sample is many ticks long.
    let passes = (SAMPLE_BYTES / bytes).max(1);
    for _ in 0..SAMPLES {
        let began = processor_time();
        for _ in 0..passes {
            fired = 0;
            for piece in &pieces {
                hits.clear();
                let views = if piece.is_ascii() { Views::ASCII } else { Views::only(View::Normalised) };
                let subject = Subject { views, role: Role::User, has_borders: true, is_joined: false };
                patterns.scan(piece, subject, &mut scratch, &mut hits);
                fired += hits.len();
            }
        }
        best = best.min((processor_time() - began).as_secs_f64() / passes as f64);
    }
    let each = best / bytes as f64 * 1e9;
    println!(
        "  texts of {length:>7}: {each:.2} ns a byte, {:.1} µs each, {fired} hits in {} texts",
        each * length as f64 / 1e3,
        pieces.len()
    );
}
