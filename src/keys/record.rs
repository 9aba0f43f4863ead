//! A key as the store keeps it: what an operator says about it, and what has become of it. The secret is not part of
//! it; its keyed hash is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tollgate_filters::endpoint::EndpointSet;
use tollgate_filters::request::auth::{Entry, Key, KeyHash, Network, Terms};
use tollgate_filters::units::Moment;

use crate::calendar::show;
use crate::principals::endpoint_set;

/// What an operator says about a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySpec {
    /// Name of its tenant. Never changes.
    pub tenant: String,
    /// Name of its tier; `None` is the tenant's.
    pub tier: Option<String>,
    /// Patterns over model names, narrower than the tenant's.
    pub models: Option<Vec<String>>,
    /// Labels of endpoints; `None` is all.
    pub endpoints: Option<Vec<String>>,
    /// Networks, within the tenant's; empty is all of those.
    pub source_networks: Vec<Network>,
    /// What the operator wants to remember of it.
    pub labels: BTreeMap<String, String>,
    /// From this moment on it does not work.
    pub expires: Option<Moment>,
    /// A new secret is due this many seconds after the last one.
    pub rotate_every_s: Option<u64>,
    /// How long the old secret works on, seconds; `None` is what the configuration says.
    pub rotation_grace_s: Option<u64>,
}

/// A secret that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Its hash.
    pub hash: KeyHash,
    /// It works until before this moment.
    pub until: Moment,
    /// When it was last used.
    pub used: Option<Moment>,
}

/// A key in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The public part; never used for another key.
    pub id: String,
    /// What is said about it.
    pub spec: KeySpec,
    /// Of the secret that was made last.
    pub hash: KeyHash,
    /// The one before, from the last rotation on.
    pub previous: Option<Previous>,
    /// When it was made.
    pub created: Moment,
    /// When its secret was last replaced.
    pub rotated: Option<Moment>,
    /// When it was revoked.
    pub revoked: Option<Moment>,
    /// When it was deleted: the record stays, so that its id is not given again, and nothing shows it.
    pub deleted: Option<Moment>,
    /// When it was last used, by any secret. Written late, in batches.
    pub used: Option<Moment>,
    /// Which of the events since the last rotation have been told.
    pub told: i64,
    /// When there is next something to do or to tell.
    pub notice: Option<Moment>,
    /// Position among all changes to keys; set by the store.
    pub change: i64,
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// One secret works.
    Active,
    /// Two secrets work.
    Rotating,
    /// Past its end.
    Expired,
    /// Ended by hand.
    Revoked,
}

impl Life {
    /// As it is written.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Record {
    /// A key that was just made.
    #[must_use]
    pub fn new(id: String, spec: KeySpec, hash: KeyHash, now: Moment) -> Self {
        let (previous, rotated, revoked, deleted, used, notice) = (None, None, None, None, None, None);
        let (told, change) = (0, 0);
        Self { id, spec, hash, previous, created: now, rotated, revoked, deleted, used, told, notice, change }
    }

    /// Where it is in its life at `now`.
    #[must_use]
    pub fn life(&self, now: Moment) -> Life {
        if self.revoked.is_some() || self.deleted.is_some() {
            Life::Revoked
        } else if self.spec.expires.is_some_and(|end| end <= now) {
            Life::Expired
        } else if self.previous.as_ref().is_some_and(|previous| now < previous.until) {
            Life::Rotating
        } else {
            Life::Active
        }
    }

    /// When its next secret is due.
    #[must_use]
    pub fn rotation_due(&self) -> Option<Moment> {
        let since = self.rotated.unwrap_or(self.created);
        self.spec.rotate_every_s.map(|every| Moment(since.0.saturating_add(every)))
    }

    /// What proves it; `None` once it cannot be used any more.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        if self.revoked.is_some() || self.deleted.is_some() {
            return None;
        }
        let previous = self.previous.as_ref().map(|previous| (previous.hash, previous.until));
        let key = Key::new(self.id.as_str().into(), self.hash, previous, self.spec.expires);
        let used = self.used.unwrap_or(Moment(0));
        key.note_use(used, self.previous.as_ref().and_then(|previous| previous.used).unwrap_or(Moment(0)));
        key.mark_saved(used);
        Some(key)
    }

    /// On which terms it may be used.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let spec = &self.spec;
        let models = |models: &Vec<String>| models.iter().map(|model| model.as_str().into()).collect();
        Terms {
            tenant: spec.tenant.as_str().into(),
            tier: spec.tier.as_deref().map(Arc::from),
            models: spec.models.as_ref().map(models),
            endpoints: spec.endpoints.as_deref().map_or(EndpointSet::ALL, endpoint_set),
            networks: spec.source_networks.as_slice().into(),
        }
    }

    /// What people and programs see of it.
    #[must_use]
    pub fn to_json(&self, now: Moment) -> Json {
        let spec = &self.spec;
        let moment = |moment: Option<Moment>| moment.map(show);
        let previous =
            self.previous.as_ref().filter(|previous| now < previous.until).map(
                |previous| json!({"works_until": show(previous.until), "last_used": moment(previous.used)}),
            );
        json!({
            "id": self.id,
            "source": "store",
            "state": self.life(now).label(),
            "tenant": spec.tenant,
            "tier": spec.tier,
            "models": spec.models,
            "endpoints": spec.endpoints,
            "source_networks": spec.source_networks.iter().map(Network::to_string).collect::<Vec<_>>(),
            "labels": spec.labels,
            "created": show(self.created),
            "last_used": moment(self.used),
            "expires": moment(spec.expires),
            "rotated": moment(self.rotated),
            "previous_secret": previous,
            "rotate_every_s": spec.rotate_every_s,
            "rotation_grace_s": spec.rotation_grace_s,
            "rotation_due": moment(self.rotation_due()),
            "revoked": moment(self.revoked),
        })
    }
}

/// What people and programs see of a key that the configuration declares.
#[must_use]
pub fn declared_json(entry: &Entry, now: Moment) -> Json {
    let (key, terms) = (&entry.key, &entry.terms);
    let (used, _) = key.used();
    let is_over = key.expires.is_some_and(|end| end <= now);
    let life = if is_over { Life::Expired } else { Life::Active };
    let endpoints =
        (terms.endpoints != EndpointSet::ALL).then(|| terms.endpoints.labels().collect::<Vec<_>>());
    json!({
        "id": &*key.id,
        "source": "tenants.yaml",
        "state": life.label(),
        "tenant": &*terms.tenant,
        "tier": terms.tier.as_deref(),
        "models": terms.models.as_deref().map(|models| models.iter().map(|model| &**model).collect::<Vec<_>>()),
        "endpoints": endpoints,
        "source_networks": terms.networks.iter().map(Network::to_string).collect::<Vec<_>>(),
        "labels": {},
        "created": null,
        "last_used": (used.0 > 0).then(|| show(used)),
        "expires": key.expires.map(show),
        "rotated": null,
        "previous_secret": null,
        "rotate_every_s": null,
        "rotation_grace_s": null,
        "rotation_due": null,
        "revoked": null,
    })
}
