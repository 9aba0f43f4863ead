//! `upstreams.yaml`. Deadlines are split by what a server is doing (connecting, reading the prompt, writing
//! tokens), because one number for all of it is either too short for a long prompt or too long for a dead server.

use crate::config::fault::{At, Faults, Place};
use crate::config::kind::{Kind, List, Maybe, Shape, section};
use crate::config::node::{Node, Value};
use crate::config::secret::SecretWord;
use crate::config::words::{
    EngineName, Flag, HostPort, InputFile, Millis, Name, Pattern, ProbeName, SomeMillis, Text, UrlPath, Whole,
};

section! {
    /// The whole file.
    UpstreamsFile {
        /// Pools of servers.
        pools: List<Pool> = "[]";
    }
}

section! {
    /// Servers that share models and policies.
    Pool {
        /// Unique name.
        name: Name = required;
        /// Catalogue models that the servers serve: names, patterns with `*`, or `{model, served_as}`.
        models: List<Served> = required;
        /// At least one.
        servers: List<Server> = required;
        /// Active checks.
        health: Health = "{}";
        /// What live traffic teaches about a server.
        passive: Passive = "{}";
        /// Deadlines towards the servers.
        timeouts: Timeouts = "{}";
        /// Failover.
        retry: Retry = "{}";
    }
}

section! {
    /// A model whose name differs on the servers.
    ServedModel {
        /// Catalogue name, or a pattern with `*`.
        model: Pattern = required;
        /// The name by which the servers know it.
        served_as: Maybe<Text> = absent "the catalogue name";
    }
}

/// A model of a pool: just its name, or a `ServedModel`.
pub(crate) enum Served {}

impl Kind for Served {
    type Value = ServedModel;

    fn read(node: &Node, place: &Place, faults: &mut Faults) -> Option<ServedModel> {
        if matches!(node.value, Value::Map(_)) {
            return ServedModel::read(node, place, faults);
        }
        let at = |value| At { value, place: place.clone() };
        let served_as = At { value: None, place: place.clone() };
        Pattern::read(node, place, faults).map(|model| ServedModel { model: at(model), served_as })
    }

    fn shape() -> Shape {
        let Shape::Scalar { words, schema, .. } = Pattern::shape() else {
            unreachable!("a pattern is written as one word")
        };
        Shape::Or { words, schema, inner: Box::new(ServedModel::shape()) }
    }
}

section! {
    /// One inference server.
    Server {
        /// Unique over all pools; the `server` label of metrics and records.
        name: Name = required;
        /// `host:port`; an IPv6 address in brackets.
        address: HostPort = required;
        /// What runs there.
        engine: EngineName = "openai";
        /// Share of the traffic, relative to the pool's other servers.
        weight: Whole<1, 1_000_000> = "1";
        /// HTTP/2 towards the server (by prior knowledge where there is no TLS).
        http2: Flag = "false";
        /// TLS towards the server; `{}` for TLS with the defaults.
        tls: Maybe<Tls> = absent "no TLS";
        /// Secret that is sent to the server as `Authorization: Bearer`.
        credential: Maybe<SecretWord> = absent "none is sent";
        /// Most requests at a time; 0 is no limit.
        max_in_flight: Whole<0, 1_000_000> = "0";
    }
}

section! {
    /// TLS towards a server.
    Tls {
        /// Name that the certificate must hold, a host name or an IP address.
        server_name: Maybe<Text> = absent "the host of `address`";
        /// PEM file of authorities to trust instead of the system's; relative to the directory of this file.
        ca: Maybe<InputFile> = absent "the system's authorities";
        /// Check the certificate. Switch it off only in tests.
        verify: Flag = "true";
    }
}

section! {
    /// Active checks.
    Health {
        /// `http` asks for `path` and expects 200, `tcp` opens a connection, `off` does nothing.
        probe: ProbeName = "http";
        /// What an `http` probe asks for.
        path: Maybe<UrlPath> = absent "the engine's own health path";
        /// Between two checks.
        interval_ms: Whole<10, 3_600_000> = "5000";
        /// One check.
        timeout_ms: SomeMillis = "5000";
        /// Successes in a row that bring a server back.
        healthy_after: Whole<1, 1000> = "1";
        /// Failures in a row that take a server out.
        unhealthy_after: Whole<1, 1000> = "2";
    }
}

section! {
    /// What live traffic teaches about a server.
    Passive {
        /// Failures in a row that eject a server; 0 never does.
        failures: Whole<0, 1000> = "3";
        /// First ejection; each further one in a row lasts twice as long.
        eject_ms: SomeMillis = "5000";
        /// Longest ejection.
        eject_max_ms: SomeMillis = "60000";
    }
}

section! {
    /// Deadlines towards the servers.
    Timeouts {
        /// TCP and TLS.
        connect_ms: SomeMillis = "2000";
        /// One write of the request.
        write_ms: SomeMillis = "30000";
        /// Streamed requests: from the request sent to the answer's headers.
        headers_ms: SomeMillis = "60000";
        /// Streamed requests: from the headers to the first byte, and from there to the first token.
        first_token_ms: SomeMillis = "120000";
        /// Added to `headers_ms` and `first_token_ms` for each 1,000 tokens of prompt.
        prefill_ms_per_1k_tokens: Millis = "500";
        /// Streamed requests: between two events.
        between_tokens_ms: SomeMillis = "60000";
        /// Requests that are not streamed: from the request sent to the answer complete.
        answer_ms: SomeMillis = "600000";
    }
}

section! {
    /// Failover.
    Retry {
        /// Servers tried for one request, the first included.
        attempts: Whole<1, 16> = "3";
        /// Retries allowed as a share of requests; ten a second are always allowed.
        budget_percent: Whole<0, 100> = "25";
    }
}
