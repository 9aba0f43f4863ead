//! What the gateway runs on. [`Stages`] is one configuration made ready: every table that a request needs,
//! built from [`Settings`] and swapped whole. A request takes one `Arc<Stages>` when it arrives and keeps it,
//! so a reload never mixes two configurations. [`State`] is what outlives a reload.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use tokio::sync::Semaphore;
use tollgate_filters::request::auth::{Entry, Keyring, Principal};
use tollgate_filters::request::body::escape;
use tollgate_filters::request::catalogue::{self, Catalogue, matches};
use tollgate_filters::request::guessing::Guessing;
use tollgate_filters::request::quota::{Clock, Holder, Holders, Plan, Usage, Usages};
use tollgate_filters::request::scan::behaviour;
use tollgate_filters::request::scan::policy::{Exemption, Policy};
use tollgate_filters::request::upstream::balance::{Candidate, Route};
use tollgate_filters::response::output::{OutputPlan, OutputPolicy};
use tollgate_filters::tokenizer::counter::Counter;
use tollgate_filters::units::Day;

use crate::access_log::AccessLog;
use crate::config::settings::{self, Model, Pool, ScanChange, Settings, Tenant, Tier};
use crate::histories::Histories;
use crate::histories::shared::SharedHistories;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::limits::SharedLimits;
use crate::metrics::Metrics;
use crate::principals::Principals;
use crate::queue::Queue;
use crate::servers::Server;
use crate::store::Store;

/// One configuration, ready to serve.
#[derive(Debug)]
pub struct Stages {
    /// The settings it was built from.
    pub settings: Settings,
    /// Credential → principal.
    pub keyring: Keyring,
    /// What the terms of a key mean.
    pub principals: Principals,
    /// Name → model.
    pub catalogue: Catalogue,
    /// For each model of the catalogue, where it is served.
    pub models: Vec<ServedModel>,
    /// For each model of the catalogue, how its tokens are counted.
    pub counters: Vec<Counter>,
    /// Every server of every pool.
    pub servers: Vec<Arc<Server>>,
    /// For each tenant of the settings, what it has used of its limits.
    pub tenants: Vec<TenantQuota>,
    /// What tenants have used that were in the settings before: one that comes back begins no budget anew.
    former: HashMap<String, Arc<Usage>>,
    /// For each plan of a tier, by model of the catalogue, the position of its rule.
    rules: Vec<TierRules>,
    /// For each tenant of the settings, what is done about prompts.
    pub policies: Vec<Policies>,
}

/// Where and how a model is served.
#[derive(Debug)]
pub struct ServedModel {
    /// Its servers.
    pub route: Route,
    /// For each candidate of the route, the name that the server knows the model by.
    pub served_as: Vec<WireName>,
}

/// A model's name, and how it stands between the quotes of a JSON string.
#[derive(Debug, Clone)]
pub struct WireName {
    /// The name.
    pub plain: Arc<str>,
    /// With what JSON escapes.
    pub json: bytes::Bytes,
}

/// What is done about a tenant's prompts and about the answers to them.
#[derive(Debug)]
pub struct Policies {
    /// For models that say nothing about it.
    usual: ScanPolicy,
    /// For models that do.
    by_model: HashMap<usize, ScanPolicy>,
}

#[derive(Debug)]
struct ScanPolicy {
    prompts: Policy,
    /// `None` where they are not looked at.
    answers: Option<Arc<OutputPlan>>,
}

impl Policies {
    /// The policy for requests to a model, by its position in the catalogue.
    #[must_use]
    pub fn of(&self, model: usize) -> &Policy {
        &self.by_model.get(&model).unwrap_or(&self.usual).prompts
    }

    /// What is done about the answers of a model; `None` where they are not looked at.
    #[must_use]
    pub fn of_answers(&self, model: usize) -> Option<&Arc<OutputPlan>> {
        self.by_model.get(&model).unwrap_or(&self.usual).answers.as_ref()
    }

