//! What one request has earned so far. It holds few whole things, and settles them when it is dropped: the
//! record is written exactly once, also when the task is killed, panics or is cut at shutdown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tollgate_filters::request::auth::Principal;
use tollgate_filters::request::quota::{self, Lease, Standing, Used};
use tollgate_filters::request::scan::policy::Aside;
use tollgate_filters::response::output::OutputGate;
use tollgate_filters::response::stream::StreamFilter;
use tollgate_filters::response::tokens::Meter;
use tollgate_filters::response::usage::{self, Charge, Estimate, Source};

use super::output;
use crate::config::settings::Prices;
use crate::histories::Conversation;
use crate::record::{Outcome, PicoEur, PicoKwh, Record, TokenSource};
use crate::state::{Stages, State};

/// An event stream on its way to the client. It stands in the context so that it is charged however it ends.
pub struct Streaming {
    /// Corrects and counts.
    pub filter: StreamFilter,
    /// Our own count of the prompt.
    pub prompt: Estimate,
    /// Looks at what is said, if that is asked for.
    pub output: Option<Box<OutputGate>>,
    /// Whether it came to its end.
    pub is_complete: bool,
    /// Whether any of it has gone to the client.
    pub has_delivered: bool,
}

impl Streaming {
    /// What may go out of what the filter gave.
    pub(super) fn look(&mut self, out: Bytes) -> Bytes {
        match &mut self.output {
            Some(gate) if !out.is_empty() => gate.push(out),
            _ => out,
        }
    }

    /// What may go out of the last that the filter gave, and of what had to wait.
    pub(super) fn look_at_last(&mut self, out: Bytes) -> Bytes {
        match &mut self.output {
            Some(gate) => gate.finish(out),
            None => out,
        }
    }

    /// What it has come to, and whether some of it could not be read.
    fn charge(&self) -> (Charge, bool) {
        let meter = self.filter.meter();
        let is_complete = self.is_complete || self.has_ended();
        let charge = usage::charge(meter.usage(), meter.estimate(self.prompt), is_complete);
        let is_unread =
            charge.output_source != Source::Reported && meter.unparsed_events() + meter.overlong_events() > 0;
        (charge, is_unread)
    }

    /// Whether the event that ends it for a client has come.
    pub(super) fn has_ended(&self) -> bool {
        self.filter.has_ended() && !self.filter.saw_error_event()
    }

    /// The rule that ended the answer, if one has.
    pub(super) fn stopped_by(&self) -> Option<&Arc<str>> {
        self.output.as_ref()?.verdict().stopped_by.as_ref()
    }
}

/// One request, from its headers to its record.
pub struct RequestCtx {
    /// The process.
    pub state: Arc<State>,
    /// The configuration that the request arrived with.
    pub stages: Arc<Stages>,
    /// When its headers had been read.
    pub started: Instant,
    /// What will be recorded.
    pub record: Record,
    /// Position of its model in the catalogue, once that is known.
    pub model: Option<usize>,
    /// Who asks, once that is known.
    pub principal: Option<Arc<Principal>>,
    /// What is left of its limits, once that was asked.
    pub standing: Option<Standing>,
    /// Its reservation, once it has one; given back when the context is dropped.
    pub lease: Option<Lease>,
    /// What it has used, once a whole answer was read.
    pub charge: Option<Charge>,
    /// Its event stream, once one has begun.
    pub stream: Option<Streaming>,
    /// Whether text that a model made went to the client unread, so that nobody counted it.
    pub is_unread: bool,
    /// Whether an answer was broken off in a way that only the connection can tell the client.
    pub is_cut: bool,
    /// When the request had been sent to the server that answered.
    pub sent: Option<Instant>,
    /// When that server's answer began.
    pub answered: Option<Instant>,
    /// Whom the client called the user, and the hash of the prompt, once that is part of a conversation's history.
    pub observed: Option<(Option<u64>, u64)>,
    /// Set for a request that is refused because the ledger has no room for its row.
    pub is_off_ledger: bool,
    /// Its number among the requests in work that the ledger notes, once it is forwarded.
    pub begun: Option<u64>,
    is_closed: bool,
    is_settled: bool,
    /// Dropped after the record has been handed over.
    _in_work: InWork,
}

