//! What may still be refused: nothing has gone upstream yet. In the order a request meets it:
//! [`auth`] → [`body`] → [`catalogue`] → [`quota`] → [`upstream`].

pub mod auth;
pub mod body;
pub mod catalogue;
pub mod guessing;
pub mod multipart;
pub mod quota;
pub mod scan;
pub mod upstream;