    fn build(settings: &Settings, tenant: &Tenant) -> Self {
        let tier = settings.tiers.iter().find(|tier| tier.name == tenant.tier);
        let with = |model: Option<&ScanChange>| {
            let changes = [model, tier.and_then(|tier| tier.scan.as_ref()), tenant.scan.as_ref()];
            let mut policy = settings.scan.policy.clone();
            let mut output = settings.scan.output.clone();
            for change in changes.into_iter().flatten() {
                apply(&mut policy, change);
                apply_output(&mut output, change);
            }
            let exemption = |exemption: &settings::Exemption| Exemption {
                what: exemption.rule.as_str().into(),
                until: day(exemption.until),
            };
            policy.exempt = tenant.scan_exemptions.iter().map(exemption).collect();
            let output = OutputPolicy { categories: output.actions(), exempt: policy.exempt.clone() };
            let answers = settings.rules.output.as_ref().and_then(|scanner| scanner.plan(&output));
            ScanPolicy { prompts: policy, answers }
        };
        let models = settings.models.iter().enumerate();
        let by_model =
            models.filter_map(|(index, model)| Some((index, with(Some(model.scan.as_ref()?))))).collect();
        Self { usual: with(None), by_model }
    }
}

fn apply(policy: &mut Policy, change: &ScanChange) {
    policy.mode = change.mode.unwrap_or(policy.mode);
    policy.flag_at = change.flag_at.unwrap_or(policy.flag_at);
    policy.block_at = change.block_at.unwrap_or(policy.block_at);
    policy.categories = change.categories.unwrap_or(policy.categories);
}

fn apply_output(output: &mut settings::OutputPolicy, change: &ScanChange) {
    let Some(change) = &change.output else { return };
    output.action = change.action.unwrap_or(output.action);
    output.categories = change.categories.unwrap_or(output.categories);
}

/// How histories are kept, from the settings.
#[must_use]
pub fn scan_settings(behaviour: &settings::Behaviour) -> behaviour::Settings {
    behaviour::Settings {
        repeats: behaviour.repeats,
        prompts: behaviour.prompts,
        // What is held against a conversation fades within the time that it is remembered.
        half_life: behaviour.memory / 4,
    }
}

/// A tenant's tier, and what it has used.
#[derive(Debug)]
pub struct TenantQuota {
    /// Position of its tier in the settings.
    pub tier: usize,
    /// Kept across reloads.
    pub usage: Arc<Usage>,
}

/// For each model of the catalogue, the rule of a tier's plan that holds for it.
#[derive(Debug)]
struct TierRules {
    whole: Vec<Option<usize>>,
    per_key: Vec<Option<usize>>,
}

impl Stages {
    /// Builds every table from `settings`, keeping from `before` what a reload must not lose: the load and
    /// health of servers and the usage of tenants that are still there.
    #[must_use]
    pub fn build(settings: Settings, before: Option<&Self>) -> Self {
        let servers = build_servers(&settings.pools, before);
        let catalogue = Catalogue::new(settings.models.iter().map(entry).collect());
        let models = settings.models.iter().map(|model| serve(model, &settings.pools, &servers)).collect();
        let exact_bytes = settings.tokens.exact_bytes;
        let counters = settings.models.iter().map(|model| counter(model, exact_bytes)).collect();
        let mut former: HashMap<String, Arc<Usage>> = before.map_or_else(HashMap::new, |before| {
            let names = before.settings.tenants.iter().map(|tenant| tenant.name.clone());
            let usages = names.zip(before.tenants.iter().map(|tenant| Arc::clone(&tenant.usage)));
            before
                .former
                .iter()
                .map(|(name, usage)| (name.clone(), Arc::clone(usage)))
                .chain(usages)
                .collect()
        });
        let tenants = settings
            .tenants
            .iter()
            .map(|tenant| TenantQuota {
                tier: settings.tiers.iter().position(|tier| tier.name == tenant.tier).unwrap_or_default(),
                usage: former.remove(&tenant.name).unwrap_or_default(),
            })
            .collect();
        let principals = Principals::new(&settings);
        let keyring = keyring(&settings, &principals, before.map(|before| &before.keyring));
        let policies = settings.tenants.iter().map(|tenant| Policies::build(&settings, tenant)).collect();
        let rules_of = |plan: &Plan| settings.models.iter().map(|model| plan.rule_for(&model.name)).collect();
        let rules = settings.tiers.iter();
        let rules =
            rules.map(|tier| TierRules { whole: rules_of(&tier.plan), per_key: rules_of(&tier.key_plan) });
        let rules = rules.collect();
        Self {
            keyring,
            principals,
            catalogue,
            models,
            counters,
            servers,
            tenants,
            former,
            rules,
            policies,
            settings,
        }
    }

    /// The tier on whose terms a principal asks: its key's own, or its tenant's.
    #[must_use]
    pub fn tier(&self, principal: &Principal) -> &Tier {
        &self.settings.tiers[principal.tier_index]
    }

