//! The room `response` against answers that real servers gave.
#![expect(clippy::disallowed_methods, reason = "a test reads recordings from files")]

mod answers;
mod errors;
mod recordings;
mod streams;
mod tokens;
