//! `tollgate key`: API keys in the store, without a gateway running or beside any number of them, which take a change
//! within `keys.poll_ms`. A secret is shown once. What is said about a key is checked as `/admin/v1/keys` checks it.

mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value as Json, json};
use tollgate_filters::units::Moment;

use crate::calendar;
use crate::config::{self, Settings, hash_key};
use crate::keys::actions::{self, KeyError};
use crate::keys::record::{KeySpec, Life, Record};
use crate::keys::secret;
use crate::store::keys::{self as store, Filter};
use crate::store::{Connection, StoreError};

/// Wrong use or bad configuration.
const BAD: u8 = 2;
/// Keys read from the store at a time.
const PAGE: i64 = 1_000;

/// Options of `tollgate key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
    /// Folder of the configuration files.
    #[arg(long, global = true, default_value = "conf", value_name = "DIR")]
    conf: PathBuf,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and show it once.
    Create(CreateArgs),
    /// List keys.
    List(ListArgs),
    /// Show one key.
    Show(OneArgs),
    /// Give a key a new secret; the old one works on for a grace period.
    Rotate(RotateArgs),
    /// End a key for good, on every gateway within a second.
    Revoke(OneArgs),
    /// Set the end of a key.
    Expire(ExpireArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    /// Public id of the key: the part between the first and the second underscore.
    id: String,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Tenant that the key is for.
    #[arg(long)]
    tenant: String,
    /// Public id of the key: 4 to 32 of a-z and 0-9. Default: 12 random ones.
    #[arg(long)]
    id: Option<String>,
    /// Tier of tiers.yaml. Default: the tenant's.
    #[arg(long)]
    tier: Option<String>,
    /// Model that it may use, or a pattern with `*`; may be repeated. Default: all of the tenant's.
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// Endpoint that it may call, such as chat_completions; may be repeated. Default: all.
    #[arg(long = "endpoint", value_name = "NAME")]
    endpoints: Vec<String>,
    /// Network from which it may be used, such as 192.0.2.0/24; may be repeated. Default: all of the tenant's.
    #[arg(long = "source-network", value_name = "NETWORK")]
    source_networks: Vec<String>,
    /// Last day, or moment of its end: 2026-12-31 or 2026-12-31T18:00:00Z. Default: never.
    #[arg(long)]
    expires: Option<String>,
    /// Something to remember of it; may be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Seconds after which a new secret is due. Default: never.
    #[arg(long, value_name = "SECONDS")]
    rotate_every: Option<u64>,
    /// Seconds that a replaced secret works on. Default: keys.rotation_grace_s.
    #[arg(long, value_name = "SECONDS")]
    rotation_grace: Option<u64>,
    /// Leave the store alone, and show what to write into tenants.yaml instead.
    #[arg(long, conflicts_with_all = ["rotate_every", "rotation_grace", "labels"])]
    declare: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Of this tenant only.
    #[arg(long)]
    tenant: Option<String>,
    /// In this part of their life only.
    #[arg(long)]
    state: Option<LifeName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LifeName {
    Active,
    Rotating,
    Expired,
    Revoked,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// Public id of the key.
    id: String,
    /// Seconds that the old secret works on. Default: the key's rotation_grace_s, or keys.rotation_grace_s.
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,
    /// Also while the last rotation is under way; the secret before last ends at once.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct ExpireArgs {
    /// Public id of the key.
    id: String,
    /// When: 2026-12-31, 2026-12-31T18:00:00Z, or `never`. Default: now.
    #[arg(long)]
    at: Option<String>,
}

/// Why the command was not done.
enum Stop {
    /// Wrong use: exit code 2.
    Wrong(String),
    /// It failed: exit code 1.
    Failed(String),
}

impl From<KeyError> for Stop {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unknown(_) | KeyError::Conflict(_) | KeyError::Field(_) => {
                Self::Wrong(error.to_string())
            }
            KeyError::NoRandom | KeyError::Store(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the command. Gives the exit code.
#[must_use]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the command is for")]
pub fn run(args: &KeyArgs) -> u8 {
    let settings = match config::load(&args.conf) {
        Ok(settings) => settings,
        Err(faults) => {
            eprintln!("{faults}");
            return BAD;
        }
    };
    let (message, code) = match answer(args, &settings) {
        Ok(text) => {
            print!("{text}");
            return 0;
        }
        Err(Stop::Wrong(message)) => (message, BAD),
        Err(Stop::Failed(message)) => (message, 1),
    };
    if args.json {
        println!("{}", json!({"error": message}));
    } else {
        eprintln!("tollgate key: {message}");
    }
    code
}

/// What the command prints.
fn answer(args: &KeyArgs, settings: &Settings) -> Result<String, Stop> {
    let now = calendar::now();
    let open = || Connection::open(&settings.storage);
    let pepper = &settings.auth.pepper;
    let (record, key) = match &args.command {
        KeyCommand::Create(create) if create.declare => return declare(create, settings, args.json),
        KeyCommand::List(list) => return listed(list, settings, args.json),
        KeyCommand::Show(one) => match declared(&one.id, settings) {
            Some(json) => return Ok(show::one(&json, None, args.json)),
            None => (actions::get(&mut open()?, &one.id)?, None),
        },
        KeyCommand::Create(create) => {
            let spec = spec(create, settings)?;
            let id = create.id.as_deref();
            id.map_or(Ok(()), |id| not_declared(id, settings))?;
            let (record, key) = actions::create(&mut open()?, id, &spec, pepper, now)?;
            (record, Some(key))
        }
        KeyCommand::Rotate(RotateArgs { id, grace, force }) => {
            not_declared(id, settings)?;
            let mut connection = open()?;
            let before = actions::get(&mut connection, id)?;
            let grace = grace.unwrap_or_else(|| before.spec.grace_s(settings));
            let (record, key) = actions::rotate(&mut connection, id, grace, *force, pepper, now)?;
            (record, Some(key))
        }
        KeyCommand::Revoke(OneArgs { id }) => {
            not_declared(id, settings)?;
            (actions::revoke(&mut open()?, id, now)?, None)
        }
        KeyCommand::Expire(ExpireArgs { id, at }) => {
            not_declared(id, settings)?;
            let at = end(at.as_deref(), now)?;
            (actions::expire(&mut open()?, id, at, now)?, None)
        }
    };
    Ok(show::one(&record.to_json(now), key.as_deref(), args.json))
}

/// When a key shall end.
fn end(at: Option<&str>, now: Moment) -> Result<Option<Moment>, Stop> {
    match at {
        None => Ok(Some(now)),
        Some("never") => Ok(None),
        Some(text) => match calendar::parse_end(text) {
            Some(moment) => Ok(Some(moment)),
            None => Err(Stop::Wrong(format!("--at: expected {}, or `never`, found {text:?}", calendar::END))),
        },
    }
}

/// What the options say about a new key.
fn spec(create: &CreateArgs, settings: &Settings) -> Result<KeySpec, Stop> {
    let mut labels = Map::new();
    for label in &create.labels {
        let Some((name, value)) = label.split_once('=') else {
            return Err(Stop::Wrong(format!("--label: expected NAME=VALUE, found {label:?}")));
        };
        labels.insert(name.to_owned(), value.into());
    }
    let some = |list: &[String]| if list.is_empty() { Json::Null } else { json!(list) };
    let fields = json!({
        "tenant": create.tenant,
        "tier": create.tier,
        "models": some(&create.models),
        "endpoints": some(&create.endpoints),
        "source_networks": some(&create.source_networks),
        "expires": create.expires,
        "labels": labels,
        "rotate_every_s": create.rotate_every,
        "rotation_grace_s": create.rotation_grace,
    });
    let spec = KeySpec::read(fields.as_object().unwrap_or(&Map::new())).map_err(KeyError::Field)?;
    spec.check(settings, None, calendar::now()).map_err(KeyError::Field)?;
    Ok(spec)
}

/// A key that goes into tenants.yaml and not into the store.
fn declare(create: &CreateArgs, settings: &Settings, is_json: bool) -> Result<String, Stop> {
    let spec = spec(create, settings)?;
    let id = match &create.id {
        Some(id) if secret::is_id(id) => id.clone(),
        Some(id) => return Err(Stop::Wrong(format!("--id: expected 4 to 32 of a-z and 0-9, found {id:?}"))),
        None => secret::new_id().map_err(KeyError::from)?,
    };
    not_declared(&id, settings)?;
    let key = secret::new_key(&id).map_err(KeyError::from)?;
    let hash = hash_key(&settings.auth.pepper, &key);
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(show::declaration(&id, &key, &format!("hmac-sha256:{hash}"), &spec, is_json))
}

fn listed(list: &ListArgs, settings: &Settings, is_json: bool) -> Result<String, Stop> {
    let now = calendar::now();
    let life = list.state.map(|state| match state {
        LifeName::Active => Life::Active,
        LifeName::Rotating => Life::Rotating,
        LifeName::Expired => Life::Expired,
        LifeName::Revoked => Life::Revoked,
    });
    let mut connection = Connection::open(&settings.storage)?;
    let mut filter = Filter { tenant: list.tenant.clone(), life, after: String::new() };
    let mut keys: Vec<Json> = declared_keys(settings)
        .filter(|key| filter.tenant.as_deref().is_none_or(|tenant| key["tenant"] == tenant))
        .filter(|key| life.is_none_or(|life| key["state"] == life.label()))
        .collect();
    loop {
        let page: Vec<Record> = store::list(&mut connection, &filter, now, PAGE)?;
        keys.extend(page.iter().map(|record| record.to_json(now)));
        match page.last() {
            Some(last) if page.len() as i64 == PAGE => filter.after.clone_from(&last.id),
            _ => break,
        }
    }
    keys.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    Ok(show::table(&keys, is_json))
}

/// The keys that tenants.yaml declares.
fn declared_keys(settings: &Settings) -> impl Iterator<Item = Json> {
    let principals = crate::principals::Principals::new(settings);
    let now = calendar::now();
    let keys = settings.tenants.iter().flat_map(|tenant| tenant.keys.iter().map(move |key| (tenant, key)));
    let keys: Vec<Json> = keys
        .map(|(tenant, key)| crate::keys::record::declared_json(&principals.declare(tenant, key), now))
        .collect();
    keys.into_iter()
}

fn declared(id: &str, settings: &Settings) -> Option<Json> {
    declared_keys(settings).find(|key| key["id"] == id)
}

fn not_declared(id: &str, settings: &Settings) -> Result<(), Stop> {
    match declared(id, settings) {
        Some(_) => Err(Stop::Wrong(format!("the key {id:?} is declared in tenants.yaml; change it there"))),
        None => Ok(()),
    }
}