impl RequestCtx {
    /// A request whose headers have just been read.
    #[must_use]
    pub(super) fn new(state: Arc<State>) -> Self {
        let in_work = InWork::new(&state);
        let stages = state.stages.load_full();
        let nobody: Arc<str> = Arc::from("");
        let record = Record {
            time: SystemTime::now(),
            request_id: String::new(),
            tenant: Arc::clone(&nobody),
            key_id: Arc::clone(&nobody),
            client: None,
            endpoint: "",
            model: nobody,
            server: String::new(),
            status: 0,
            code: None,
            outcome: Outcome::Aborted,
            is_streaming: false,
            attempts: 0,
            input_tokens: 0,
            cached_input_tokens: 0,
            system_tokens: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
            input_source: TokenSource::None,
            output_source: TokenSource::None,
            reasoning_source: TokenSource::None,
            cost_eur: PicoEur(0),
            energy_kwh: None,
            ttft_ms: None,
            itl_mean_ms: None,
            output_tokens_per_second: None,
            duration_ms: 0.0,
            scan: "off",
            scan_score: None,
            scan_rules: Vec::new(),
            scan_aside: Aside::default(),
            scan_unread_bytes: 0,
            output_scan: "off",
            output_rules: Vec::new(),
            request_bytes: 0,
            answer_bytes: 0,
        };
        Self {
            state,
            stages,
            started: Instant::now(),
            record,
            model: None,
            principal: None,
            standing: None,
            lease: None,
            charge: None,
            stream: None,
            is_unread: false,
            is_cut: false,
            sent: None,
            answered: None,
            observed: None,
            is_off_ledger: false,
            begun: None,
            is_closed: false,
            is_settled: false,
            _in_work: in_work,
        }
    }