    /// Everything that limits a principal's requests for a model (by its position in the catalogue), or for none. A
    /// key with a tier of its own has that tier's limits for itself, within those of its tenant.
    #[must_use]
    pub fn holders(&self, principal: &Principal, model: Option<usize>, keys: &Usages) -> Holders {
        let Principal { tenant_index, tier_index, key_id, .. } = principal;
        self.holders_of(*tenant_index, Some(*tier_index), key_id, model, keys)
    }

    /// The same for a key of a tenant that has this tier; `None` is the tenant's.
    #[must_use]
    pub fn holders_of(
        &self,
        tenant: usize,
        tier: Option<usize>,
        key_id: &Arc<str>,
        model: Option<usize>,
        keys: &Usages,
    ) -> Holders {
        let tenant = &self.tenants[tenant];
        let holder = |usage: Arc<Usage>, plan: &Arc<Plan>, rules: &[Option<usize>]| Holder {
            usage,
            plan: Arc::clone(plan),
            rule: model.and_then(|model| rules[model]),
        };
        let own = tier.unwrap_or(tenant.tier);
        let (tier, rules) = (&self.settings.tiers[tenant.tier], &self.rules[tenant.tier]);
        let (plan, rules_of_key) = if own == tenant.tier {
            (&tier.key_plan, &rules.per_key)
        } else {
            (&self.settings.tiers[own].plan, &self.rules[own].whole)
        };
        let key = (!plan.is_empty()).then(|| holder(keys.of(key_id), plan, rules_of_key));
        [Some(holder(Arc::clone(&tenant.usage), &tier.plan, &rules.whole)), key]
    }
}

/// The keys that the configuration declares, and those of the store under it.
fn keyring(settings: &Settings, principals: &Principals, before: Option<&Keyring>) -> Keyring {
    let declared = settings.tenants.iter().flat_map(|tenant| {
        let keys = tenant.keys.iter().map(|key| principals.declare(tenant, key));
        keys.collect::<Vec<_>>()
    });
    let declared: Vec<Entry> = declared.collect();
    let mut stored = Vec::new();
    if let Some(before) = before {
        for entry in &declared {
            if let Some(same) = before.get_declared(&entry.key.id) {
                let (used, previous_used) = same.key.used();
                entry.key.note_use(used, previous_used);
            }
        }
        before.for_each_stored(|entry| stored.push(principals.entry(&entry.key, &entry.terms)));
    }
    Keyring::new(settings.auth.pepper.expose().as_bytes(), declared, stored)
}

/// How a model's tokens are counted; up to `exact_bytes` of text to the last.
#[must_use]
pub fn counter(model: &Model, exact_bytes: usize) -> Counter {
    let tokenizer = model.tokenizer.as_ref().map(|found| Arc::clone(&found.tokenizer));
    Counter::new(tokenizer, model.chat_template, model.images, exact_bytes)
}

fn build_servers(pools: &[Pool], before: Option<&Stages>) -> Vec<Arc<Server>> {
    let old = before.map(|before| before.servers.as_slice()).unwrap_or_default();
    let mut servers = Vec::new();
    for pool in pools {
        for upstream in &pool.servers {
            let same = old.iter().find(|server| server.is_same_place(upstream));
            servers.push(Arc::new(Server::new(upstream, pool, same)));
        }
    }
    servers
}

fn serve(model: &Model, pools: &[Pool], servers: &[Arc<Server>]) -> ServedModel {
    let mut candidates = Vec::new();
    let mut served_as = Vec::new();
    let mut server = 0;
    for pool in pools {
        // A model named outright wins over a pattern that fits it too.
        let exact = pool.models.iter().find(|served| served.model == model.name);
        let served = exact.or_else(|| pool.models.iter().find(|served| matches(&served.model, &model.name)));
        for upstream in &pool.servers {
            if let Some(served) = served {
                candidates.push(Candidate {
                    server,
                    weight: upstream.weight,
                    max_in_flight: upstream.max_in_flight,
                    load: Arc::clone(&servers[server].load),
                });
                let name = served.served_as.as_deref().unwrap_or(&model.name);
                served_as.push(WireName { plain: name.into(), json: escape(name) });
            }
            server += 1;
        }
    }
    ServedModel { route: Route::new(candidates), served_as }
}

