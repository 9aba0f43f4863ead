//! Counters for Prometheus. Labels come from closed sets only: names out of the configuration, and enums; never
//! a key, a prompt, an address or what a client wrote. Everything is counted once, when a request settles; the
//! gaps between tokens are collected in the request and added as a whole, so that no event touches a shared
//! cache line.

mod keys;
mod limits;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, TextEncoder,
};
use tollgate_filters::response::usage::{Charge, Source};

use self::keys::KeyGauges;
use self::limits::LimitsGauges;
use crate::record::Record;
use crate::state::State;

/// Upper bounds of time histograms for whole requests, seconds: 5 ms to 10 min.
const DURATION_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Upper bounds for output speed, tokens a second.
const SPEED_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 120.0, 160.0, 240.0, 480.0];

/// All of the gateway's metrics.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    scans: IntCounterVec,
    scan_rules: IntCounterVec,
    scan_aside: IntCounterVec,
    scan_unread: IntCounterVec,
    scan_texts: IntCounterVec,
    output_scans: IntCounterVec,
    tokens: IntCounterVec,
    compared: IntCounterVec,
    miscounted: IntCounterVec,
    /// Answers whose tokens nobody counted.
    pub unmetered: IntCounter,
    cost: CounterVec,
    energy: CounterVec,
    duration: HistogramVec,
    ttft: HistogramVec,
    speed: HistogramVec,
    itl: GapHistogram,
    /// Attempts by server and how they went.
    pub attempts: IntCounterVec,
    /// Attempts beyond a request's first.
    pub retries: IntCounter,
    /// Open client connections.
    pub connections: IntGauge,
    /// Connections that were not served, by reason.
    pub connections_refused: IntCounterVec,
    /// Requests under a secret that a rotation has replaced.
    pub previous_secrets: IntCounterVec,
    /// Secrets made on schedule.
    pub key_rotations: IntCounter,
    /// Events by whether they were taken.
    pub webhooks: IntCounterVec,
    keys: KeyGauges,
    limits: LimitsGauges,
    /// Reloads by result.
    pub reloads: IntCounterVec,
    /// When a configuration was last taken, seconds since 1970.
    pub reloaded_at: Gauge,
    /// Client gone → work for it stopped, seconds.
    in_flight: IntGauge,
    records_dropped: IntGauge,
    store_up: IntGauge,
    store_errors: IntGauge,
    ledger_stored: IntGauge,
    ledger_lost: IntGauge,
    ledger_rejected: IntGauge,
    ledger_waiting: IntGauge,
    ledger_pending: IntGauge,
    server_up: GaugeVec,
    server_in_flight: GaugeVec,
    tenant_in_flight: GaugeVec,
    tenant_reserved: GaugeVec,
    keys_tracked: IntGauge,
    /// Waiting for servers.
    pub queue: QueueMetrics,
    queue_depth: GaugeVec,
}

