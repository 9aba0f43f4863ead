//! `tollgate.yaml`. Deadlines and limits have defaults that hold for streaming language models: long
//! answers, long silences, large prompts.

use crate::config::kind::{List, Maybe, OrOff, Tried, section};
use crate::config::secret::SecretWord;
use crate::config::words::{
    ANY, Flag, InputFile, Level, ListenAddress, LogTarget, Millis, Origin, OutputFile, SomeMillis, Whole,
};

/// A size in bytes; 1 TiB is more than any of them can mean.
type Bytes = Whole<1, { 1 << 40 }>;

section! {
    /// The whole file.
    GatewayFile {
        /// Worker threads, draining, upgrades.
        server: Server = "{}";
        /// Where clients connect; at least one.
        listeners: Tried<List<Listener>> = required;
        /// Metrics, health and operator endpoints, on a listener of their own; `off` for none.
        admin: OrOff<super::keys::Admin> = "{}";
        /// Bounds on what one client can make the gateway hold, and where the limits of tiers are counted.
        limits: Limits = "{}";
        /// Deadlines on the client's side.
        timeouts: Timeouts = "{}";
        /// How API keys are checked.
        auth: Tried<Auth> = required;
        /// API keys in the store: `tollgate key` and `/admin/v1/keys`.
        keys: super::keys::Keys = "{}";
        /// What is done about prompts that attack.
        scan: super::scan::Scan = "{}";
        /// Requests that wait because every server for their model is full.
        queue: Queue = "{}";
        /// How tokens are counted.
        tokens: Tokens = "{}";
        /// How event streams are kept alive.
        stream: Stream = "{}";
        /// Calls from web pages.
        cors: Cors = "{}";
        /// The gateway's own log, on standard error.
        log: Log = "{}";
        /// Where keys and usage are kept.
        storage: super::storage::Storage = "{}";
        /// How the usage of each request is kept; `off` for not at all.
        ledger: OrOff<super::ledger::Ledger> = "{}";
        /// One record for each request.
        access_log: AccessLog = "{}";
        /// What is told about the gateway's own work.
        telemetry: Telemetry = "{}";
        /// Taking up changed files without a restart; SIGHUP always does.
        reload: Reload = "{}";
    }
}

section! {
    /// Worker threads, draining, upgrades.
    Server {
        /// Threads that serve clients; 0 takes one for each core.
        workers: Whole<0, 1024> = "0";
        /// How long a stop waits for running requests before it cuts them.
        drain_timeout_ms: Millis = "300000";
        /// Between readiness turning false and the listeners closing, for load balancers that are slow to notice.
        drain_delay_ms: Millis = "0";
        /// Socket over which a new process takes over the listeners; relative to the working directory.
        upgrade_socket: OutputFile = "var/tollgate-upgrade.sock";
        /// Idle connections to servers that each worker keeps for reuse.
        upstream_keepalive: Whole<0, 65536> = "128";
    }
}

section! {
    /// One socket for clients.
    Listener {
        /// Address and port; port 0 takes a free one.
        address: ListenAddress = required;
        /// Certificate and key. One of `tls` and `cleartext: true` must be given.
        tls: Maybe<Tls> = absent "no TLS";
        /// Says that this listener is meant to be without TLS.
        cleartext: Flag = "false";
        /// HTTP/2 beside HTTP/1.1: by ALPN over TLS, by prior knowledge in cleartext.
        http2: Flag = "true";
    }
}

section! {
    /// TLS of a listener.
    Tls {
        /// PEM file with the certificate chain, the server's own certificate first; relative to the directory of
        /// this file.
        certificate: InputFile = required;
        /// PEM file with the private key; relative to the directory of this file.
        key: InputFile = required;
    }
}

