//! Credential → [`Principal`]. A key is `tg_<id>_<secret>`: the id is public and finds the entry, the whole
//! key proves itself by its keyed hash. Every kind of bad key costs the same work and gets the same answer, so
//! that nobody learns which ids exist. Fails closed.
//!
//! A [`Key`] and its [`Terms`] outlive a configuration; a [`Principal`] is what they mean under one. Keys on equal terms
//! share what is large.
//!
//! Cost: one wait-free look-up and one HMAC-SHA256 of the key (well under a microsecond); no lock, no allocation.
//! `cargo run --release -p tollgate-filters --example key_check` measures it.

mod keyring;
mod network;
mod terms;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::hmac;

pub use keyring::{Change, Entry, MAX_ID};
pub use network::{Network, NotANetwork};
pub use terms::{Interner, Terms};

use crate::endpoint::{Endpoint, EndpointSet};
use crate::refusal::Refusal;
use crate::units::Moment;

/// Longest credential that is looked at, bytes. Ours have 57 to 80.
const MAX_CREDENTIAL: usize = 256;

/// HMAC-SHA256 of a whole key under the pepper.
pub type KeyHash = [u8; 32];

/// What proves a key, and when it was last proven.
#[derive(Debug)]
pub struct Key {
    /// The public part.
    pub id: Arc<str>,
    /// Of the secret that was made last.
    pub hash: KeyHash,
    /// Rare, so it is kept apart: what most keys need fits into two cache lines.
    previous: Option<Box<(KeyHash, Moment)>>,
    /// From this moment on no secret works.
    pub expires: Option<Moment>,
    used: AtomicU64,
    previous_used: AtomicU64,
    /// The `used` that the store knows.
    saved: AtomicU64,
}

impl Key {
    /// A key that has not been used yet.
    #[must_use]
    pub fn new(
        id: Arc<str>,
        hash: KeyHash,
        previous: Option<(KeyHash, Moment)>,
        expires: Option<Moment>,
    ) -> Self {
        let never = || AtomicU64::new(0);
        let previous = previous.map(Box::new);
        Self { id, hash, previous, expires, used: never(), previous_used: never(), saved: never() }
    }

    /// The hash of the secret that a rotation replaced, which works for a grace period: until before this moment.
    #[must_use]
    pub fn previous(&self) -> Option<(KeyHash, Moment)> {
        self.previous.as_deref().copied()
    }

    /// When it was last used: with either secret, and with the previous one. The zero moment is never.
    #[must_use]
    pub fn used(&self) -> (Moment, Moment) {
        (Moment(self.used.load(Ordering::Relaxed)), Moment(self.previous_used.load(Ordering::Relaxed)))
    }

    /// Takes note of uses that are known from elsewhere.
    pub fn note_use(&self, used: Moment, previous_used: Moment) {
        self.used.fetch_max(used.0, Ordering::Relaxed);
        self.previous_used.fetch_max(previous_used.0, Ordering::Relaxed);
    }

    /// What [`Self::used`] gives, if the key was used since it was last marked as saved.
    #[must_use]
    pub fn unsaved(&self) -> Option<(Moment, Moment)> {
        let used = self.used();
        (used.0.0 > self.saved.load(Ordering::Relaxed)).then_some(used)
    }

    /// Notes that uses up to this one are known to the store.
    pub fn mark_saved(&self, used: Moment) {
        self.saved.fetch_max(used.0, Ordering::Relaxed);
    }

    /// Whether a secret with this hash works at `now`: `Some(true)` for the one that a rotation replaced. All
    /// comparisons are made whatever the first one says.
    fn accepts(&self, hash: &KeyHash, now: Moment) -> Option<bool> {
        let is_current = is_same(hash, &self.hash);
        let (previous, until) = self.previous().unwrap_or(([0; 32], Moment(0)));
        let is_previous = is_same(hash, &previous) & (now < until);
        let is_alive = self.expires.is_none_or(|end| now < end);
        ((is_current | is_previous) & is_alive).then_some(!is_current)
    }

    fn touch(&self, now: Moment, by_previous: bool) {
        // A store only where the second has changed: a busy key must not bounce its cache line between cores.
        let note = |last: &AtomicU64| {
            if last.load(Ordering::Relaxed) < now.0 {
                last.store(now.0, Ordering::Relaxed);
            }
        };
        note(&self.used);
        if by_previous {
            note(&self.previous_used);
        }
    }
}

