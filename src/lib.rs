//! Tollgate: a governed, byte-exact gateway in front of language-model inference servers. This crate holds the
//! sockets, clocks, configuration and Pingora; the decisions are in `tollgate_filters`. It is a library so that
//! tests and benches link exactly what ships. ARCHITECTURE.md tells how a request travels.

pub mod access_log;
pub mod admin;
pub mod calendar;
pub mod cli;
pub mod config;
pub mod control;
pub mod health;
pub mod histories;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod principals;
pub mod proxy;
pub mod queue;
pub mod record;
pub mod scanner;
pub mod server;
pub mod servers;
pub mod sim;
pub mod state;
pub mod store;
pub mod tls;
pub mod tokenizers;
pub mod webhook;
