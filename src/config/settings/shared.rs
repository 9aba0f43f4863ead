//! `tollgate.yaml: limits.store` and `limits.shared`.

use std::path::PathBuf;
use std::time::Duration;

use tollgate_filters::request::quota::WhenDown;

use super::Secret;

/// Where limits are counted that several gateways share, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLimits {
    /// The stores, in the order in which they are tried; or the Sentinels.
    pub servers: Vec<(String, u16)>,
    /// The number of the database.
    pub database: u32,
    /// Whether connections are TLS.
    pub is_tls: bool,
    /// PEM file of authorities to trust; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// A user of the store.
    pub user: Option<Secret>,
    /// Its password.
    pub password: Option<Secret>,
    /// What Sentinels call the store that is in charge, if the servers are Sentinels.
    pub sentinel_master: Option<String>,
    /// The Sentinels' password.
    pub sentinel_password: Option<Secret>,
    /// What part of a limit a gateway takes ahead, percent.
    pub slice_percent: u64,
    /// How long a request waits.
    pub timeout: Duration,
    /// What happens while the store is away, where a tier says nothing else.
    pub when_down: WhenDown,
    /// How many gateways there are at least.
    pub gateways: u64,
}
