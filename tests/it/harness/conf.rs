//! The configuration of one test: defaults that a test need not know, and one call to change any key.
//! It is kept as a tree and written as JSON, which is YAML; files in block style are tested where `conf/` is.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

/// The key that every test uses unless it is about keys. Of tenant `acme`.
pub(crate) const KEY: &str = "tg_main_0123456789abcdefghijABCDEFGHIJ0123456789abc";
/// A key of another tenant, `other`, which may use `hidden-model` only.
pub(crate) const OTHER_KEY: &str = "tg_other_ABCDEFGHIJ0123456789abcdefghij0123456789abc";
/// The model that tests ask for unless they are about models.
pub(crate) const MODEL: &str = "test-model";

/// What the gateway will find in its configuration directory.
#[derive(Debug, Clone)]
pub(crate) struct Conf {
    files: Value,
    keys: Vec<(String, String)>,
}

impl Conf {
    /// No server yet: add one with [`Conf::server`].
    pub(crate) fn new() -> Self {
        let files = json!({
            "tollgate": {
                "server": {"workers": 2, "drain_timeout_ms": 10_000, "drain_delay_ms": 0},
                "listeners": [{"address": "127.0.0.1:0", "cleartext": true, "http2": true}],
                "admin": {"address": "127.0.0.1:0"},
                "limits": {"connections": 4000, "connections_per_address": 4000},
                // Tests of wrong keys ask often from one address; the slowing has a test of its own.
                "auth": {"failures_per_minute": 100_000},
                // Tests say the same thing many times over; that this is an attack has a test of its own.
                "scan": {"behaviour": {"repeats": 1_000_000}},
                "log": {"level": "info"},
                "reload": {"watch": false}
            },
            "upstreams": {"pools": [{
                "name": "main", "models": ["*"], "servers": [],
                "health": {
                    "probe": "http", "path": "/health", "interval_ms": 50, "timeout_ms": 1000,
                    "healthy_after": 2, "unhealthy_after": 2
                },
                "retry": {"attempts": 3, "budget_percent": 100}
            }]},
            "models": {"models": models()},
            "tiers": {"tiers": [{"name": "free-flow", "default_max_tokens": 256}]},
            "tenants": {"tenants": [
                {"name": "acme", "tier": "free-flow", "models": ["test-*", "org/*", "old-model", "rec/*"], "keys": []},
                {"name": "other", "tier": "free-flow", "models": ["hidden-model"], "keys": []}
            ]}
        });
        Self { files, keys: Vec::new() }.key(0, "main", KEY).key(1, "other", OTHER_KEY)
    }

    /// One server behind the gateway, called `s0`.
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::new().server(address)
    }

    /// One more server, called `s` and its number.
    pub(crate) fn server(self, address: SocketAddr) -> Self {
        self.server_with(address, json!({}))
    }

    /// One more server with these keys as well.
    pub(crate) fn server_with(mut self, address: SocketAddr, more: Value) -> Self {
        let servers = self.at("upstreams.pools.0.servers").as_array_mut().expect("a list");
        let mut server = json!({"name": format!("s{}", servers.len()), "address": address.to_string()});
        let more = more.as_object().expect("keys of a server").clone();
        server.as_object_mut().expect("a mapping").extend(more);
        servers.push(server);
        self
    }

    /// One more key for the tenant of this number.
    pub(crate) fn key(mut self, tenant: usize, id: &str, key: &str) -> Self {
        let keys = self.at(&format!("tenants.tenants.{tenant}.keys")).as_array_mut().expect("a list");
        // The path becomes whole when the directory is known.
        keys.push(json!({"id": id, "secret": format!("file:{id}.key")}));
        self.keys.push((id.to_owned(), key.to_owned()));
        self
    }

    /// Sets the key at a path of names and numbers, e.g. `tollgate.limits.json_depth`, making what lies on the way.
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        *self.at(path) = value.into();
        self
    }

    /// Sets a deadline of the pool.
    pub(crate) fn pool_timeout(self, name: &str, milliseconds: u64) -> Self {
        self.set(&format!("upstreams.pools.0.timeouts.{name}"), milliseconds)
    }

    fn at(&mut self, path: &str) -> &mut Value {
        let mut place = &mut self.files;
        for step in path.split('.') {
            place = match step.parse::<usize>() {
                Ok(index) => place.get_mut(index).unwrap_or_else(|| panic!("{path}: nothing at {index}")),
                Err(_) => {
                    if place.is_null() {
                        *place = json!({});
                    }
                    &mut place[step]
                }
            };
        }
        place
    }

    /// Writes every file into `folder`.
    pub(crate) fn write(&self, folder: &Path) {
        let mut files = self.files.clone();
        let file = |name: &str| format!("file:{}", folder.join(name).display());
        for tenant in files["tenants"]["tenants"].as_array_mut().expect("a list") {
            for key in tenant["keys"].as_array_mut().expect("a list") {
                if let Some(name) = key["secret"].as_str().and_then(|secret| secret.strip_prefix("file:")) {
                    key["secret"] = file(name).into();
                }
            }
        }
        let main = &mut files["tollgate"];
        main["auth"]["pepper"] = file("pepper").into();
        main["server"]["upgrade_socket"] = folder.join("upgrade.sock").display().to_string().into();
        if main["storage"]["url"].is_null() {
            main["storage"]["url"] = format!("sqlite:{}", folder.join("tollgate.db").display()).into();
        }
        if main["keys"]["snapshot"].is_null() {
            main["keys"]["snapshot"] = folder.join("keys.snapshot").display().to_string().into();
        }
        if main["ledger"]["journal"].is_null() && main["ledger"] != "off" {
            main["ledger"]["journal"] = folder.join("ledger").display().to_string().into();
        }
        if main["access_log"]["target"].is_null() {
            main["access_log"]["target"] = folder.join("access.log").display().to_string().into();
        }
        write(&folder.join("pepper"), "an-unguessable-pepper-of-the-tests-0123456789");
        for (id, key) in &self.keys {
            write(&folder.join(format!("{id}.key")), key);
        }
        for (name, content) in files.as_object().expect("a mapping of files") {
            let text = serde_json::to_string_pretty(content).expect("a tree can be written");
            write(&folder.join(format!("{name}.yaml")), &text);
        }
    }
}

fn write(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    // 0600, since a gateway may refuse to read secrets that others can read.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.write_all(text.as_bytes()).expect("the disk has room");
}

fn models() -> Value {
    json!([
        {"name": MODEL, "aliases": ["test-alias"], "publisher": "Tests", "launched": "2024-01-01",
         "context_length": 8192, "prices": {"input": 0.9, "output": 4.0, "reasoning": 21.0}},
        {"name": "test-embed", "publisher": "Tests"},
        {"name": "org/slash-model", "publisher": "Tests"},
        {"name": "old-model", "publisher": "Tests", "launched": "2019-01-01", "end_of_support": "2020-01-01",
         "successor": MODEL},
        {"name": "hidden-model", "publisher": "Tests"}
    ])
}
