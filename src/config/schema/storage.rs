//! `storage` of tollgate.yaml: where keys and usage are kept.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::config::kind::{Maybe, Tried, Word, choice, section};
use crate::config::secret::{SecretRef, SecretWord};
use crate::config::words::{InputFile, Millis, SomeMillis};

section! {
    /// Where keys and usage are kept. Taken when the gateway starts.
    Storage {
        /// `sqlite:` and the path of a file, relative to the working directory; or a PostgreSQL URL, which is written
        /// here without a password or kept where secrets are, e.g. `env:TOLLGATE_STORE` with
        /// `postgres://user:password@host:5432/database`.
        url: Tried<UrlWord> = "sqlite:var/tollgate.db";
        /// TLS towards PostgreSQL, certificate checked: `auto` needs it unless the server is on this machine.
        tls: TlsName = "auto";
        /// PEM file of authorities to trust instead of the system's, relative to the directory of this file.
        ca: Maybe<InputFile> = absent "those of the system";
        /// Connecting, TLS and log-in.
        connect_timeout_ms: SomeMillis = "2000";
        /// One statement; also how long SQLite waits for another writer.
        statement_timeout_ms: SomeMillis = "5000";
        /// How long a start waits for the store before it serves without it.
        start_timeout_ms: Millis = "3000";
    }
}

/// Whether TLS is used towards PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsChoice {
    /// Unless the server is on this machine.
    Auto,
    /// Always.
    Required,
    /// Never.
    Off,
}

choice! {
    /// Whether TLS is used towards PostgreSQL.
    TlsName -> TlsChoice {
        "auto" => TlsChoice::Auto, "required" => TlsChoice::Required, "off" => TlsChoice::Off,
    }
}

/// Where the store is, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Url {
    /// A file.
    Sqlite(PathBuf),
    /// A server, without a password.
    Postgres(String),
    /// Where the URL of a server is.
    Secret(SecretRef),
}

/// Where the store is, as a kind of value.
pub(crate) enum UrlWord {}

impl Word for UrlWord {
    type Value = Url;
    // Somebody will write the password here.
    const HIDDEN: bool = true;

    fn words() -> String {
        "sqlite:PATH, a postgres:// URL without a password, or env:NAME, file:PATH or credential:NAME where such a \
         URL is"
            .to_owned()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(sqlite:.+|postgres(ql)?://[^:@/]*(@.*)?|env:.+|file:.+|credential:.+)$" })
    }

    fn parse(text: &str) -> Option<Url> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return (!path.is_empty()).then(|| Url::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let config = text.parse::<tokio_postgres::Config>().ok()?;
            return config.get_password().is_none().then(|| Url::Postgres(text.to_owned()));
        }
        SecretWord::parse(text).map(Url::Secret)
    }
}
