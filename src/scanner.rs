//! Rule packs and the model → the scanner. The packs of a folder, or those built into the program; read, linked,
//! compiled, and their examples run: a rule that misses what it says it finds, or finds what it says it passes, does
//! not load. What was compiled last is kept, so that a reload that changes no rule costs nothing.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest;
use tollgate_filters::request::scan::learned::Model;
use tollgate_filters::request::scan::pack::{Pack, PackFault, Packs};
use tollgate_filters::request::scan::pattern::{Engine, Patterns};
use tollgate_filters::request::scan::scanner::{Scanner, Scratch};
use tollgate_filters::request::scan::view::normalise;

use crate::config::settings::Rules;

/// The packs that are built in; made by `build.rs` out of `conf/rules`.
mod built_in {
    include!(concat!(env!("OUT_DIR"), "/packs.rs"));
}

/// What the learned layer has learned. `scripts/train-scanner.sh` makes it, docs/scanner-model.md describes it.
static MODEL: &[u8] = &[];

/// The scanner compiled last, and the digest of what it was compiled from.
static LAST: Mutex<Option<(digest::Digest, Arc<Scanner>)>> = Mutex::new(None);

/// Loads the packs of `folder`, or the built-in ones.
///
/// # Errors
/// Everything that is wrong with them, by file and line.
pub fn load(folder: Option<&Path>, is_learned: bool, cache: Option<&Path>) -> Result<Rules, Vec<PackFault>> {
    let texts = match folder {
        Some(folder) => read(folder)?,
        None => built_in::PACKS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    };
    let digest = digest_of(&texts, is_learned);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((before, scanner)) = &*last
        && before.as_ref() == digest.as_ref()
    {
        return Ok(rules(scanner, &digest));
    }
    let scanner = Arc::new(compile(&texts, is_learned, cache)?);
    *last = Some((digest, Arc::clone(&scanner)));
    Ok(rules(&scanner, &digest))
}

fn rules(scanner: &Arc<Scanner>, digest: &digest::Digest) -> Rules {
    let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
    Rules { scanner: Arc::clone(scanner), digest }
}

/// Lends this thread's scratch.
pub fn with_scratch<R>(scanner: &Scanner, use_it: impl FnOnce(&mut Scratch) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
    }
    SCRATCH.with_borrow_mut(|scratch| use_it(scratch.get_or_insert_with(|| scanner.scratch())))
}

fn compile(
    texts: &[(String, String)],
    is_learned: bool,
    _cache: Option<&Path>,
) -> Result<Scanner, Vec<PackFault>> {
    let mut faults = Vec::new();
    let mut packs = Vec::new();
    for (name, text) in texts {
        match Pack::parse(name, text) {
            Ok(pack) => packs.push(pack),
            Err(more) => faults.extend(more),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let packs = Packs::link(packs)?;
    let patterns = Patterns::compile(&packs, Engine::default(), normalise)?;
    let faults = patterns.check_examples(normalise);
    if !faults.is_empty() {
        return Err(faults);
    }
    let model = if is_learned && !MODEL.is_empty() {
        Some(
            Model::from_bytes(MODEL)
                .map_err(|error| vec![fault("", format!("the built-in model: {error}"))])?,
        )
    } else {
        None
    };
    Ok(Scanner::new(patterns, model))
}

fn read(folder: &Path) -> Result<Vec<(String, String)>, Vec<PackFault>> {
    let mut faults = Vec::new();
    let mut texts = Vec::new();
    let files = files(folder)
        .map_err(|error| vec![fault(&folder.to_string_lossy(), format!("cannot be read: {error}"))])?;
    if files.is_empty() {
        faults.push(fault(
            &folder.to_string_lossy(),
            "expected at least one rule pack (*.yaml), found none".into(),
        ));
    }
    for path in files {
        let name = path.to_string_lossy().into_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) => texts.push((name, text)),
            Err(error) => faults.push(fault(&name, format!("cannot be read: {error}"))),
        }
    }
    if faults.is_empty() { Ok(texts) } else { Err(faults) }
}

fn fault(file: &str, message: String) -> PackFault {
    PackFault { file: file.to_owned(), line: 0, path: String::new(), message }
}

fn digest_of(texts: &[(String, String)], is_learned: bool) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[u8::from(is_learned)]);
    for part in texts.iter().flat_map(|(name, text)| [name, text]) {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    context.finish()
}

/// The rule packs of a folder: every *.yaml in it and below it, by name.
///
/// # Errors
/// If a folder cannot be read.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
