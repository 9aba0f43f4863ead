//! The decisions against what is recorded: answers that real servers gave, and texts that fuzzing kept.
#![expect(clippy::disallowed_methods, reason = "a test reads recordings from files")]

mod answers;
mod errors;
mod fuzzed;
mod recordings;
mod streams;
mod tokens;
