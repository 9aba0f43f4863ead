//! The decisions of Tollgate, in the order a request meets them. Nothing here opens a socket, reads a clock
//! or waits: every function takes what it needs and returns what it found.
//!
//! - [`endpoint`]: what is addressed
//! - [`request`]: may refuse; nothing has gone upstream yet
//! - [`response`]: per chunk; never waits, refuses or allocates
//! - [`tokenizer`]: how many tokens a text is
//! - [`refusal`]: every reason to say no, and what the client then reads
//!
//! Bytes from outside never panic here.

pub mod endpoint;
pub mod json;
pub mod refusal;
pub mod request;
pub mod response;
pub mod tokenizer;
pub mod units;
