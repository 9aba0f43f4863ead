//! Trains the learned layer of the scanner. `scripts/train-scanner.sh` runs it; `docs/scanner-model.md` says from
//! what and how well.
//!
//! ```text
//! train DATA OWN RULES TWINS                  held-out figures, as tables in Markdown
//! train DATA OWN RULES TWINS --write FILE     the same, and the model of all texts into FILE
//! train … NAME=VALUE                          with another number in the plan
//! ```
//! DATA holds `attacks.jsonl`, `benign.jsonl` and `manuals.jsonl`, OWN the templates, RULES the rule packs, TWINS labelled sentences whose harmless
//! ones thresholds are held to.

#![expect(clippy::disallowed_methods, reason = "a trainer reads and writes files, and times the result")]

mod corpus;
mod fit;
mod judge;
mod own;
mod sources;
mod validate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corpus::{Corpus, Group};
use fit::{Fit, Plan};
use judge::Calibration;
use tollgate_filters::request::scan::learned::screen::{Bound, Screen};
use tollgate_filters::request::scan::learned::{Evidence, Model, Shape};
use tollgate_filters::request::scan::pack::{Pack, Packs};
use tollgate_filters::request::scan::pattern::{Engine, Patterns};
use tollgate_filters::request::scan::scanner::Scanner;
use tollgate_filters::request::scan::view::normalise;
use validate::Holding;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let mut plan = Plan::DEFAULT;
    let mut paths = Vec::new();
    let mut out = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--write" {
            out = arguments.next();
        } else if let Some((name, value)) = argument.split_once('=') {
            plan.set(name, value)?;
        } else {
            paths.push(Path::new(argument));
        }
    }
    let [data, own, rules, twins] = paths[..] else {
        return Err("usage: train DATA OWN RULES TWINS [--write FILE] [NAME=VALUE…]".into());
    };
    let scanner = scanner(rules)?;
    let scratch = std::sync::Mutex::new(scanner.scratch());
    let mut corpus = Corpus { rules: Some((scanner, scratch)), ..Corpus::default() };
    corpus.read(&data.join("attacks.jsonl"))?;
    corpus.read(&data.join("benign.jsonl"))?;
    corpus.read(&data.join("manuals.jsonl"))?;
    own::read(&mut corpus, own, plan.drawn)?;
    corpus.read_twins(twins)?;
    if corpus.sources.len() > corpus::OWN {
        return Err(format!("expected at most {} sources, found {}", corpus::OWN, corpus.sources.len()));
    }
    corpus.index(plan.least_texts);
    eprintln!("{} texts, {} features", corpus.texts.len(), corpus.read.hashes.len());

    let sources = validate::held_out(&corpus, &plan, Holding::Source);
    let halves = validate::held_out(&corpus, &plan, Holding::Half);
    let fit = fit::fit_to_table(&corpus, &plan, |_| true);
    let screen_fit = fit::fit_screen(&corpus, &plan, |_| true);
    let seen = validate::in_view(&corpus, &fit, &screen_fit);
    let calibration = Calibration::of(&corpus, &sources, &halves).with_screen(&corpus, &sources, &seen);
    println!("{calibration:?}");
    for (name, scores) in [("sources held out", &sources), ("halves held out", &halves)] {
        print!("\n## {name}\n{}", judge::report(&corpus, scores, &calibration));
    }
    if let Some(out) = out {
        let (model, kept, left_out) = model(&corpus, &fit, screen(&screen_fit, &calibration), &calibration);
        let bytes = model.bytes();
        std::fs::write(out, &bytes).map_err(|error| format!("{out}: {error}"))?;
        println!("\n{out}: {kept} weights, {left_out} left out, {} bytes", bytes.len());
        check(&corpus, [&fit, &screen_fit], &model, &calibration)?;
    }
    Ok(())
}

/// The scanner of these rule packs, without a learned layer.
fn scanner(rules: &Path) -> Result<Scanner, String> {
    let mut packs = Vec::new();
    for path in packs_in(rules)? {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        packs.push(Pack::parse(&path.display().to_string(), &text).map_err(|faults| format!("{faults:?}"))?);
    }
    let packs = Packs::link(packs).map_err(|faults| format!("{faults:?}"))?;
    let patterns =
        Patterns::compile(&packs, Engine::default(), normalise).map_err(|faults| format!("{faults:?}"))?;
    Ok(Scanner::new(patterns, None))
}

fn packs_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.is_dir() {
            found.extend(packs_in(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The model of a fit, how many weights it has and how many found no room.
fn model(corpus: &Corpus, fit: &Fit, screen: Screen, calibration: &Calibration) -> (Model, usize, usize) {
    let (table, kept, left_out) = fit.table(&corpus.read);
    let Calibration { curve, thresholds, .. } = *calibration;
    let Fit { gain, bias, evidence, .. } = *fit;
    (Model::new(table, Shape { gain, bias, curve, thresholds, evidence }, screen), kept, left_out)
}

/// The screen of a fit.
fn screen(fit: &Fit, calibration: &Calibration) -> Screen {
    let Fit { ref weights, gain, bias, .. } = *fit;
    let weights: Vec<i8> = weights[1..].iter().map(|weight| fit::rounded(*weight)).collect();
    Screen::new(&weights, Bound { gain, bias, least: calibration.least })
}

/// What the model says must be what the fits of it and of its screen said, but for rounding and the weights without room.
fn check(
    corpus: &Corpus,
    [fit, screen]: [&Fit; 2],
    model: &Model,
    calibration: &Calibration,
) -> Result<(), String> {
    let mut apart = 0;
    for (n, text) in corpus.texts.iter().enumerate() {
        let is_read = calibration.reads(corpus, n, screen.score(corpus, &corpus.screened, n));
        let score = || calibration.probability(corpus, n, fit.score(corpus, &corpus.read, n));
        let expected = if is_read { score() } else { 0.0 };
        let found = model.score(&text.text, text.evidence).score;
        apart += usize::from((expected - found).abs() > 0.1);
    }
    let found = |group: Group| {
        let of_group = corpus.texts.iter().filter(|text| text.group == group && !text.is_own);
        let scores: Vec<f32> = of_group.map(|text| model.score(&text.text, text.evidence).score).collect();
        let blocked = scores.iter().filter(|&&score| score >= calibration.thresholds.block).count();
        format!("{group:?} {blocked} of {}", scores.len())
    };
    println!(
        "texts learned from, blocked by this layer alone: {}, {}",
        found(Group::Attack),
        found(Group::Ordinary)
    );
    println!(
        "ns a byte: {:.1} for ASCII, {:.1} for other texts",
        cost(corpus, model, true),
        cost(corpus, model, false)
    );
    println!("{apart} of {} texts score otherwise in the written model", corpus.texts.len());
    if apart * 100 > corpus.texts.len() {
        Err("the written model is not the one that was fitted".into())
    } else {
        Ok(())
    }
}

/// Nanoseconds a byte for the harmless texts, the best of five passes.
fn cost(corpus: &Corpus, model: &Model, is_ascii: bool) -> f64 {
    let texts: Vec<&str> = (corpus.texts.iter())
        .filter(|text| text.group == Group::Ordinary && text.text.is_ascii() == is_ascii)
        .map(|text| text.text.as_str())
        .collect();
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let pass = |_| {
        let start = std::time::Instant::now();
        for text in &texts {
            std::hint::black_box(model.score(text, Evidence::default()));
        }
        start.elapsed()
    };
    let best = (0..5).map(pass).min().unwrap_or_default();
    best.as_nanos() as f64 / bytes.max(1) as f64
}
