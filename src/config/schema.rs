//! What the operator writes: every key of every file with its kind, its default and its meaning, in one place.
//! The reader, the JSON Schema and docs/configuration.md are made from these declarations.

pub(crate) mod catalogue;
pub(crate) mod gateway;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod scan;
pub(crate) mod shared;
pub(crate) mod storage;
pub(crate) mod tiers;
pub(crate) mod upstreams;

use super::fault::{Faults, FileId, Place};
use super::kind::{Kind, Shape};
use super::node;

/// What was written in all files; `None` for a file that could not be read at all.
pub(crate) struct Schema {
    /// `tollgate.yaml`.
    pub(crate) gateway: Option<gateway::GatewayFile>,
    /// `models.yaml`.
    pub(crate) models: Option<catalogue::ModelsFile>,
    /// `upstreams.yaml`.
    pub(crate) upstreams: Option<upstreams::UpstreamsFile>,
    /// `tiers.yaml`.
    pub(crate) tiers: Option<tiers::TiersFile>,
    /// `tenants.yaml`.
    pub(crate) tenants: Option<catalogue::TenantsFile>,
}

/// A configuration file and what it is for.
pub(crate) struct File {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its subject.
    pub(crate) title: &'static str,
    /// Its keys.
    pub(crate) shape: fn() -> Shape,
}

/// The configuration files, in the order in which their faults are shown.
pub(crate) const FILES: [File; 5] = [
    File {
        name: "tollgate.yaml",
        title: "The gateway itself: listeners, limits, deadlines, logs.",
        shape: gateway::GatewayFile::shape,
    },
    File {
        name: "models.yaml",
        title: "The model catalogue: names, lifecycle, prices, energy.",
        shape: catalogue::ModelsFile::shape,
    },
    File {
        name: "upstreams.yaml",
        title: "Pools of inference servers and how they are treated.",
        shape: upstreams::UpstreamsFile::shape,
    },
    File {
        name: "tiers.yaml",
        title: "Subscription tiers: what tenants and keys may use.",
        shape: tiers::TiersFile::shape,
    },
    File { name: "tenants.yaml", title: "Tenants and their API keys.", shape: catalogue::TenantsFile::shape },
];

impl Schema {
    /// Reads the texts of all files (`None` for one that could not be read) and reports every fault. A file
    /// that is missing or no YAML is `None`; the others are still checked.
    pub(crate) fn read(texts: &[Option<String>; FILES.len()], faults: &mut Faults) -> Self {
        Self {
            gateway: read_file::<gateway::GatewayFile>(0, texts, faults),
            models: read_file::<catalogue::ModelsFile>(1, texts, faults),
            upstreams: read_file::<upstreams::UpstreamsFile>(2, texts, faults),
            tiers: read_file::<tiers::TiersFile>(3, texts, faults),
            tenants: read_file::<catalogue::TenantsFile>(4, texts, faults),
        }
    }
}

fn read_file<K: Kind>(index: usize, texts: &[Option<String>], faults: &mut Faults) -> Option<K::Value> {
    let file = FileId(index);
    let node = node::parse(texts[index].as_deref()?, file, faults)?;
    K::read(&node, &Place::top(file, node.line), faults)
}
