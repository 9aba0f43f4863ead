//! Secrets are never written in the configuration, only where they are: `env:NAME`, `file:PATH` or
//! `credential:NAME` (systemd, <https://systemd.io/CREDENTIALS/>). A literal is refused, and no message ever
//! repeats a value, because messages end in logs and tickets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::fault::{At, Faults};
use super::kind::Word;
use super::settings::Secret;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file, relative to the directory of the configuration.
    File(PathBuf),
    /// A file in the directory that systemd prepared.
    Credential(String),
}

/// Where a secret is, as a kind of value.
pub(crate) enum SecretWord {}

impl Word for SecretWord {
    type Value = SecretRef;
    const HIDDEN: bool = true;

    fn words() -> String {
        "env:NAME, file:PATH or credential:NAME (secrets are not written here)".to_owned()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|credential:[A-Za-z0-9._-]+)$" })
    }

    fn parse(text: &str) -> Option<SecretRef> {
        let (scheme, rest) = text.split_once(':')?;
        let is_made_of = |more: &[u8]| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        match scheme {
            "env" if is_made_of(b"_") && !rest.starts_with(|first: char| first.is_ascii_digit()) => {
                Some(SecretRef::Env(rest.to_owned()))
            }
            "file" if !rest.is_empty() => Some(SecretRef::File(PathBuf::from(rest))),
            "credential" if is_made_of(b"._-") && rest != "." && rest != ".." => {
                Some(SecretRef::Credential(rest.to_owned()))
            }
            _ => None,
        }
    }
}

/// The outside world that a configuration refers to.
pub(crate) struct Sources<'a> {
    /// Directory of the configuration files.
    pub(crate) dir: &'a Path,
    /// Environment variables. A parameter, because a process can only have one environment and tests many.
    pub(crate) env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Sources<'_> {
    /// Reads a secret; at most one final line break is not part of it.
    pub(crate) fn secret(&self, from: &At<SecretRef>, faults: &mut Faults) -> Option<Secret> {
        let value = faults.keep(&from.place, self.read(&from.value))?;
        let value = value.strip_suffix('\n').map_or(&*value, |cut| cut.strip_suffix('\r').unwrap_or(cut));
        // Also what keeps a secret usable in a header: visible ASCII (RFC 9110 §5.5).
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            faults.push(
                &from.place,
                "expected a secret of visible ASCII characters on one line, found something else",
            );
            return None;
        }
        Some(Secret::new(value))
    }

    fn read(&self, from: &SecretRef) -> Result<String, String> {
        match from {
            SecretRef::Env(name) => (self.env)(name)
                .ok_or_else(|| format!("the environment variable {name} is not set"))?
                .into_string()
                .map_err(|_| format!("the environment variable {name} is not UTF-8")),
            SecretRef::File(path) => read_file(&self.dir.join(path)),
            SecretRef::Credential(name) => {
                let directory = (self.env)("CREDENTIALS_DIRECTORY")
                    .ok_or("credential: needs $CREDENTIALS_DIRECTORY, which systemd sets for a unit")?;
                read_file(&Path::new(&directory).join(name))
            }
        }
    }
}

/// Reads a small text file; the error says which and why.
pub(crate) fn read_file(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
}

/// The hash by which an API key is known: HMAC-SHA256 of the whole key (`tg_<id>_<secret>`) under the pepper.
/// Keyed, so that a stolen list of hashes cannot be searched without the pepper.
#[must_use]
pub fn hash_key(pepper: &Secret, key: &str) -> [u8; 32] {
    tollgate_filters::request::auth::hash_key(pepper.expose().as_bytes(), key.as_bytes())
}
