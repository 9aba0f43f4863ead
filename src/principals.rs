//! What the terms of a key mean under one configuration: names become positions in its tables, patterns become a list
//! of models. What many keys have in common is made once and shared; a key on the usual terms costs its own few
//! hundred bytes, whatever the size of the catalogue.
//!
//! A key whose tenant or tier is not part of the configuration identifies nobody. It is kept, and works again when
//! they are back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_filters::endpoint::{Endpoint, EndpointSet};
use tollgate_filters::request::auth::{Entry, Key, Network, Principal, Terms};
use tollgate_filters::request::catalogue::matches;

use crate::config::settings::{ApiKey, Settings, Tenant};

/// The names of one configuration that keys refer to.
#[derive(Debug)]
pub struct Principals {
    tenants: HashMap<Arc<str>, Member>,
    tiers: HashMap<String, usize>,
    models: Vec<String>,
    /// Lists of models, by whose they are and what narrows them.
    may_use: Mutex<Lists>,
}

#[derive(Debug)]
struct Member {
    name: Arc<str>,
    index: usize,
    tier: Option<usize>,
    models: Vec<String>,
    networks: Arc<[Network]>,
}

type Patterns = Arc<[Box<str>]>;

#[derive(Debug, Default)]
struct Lists {
    known: HashMap<(usize, Option<Patterns>), Arc<[bool]>>,
    tidy_at: usize,
}

impl Principals {
    /// What keys can refer to in `settings`.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let tiers: HashMap<String, usize> =
            settings.tiers.iter().enumerate().map(|(index, tier)| (tier.name.clone(), index)).collect();
        let member = |(index, tenant): (usize, &Tenant)| {
            let name: Arc<str> = tenant.name.as_str().into();
            let member = Member {
                name: Arc::clone(&name),
                index,
                tier: tiers.get(&tenant.tier).copied(),
                models: tenant.models.clone(),
                networks: tenant.source_networks.as_slice().into(),
            };
            (name, member)
        };
        Self {
            tenants: settings.tenants.iter().enumerate().map(member).collect(),
            models: settings.models.iter().map(|model| model.name.clone()).collect(),
            may_use: Mutex::default(),
            tiers,
        }
    }

    /// A key with what its terms mean here.
    #[must_use]
    pub fn entry(&self, key: &Arc<Key>, terms: &Arc<Terms>) -> Entry {
        let principal = self.principal(&key.id, terms).map(Arc::new);
        Entry { key: Arc::clone(key), terms: Arc::clone(terms), principal }
    }

    /// A key that the configuration declares.
    #[must_use]
    pub fn declare(&self, tenant: &Tenant, key: &ApiKey) -> Entry {
        let terms = Terms {
            tenant: tenant.name.as_str().into(),
            tier: key.tier.as_deref().map(Arc::from),
            models: key
                .models
                .as_ref()
                .map(|models| models.iter().map(|model| model.as_str().into()).collect()),
            endpoints: key.endpoints.as_deref().map_or(EndpointSet::ALL, endpoint_set),
            networks: key.source_networks.as_slice().into(),
        };
        let own = Key::new(key.id.as_str().into(), key.hash, None, key.expires);
        self.entry(&Arc::new(own), &Arc::new(terms))
    }

    fn principal(&self, id: &Arc<str>, terms: &Terms) -> Option<Principal> {
        let member = self.tenants.get(&terms.tenant)?;
        let tier_index = match &terms.tier {
            Some(tier) => self.tiers.get(&**tier).copied(),
            None => member.tier,
        };
        Some(Principal {
            tenant: Arc::clone(&member.name),
            tenant_index: member.index,
            tier_index: tier_index?,
            key_id: Arc::clone(id),
            may_use: self.may_use(member, terms.models.as_ref()),
            endpoints: terms.endpoints,
            networks: [Arc::clone(&member.networks), Arc::clone(&terms.networks)],
        })
    }

    fn may_use(&self, member: &Member, narrower: Option<&Patterns>) -> Arc<[bool]> {
        let mut lists = self.may_use.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = (member.index, narrower.cloned());
        if let Some(known) = lists.known.get(&asked) {
            return Arc::clone(known);
        }
        let is_allowed = |model: &String| {
            let by_tenant = member.models.iter().any(|pattern| matches(pattern, model));
            by_tenant
                && narrower.is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, model)))
        };
        let list: Arc<[bool]> = self.models.iter().map(is_allowed).collect();
        if lists.known.len() >= lists.tidy_at.max(64) {
            lists.known.retain(|_, list| Arc::strong_count(list) > 1);
            lists.tidy_at = lists.known.len() * 2;
        }
        lists.known.insert(asked, Arc::clone(&list));
        list
    }
}

/// The endpoints that labels stand for.
#[must_use]
pub fn endpoint_set(labels: &[String]) -> EndpointSet {
    EndpointSet::of(labels.iter().flat_map(|label| Endpoint::called(label)))
}