/// Who asks, under one configuration.
#[derive(Debug)]
pub struct Principal {
    /// The `tenant` of metrics and records.
    pub tenant: Arc<str>,
    /// Position of the tenant in the configuration; tables per tenant are indexed by it.
    pub tenant_index: usize,
    /// Position of the tier in the configuration: the key's own, or the tenant's.
    pub tier_index: usize,
    /// The public part of the key.
    pub key_id: Arc<str>,
    /// For each model of the catalogue, whether this key may use it.
    pub may_use: Arc<[bool]>,
    /// What it may call.
    pub endpoints: EndpointSet,
    /// The tenant's networks, then the key's own: it may be used from where both agree; an empty list is anywhere.
    pub networks: [Arc<[Network]>; 2],
}

impl Principal {
    fn may_come_from(&self, source: Option<IpAddr>) -> bool {
        self.networks.iter().all(|networks| {
            networks.is_empty()
                || source.is_some_and(|source| networks.iter().any(|network| network.contains(source)))
        })
    }
}

/// A credential that was good.
#[derive(Debug)]
pub struct Identity {
    /// Who asks.
    pub principal: Arc<Principal>,
    /// Whether by the secret that a rotation replaced, which will stop working.
    pub by_previous_secret: bool,
}

/// All keys, under one configuration. Those that the configuration declares come and go with it; those from the store
/// change one by one. An id that is in both is a mistake, and the declared key is the one that counts.
#[derive(Debug)]
pub struct Keyring {
    pepper: hmac::Key,
    declared: HashMap<Arc<str>, Entry>,
    stored: keyring::Shards,
}

impl Keyring {
    /// A ring of these keys, whose hashes were made under `pepper`.
    #[must_use]
    pub fn new(pepper: &[u8], declared: Vec<Entry>, stored: Vec<Entry>) -> Self {
        Self {
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper),
            declared: declared.into_iter().map(|entry| (Arc::clone(&entry.key.id), entry)).collect(),
            stored: keyring::Shards::new(stored),
        }
    }

    /// Who presents `credential` from `source` to call `endpoint`.
    ///
    /// # Errors
    /// [`Refusal::InvalidApiKey`] for every kind of bad key; [`Refusal::SourceAddressDenied`] for a good one from a
    /// network that it may not be used from, and [`Refusal::EndpointNotAllowed`] for an endpoint that it may not call.
    pub fn identify(
        &self,
        credential: Option<&[u8]>,
        source: Option<IpAddr>,
        endpoint: Endpoint,
        now: Moment,
    ) -> Result<Identity, Refusal> {
        let credential = credential.filter(|bytes| bytes.len() <= MAX_CREDENTIAL).unwrap_or_default();
        // Made before anything is known, so that every credential takes as long.
        let hash = as_hash(&hmac::sign(&self.pepper, credential));
        let id = key_id(credential).unwrap_or_default();
        let prove = |entry: Option<&Entry>| {
            let entry = entry?;
            let by_previous_secret = entry.key.accepts(&hash, now)?;
            let principal = Arc::clone(entry.principal.as_ref()?);
            entry.key.touch(now, by_previous_secret);
            Some(Identity { principal, by_previous_secret })
        };
        let found = match self.declared.get(id) {
            Some(declared) => prove(Some(declared)),
            None => self.stored.with(id, prove),
        };
        let identity = found.ok_or(Refusal::InvalidApiKey)?;
        if !identity.principal.may_come_from(source) {
            return Err(Refusal::SourceAddressDenied);
        }
        if !identity.principal.endpoints.contains(endpoint) {
            return Err(Refusal::EndpointNotAllowed(endpoint.label()));
        }
        Ok(identity)
    }

    /// The keys that the configuration declares.
    pub fn declared(&self) -> impl Iterator<Item = &Entry> {
        self.declared.values()
    }

    /// A key that the configuration declares.
    #[must_use]
    pub fn get_declared(&self, id: &str) -> Option<&Entry> {
        self.declared.get(id)
    }

    /// A key from the store.
    #[must_use]
    pub fn get_stored(&self, id: &str) -> Option<Entry> {
        self.stored.with(id, |entry| entry.cloned())
    }

    /// Shows every key from the store.
    pub fn for_each_stored(&self, show: impl FnMut(&Entry)) {
        self.stored.for_each(show);
    }

    /// Puts a key from the store for each id, or takes it out.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        self.stored.apply(changes);
    }
}

/// The keyed hash under which a key is stored.
#[must_use]
pub fn hash_key(pepper: &[u8], key: &[u8]) -> KeyHash {
    as_hash(&hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pepper), key))
}

fn as_hash(tag: &hmac::Tag) -> KeyHash {
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Whether two hashes are equal, in a time that does not tell where they differ.
fn is_same(a: &KeyHash, b: &KeyHash) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// The id in `tg_<id>_<secret>`.
fn key_id(credential: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(credential).ok()?;
    let (id, secret) = text.strip_prefix("tg_")?.split_once('_')?;
    (!secret.is_empty()).then_some(id)
}

/// The credential in an `authorization` header of the scheme Bearer, in any case.
#[must_use]
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests;