section! {
    /// Bounds.
    Limits {
        /// Largest request body.
        request_body_bytes: Bytes = "33554432";
        /// Largest request header section.
        request_header_bytes: Whole<1024, { 1 << 20 }> = "32768";
        /// Deepest nesting of a JSON request body.
        json_depth: Whole<1, 256> = "128";
        /// Open client connections over all listeners.
        connections: Whole<1, ANY> = "20000";
        /// Open client connections from one address.
        connections_per_address: Whole<1, ANY> = "2000";
        /// Largest answer that is held whole to be counted; a larger one is passed on uncounted.
        answer_buffer_bytes: Bytes = "33554432";
        /// Largest event of a stream that is read; a larger one is passed on uncounted.
        event_bytes: Bytes = "1048576";
        /// Where the limits of tiers are counted: in each gateway's `memory`, or in a Valkey or Redis that several
        /// gateways share. Of several servers the first that is in charge is taken. Taken when the gateway starts.
        store: Tried<super::shared::StoreKind> = "memory";
        /// How limits are shared. Taken when the gateway starts.
        shared: super::shared::Shared = "{}";
    }
}

section! {
    /// Counting tokens.
    Tokens {
        /// Text of one request, or of one answer, that is counted to the last token with a model's tokenizer; of more,
        /// as much is counted as a sample. It bounds how long a worker is held up.
        exact_bytes: Bytes = "65536";
    }
}

section! {
    /// Deadlines on the client's side.
    Timeouts {
        /// From the first byte of a request to the end of its header section.
        request_header_ms: SomeMillis = "10000";
        /// From the end of the header section to the end of the body.
        request_body_ms: SomeMillis = "60000";
        /// A client connection that is idle for this long is closed.
        keepalive_ms: SomeMillis = "60000";
        /// One write to a client.
        client_write_ms: SomeMillis = "30000";
    }
}

section! {
    /// API keys.
    Auth {
        /// Secret that keys the hashes of API keys. Changing it makes every `hash` in tenants.yaml invalid.
        pepper: SecretWord = required;
        /// Wrong keys from one address before its further refusals are slowed.
        failures_per_minute: Whole<0, 1_000_000> = "10";
        /// The longest such delay.
        failure_delay_max_ms: Millis = "2000";
    }
}

section! {
    /// Waiting for a server. Only servers with `max_in_flight` can be full.
    Queue {
        /// Requests that may wait, over all models; 0 refuses at once. When it is full, those of the lowest priority go,
        /// and of the tenant that has most waiting.
        length: Whole<0, 1_000_000> = "1000";
        /// How long one may wait before it is refused with 503 `overloaded`.
        wait_ms: SomeMillis = "10000";
    }
}

section! {
    /// Event streams.
    Stream {
        /// Silence after which a comment is sent on an event stream; 0 never sends one.
        keepalive_comment_ms: Millis = "15000";
        /// Send that comment also before the server's first byte. It commits the answer, so a server that then fails
        /// can no longer be replaced by another.
        keepalive_before_first_byte: Flag = "false";
    }
}

section! {
    /// Browsers.
    Cors {
        /// Origins whose pages may call; `*` allows all, an empty list none.
        allow_origins: List<Origin> = "[]";
    }
}

section! {
    /// The gateway's own log.
    Log {
        /// Least severe level that is logged.
        level: Level = "info";
    }
}

section! {
    /// The access log.
    AccessLog {
        /// Where records go: `stdout`, `off`, or a file relative to the working directory.
        target: LogTarget = "stdout";
        /// A file that has grown to this size is rotated.
        rotate_bytes: Whole<1, ANY> = "104857600";
        /// A file that is this old is rotated.
        rotate_age_s: Whole<1, 315_360_000> = "86400";
        /// Rotated files that are kept.
        keep_files: Whole<0, 100_000> = "14";
    }
}

section! {
    /// What is told about the gateway's own work.
    Telemetry {
        /// Send `server-timing` with every answer: milliseconds for each stage.
        server_timing: Flag = "false";
    }
}

section! {
    /// Reload.
    Reload {
        /// Reload when a configuration file changes.
        watch: Flag = "true";
        /// How often the files are looked at.
        interval_ms: Whole<10, 3_600_000> = "1000";
    }
}
