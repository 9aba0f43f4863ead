//! What the whole scanner costs a byte, and where: all layers over the texts of files, as the request path asks for them.
//!
//! ```text
//! cargo run --release -p tollgate-filters --features hyperscan --example scan -- conf FILE...
//! ```
//! Each file holds JSON lines with a `text`; `-` in front of a file's name makes one text of all of its lines, cut into
//! prompts of 4 KiB. Prints nanoseconds a byte and microseconds a prompt, the best of several times: all of it, and each
//! layer by itself (`ONLY=` one of them). `SHOW=1` prints what was found instead. `COLD=1` walks over four megabytes between two prompts, as other work on the processor does.

#![expect(clippy::disallowed_methods, reason = "a measurement reads files and the clock")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use tollgate_filters::request::scan::learned::{Evidence, Model};
use tollgate_filters::request::scan::pack::{Pack, Packs};
use tollgate_filters::request::scan::pattern::{Engine, Mode, Plan, Subject};
use tollgate_filters::request::scan::scanner::Scanner;
use tollgate_filters::request::scan::view::{self, Views, normalise};
use tollgate_filters::request::scan::{Role, View, structure};

/// Bytes that are looked at again and again, for the best time: other work on the machine rarely hits all of them.
const PART: usize = 64 << 10;

/// How often.
const TIMES: usize = 9;

/// Bytes after which a figure is good enough.
const MOST: usize = 3 << 20;

/// Larger than the nearer caches.
const COLD: usize = 4 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let conf = arguments.next().ok_or("usage: scan CONF FILE...")?;
    let plan = Plan::new(&load(&Path::new(&conf).join("rules"))?, normalise)
        .map_err(|faults| format!("{faults:?}"))?;
    let name = plan.cache_name(Engine::default(), Mode::Block).ok_or("this engine saves nothing")?;
    let cache = &Path::new("target/scan").join(format!("example-{name}.cache"));
    let saved = std::fs::read(cache).ok();
    let patterns = plan
        .build(Engine::default(), Mode::Block, saved.as_deref())
        .map_err(|faults| format!("{faults:?}"))?;
    if let Some(compiled) = patterns.save() {
        std::fs::create_dir_all("target/scan")?;
        std::fs::write(cache, compiled)?;
    }
    let model = Model::from_bytes(&std::fs::read(Path::new(&conf).join("scanner.model"))?)?;
    let scanner = Scanner::new(patterns, Some(model));
    let is_cold = std::env::var_os("COLD").is_some();
    for file in arguments {
        let texts = texts(&file)?;
        let bytes: usize = texts.iter().map(String::len).sum();
        if std::env::var_os("SHOW").is_some() {
            show(&scanner, &texts);
            continue;
        }
        println!("{file}: {} prompts of {} bytes on average", texts.len(), bytes / texts.len().max(1));
        measure(&scanner, &texts, is_cold);
    }
    Ok(())
}

/// What was found in each text, to compare what two versions say.
fn show(scanner: &Scanner, texts: &[String]) {
    let mut scratch = scanner.scratch();
    for (number, text) in texts.iter().enumerate() {
        let scanned = scanner.scan(text, Role::User, &mut scratch);
        let found = scanned
            .findings
            .iter()
            .map(|f| format!(" {} {:?} {:?} {:?}", f.rule, f.severity, f.view, f.span));
        println!("{number} {:.4} {:?}{}", scanned.learned, scanned.learned_span, found.collect::<String>());
    }
}

fn measure(scanner: &Scanner, texts: &[String], is_cold: bool) {
    let mut scratch = scanner.scratch();
    cost("all", texts, is_cold, |text| {
        let scanned = scanner.scan(text, Role::User, &mut scratch);
        scanned.findings.len()
    });
    let mut views = view::Scratch::default();
    cost("readings", texts, is_cold, |text| Views::read(text, &mut views).iter().count());
    let (mut found, mut hidden) = (Vec::new(), Vec::new());
    cost("structure", texts, is_cold, |text| {
        found.clear();
        hidden.clear();
        structure::check(text, Role::User, &mut found, &mut hidden);
        found.len()
    });
    let patterns = scanner.patterns();
    let (mut scratch, mut hits) = (patterns.scratch(), Vec::new());
    let normal: Vec<String> = texts.iter().map(|text| normalise(text).into_owned()).collect();
    cost("patterns", &normal, is_cold, |text| {
        hits.clear();
        patterns.scan(text, Subject::new(View::Normalised, Role::User), &mut scratch, &mut hits);
        hits.len()
    });
    if let Some(model) = scanner.model() {
        cost("learned", &normal, is_cold, |text| model.score(text, Evidence::default()).span.end);
    }
}

fn cost(what: &str, texts: &[String], is_cold: bool, mut look: impl FnMut(&str) -> usize) {
    if std::env::var("ONLY").is_ok_and(|only| only != what) {
        return;
    }
    let mut other = vec![1_u8; if is_cold { COLD } else { 0 }];
    let (mut bytes, mut prompts, mut spent) = (0, 0, Duration::ZERO);
    let mut rest = texts;
    while !rest.is_empty() {
        let mut size = 0;
        let mut count = 0;
        while count < rest.len() && size < part_size() {
            size += rest[count].len();
            count += 1;
        }
        let part;
        (part, rest) = rest.split_at(count);
        let mut best = Duration::MAX;
        for _ in 0..times(is_cold) {
            let mut taken = Duration::ZERO;
            for text in part {
                // What the other work on a processor leaves of its caches.
                other.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
                let before = Instant::now();
                black_box(look(text));
                taken += before.elapsed();
            }
            best = best.min(taken);
        }
        (bytes, prompts, spent) = (bytes + size, prompts + part.len(), spent + best);
        if bytes > MOST {
            break;
        }
    }
    black_box(&other);
    let per_byte = spent.as_nanos() as f64 / bytes as f64;
    let per_prompt = spent.as_nanos() as f64 / prompts as f64 / 1e3;
    println!("  {what:<10} {per_byte:6.2} ns/B {:7.0} MB/s {per_prompt:8.2} us a prompt", 1e3 / per_byte);
}

fn texts(file: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (is_one, file) = file.strip_prefix('-').map_or((false, file), |file| (true, file));
    let mut texts = Vec::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        texts.push(value["text"].as_str().ok_or("a line has no text")?.to_owned());
    }
    if is_one {
        let all = texts.join("\n\n");
        texts = Vec::new();
        let mut from = 0;
        while from < all.len() {
            let until = all.floor_char_boundary((from + 4096).min(all.len()));
            texts.push(all[from..until].to_owned());
            from = until;
        }
    }
    Ok(texts)
}

fn load(folder: &Path) -> Result<Packs, Box<dyn std::error::Error>> {
    let mut packs = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut paths = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path)?;
                packs.push(
                    Pack::parse(&path.display().to_string(), &text)
                        .map_err(|faults| format!("{faults:?}"))?,
                );
            }
        }
    }
    Packs::link(packs).map_err(|faults| format!("{faults:?}").into())
}

/// `FRESH=1` looks at all of a file before it looks again, so that no text is one that the processor remembers.
fn part_size() -> usize {
    if std::env::var_os("FRESH").is_some() { MOST } else { PART }
}

/// `TIMES=` looks as often as a profiler needs.
fn times(is_cold: bool) -> usize {
    let wanted = std::env::var("TIMES").ok().and_then(|times| times.parse().ok());
    wanted.unwrap_or(if is_cold { 3 } else { TIMES })
}
