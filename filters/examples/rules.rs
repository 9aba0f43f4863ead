//! For authors of rule packs: runs the examples of packs, or shows which rules fire in texts.
//!
//!     cargo run --release -p tollgate-filters --example rules -- --check conf/rules
//!     cargo run --release -p tollgate-filters --example rules -- conf/rules < texts.jsonl
//!
//! Arguments are pack files, or folders of them; concepts are shared, so name all packs that belong together.
//! Texts come as JSON lines `{"id": …, "text": …}`. For each comes one line `{"id", "rules": […], "spans": […]}`,
//! in the same order; `spans` has for each rule where it fired and the words that made it.
//! `--quiet` leaves out the texts without a hit; `--count` prints how often each rule fired instead.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use tollgate_filters::request::scan::Role;
use tollgate_filters::request::scan::pack::{Pack, PackFault, Packs, Views};
use tollgate_filters::request::scan::pattern::{Engine, Patterns, Subject};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

fn main() -> ExitCode {
    let (flags, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    if paths.is_empty()
        || flags.iter().any(|flag| !["--check", "--quiet", "--count"].contains(&flag.as_str()))
    {
        eprintln!("usage: rules [--check | --quiet | --count] PACK.yaml|FOLDER…");
        return ExitCode::from(2);
    }
    let files: Vec<PathBuf> = paths.iter().flat_map(|path| files(Path::new(path))).collect();
    let done = load(&files).and_then(|patterns| {
        if has("--check") { check(&patterns) } else { Ok(fire(&patterns, has("--quiet"), has("--count"))) }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("{} faults", faults.len());
            ExitCode::FAILURE
        }
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).expect("the folder can be read").flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn load(files: &[PathBuf]) -> Result<Patterns, Vec<PackFault>> {
    let mut packs = Vec::new();
    let mut faults = Vec::new();
    for file in files {
        #[expect(clippy::disallowed_methods, reason = "an example program, not a decision")]
        let text = std::fs::read_to_string(file).expect("the pack can be read");
        match Pack::parse(&file.display().to_string(), &text) {
            Ok(pack) => packs.push(pack),
            Err(more) => faults.extend(more),
        }
    }
    if faults.is_empty() {
        Patterns::compile(&Packs::link(packs)?, Engine::default(), normalise)
    } else {
        Err(faults)
    }
}

fn check(patterns: &Patterns) -> Result<(), Vec<PackFault>> {
    let faults = patterns.check_examples(normalise);
    if !faults.is_empty() {
        return Err(faults);
    }
    let (literals, expressions) = patterns.sizes();
    println!(
        "{} rules, {literals} literals, {expressions} patterns: all examples hold",
        patterns.rule_count()
    );
    Ok(())
}

fn fire(patterns: &Patterns, quiet: bool, count: bool) {
    let mut scratch = patterns.scratch();
    let mut hits = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let read: Value = serde_json::from_str(&line).expect("each line is JSON");
        let text = normalise(read["text"].as_str().expect("each line has a text"));
        hits.clear();
        patterns.scan(&text, Subject { views: Views::ALL, role: Role::User }, &mut scratch, &mut hits);
        if count {
            for hit in &hits {
                *counts.entry(patterns.rule(hit.rule).id).or_default() += 1;
            }
            continue;
        }
        if quiet && hits.is_empty() {
            continue;
        }
        let ids: Vec<&str> = hits.iter().map(|hit| &**patterns.rule(hit.rule).id).collect();
        let spans: Vec<Value> = hits
            .iter()
            .map(|hit| {
                let words = text.get(hit.start as usize..hit.end as usize).unwrap_or_default();
                json!({ "rule": &**patterns.rule(hit.rule).id, "start": hit.start, "end": hit.end, "text": words })
            })
            .collect();
        let _ = writeln!(out, "{}", json!({ "id": read["id"], "rules": ids, "spans": spans }));
    }
    for (rule, count) in counts {
        let _ = writeln!(out, "{count:8} {rule}");
    }
}

/// Lower case, compatibility forms, no accents on letters of Europe: near enough to what the gateway does for
/// trying rules out.
fn normalise(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    let mut out = String::with_capacity(text.len());
    let mut base = ' ';
    for letter in text.nfkd().flat_map(char::to_lowercase).flat_map(|letter| std::iter::once(letter).nfkd()) {
        if !is_combining_mark(letter) {
            base = letter;
            out.push(letter);
        } else if !matches!(base, 'a'..='z' | '\u{370}'..='\u{52f}')
            && !matches!(letter, '\u{64b}'..='\u{65f}')
        {
            // Voicing of kana and vowels of Devanagari belong to the letter.
            out.push(letter);
        }
    }
    Cow::Owned(out.nfc().collect())
}
