//! Credential → [`Principal`]. A key is `tg_<id>_<secret>`: the id is public and finds the entry, the whole
//! key proves itself by its keyed hash. Every kind of bad key costs the same work and gets the same answer, so
//! that nobody learns which ids exist. Fails closed.
//!
//! Cost: one hash lookup and one HMAC-SHA256 of the key (about a microsecond); no lock, no allocation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ring::hmac;

use crate::refusal::Refusal;
use crate::units::Day;

/// Longest credential that is looked at, bytes. Ours have 57 to 80.
const MAX_CREDENTIAL: usize = 256;

/// A key as it is stored.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// HMAC-SHA256 of the whole key under the pepper.
    pub hash: [u8; 32],
    /// Last day on which it works.
    pub expires: Option<Day>,
    /// Whom it identifies.
    pub principal: Arc<Principal>,
}

/// Who asks.
#[derive(Debug)]
pub struct Principal {
    /// The `tenant` of metrics and records.
    pub tenant: Arc<str>,
    /// Position of the tenant in the configuration; tables per tenant are indexed by it.
    pub tenant_index: usize,
    /// The public part of the key.
    pub key_id: Arc<str>,
    /// For each model of the catalogue, whether this key may use it.
    pub may_use: Vec<bool>,
    /// Networks that the key may be used from; empty is anywhere.
    pub networks: Vec<Network>,
}

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub address: IpAddr,
    /// Leading bits that matter.
    pub prefix: u8,
}

impl Network {
    /// Whether `address` lies in it. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let bits = u32::from(self.prefix.min(32));
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let bits = u32::from(self.prefix.min(128));
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// All keys.
#[derive(Debug)]
pub struct Keyring {
    pepper: hmac::Key,
    by_id: HashMap<Box<str>, StoredKey>,
}

impl Keyring {
    /// Keys by their public id, hashed under `pepper`.
    #[must_use]
    pub fn new(pepper: &[u8], keys: impl IntoIterator<Item = (Box<str>, StoredKey)>) -> Self {
        Self { pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper), by_id: keys.into_iter().collect() }
    }

    /// Who presents `credential` from `source` on `today`.
    ///
    /// # Errors
    /// [`Refusal::InvalidApiKey`] for every kind of bad key; [`Refusal::SourceAddressDenied`] for a good one
    /// from a network that it may not be used from.
    pub fn identify(
        &self,
        credential: Option<&[u8]>,
        source: Option<IpAddr>,
        today: Day,
    ) -> Result<Arc<Principal>, Refusal> {
        let credential = credential.filter(|bytes| bytes.len() <= MAX_CREDENTIAL).unwrap_or_default();
        let entry = key_id(credential).and_then(|id| self.by_id.get(id));
        // An unknown id is checked against a hash that nothing has, so that it takes as long.
        let expected = entry.map_or([0; 32], |entry| entry.hash);
        let is_proven = hmac::verify(&self.pepper, credential, &expected).is_ok();
        let entry = entry
            .filter(|entry| is_proven && entry.expires.is_none_or(|last| today <= last))
            .ok_or(Refusal::InvalidApiKey)?;
        let networks = &entry.principal.networks;
        let is_near = networks.is_empty()
            || source.is_some_and(|source| networks.iter().any(|network| network.contains(source)));
        if is_near { Ok(Arc::clone(&entry.principal)) } else { Err(Refusal::SourceAddressDenied) }
    }
}

/// The keyed hash under which a key is stored.
#[must_use]
pub fn hash_key(pepper: &[u8], key: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pepper), key);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
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
mod tests {
    use super::*;

    const PEPPER: &[u8] = b"pepper";
    const TODAY: Day = Day(20_000);

    fn keyring() -> Keyring {
        let key = |id: &str, expires, networks| {
            let principal = Arc::new(Principal {
                tenant: "t".into(),
                tenant_index: 0,
                key_id: id.into(),
                may_use: vec![],
                networks,
            });
            let hash = hash_key(PEPPER, format!("tg_{id}_secret").as_bytes());
            (Box::from(id), StoredKey { hash, expires, principal })
        };
        let office = Network { address: "10.1.0.0".parse().expect("address"), prefix: 16 };
        Keyring::new(
            PEPPER,
            [
                key("good", None, vec![]),
                key("last", Some(TODAY), vec![]),
                key("old", Some(Day(TODAY.0 - 1)), vec![]),
                key("office", None, vec![office]),
            ],
        )
    }

    #[test]
    fn only_the_whole_key_identifies() {
        let ring = keyring();
        for (credential, source, expected) in [
            (Some("tg_good_secret"), "9.9.9.9", Ok("good")),
            (Some("tg_last_secret"), "9.9.9.9", Ok("last")),
            (Some("tg_old_secret"), "9.9.9.9", Err(Refusal::InvalidApiKey)),
            (Some("tg_good_secreT"), "9.9.9.9", Err(Refusal::InvalidApiKey)),
            (Some("tg_good_"), "9.9.9.9", Err(Refusal::InvalidApiKey)),
            (Some("tg_nobody_secret"), "9.9.9.9", Err(Refusal::InvalidApiKey)),
            (Some("tg_good"), "9.9.9.9", Err(Refusal::InvalidApiKey)),
            (Some("sk-123"), "9.9.9.9", Err(Refusal::InvalidApiKey)),
            (None, "9.9.9.9", Err(Refusal::InvalidApiKey)),
            (Some("tg_office_secret"), "10.1.2.3", Ok("office")),
            (Some("tg_office_secret"), "::ffff:10.1.2.3", Ok("office")),
            (Some("tg_office_secret"), "10.2.2.3", Err(Refusal::SourceAddressDenied)),
            (Some("tg_office_wrong"), "10.2.2.3", Err(Refusal::InvalidApiKey)),
        ] {
            let found =
                ring.identify(credential.map(str::as_bytes), Some(source.parse().expect("address")), TODAY);
            let found = found.map(|principal| principal.key_id.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{credential:?} from {source}");
        }
    }

    #[test]
    fn bearer_is_read_in_any_case() {
        for (header, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER abc", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(bearer(header.as_bytes()), expected.map(str::as_bytes), "{header}");
        }
    }

    #[test]
    fn networks_are_matched_by_their_leading_bits() {
        for (network, prefix, address, expected) in [
            ("0.0.0.0", 0, "1.2.3.4", true),
            ("1.2.3.4", 32, "1.2.3.4", true),
            ("1.2.3.4", 32, "1.2.3.5", false),
            ("2001:db8::", 32, "2001:db8:1::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("::", 0, "2001:db9::1", true),
            ("10.0.0.0", 8, "2001:db9::1", false),
        ] {
            let network = Network { address: network.parse().expect("address"), prefix };
            assert_eq!(
                network.contains(address.parse().expect("address")),
                expected,
                "{network:?} {address}"
            );
        }
    }
}
