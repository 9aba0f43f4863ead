//! The decisions of Tollgate, in the order a request meets them. Nothing here opens a socket, reads a clock
//! or waits: every function takes what it needs and returns what it found.
//!
//! - [`request`]: may refuse; nothing has gone upstream yet
//! - [`response`]: per chunk; never waits, refuses or allocates
//!
//! Bytes from outside never panic here.

pub mod json;
