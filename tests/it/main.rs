//! The real gateway, end to end: its own process between scripted servers and raw clients. One test binary, one
//! file per room; `harness` is what they stand on and `harness_itself` shows that it can be trusted.

#![expect(
    clippy::disallowed_methods,
    reason = "servers and drivers of a test are tasks of that test's own runtime and are aborted when dropped"
)]

mod harness;

mod aborts;
mod activation;
mod admin;
mod auth;
mod balance;
mod blame;
mod body;
mod cancel;
mod catalogue;
mod connection;
mod drain;
mod endings;
mod errors;
mod fidelity;
mod forms;
mod harness_itself;
mod keys;
mod keys_cli;
mod keys_rotation;
mod keys_store;
mod ledger;
mod meter;
mod output;
mod queue;
mod quota;
mod relay;
mod reload;
mod replay;
mod scan;
mod settle;
mod shared;
mod stop;
mod store;
mod strictness;
mod tiers;
mod timeouts;
mod tls;
mod tokens;
mod upgrade;
mod upstream_tls;
mod wording;
