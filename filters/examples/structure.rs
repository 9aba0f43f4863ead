//! What the structure layer finds, for texts in JSON lines: `{"id": …, "text": …}` in, one line out for each line
//! in, `{"id": …, "findings": [{"rule", "severity", "span", "text"}], "hidden": […]}`.
//!
//! ```text
//! cargo run --release -p tollgate-filters --example structure < texts.jsonl
//! cargo run --release -p tollgate-filters --example structure -- --time < texts.jsonl
//! ```
//! `--time` prints the nanoseconds a byte instead, the best of several rounds over all texts.

#![expect(clippy::disallowed_methods, reason = "a timing reads the clock")]

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};
use tollgate_filters::request::scan::Role;
use tollgate_filters::request::scan::structure;

fn main() -> ExitCode {
    match run(std::env::args().any(|word| word == "--time")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(is_timed: bool) -> Result<(), Box<dyn std::error::Error>> {
    let mut texts = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let text = line["text"].as_str().ok_or("a line without text")?.to_owned();
        texts.push((line["id"].clone(), text));
    }
    if is_timed {
        time(&texts);
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    for (id, text) in &texts {
        let (mut found, mut hidden) = (Vec::new(), Vec::new());
        structure::check(text, Role::User, &mut found, &mut hidden);
        let findings: Vec<_> = found
            .iter()
            .map(|finding| {
                json!({
                    "rule": &*finding.rule,
                    "severity": finding.severity.name(),
                    "span": [finding.span.start, finding.span.end],
                    "text": &text[finding.span.clone()],
                })
            })
            .collect();
        let hidden: Vec<_> = hidden.iter().map(|hidden| &text[hidden.text.clone()]).collect();
        writeln!(out, "{}", json!({ "id": id, "findings": findings, "hidden": hidden }))?;
    }
    Ok(())
}

fn time(texts: &[(Value, String)]) {
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let (mut found, mut hidden) = (Vec::new(), Vec::new());
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            for (_, text) in texts {
                found.clear();
                hidden.clear();
                structure::check(text, Role::User, &mut found, &mut hidden);
            }
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("{bytes} bytes, {:.3} ns a byte", best.as_nanos() as f64 / bytes.max(1) as f64);
}