fn entry(model: &Model) -> catalogue::Entry {
    catalogue::Entry {
        name: model.name.as_str().into(),
        aliases: model.aliases.clone(),
        launched: model.launched.map(day),
        end_of_support: model.end_of_support.map(|last| (day(last), last.to_string())),
        successor: model.successor.clone(),
        context_length: model.context_length,
    }
}

fn day(date: NaiveDate) -> Day {
    // `NaiveDate` counts days from the year 1; ours from 1970.
    Day(date.num_days_from_ce() - 719_163)
}

/// What is kept beyond this process, and by whom.
#[derive(Debug)]
pub struct Kept {
    /// The way to the store.
    pub store: Store,
    /// The keys of the store.
    pub keys: Keys,
    /// What each request used, if that is kept.
    pub ledger: Option<Ledger>,
    /// Limits that several gateways share, if they do.
    pub shared: Option<SharedLimits>,
    /// What they share of conversations, if they do.
    pub shared_histories: Option<SharedHistories>,
    /// When the process started; the origin of every time passed to the filters.
    pub origin: Instant,
}

/// What outlives a reload.
#[derive(Debug)]
pub struct State {
    /// The configuration in force.
    pub stages: ArcSwap<Stages>,
    /// Counters for `/metrics`.
    pub metrics: Metrics,
    /// Where records go.
    pub access_log: AccessLog,
    /// Where keys and usage are kept.
    pub store: Store,
    /// The keys of the store.
    pub keys: Keys,
    /// What each request used, if that is kept.
    pub ledger: Option<Ledger>,
    /// Limits that several gateways share, if they do.
    pub shared: Option<SharedLimits>,
    /// Wrong keys by source address.
    pub guessing: Guessing,
    /// What conversations have left behind.
    pub histories: Histories,
    /// Where gateways share that, if they do.
    pub shared_histories: Option<SharedHistories>,
    /// What keys have used of their limits.
    pub usages: Usages,
    /// Requests that wait for a server.
    pub queue: Arc<Queue>,
    /// Turns to look at a long text: it takes a processor for as long, and half of them are left to other requests.
    pub long_scans: Semaphore,
    /// When the process started; the origin of every time passed to the filters.
    pub origin: Instant,
    /// Set when the process is about to stop: readiness turns false.
    pub is_draining: AtomicBool,
    /// Requests in work.
    pub in_flight: AtomicUsize,
    /// Set once every server has been checked; servers that a reload adds do not take it back.
    was_ready: AtomicBool,
}

impl State {
    /// The state of a process that starts with `stages`.
    #[must_use]
    pub fn new(stages: Stages, metrics: Metrics, access_log: AccessLog, kept: Kept) -> Self {
        let Kept { store, keys, ledger, shared, shared_histories, origin } = kept;
        Self {
            queue: Queue::new(metrics.queue.clone(), origin),
            long_scans: Semaphore::new((stages.settings.server.workers / 2).max(1)),
            histories: Histories::new(stages.settings.scan.behaviour.conversations),
            stages: ArcSwap::from_pointee(stages),
            metrics,
            access_log,
            store,
            keys,
            ledger,
            shared,
            shared_histories,
            guessing: Guessing::default(),
            usages: Usages::default(),
            origin,
            is_draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            was_ready: AtomicBool::new(false),
        }
    }

    /// Puts another configuration in force, with the keys that are known; gives the one before.
    pub fn replace(&self, settings: Settings) -> Arc<Stages> {
        let _held = self.keys.hold();
        let before = self.stages.load_full();
        self.stages.store(Arc::new(Stages::build(settings, Some(&before))));
        before
    }

    /// Time since the process started.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The time since the process started, and the time of day.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clock { now: self.now(), unix }
    }

    /// Whether the gateway should get traffic: it is not stopping, and at its start every server was checked
    /// once or needs no check.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if !self.was_ready.load(Ordering::Relaxed) {
            let is_known = self.stages.load().servers.iter().all(|server| server.is_known());
            self.was_ready.store(is_known, Ordering::Relaxed);
        }
        self.was_ready.load(Ordering::Relaxed) && !self.is_draining.load(Ordering::Relaxed)
    }
}

/// Today in UTC.
#[must_use]
pub fn today() -> Day {
    let now: DateTime<Utc> = Utc::now();
    day(now.date_naive())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_1970() {
        let date = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).expect("a date");
        assert_eq!(day(date(1970, 1, 1)), Day(0));
        assert_eq!(day(date(2026, 11, 23)), Day(20_780));
    }
}
