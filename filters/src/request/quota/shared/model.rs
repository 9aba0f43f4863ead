//! What src/limits/limits.lua does, in Rust and line by line, for properties that need many steps. tests/it plays the
//! same orders against this and against the script in a real store (`it::shared::rules`): the two say the same.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Clock, EXPIRY, Item, ItemReply, Measure, Reply, Tell};

/// The store.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// What its memory is called.
    pub(crate) memory: String,
    /// By name.
    pub(crate) scopes: BTreeMap<String, Scope>,
}

/// One scope as the store has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scope {
    /// Level and milliseconds.
    pub(crate) rates: [Option<(f64, f64)>; 4],
    /// Requests at a time.
    pub(crate) n: f64,
    /// Period and use.
    pub(crate) budgets: [(u64, f64); 2],
    /// When it is looked for gateways that died, once it was.
    pub(crate) reap: Option<f64>,
    /// By gateway.
    pub(crate) held: BTreeMap<String, Held>,
}

/// What a gateway holds and has charged.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) epoch: i64,
    pub(crate) seen: f64,
    pub(crate) n: f64,
    /// Period, charged, outstanding.
    pub(crate) budgets: [(u64, f64, f64); 2],
}

/// An order on its way.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) memory: &'a str,
    pub(crate) gateway: &'a str,
    pub(crate) epoch: i64,
    pub(crate) output: u64,
    pub(crate) least: u64,
    pub(crate) scopes: Vec<(&'a str, &'a Tell, &'a [Item])>,
}

impl Model {
    /// A store that knows nothing.
    pub(crate) fn new(memory: &str) -> Self {
        Self { memory: memory.to_owned(), scopes: BTreeMap::new() }
    }

    /// What it answers, by its clock in microseconds since 1970; `None` where the gateway has to say all anew.
    pub(crate) fn answer(&mut self, ask: &Asked<'_>, us: u64) -> Option<Reply> {
        let now = (us / 1_000_000) as f64 * 1000.0 + (us % 1_000_000) as f64 / 1000.0;
        let clock = Clock { now: Duration::ZERO, unix: Duration::from_micros(us) };
        let periods = [clock.day(), clock.month()];
        if ask.memory != self.memory {
            return None;
        }
        let mut scopes = Vec::new();
        for (name, tell, _) in &ask.scopes {
            let mut scope = self.scopes.get(*name).cloned().unwrap_or_default();
            scope.enter(periods);
            let me = match scope.held.get(ask.gateway) {
                Some(me) if me.epoch > ask.epoch || (me.epoch < 0 && !tell.is_whole) => return None,
                Some(me) => me.within(periods),
                None if tell.is_known => return None,
                None => Held { epoch: ask.epoch, ..Held::default() }.within(periods),
            };
            scope.held.insert(ask.gateway.to_owned(), me);
            scopes.push(scope);
        }
        for (scope, (_, tell, _)) in scopes.iter_mut().zip(&ask.scopes) {
            scope.tell(tell, ask, now, periods);
        }
        let reply = take(&mut scopes, ask, now);
        for (scope, (name, ..)) in scopes.into_iter().zip(&ask.scopes) {
            self.scopes.insert((*name).to_owned(), scope);
        }
        Some(reply)
    }
}

impl Held {
    /// Periods that are over hold nothing.
    pub(crate) fn within(mut self, periods: [u64; 2]) -> Self {
        for (held, period) in self.budgets.iter_mut().zip(periods) {
            if held.0 != period {
                *held = (period, 0.0, 0.0);
            }
        }
        self
    }
}

impl Scope {
    fn enter(&mut self, periods: [u64; 2]) {
        for (budget, period) in self.budgets.iter_mut().zip(periods) {
            if budget.0 != period {
                *budget = (period, 0.0);
            }
        }
    }

    fn level(&self, rate: usize, limit: u64, now: f64) -> f64 {
        let (level, then) = self.rates[rate].unwrap_or((0.0, now));
        (level - (now - then).max(0.0) * limit as f64 / 60_000.0).max(0.0)
    }

    fn set_level(&mut self, rate: usize, level: f64, now: f64) {
        // As it is written there.
        let now = format!("{now:.3}").parse().expect("a number");
        self.rates[rate] = Some((level, now));
    }

    fn used(&self, measure: Measure, limit: u64, now: f64) -> f64 {
        match measure {
            Measure::InFlight => self.n,
            Measure::Day => self.budgets[0].1,
            Measure::Month => self.budgets[1].1,
            rate => self.level(rate as usize, limit, now),
        }
    }

    fn reap(&mut self, me: &str, now: f64, periods: [u64; 2]) {
        let mut gone = Vec::new();
        for (name, held) in &mut self.held {
            if name == me {
                continue;
            }
            let mut seen = held.within(periods);
            let is_silent = seen.epoch > 0 && seen.seen + (EXPIRY.as_millis() as f64) < now;
            let is_empty = seen.n == 0.0 && seen.budgets.iter().all(|budget| budget.2 == 0.0);
            let is_charged = seen.budgets.iter().any(|budget| budget.1 > 0.0);
            if (is_silent || seen.epoch <= 0) && is_empty && !is_charged {
                gone.push(name.clone());
            } else if is_silent && !is_empty {
                self.n -= seen.n;
                for (budget, held) in self.budgets.iter_mut().zip(&mut seen.budgets) {
                    budget.1 -= held.2;
                    held.2 = 0.0;
                }
                (seen.epoch, seen.n) = (-1, 0.0);
                *held = seen;
            }
        }
        self.held.retain(|name, _| !gone.contains(name));
        self.reap = Some((now + 1000.0).round_ties_even());
    }