/// Waiting for servers.
#[derive(Clone)]
pub struct QueueMetrics {
    waits: HistogramVec,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// If a metric is declared wrongly, which a test would have shown.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
            requests: counter(
                r,
                "tollgate_requests_total",
                "Requests by how they ended.",
                &["tenant", "model", "endpoint", "status", "outcome"],
            )?,
            refusals: counter(r, "tollgate_refusals_total", "Error answers by their code.", &["code"])?,
            scans: counter(
                r,
                "tollgate_scans_total",
                "Prompts by what the scanner made of them: allow, flag, block, exempt, over_budget; off where it did not look.",
                &["tenant", "verdict"],
            )?,
            scan_rules: counter(
                r,
                "tollgate_scan_rules_total",
                "Prompts and answers in which a rule counted, by the rule's id.",
                &["rule"],
            )?,
            scan_aside: counter(
                r,
                "tollgate_scan_aside_total",
                "Prompts in which a rule did not count, by the rule's id and why: exempt or ignored.",
                &["rule", "why"],
            )?,
            scan_unread: counter(
                r,
                "tollgate_scan_unread_bytes_total",
                "Bytes of text beyond the scanner's budget, which passed without being looked at.",
                &["tenant"],
            )?,
            scan_texts: counter(
                r,
                "tollgate_scan_texts_total",
                "Texts of prompts: looked_at, or remembered from another request of the same tenant.",
                &["source"],
            )?,
            output_scans: counter(
                r,
                "tollgate_output_scans_total",
                "Answers that were looked at by what was made of them: allow, flag, redact, stop, exempt.",
                &["tenant", "verdict"],
            )?,
            tokens: counter(
                r,
                "tollgate_tokens_total",
                "Tokens by kind and by who counted them; output is without reasoning; cached_input and system are parts of input.",
                &["tenant", "model", "kind", "source"],
            )?,
            compared: counter(
                r,
                "tollgate_compared_tokens_total",
                "Tokens of requests that server and gateway both counted, by who did: reported, counted.",
                &["model", "kind", "by"],
            )?,
            miscounted: counter(
                r,
                "tollgate_miscounted_tokens_total",
                "How far the gateway's count was from the server's, added up over requests without regard to sign.",
                &["model", "kind"],
            )?,
            unmetered: registered(
                r,
                IntCounter::new(
                    "tollgate_unmetered_requests_total",
                    "Answers that went out without anybody counting all of their tokens. Must stay 0.",
                )?,
            )?,
            cost: float_counter(r, "tollgate_cost_eur_total", "Price of the tokens.", &["tenant", "model"])?,
            energy: float_counter(
                r,
                "tollgate_energy_kwh_total",
                "Energy of the tokens, for models whose energy is known.",
                &["tenant", "model"],
            )?,
            duration: histogram(
                r,
                "tollgate_request_duration_seconds",
                "Headers read to end of the request.",
                &["endpoint", "outcome"],
                DURATION_BUCKETS,
            )?,
            ttft: histogram(
                r,
                "tollgate_time_to_first_token_seconds",
                "Headers read to first event with content handed to the client.",
                &["model"],
                DURATION_BUCKETS,
            )?,
            speed: histogram(
                r,
                "tollgate_output_tokens_per_second",
                "Output tokens a second after the first one, per streamed request.",
                &["model"],
                SPEED_BUCKETS,
            )?,
            itl: GapHistogram::new()?,
            attempts: counter(
                r,
                "tollgate_upstream_attempts_total",
                "Attempts by server and how they went.",
                &["server", "result"],
            )?,
            retries: registered(
                r,
                IntCounter::new("tollgate_upstream_retries_total", "Attempts beyond a request's first.")?,
            )?,
            connections: registered(
                r,
                IntGauge::new("tollgate_open_connections", "Open client connections.")?,
            )?,
            connections_refused: counter(
                r,
                "tollgate_connections_refused_total",
                "Client connections that were not served.",
                &["reason"],
            )?,
            previous_secrets: counter(
                r,
                "tollgate_auth_previous_secret_total",
                "Requests under a secret that a rotation has replaced, which will stop working.",
                &["tenant"],
            )?,
            key_rotations: registered(
                r,
                IntCounter::new(
                    "tollgate_key_rotations_total",
                    "Secrets of keys that were made on schedule.",
                )?,
            )?,
            webhooks: counter(
                r,
                "tollgate_webhooks_total",
                "Events by whether the webhook took them: ok, failed.",
                &["result"],
            )?,
            keys: KeyGauges::new(r)?,
            limits: LimitsGauges::new(r)?,
            reloads: counter(r, "tollgate_config_reloads_total", "Reloads by result.", &["result"])?,
            reloaded_at: registered(
                r,
                Gauge::new(
                    "tollgate_config_last_reload_success_timestamp_seconds",
                    "When the configuration in force was taken.",
                )?,
            )?,
            in_flight: registered(r, IntGauge::new("tollgate_requests_in_flight", "Requests in work.")?)?,
            records_dropped: registered(
                r,
                IntGauge::new("tollgate_records_dropped", "Access records that could not be written.")?,
            )?,
            store_up: registered(
                r,
                IntGauge::new(
                    "tollgate_store_up",
                    "Whether the store answered when it was last asked: 1, or 0.",
                )?,
            )?,
            store_errors: registered(
                r,
                IntGauge::new("tollgate_store_errors", "Times that the store did not answer.")?,
            )?,
            ledger_stored: gauge(r, "tollgate_ledger_rows_stored", "Ledger rows that the store took.")?,
            ledger_lost: gauge(
                r,
                "tollgate_ledger_lost_rows",
                "Ledger rows that were lost because queue and journal were full.",
            )?,
            ledger_rejected: gauge(
                r,
                "tollgate_ledger_rejected_rows",
                "Ledger rows that were put aside in rejected.jsonl.",
            )?,
            ledger_waiting: gauge(
                r,
                "tollgate_ledger_waiting_rows",
                "Ledger rows in memory, on their way to the journal.",
            )?,
            ledger_pending: gauge(
                r,
                "tollgate_ledger_pending_bytes",
                "Bytes of the journal that the store does not have.",
            )?,
            server_up: gauges(
                r,
                "tollgate_upstream_up",
                "Whether a server may be used: 1, or 0.",
                &["server"],
            )?,
            server_in_flight: gauges(
                r,
                "tollgate_upstream_in_flight",
                "Requests that a server has not answered to the last byte.",
                &["server"],
            )?,
            tenant_in_flight: gauges(
                r,
                "tollgate_tenant_in_flight",
                "Requests that have a reservation in a tenant's limits.",
                &["tenant"],
            )?,
            tenant_reserved: gauges(
                r,
                "tollgate_tenant_reserved_tokens",
                "Tokens reserved for requests in work and not charged yet.",
                &["tenant"],
            )?,
            keys_tracked: registered(
                r,
                IntGauge::new("tollgate_quota_keys", "Keys whose use of their own limits is remembered.")?,
            )?,
            queue: QueueMetrics {
                waits: histogram(
                    r,
                    "tollgate_queue_wait_seconds",
                    "Time that requests waited for a server, by how that ended: served, left, deadline; full for those \
                     that the queue had no room for.",
                    &["priority", "outcome"],
                    DURATION_BUCKETS,
                )?,
            },
            queue_depth: gauges(
                r,
                "tollgate_queue_depth",
                "Requests that wait because every server for their model is full.",
                &["priority"],
            )?,
            registry,
        };
        metrics.registry.register(Box::new(metrics.itl.clone()))?;
        let build =
            gauges(&metrics.registry, "tollgate_build_info", "Version of the gateway.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Ok(metrics)
    }

    /// Counts the texts of one prompt: those that were looked at, and those that were remembered.
    pub fn observe_texts(&self, looked_at: u64, remembered: u64) {
        for (source, texts) in [("looked_at", looked_at), ("remembered", remembered)] {
            if texts > 0 {
                self.scan_texts.with_label_values(&[source]).inc_by(texts);
            }
        }
    }

    /// Counts a settled request.
    pub fn observe(&self, record: &Record) {
        let (tenant, model) = (or_dash(&record.tenant), or_dash(&record.model));
        let status = status_label(record.status);
        let outcome = record.outcome.label();
        self.requests.with_label_values(&[tenant, model, or_dash(record.endpoint), status, outcome]).inc();
        self.duration
            .with_label_values(&[or_dash(record.endpoint), outcome])
            .observe(record.duration_ms / 1000.0);
        let sources = (record.input_source.label(), record.output_source.label());
        for (kind, tokens, source) in [
            ("input", record.input_tokens, sources.0),
            ("cached_input", record.cached_input_tokens, sources.0),
            ("system", record.system_tokens, "counted"),
            ("output", record.output_tokens, sources.1),
            ("reasoning", record.reasoning_tokens, record.reasoning_source.label()),
        ] {
            if tokens > 0 {
                self.tokens.with_label_values(&[tenant, model, kind, source]).inc_by(tokens);
            }
        }
        if record.request_bytes > 0 {
            self.scans.with_label_values(&[tenant, record.scan]).inc();
        }
        if record.output_scan != "off" {
            self.output_scans.with_label_values(&[tenant, record.output_scan]).inc();
        }
        if record.scan_unread_bytes > 0 {
            self.scan_unread.with_label_values(&[tenant]).inc_by(record.scan_unread_bytes);
        }
        for (rules, why) in [(&record.scan_aside.exempt, "exempt"), (&record.scan_aside.ignored, "ignored")] {
            for rule in rules {
                self.scan_aside.with_label_values(&[rule.as_ref(), why]).inc();
            }
        }
        for rule in record.scan_rules.iter().chain(&record.output_rules) {
            self.scan_rules.with_label_values(&[rule.as_ref()]).inc();
        }
        if record.cost_eur.0 > 0 {
            self.cost.with_label_values(&[tenant, model]).inc_by(record.cost_eur.0 as f64 / 1e12);
        }
        if let Some(energy) = record.energy_kwh {
            self.energy.with_label_values(&[tenant, model]).inc_by(energy.0 as f64 / 1e12);
        }
        if let Some(ttft) = record.ttft_ms {
            self.ttft.with_label_values(&[model]).observe(ttft / 1000.0);
        }
        if let Some(speed) = record.output_tokens_per_second {
            self.speed.with_label_values(&[model]).observe(speed);
        }
    }

    /// Compares our own count with what the server reported, where it did.
    pub fn observe_counts(&self, model: &str, charge: &Charge) {
        let output = charge.output.saturating_add(charge.reasoning);
        for (kind, source, reported, counted) in [
            ("input", charge.input_source, charge.input, charge.counted_input),
            ("output", charge.output_source, output, charge.counted_output),
        ] {
            if source != Source::Reported || reported.saturating_add(counted) == 0 {
                continue;
            }
            self.compared.with_label_values(&[model, kind, "reported"]).inc_by(reported);
            self.compared.with_label_values(&[model, kind, "counted"]).inc_by(counted);
            self.miscounted.with_label_values(&[model, kind]).inc_by(reported.abs_diff(counted));
        }
    }

    /// Counts an error answer by its code, which must be one of ours.
    pub fn observe_refusal(&self, code: &'static str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    /// Adds the gaps between tokens that a request has collected.
    pub fn observe_gaps(&self, buckets: &[u64], sum_seconds: f64) {
        self.itl.add(buckets, sum_seconds);
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// If a metric cannot be written.
    pub fn render(&self, state: &State) -> prometheus::Result<Vec<u8>> {
        let stages = state.stages.load();
        let now = state.now();
        // Servers that a reload removed must not linger.
        self.server_up.reset();
        self.server_in_flight.reset();
        for server in &stages.servers {
            use tollgate_filters::request::upstream::health::Standing;
            let is_up = server.load.health.standing(now) != Standing::Down;
            let name = server.upstream.name.as_str();
            self.server_up.with_label_values(&[name]).set(f64::from(u8::from(is_up)));
            self.server_in_flight.with_label_values(&[name]).set(server.load.in_flight() as f64);
        }
        self.tenant_in_flight.reset();
        self.tenant_reserved.reset();
        for (tenant, quota) in stages.settings.tenants.iter().zip(&stages.tenants) {
            let (in_flight, reserved) = quota.usage.in_work();
            self.tenant_in_flight.with_label_values(&[&tenant.name]).set(in_flight as f64);
            self.tenant_reserved.with_label_values(&[&tenant.name]).set(reserved as f64);
        }
        for class in 0..PRIORITIES.len() as u8 {
            let depth = state.queue.depth(class) as f64;
            self.queue_depth.with_label_values(&[PRIORITIES[usize::from(class)]]).set(depth);
        }
        self.keys_tracked.set(state.usages.len() as i64);
        self.in_flight.set(state.in_flight.load(Ordering::Relaxed) as i64);
        self.records_dropped.set(state.access_log.dropped() as i64);
        let store = state.store.status();
        self.store_up.set(i64::from(store.is_up()));
        self.store_errors.set(i64::try_from(store.errors()).unwrap_or(i64::MAX));
        self.keys.set(state);
        self.limits.set(state);
        if let Some(ledger) = &state.ledger {
            let figures = ledger.figures();
            for (gauge, figure) in [
                (&self.ledger_stored, figures.stored),
                (&self.ledger_lost, figures.lost),
                (&self.ledger_rejected, figures.rejected),
                (&self.ledger_waiting, figures.waiting),
                (&self.ledger_pending, figures.pending_bytes),
            ] {
                gauge.set(i64::try_from(figure).unwrap_or(i64::MAX));
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Priorities as labels.
const PRIORITIES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

impl QueueMetrics {
    /// Counts one that does not wait any longer.
    pub fn observe(&self, class: u8, outcome: &str, waited: std::time::Duration) {
        let priority = PRIORITIES.get(usize::from(class)).copied().unwrap_or("9");
        self.waits.with_label_values(&[priority, outcome]).observe(waited.as_secs_f64());
    }
}

impl std::fmt::Debug for QueueMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QueueMetrics")
    }
}

fn or_dash(label: &str) -> &str {
    if label.is_empty() { "-" } else { label }
}

/// A closed set of statuses: those that the gateway sends, and classes for what servers send beyond them.
fn status_label(status: u16) -> &'static str {
    const KNOWN: [(u16, &str); 19] = [
        (0, "none"),
        (200, "200"),
        (204, "204"),
        (400, "400"),
        (401, "401"),
        (403, "403"),
        (404, "404"),
        (405, "405"),
        (408, "408"),
        (410, "410"),
        (413, "413"),
        (415, "415"),
        (429, "429"),
        (431, "431"),
        (500, "500"),
        (502, "502"),
        (503, "503"),
        (504, "504"),
        (422, "422"),
    ];
    let known = KNOWN.iter().find(|(code, _)| *code == status).map(|(_, label)| *label);
    known.unwrap_or(match status / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    })
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(r: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    registered(r, IntGauge::new(name, help)?)
}

fn counter(r: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    registered(r, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn float_counter(r: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
    registered(r, CounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    registered(r, GaugeVec::new(Opts::new(name, help), labels)?)
}

fn histogram(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> prometheus::Result<HistogramVec> {
    registered(r, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
}

/// A histogram that takes many observations at once, already sorted into buckets.
#[derive(Clone)]
struct GapHistogram {
    desc: Desc,
    counts: Arc<Vec<AtomicU64>>,
    sum: Arc<Mutex<f64>>,
}

impl GapHistogram {
    fn new() -> prometheus::Result<Self> {
        let desc = Desc::new(
            "tollgate_inter_token_latency_seconds".to_owned(),
            "Gap between two events with content.".to_owned(),
            vec![],
            std::collections::HashMap::new(),
        )?;
        let counts = tollgate_filters::response::tokens::GAP_BOUNDS_SECONDS.iter().map(|_| AtomicU64::new(0));
        // One more for what is above the last bound.
        let counts = counts.chain([AtomicU64::new(0)]).collect();
        Ok(Self { desc, counts: Arc::new(counts), sum: Arc::default() })
    }

    fn add(&self, buckets: &[u64], sum_seconds: f64) {
        for (count, more) in self.counts.iter().zip(buckets) {
            if *more > 0 {
                count.fetch_add(*more, Ordering::Relaxed);
            }
        }
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner) += sum_seconds;
    }
}

impl Collector for GapHistogram {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut histogram = HistogramProto::default();
        let mut total = 0;
        let mut buckets = Vec::new();
        for (bound, count) in
            tollgate_filters::response::tokens::GAP_BOUNDS_SECONDS.iter().zip(self.counts.iter())
        {
            total += count.load(Ordering::Relaxed);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            buckets.push(bucket);
        }
        total += self.counts.last().map_or(0, |count| count.load(Ordering::Relaxed));
        histogram.set_bucket(buckets);
        histogram.set_sample_count(total);
        histogram.set_sample_sum(*self.sum.lock().unwrap_or_else(PoisonError::into_inner));
        let mut metric = Metric::from_label(Vec::<LabelPair>::new());
        metric.set_histogram(histogram);
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
