//! Keys of the store, and who may change them over the admin listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// `tollgate.yaml: admin`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Loopback unless the operator says otherwise.
    pub address: SocketAddr,
    /// Who may use `/admin/v1`; empty is nobody.
    pub tokens: Vec<AdminToken>,
}

/// A credential of the admin plane.
#[derive(Debug, Clone)]
pub struct AdminToken {
    /// What the log calls whoever holds it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The token.
    pub token: Secret,
}

/// What a credential of the admin plane allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To look.
    ReadOnly,
    /// To change things.
    Operator,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::Operator => "operator",
        }
    }
}

/// `tollgate.yaml: keys`.
#[derive(Debug, Clone)]
pub struct Keys {
    /// How long a secret works on after it was replaced, where the key or the command says nothing.
    pub rotation_grace: Duration,
    /// Where secrets that a schedule has made are written; `None` announces a due rotation and leaves it to others.
    pub rotation_folder: Option<PathBuf>,
    /// Between two looks at the store for changes.
    pub poll: Duration,
    /// What the gateway starts from when the store is away; `None` for nothing.
    pub snapshot: Option<PathBuf>,
    /// Who is told about rotations.
    pub webhook: Option<Webhook>,
}

/// Where events are posted.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Where.
    pub url: WebUrl,
    /// Signs what is sent.
    pub secret: Secret,
    /// PEM file of authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// One try.
    pub timeout: Duration,
    /// Tries for one event.
    pub attempts: u32,
}

/// An http or https URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebUrl {
    /// Whether it is https.
    pub is_tls: bool,
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

impl WebUrl {
    /// What stands in a `host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl std::fmt::Display for WebUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}
