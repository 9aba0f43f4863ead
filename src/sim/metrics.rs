//! `/metrics` under vLLM's names, for the parts a gateway or a dashboard reads. Help texts, labels and
//! buckets are those of vLLM 0.32; buckets start lower where a simulated time can.

use std::fmt::Write as _;
use std::time::Duration;

use super::engine::Stats;

/// Upper bounds, seconds: vLLM's for time to first token, extended to e2e's range.
const BOUNDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];

/// Durations, counted by upper bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    counts: [u64; BOUNDS.len()],
    total: u64,
    seconds: f64,
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn observe(&mut self, value: Duration) {
        let seconds = value.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[bucket] += 1;
        }
        self.total += 1;
        self.seconds += seconds;
    }
}

/// Requests that ended, by the reason a client saw.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcomes {
    pub(super) stop: u64,
    pub(super) length: u64,
    pub(super) abort: u64,
    pub(super) error: u64,
}

/// The whole page, in the text format of Prometheus.
pub(super) fn page(model: &str, stats: &Stats, outcomes: Outcomes) -> String {
    let mut page = Page { out: String::with_capacity(8_192), labels: labels(model) };
    page.single(
        "num_requests_running",
        "gauge",
        "Number of requests in model execution batches.",
        stats.running as f64,
    );
    page.single(
        "num_requests_waiting",
        "gauge",
        "Number of requests waiting to be processed.",
        stats.waiting as f64,
    );
    let usage = f64::from(stats.blocks_held) / f64::from(stats.blocks_total.max(1));
    page.single("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", usage);
    let counters = [
        (
            "prefix_cache_queries_total",
            "Prefix cache queries, in terms of number of queried tokens.",
            stats.prompt_tokens,
        ),
        (
            "prefix_cache_hits_total",
            "Prefix cache hits, in terms of number of cached tokens.",
            stats.cached_tokens,
        ),
        ("num_preemptions_total", "Cumulative number of preemption from the engine.", 0),
        ("prompt_tokens_total", "Number of prefill tokens processed.", stats.prompt_tokens),
        (
            "prompt_tokens_cached_total",
            "Number of cached prompt tokens (local + external).",
            stats.cached_tokens,
        ),
        ("generation_tokens_total", "Number of generation tokens processed.", stats.generation_tokens),
    ];
    for (name, help, value) in counters {
        page.single(name, "counter", help, value as f64);
    }
    page.outcomes(outcomes);
    let histograms = [
        ("time_to_first_token_seconds", "Histogram of time to first token in seconds.", &stats.first_token),
        (
            "inter_token_latency_seconds",
            "Histogram of inter-token latency in seconds.",
            &stats.between_tokens,
        ),
        ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", &stats.whole_request),
        (
            "request_queue_time_seconds",
            "Histogram of time spent in WAITING phase for request.",
            &stats.queue_time,
        ),
    ];
    for (name, help, histogram) in histograms {
        page.histogram(name, help, histogram);
    }
    page.out
}

struct Page {
    out: String,
    labels: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.head(name, kind, help);
        let _ = writeln!(self.out, "vllm:{name}{{{}}} {value:?}", self.labels);
    }

    fn outcomes(&mut self, outcomes: Outcomes) {
        self.head("request_success_total", "counter", "Count of successfully processed requests.");
        let rows = [
            ("stop", outcomes.stop),
            ("length", outcomes.length),
            ("abort", outcomes.abort),
            ("error", outcomes.error),
        ];
        for (reason, count) in rows {
            let labels = &self.labels;
            let _ = writeln!(
                self.out,
                "vllm:request_success_total{{finished_reason=\"{reason}\",{labels}}} {:?}",
                count as f64
            );
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let labels = &self.labels;
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(histogram.counts) {
            below += count;
            let _ = writeln!(self.out, "vllm:{name}_bucket{{le=\"{bound:?}\",{labels}}} {:?}", below as f64);
        }
        let total = histogram.total as f64;
        let _ = writeln!(self.out, "vllm:{name}_bucket{{le=\"+Inf\",{labels}}} {total:?}");
        let _ = writeln!(self.out, "vllm:{name}_count{{{labels}}} {total:?}");
        let _ = writeln!(self.out, "vllm:{name}_sum{{{labels}}} {:?}", histogram.seconds);
    }
}

fn labels(model: &str) -> String {
    let mut escaped = String::with_capacity(model.len());
    for letter in model.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other => escaped.push(other),
        }
    }
    format!("engine=\"0\",model_name=\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_counters_and_histograms_carry_vllm_names_and_labels() {
        let mut stats = Stats { running: 2, waiting: 1, blocks_total: 8, blocks_held: 2, ..Stats::default() };
        stats.first_token.observe(Duration::from_millis(30));
        stats.first_token.observe(Duration::from_secs(9_999));
        let page = page("a\"b", &stats, Outcomes { stop: 3, ..Outcomes::default() });
        for line in [
            r#"vllm:num_requests_running{engine="0",model_name="a\"b"} 2.0"#,
            r#"vllm:num_requests_waiting{engine="0",model_name="a\"b"} 1.0"#,
            r#"vllm:kv_cache_usage_perc{engine="0",model_name="a\"b"} 0.25"#,
            r#"vllm:request_success_total{finished_reason="stop",engine="0",model_name="a\"b"} 3.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{le="0.02",engine="0",model_name="a\"b"} 0.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{le="0.04",engine="0",model_name="a\"b"} 1.0"#,
            r#"vllm:time_to_first_token_seconds_bucket{le="+Inf",engine="0",model_name="a\"b"} 2.0"#,
            r#"vllm:time_to_first_token_seconds_count{engine="0",model_name="a\"b"} 2.0"#,
        ] {
            assert!(page.lines().any(|found| found == line), "missing {line}\n{page}");
        }
    }
}
