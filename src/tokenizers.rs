//! Where tokenizers come from: an encoding that ships with the program, or the `tokenizer.json` of a model. They are
//! loaded with the configuration, at start and at a reload, which takes up to a second and is on nobody's path. One is
//! shared by all models that name it, and by the configurations before and after a reload that does not change it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ring::digest;
use tollgate_filters::tokenizer::Tokenizer;

/// What is written in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerSource {
    /// An encoding, by name.
    Encoding(String),
    /// A file, relative to the directory of the configuration.
    File(PathBuf),
}

impl fmt::Display for TokenizerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The tokenizers in use, each by a digest of what it was made from.
static LOADED: Mutex<Vec<(Vec<u8>, Weak<Tokenizer>)>> = Mutex::new(Vec::new());

/// Loads a tokenizer, or takes the one that is in use.
///
/// # Errors
/// In words, if there is none or it cannot be used.
pub fn load(source: &TokenizerSource, dir: &Path) -> Result<Arc<Tokenizer>, String> {
    let json = match source {
        TokenizerSource::Encoding(_) => Vec::new(),
        TokenizerSource::File(path) => {
            let path = dir.join(path);
            std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?
        }
    };
    let made_from = match source {
        TokenizerSource::Encoding(name) => name.clone().into_bytes(),
        TokenizerSource::File(_) => digest::digest(&digest::SHA256, &json).as_ref().to_vec(),
    };
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.retain(|(_, tokenizer)| tokenizer.strong_count() > 0);
    let known = loaded.iter().find(|(known, _)| *known == made_from);
    if let Some(tokenizer) = known.and_then(|(_, tokenizer)| tokenizer.upgrade()) {
        return Ok(tokenizer);
    }
    // Under a seed of its own, so that no client can make two words look the same.
    let seed = RandomState::new().hash_one(&made_from);
    let tokenizer = Arc::new(match source {
        TokenizerSource::Encoding(name) => {
            Tokenizer::encoding(name, seed).ok_or_else(|| format!("no encoding is called {name:?}"))?
        }
        TokenizerSource::File(_) => Tokenizer::from_json(&json, seed)?,
    });
    loaded.push((made_from, Arc::downgrade(&tokenizer)));
    drop(loaded);
    if matches!(source, TokenizerSource::File(_)) {
        warm(&tokenizer);
    }
    Ok(tokenizer)
}

/// Has the words that texts may have counted before they come, beside everything else: a few hundred milliseconds of work,
/// at the end of which the first answers cost what later ones do. Ends early when nobody uses the tokenizer any more.
fn warm(tokenizer: &Arc<Tokenizer>) {
    let weak = Arc::downgrade(tokenizer);
    let run = move || {
        while weak.upgrade().is_some_and(|tokenizer| tokenizer.warm(AT_A_TIME)) {
            std::thread::yield_now();
        }
    };
    // Without it, words are counted when they come.
    if let Err(error) = std::thread::Builder::new().name("tokenizer".to_owned()).spawn(run) {
        log::warn!("words cannot be counted ahead of time: {error}");
    }
}

/// Pieces that are counted between two looks at whether the tokenizer is still used: some 3 ms of work.
const AT_A_TIME: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn small(name: &str) -> TokenizerSource {
        TokenizerSource::File(Path::new("tests/data/tokenizers").join(name))
    }

    #[test]
    fn one_tokenizer_is_shared_by_all_who_name_it() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let first = load(&small("byte-level.json"), dir).expect("it is one");
        let again = load(&small("../tokenizers/byte-level.json"), dir).expect("it is one");
        let other = load(&small("unigram.json"), dir).expect("it is one");
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        assert_eq!(first.count("the gateway"), again.encode("the gateway").expect("text"));
    }

    #[test]
    fn what_cannot_be_loaded_says_why() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = load(&small("missing.json"), dir).expect_err("it is not there");
        assert!(error.contains("missing.json cannot be read: No such file"), "{error}");
        let error = load(&TokenizerSource::File("rustfmt.toml".into()), dir).expect_err("it is none");
        assert!(error.contains("expected a tokenizer.json"), "{error}");
    }
}
