//! What is measured, and how: each case visits its targets in turn, round after round, so that what disturbs the
//! machine for longer than a moment disturbs all of them alike. The first round warms up and is not counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::{Request, Seen, run};
use crate::processes::{ALIAS, KEY, Memory, Proxy};
use crate::upstream::MODEL;

/// What is asked: ordinary words, since a sentence said twenty times over is no ordinary prompt.
const PROSE: &str = "How much does one more stage between a client and its server cost? We keep asking, because the answer \
    moves. Last spring the harbour office put a ledger between the pilots and the tugs, and for a month nobody could say \
    whether the boats waited for the tide or for the clerk. Then somebody timed it. The clerk took four seconds a ship, \
    the tide took hours, and the complaints had been about the weather all along. Please write two paragraphs for the \
    newsletter: first what was measured and how, with the numbers in a sentence each, then what a reader who runs a much \
    smaller port should take from it. Avoid jargon, keep the tone friendly, and end with a question that invites letters. \
    Mention the old lighthouse, which everybody likes, and the new crane, which everybody will soon have to like. If a \
    figure seems doubtful, say so and suggest how it could be checked by two people with a watch and a notebook. ";

/// Keep-alive connections of the cases that ask as fast as they can.
const CONNECTIONS: u64 = 16;
/// Answers that are not streamed, for each block.
const ANSWERS: u64 = 6_000;
/// Streams of a block, at full speed, and the events of each.
const STREAMS: u64 = 160;
const EVENTS: u64 = 200;
/// Paced streams, the gap between two events of each, and how long they are watched after all have begun.
const PACED_STREAMS: u64 = 50;
const PACED_GAP: Duration = Duration::from_millis(5);
const SETTLING: Duration = Duration::from_millis(300);
const WATCHED: Duration = Duration::from_millis(2_000);
/// Requests of a block of the latency case: four clients that pause are a quarter of what one worker can do.
const CALM_REQUESTS: u64 = 1_600;
const CALM_CLIENTS: u64 = 4;
const CALM_PAUSE: Duration = Duration::from_millis(1);
/// Gap of the streams whose memory is measured.
const IDLE_GAP: Duration = Duration::from_secs(2);

/// One measure per round.
pub(crate) type Series = Vec<f64>;

/// A target under load.
#[derive(Clone)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'static str,
    /// `None` for the server itself, whose time is not measured.
    pub(crate) proxy: Option<&'a Proxy>,
    pub(crate) address: std::net::SocketAddr,
    /// The name by which the model is asked for.
    pub(crate) model: &'static str,
}

impl<'a> Target<'a> {
    pub(crate) fn new(name: &'static str, proxy: &'a Proxy, model: &'static str) -> Self {
        Self { name, proxy: Some(proxy), address: proxy.address, model }
    }

    fn cpu(&self) -> Duration {
        self.proxy.map(Proxy::cpu).unwrap_or_default()
    }

    fn request(&self, prompt_bytes: usize, stream: Option<(u64, Option<Duration>)>) -> Request {
        let mut body =
            format!("{{\"model\":\"{}\",\"messages\":[{{\"role\":\"user\",\"content\":\"", self.model);
        let tail = if stream.is_some() { "\"}],\"stream\":true}" } else { "\"}],\"temperature\":0.7}" };
        body.extend(PROSE.chars().cycle().take(prompt_bytes.saturating_sub(body.len() + tail.len())));
        body.push_str(tail);
        let events = stream.map_or_else(String::new, |(events, gap)| {
            let gap = gap.map(|gap| format!("x-bench-gap-us: {}\r\n", gap.as_micros()));
            format!("x-bench-events: {events}\r\n{}", gap.unwrap_or_default())
        });
        // The fields that the OpenAI client for Python sends.
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\naccept-encoding: gzip, deflate\r\n\
             connection: keep-alive\r\naccept: application/json\r\ncontent-type: application/json\r\n\
             user-agent: OpenAI/Python 2.8.0\r\nx-stainless-lang: python\r\nx-stainless-package-version: 2.8.0\r\n\
             x-stainless-os: Linux\r\nx-stainless-arch: x64\r\nx-stainless-runtime: CPython\r\n\
             x-stainless-runtime-version: 3.13.5\r\nauthorization: Bearer {KEY}\r\nx-stainless-async: false\r\n\
             x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n{events}content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        Request { bytes: (head + &body).into_bytes().into(), pause: Duration::ZERO }
    }
}

/// The targets that every case about time compares.
pub(crate) fn proxies<'a>(bare: &'a Proxy, bare_again: &'a Proxy, gateway: &'a Proxy) -> Vec<Target<'a>> {
    vec![
        Target::new("bare Pingora", bare, MODEL),
        Target::new("bare Pingora, a second process", bare_again, MODEL),
        Target::new("gateway", gateway, MODEL),
        Target::new("gateway, model asked for by an alias", gateway, ALIAS),
    ]
}