    /// Time since the headers were read.
    #[must_use]
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Charges, gives back and records. Does so once; later calls do nothing.
    pub(super) fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        self.record.duration_ms = millis(self.elapsed());
        self.note_output();
        self.close();
        if let Some(stream) = self.stream.take().filter(|stream| stream.has_delivered) {
            self.measure(&stream.filter.into_meter());
        }
        self.note_unmetered();
        self.forget_unanswered();
        self.state.metrics.observe(&self.record);
        let record = Arc::new(self.record.clone());
        if let Some(ledger) = &self.state.ledger
            && !self.is_off_ledger
        {
            ledger.push(&record, self.begun.take());
        }
        self.state.access_log.push(record);
    }

    /// Charges what the request has come to and gives the rest of its reservation back. Done once; before the last
    /// bytes go out where these are known, so that a client which has its answer finds its limits as they are then.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        let whole = self.charge.take();
        let streamed = self.stream.as_ref().filter(|stream| stream.has_delivered).map(Streaming::charge);
        if let Some((_, is_unread)) = streamed {
            self.is_unread |= is_unread;
        }
        if let Some(charge) = streamed.map(|(charge, _)| charge).or(whole) {
            self.apply(&charge);
        }
        if let Some(mut lease) = self.lease.take() {
            // Dropping it gives back what was not charged.
            lease.charge(self.used(), self.state.now());
        }
    }

    /// What a server made for a client must be counted by somebody.
    fn note_unmetered(&self) {
        let Record { request_id, model, endpoint, status, outcome, .. } = &self.record;
        let is_answered = self.model.is_some() && (200..300).contains(status);
        let is_over = !matches!(outcome, Outcome::Refused | Outcome::Aborted);
        let is_uncounted = self.is_unread || self.record.input_tokens + self.record.output_tokens == 0;
        if is_answered && is_over && is_uncounted {
            log::warn!("request {request_id}: an answer of {model} to {endpoint} was not counted in full");
            self.state.metrics.unmetered.inc();
        }
    }

    /// What the request used, as its record says.
    fn used(&self) -> Used {
        let record = &self.record;
        Used {
            input: record.input_tokens,
            output: record.output_tokens.saturating_add(record.reasoning_tokens),
            pico_eur: u64::try_from(record.cost_eur.0).unwrap_or(u64::MAX),
        }
    }

    /// What its stream has come to so far, by what would be charged if it ended here.
    pub(super) fn used_so_far(&self) -> Used {
        let (Some(stream), Some(model)) = (&self.stream, self.model) else { return Used::default() };
        let meter = stream.filter.meter();
        let charge = usage::charge(meter.usage(), meter.estimate(stream.prompt), false);
        let pico_eur = cost(self.stages.settings.models[model].prices.at(self.record.time), &charge).0;
        Used {
            input: charge.input,
            output: charge.output.saturating_add(charge.reasoning),
            pico_eur: u64::try_from(pico_eur).unwrap_or(u64::MAX),
        }
    }

    /// What is left of the client's limits: as it was when the request took from them, else as it is now.
    pub(super) fn standing(&self) -> Standing {
        self.standing.unwrap_or_else(|| match &self.principal {
            Some(principal) => {
                let holders = self.stages.holders(principal, None, &self.state.usages);
                match &self.state.shared {
                    Some(shared) => shared.standing(&holders),
                    None => quota::standing(&holders, self.state.clock()),
                }
            }
            None => [None, None],
        })
    }

    /// Notes what was found so far in a stream that is looked at.
    pub(super) fn note_output(&mut self) {
        if let Some(gate) = self.stream.as_ref().and_then(|stream| stream.output.as_ref()) {
            output::note(&mut self.record, gate.verdict());
        }
    }

    /// A client that asks again because no server answered does not repeat itself.
    fn forget_unanswered(&self) {
        let is_unanswered =
            matches!(self.record.outcome, Outcome::UpstreamFailed | Outcome::TimedOut | Outcome::Aborted);
        if let Some((user, hash)) = self.observed
            && is_unanswered
        {
            let whose = Conversation { key_id: &self.record.key_id, user };
            let moment = super::scan::moment(&self.state, &self.stages);
            self.state.histories.with(whose, moment, |remembered| {
                remembered.history.unanswered(hash);
                if let Some(shared) = &self.state.shared_histories
                    && self.stages.settings.scan.behaviour.is_shared
                    && !shared.unsay(whose, hash)
                {
                    remembered.told = None;
                }
            });
        }
    }

    fn apply(&mut self, charge: &Charge) {
        let record = &mut self.record;
        record.input_tokens = charge.input;
        record.cached_input_tokens = charge.cached_input;
        record.system_tokens = charge.system;
        record.output_tokens = charge.output;
        record.reasoning_tokens = charge.reasoning;
        record.input_source = source(charge.input_source);
        record.output_source = source(charge.output_source);
        if charge.reasoning > 0 {
            record.reasoning_source = source(charge.reasoning_source);
        }
        if let Some(model) = self.model {
            let model = &self.stages.settings.models[model];
            record.cost_eur = cost(model.prices.at(record.time), charge);
            self.state.metrics.observe_counts(&model.name, charge);
            let tokens = total(charge);
            record.energy_kwh =
                model.energy_micro_kwh.map(|micro| PicoKwh(u128::from(tokens) * u128::from(micro)));
        }
    }

    fn measure(&mut self, meter: &Meter) {
        let record = &mut self.record;
        let gaps = meter.gaps();
        self.state.metrics.observe_gaps(&gaps.buckets, gaps.sum.as_secs_f64());
        record.ttft_ms = meter.first_token().map(millis);
        if gaps.count() > 0 {
            record.itl_mean_ms = Some(millis(gaps.sum) / gaps.count() as f64);
        }
        if let (Some(first), Some(last)) = (meter.first_token(), meter.last_content()) {
            let span = last.saturating_sub(first).as_secs_f64();
            let tokens = record.output_tokens + record.reasoning_tokens;
            if span > 0.0 && tokens > 1 {
                record.output_tokens_per_second = Some((tokens - 1) as f64 / span);
            }
        }
    }
}

impl Drop for RequestCtx {
    fn drop(&mut self) {
        self.settle();
    }
}

/// All tokens of a request.
fn total(charge: &Charge) -> u64 {
    charge.input.saturating_add(charge.output).saturating_add(charge.reasoning)
}

/// Counts a request as in work until it is dropped, whatever else goes wrong.
struct InWork(Arc<State>);

impl InWork {
    fn new(state: &Arc<State>) -> Self {
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tokens × price, exact: micro-EUR per million tokens times tokens is in units of 1e-12 EUR.
fn cost(prices: &Prices, charge: &Charge) -> PicoEur {
    let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
    PicoEur(
        part(charge.input, prices.input_micro_eur)
            + part(charge.output, prices.output_micro_eur)
            + part(charge.reasoning, prices.reasoning_micro_eur),
    )
}

fn source(source: Source) -> TokenSource {
    match source {
        Source::Reported => TokenSource::Reported,
        Source::Tokenizer => TokenSource::Tokenizer,
        Source::Estimated => TokenSource::Estimated,
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
