//! The room `response` against answers that real servers gave.

mod answers;
mod errors;
mod recordings;
mod streams;