/// CPU of an answer that is not streamed, in microseconds.
pub(crate) async fn answers(targets: &[Target<'_>], rounds: usize) -> Vec<Series> {
    let mut found = vec![Series::new(); targets.len()];
    for round in 0..=rounds {
        for (target, series) in targets.iter().zip(&mut found) {
            let request = target.request(1_200, None);
            let before = target.cpu();
            run(target.address, &request, CONNECTIONS, ANSWERS, &Arc::default()).await;
            keep(series, round, micros(target.cpu() - before) / ANSWERS as f64);
        }
    }
    found
}

/// Streams at full speed: CPU of an event with its share of the request, in microseconds, and events in each
/// read of the client.
pub(crate) async fn full_speed(targets: &[Target<'_>], rounds: usize) -> (Vec<Series>, Vec<Series>) {
    let (mut cpu, mut joined) = (vec![Series::new(); targets.len()], vec![Series::new(); targets.len()]);
    for round in 0..=rounds {
        for (index, target) in targets.iter().enumerate() {
            let request = target.request(1_200, Some((EVENTS, None)));
            let seen = Arc::new(Seen::default());
            let before = target.cpu();
            run(target.address, &request, CONNECTIONS / 2, STREAMS, &seen).await;
            assert!(seen.events() >= STREAMS * (EVENTS + 1), "events were lost by {}", target.name);
            keep(&mut cpu[index], round, micros(target.cpu() - before) / (STREAMS * EVENTS) as f64);
            keep(&mut joined[index], round, seen.events() as f64 / seen.reads.load(Ordering::Relaxed) as f64);
        }
    }
    (cpu, joined)
}

/// Streams whose events come one by one: CPU of an event without the requests' own, in microseconds, and events
/// in each read of the client.
pub(crate) async fn paced(targets: &[Target<'_>], rounds: usize) -> (Vec<Series>, Vec<Series>) {
    let (mut cpu, mut joined) = (vec![Series::new(); targets.len()], vec![Series::new(); targets.len()]);
    let events = ((SETTLING * 2 + WATCHED).as_millis() / PACED_GAP.as_millis()) as u64;
    for round in 0..=rounds {
        for (index, target) in targets.iter().enumerate() {
            let request = target.request(1_200, Some((events, Some(PACED_GAP))));
            let seen = Arc::new(Seen::default());
            let watch = async {
                tokio::time::sleep(SETTLING).await;
                let (from, read_from, before) =
                    (seen.events(), seen.reads.load(Ordering::Relaxed), target.cpu());
                tokio::time::sleep(WATCHED).await;
                let spent = target.cpu() - before;
                let events = (seen.events() - from) as f64;
                (micros(spent) / events, events / (seen.reads.load(Ordering::Relaxed) - read_from) as f64)
            };
            let load = run(target.address, &request, PACED_STREAMS, PACED_STREAMS, &seen);
            let (_, (spent, in_read)) = tokio::join!(load, watch);
            assert!(seen.events() > PACED_STREAMS * events, "events were lost by {}", target.name);
            keep(&mut cpu[index], round, spent);
            keep(&mut joined[index], round, in_read);
        }
    }
    (cpu, joined)
}

/// What was seen of a target at low load.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calm {
    /// Microseconds.
    pub(crate) p50: Series,
    pub(crate) p99: Series,
    pub(crate) cpu: Series,
}

/// Time of an answer at low load, with a 4 KB prompt.
pub(crate) async fn calm(targets: &[Target<'_>], rounds: usize) -> Vec<Calm> {
    let mut found = vec![Calm::default(); targets.len()];
    for round in 0..=rounds {
        for (target, calm) in targets.iter().zip(&mut found) {
            let request = Request { pause: CALM_PAUSE, ..target.request(4_000, None) };
            let before = target.cpu();
            let mut times = run(target.address, &request, CALM_CLIENTS, CALM_REQUESTS, &Arc::default()).await;
            keep(&mut calm.cpu, round, micros(target.cpu() - before) / CALM_REQUESTS as f64);
            times.sort_unstable();
            keep(&mut calm.p50, round, micros(times[times.len() / 2]));
            keep(&mut calm.p99, round, micros(times[times.len() * 99 / 100]));
        }
    }
    found
}

/// Memory of `proxy` with nothing to do and with `streams` open, each of which has had an event.
pub(crate) async fn memory(proxy: &Proxy, streams: u64) -> (Memory, Memory) {
    let target = Target::new("", proxy, MODEL);
    let warm_up = target.request(1_200, None);
    run(target.address, &warm_up, CONNECTIONS, 1_000, &Arc::default()).await;
    let before = proxy.memory();
    // More events than the case lasts for; the streams are cut when it is over.
    let request = target.request(1_200, Some((1_000, Some(IDLE_GAP))));
    let seen = Arc::new(Seen::default());
    let watch = async {
        while seen.events() < streams * 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        proxy.memory()
    };
    let after = tokio::select! {
        after = watch => after,
        _ = run(target.address, &request, streams, streams, &seen) => {
            unreachable!("the streams last for longer than it takes to see three events of each")
        }
    };
    (before, after)
}

fn keep(series: &mut Series, round: usize, value: f64) {
    if round > 0 {
        series.push(value);
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
