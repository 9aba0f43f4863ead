//! What happens to a model server's answer on its way to the client: bytes become events ([`sse`]), events
//! are corrected in place and counted ([`stream`], [`tokens`]), reported tokens are weighed against counted
//! ones ([`usage`]), whole JSON answers are read once ([`answer`]), and errors get one shape ([`error`]).
//!
//! Bytes are sacred: an answer reaches the client as the server sent it, except for the corrections that
//! [`stream`] lists, each made where the bytes stand. Nothing is parsed and written again as a whole.
//! Nothing here waits, refuses or, once a stream is under way, allocates.

pub mod answer;
mod closing;
pub mod error;
mod event;
pub mod output;
pub mod sse;
pub mod stream;
pub mod tokens;
pub mod usage;

/// Which of the servers' interfaces an answer belongs to. It decides where the model's name, the usage and
/// the end of a stream stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`, Anthropic's shape
    Messages,
    /// Anything else: embeddings, rerank, audio and the like.
    Other,
}