    /// Of two numbers for one life the larger counts.
    fn charge(&mut self, budget: usize, life: &str, periods: [u64; 2], charged: u64) {
        let held = self.held.entry(life.to_owned()).or_default();
        *held = held.within(periods);
        let more = charged as f64 - held.budgets[budget].1;
        if more > 0.0 {
            held.budgets[budget].1 = charged as f64;
            self.budgets[budget].1 += more;
        }
    }

    fn tell(&mut self, tell: &Tell, ask: &Asked<'_>, now: f64, periods: [u64; 2]) {
        if self.reap.unwrap_or(0.0) < now {
            self.reap(ask.gateway, now, periods);
        }
        for (rate, limit, back, owed) in &tell.rates {
            let level = (self.level(*rate, *limit, now) + *owed as f64 - *back as f64).max(0.0);
            self.set_level(*rate, level, now);
        }
        let me = self.held[ask.gateway];
        let told = tell.in_flight as f64;
        let n = if tell.is_whole { told } else { (me.n + told).max(0.0) };
        self.n = (self.n + n - me.n).max(0.0);
        for (at, (period, charged, more)) in tell.budgets.iter().enumerate() {
            if *period != self.budgets[at].0 {
                continue;
            }
            self.charge(at, ask.gateway, periods, *charged);
            let (more, before) = (*more as f64, me.budgets[at].2);
            let held = if tell.is_whole { more } else { (before + more).max(0.0) };
            self.budgets[at].1 = (self.budgets[at].1 + held - before).max(0.0);
            self.held.get_mut(ask.gateway).expect("put there").budgets[at].2 = held;
        }
        for (life, used) in &tell.lives {
            let was_there = self.held.contains_key(&**life);
            for (at, (period, used)) in used.iter().enumerate() {
                if *period == periods[at] {
                    self.charge(at, life, periods, *used);
                }
            }
            let is_charged =
                self.held.get(&**life).is_some_and(|held| held.budgets.iter().any(|held| held.1 > 0.0));
            if !was_there && !is_charged {
                self.held.remove(&**life);
            }
        }
        let me = self.held.get_mut(ask.gateway).expect("put there");
        (me.n, me.epoch, me.seen) = (n, ask.epoch, now.round_ties_even());
    }
}

fn take(scopes: &mut [Scope], ask: &Asked<'_>, now: f64) -> Reply {
    let items = || {
        let all = ask.scopes.iter().enumerate();
        all.flat_map(|(at, (.., items))| items.iter().map(move |item| (at, *item)))
    };
    let mut output = ask.output as f64;
    for (at, item) in items().filter(|(_, item)| item.measure >= Measure::Day && item.each > 0) {
        let left = (item.limit as f64 - scopes[at].used(item.measure, item.limit, now)).max(0.0);
        let room = left * item.unit as f64 + item.have as f64 - item.fixed as f64;
        output = output.min((room / item.each as f64).floor().max(0.0));
    }
    let output = output.max(ask.least as f64);
    let wanted: Vec<_> = items()
        .map(|(at, item)| {
            let all = item.fixed as f64 + item.each as f64 * output;
            let is_rate = item.measure < Measure::InFlight;
            let all = if is_rate { all.min(item.limit as f64) } else { all };
            let need = ((all - item.have as f64).max(0.0) / item.unit as f64).ceil();
            let left = item.limit as f64 - scopes[at].used(item.measure, item.limit, now);
            let is_lacking = need > left + 1e-6;
            let wait = if is_lacking && is_rate {
                ((need - left) * 60_000.0 / item.limit as f64).ceil()
            } else {
                0.0
            };
            (at, item, need, left, is_lacking, wait)
        })
        .collect();
    let is_granted = wanted.iter().all(|(.., is_lacking, _)| !is_lacking);
    let mut said = Vec::new();
    for (at, item, need, mut left, is_lacking, wait) in wanted {
        let mut given = 0.0;
        if is_granted {
            let more = need + item.extra as f64;
            given = if more <= left + 1e-6 { more } else { need };
            left -= given;
            let scope = &mut scopes[at];
            match item.measure {
                Measure::InFlight => {
                    scope.n += given;
                    scope.held.get_mut(ask.gateway).expect("put there").n += given;
                }
                Measure::Day | Measure::Month => {
                    let budget = usize::from(item.measure == Measure::Month);
                    scope.budgets[budget].1 += given;
                    scope.held.get_mut(ask.gateway).expect("put there").budgets[budget].2 += given;
                }
                rate => {
                    let level = scope.level(rate as usize, item.limit, now) + given;
                    scope.set_level(rate as usize, level, now);
                }
            }
        }
        said.push(ItemReply {
            granted: given as u64,
            left: Some((left + 1e-6).floor().max(0.0) as u64),
            is_lacking,
            wait: Duration::from_millis(wait as u64),
        });
    }
    Reply { is_granted, output: output as u64, unix: Duration::from_millis(now as u64), items: said }
}
