//! `limits.store` and `limits.shared` of tollgate.yaml: where limits are counted that several gateways share.

use serde_json::{Value as Json, json};
use tollgate_filters::request::quota::WhenDown;

use crate::config::fault::{At, Faults, Place};
use crate::config::kind::{Kind, List, Listed, Maybe, Shape, Word, choice, section};
use crate::config::node::{Node, Value};
use crate::config::secret::SecretWord;
use crate::config::words::{InputFile, Name, Whole};

section! {
    /// How limits are shared.
    Shared {
        /// Name of a user of the store.
        user: Maybe<SecretWord> = absent "the default user";
        /// Password for the store.
        password: Maybe<SecretWord> = absent "no password";
        /// PEM file of authorities to trust instead of the system's where the URLs begin with `rediss://`, relative to
        /// the directory of this file.
        ca: Maybe<InputFile> = absent "those of the system";
        /// The servers of `store` are Sentinels, and this is what they call the one that is in charge.
        sentinel_master: Maybe<Name> = absent "the servers are stores";
        /// Password for the Sentinels.
        sentinel_password: Maybe<SecretWord> = absent "no password";
        /// What part of a limit a gateway takes ahead, so that it need not ask for each request.
        slice_percent: Whole<1, 50> = "5";
        /// How long a request waits for the store. A store that answers nothing for as long is away, and no request waits
        /// until it answers again.
        timeout_ms: Whole<1, 10_000> = "50";
        /// What happens to requests while the store is away: `open` lets them go on, each gateway with its part of the
        /// limit; `closed` refuses them with 503. Tiers may say otherwise.
        when_down: WhenDownName = "open";
        /// How many gateways there are at least. Their parts are by this number until more have been seen.
        gateways: Whole<1, 10_000> = "1";
    }
}

choice! {
    /// What happens to requests while the store is away.
    WhenDownName -> WhenDown { "open" => WhenDown::Open, "closed" => WhenDown::Closed }
}

/// Where limits are counted, as it was written.
#[derive(Debug)]
pub(crate) enum Store {
    /// In each gateway's memory.
    Memory,
    /// In one of these servers, or in what these Sentinels say.
    Servers(Listed<StoreUrl>),
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreUrl {
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) database: u32,
    pub(crate) is_tls: bool,
}

/// Where limits are counted, as a kind of value.
pub(crate) enum StoreKind {}

impl Kind for StoreKind {
    type Value = Store;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<Store> {
        match &node.value {
            Value::Text(text) if text == "memory" => Some(Store::Memory),
            Value::List(_) => List::<StoreUrlWord>::read(node, place, faults).map(Store::Servers),
            _ => {
                let value = StoreUrlWord::read(node, place, faults)?;
                let items = vec![At { value, place: place.clone() }];
                Some(Store::Servers(Listed { items, lost: Vec::new() }))
            }
        }
    }

    fn shape() -> Shape {
        let list = Box::new(Shape::List(Box::new(StoreUrlWord::shape())));
        let servers = Shape::Or { words: URL.to_owned(), schema: StoreUrlWord::schema(), inner: list };
        let memory = json!({ "const": "memory" });
        Shape::Or { words: "`memory`".to_owned(), schema: memory, inner: Box::new(servers) }
    }
}

const URL: &str = "a URL such as redis://host:6379/0 or rediss://host:6379, without user and password";

/// A server's URL, as a kind of value.
pub(crate) enum StoreUrlWord {}

impl Word for StoreUrlWord {
    type Value = StoreUrl;
    // Somebody will write the password here.
    const HIDDEN: bool = true;

    fn words() -> String {
        URL.to_owned()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^rediss?://([A-Za-z0-9._-]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]+)?(/[0-9]*)?$" })
    }

    fn parse(text: &str) -> Option<StoreUrl> {
        let (is_tls, rest) = match text.strip_prefix("rediss://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("redis://")?),
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { 0 } else { database.parse().ok()? };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        let port = match port {
            Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
            None => None,
        };
        (!host.is_empty() && host.bytes().all(is_name)).then(|| StoreUrl {
            host: host.to_owned(),
            port,
            database,
            is_tls,
        })
    }
}
