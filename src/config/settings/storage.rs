//! `tollgate.yaml: storage`.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// Where keys and usage are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Which database.
    pub place: StoragePlace,
    /// Connecting, TLS and log-in.
    pub connect_timeout: Duration,
    /// One statement.
    pub statement_timeout: Duration,
    /// How long a start waits for it.
    pub start_timeout: Duration,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoragePlace {
    /// SQLite in a file.
    Sqlite(PathBuf),
    /// PostgreSQL.
    Postgres {
        /// A URL that has been read once already, without `sslmode`.
        url: Secret,
        /// How the connection is protected.
        tls: PostgresTls,
    },
}

impl StoragePlace {
    /// Its kind, for people and metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }
}

/// How a connection to PostgreSQL is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresTls {
    /// Not at all.
    Off,
    /// By TLS with a certificate that fits the host's name.
    Verified {
        /// PEM file of authorities to trust; `None` for the system's.
        ca: Option<PathBuf>,
    },
}
