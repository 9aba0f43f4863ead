//! Reservations out of limits that several gateways share. What a request takes lies ready here (a slice), or it is
//! asked of the store: all that it lacks in every limit at once, so that it waits at most once. The caller carries an
//! [`Order`] to the store and a [`Grant`] back; nothing here waits or knows the way.
//!
//! Whatever is dropped on the way gives back what it holds: a client that leaves while its request asks, a grant that
//! comes too late, an answer that never comes.
//! Invariants: of budgets and requests at a time, what all gateways hold never exceeds the limit; of a rate, in any
//! span `t`, at most `limit × (1 + t / 60 s) + gateways × slice` is taken by what was reserved.
//! Cost: where slices have room, the locks of a reservation and no allocation.

mod more;

use std::sync::Arc;
use std::time::Duration;

use super::calendar::Clock;
use super::limits::{Amounts, Demand, MEASURES, Measure, WhenDown};
pub use super::slices::{EXPIRY, Tell};
use super::slices::{Slices, is_rate, period, unit};
use super::tally::{Lack, UNKNOWN_WAIT};
use super::usage::{Tallies, Usage};
use super::{Denied, Holder, Holders, Lease, Source, each, refuse, reserve, standing_of, with_locks};
use crate::refusal::Refusal;

pub use more::More;

/// On what terms gateways share limits.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What part of a limit a gateway takes ahead, percent.
    pub slice_percent: u64,
    /// What happens while the store is away, where a limit says nothing else.
    pub when_down: WhenDown,
    /// How many gateways share the limits.
    pub gateways: u64,
}

/// Whose limits: how the scopes of a request are called in the store.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The number of the key; never its secret.
    pub key_id: &'a str,
}

/// One scope of limits, and where its slices are.
#[derive(Debug, Clone)]
pub struct ScopeRef {
    usage: Arc<Usage>,
    pattern: Option<Arc<str>>,
    name: Arc<str>,
}

/// What is asked of the store, or told, in one trip: everything in it, or nothing.
#[derive(Debug)]
pub struct Order {
    /// The scopes, each with what it is told and asked.
    pub entries: Vec<Entry>,
    /// Output tokens wanted.
    pub output: u64,
    /// Fewer than this are of no use. Budgets may lower what is wanted to it.
    pub least_output: u64,
}

/// The part of an order that is about one scope.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub scope: ScopeRef,
    /// What the store is told.
    pub tell: Tell,
    /// What it is asked.
    pub items: Vec<Item>,
}

/// An amount of one measure: for `n` output tokens `(fixed + each × n - have) / unit`, a rate's never more than its
/// limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Of what.
    pub measure: Measure,
    /// How much there may be of it, in the store's units.
    pub limit: u64,
    /// Needed whatever the output is.
    pub fixed: i64,
    /// Needed for a token of output.
    pub each: u64,
    /// There already.
    pub have: u64,
    /// How much of it is one unit in the store.
    pub unit: u64,
    /// Wanted besides, if there is plenty; in the store's units.
    pub extra: u64,
}

/// What the store says to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whether it gives.
    pub is_granted: bool,
    /// Output tokens that it gives for.
    pub output: u64,
    /// What time it has, since 1970.
    pub unix: Duration,
    /// For each item of the order.
    pub items: Vec<ItemReply>,
}

/// What the store says to one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemReply {
    /// What is given, in its units.
    pub granted: u64,
    /// What is left then.
    pub left: u64,
    /// Whether it is what there is not enough of.
    pub is_lacking: bool,
    /// How long until there is, for a rate.
    pub wait: Duration,
}

/// An order that was answered. What was given goes back unless a request receives it.
#[derive(Debug)]
pub struct Grant {
    order: Order,
    reply: Reply,
    clock: Clock,
    is_received: bool,
}

/// A request that asks the store.
#[derive(Debug)]
pub struct Ask {
    holders: Holders,
    demand: Demand,
    terms: Terms,
    aside: Aside,
}

/// What a request that asks the store has set aside here. Dropped, it is ready for others again.
#[derive(Debug)]
struct Aside {
    clock: Clock,
    /// For each scope of the order: where it is, what was set aside, and of what it fetches a slice.
    parts: Vec<(ScopeRef, Amounts, [bool; MEASURES])>,
    is_over: bool,
}

/// What became of a wish to reserve.
#[derive(Debug)]
pub enum Begun {
    /// There was room here.
    Lease(Box<Lease>),
    /// The store has to be asked.
    Ask(Box<Ask>, Order),
}

/// Takes what a request may come to out of the slices that lie ready, or says what is to be asked of the store.
#[must_use]
pub fn begin(holders: Holders, demand: Demand, clock: Clock, terms: Terms, names: Names<'_>) -> Begun {
    let taken = with_locks(&holders, |locked| {
        let amounts = take_ready(locked, &holders, demand, clock, terms)?;
        Some((amounts, standing_of(locked, &holders, clock)))
    });
    if let Some((amounts, standing)) = taken {
        let lease =
            Lease::new(holders, amounts, demand.output, demand.price, clock, Source::Shared, standing);
        return Begun::Lease(Box::new(lease));
    }
    let amounts = demand.amounts();
    let mut parts = Vec::new();
    let mut entries = Vec::new();
    open(&holders, clock, names, |scope, slices, limits| {
        slices.meet(limits, terms.slice_percent, clock);
        slices.asks += 1;
        let tell = slices.tell(clock, true, false).unwrap_or_default();
        let (mut have, mut filling) = ([0; MEASURES], [false; MEASURES]);
        let mut items = Vec::new();
        for (measure, limit) in limits.iter() {
            let at = measure as usize;
            let wanted = if is_rate(measure) { amounts[at].min(limit) } else { amounts[at] };
            have[at] = slices.ready(measure, clock).min(wanted);
            slices.set_aside(measure, have[at]);
            if have[at] < wanted {
                let extra = slices.begin_filling(measure);
                filling[at] = extra > 0;
                items.push(item(measure, limit, &demand, have[at], extra));
            }
        }
        parts.push((scope.clone(), have, filling));
        entries.push(Entry { scope, tell, items });
    });
    let least_output = if demand.is_open { demand.output.min(1) } else { demand.output };
    let order = Order { entries, output: demand.output, least_output };
    let aside = Aside { clock, parts, is_over: false };
    Begun::Ask(Box::new(Ask { holders, demand, terms, aside }), order)
}

/// Takes what a request may come to while the store is away: out of this gateway's part of each limit.
///
/// Gives every scope to `on_scope`: the store is to be told about it when it is back.
///
/// # Errors
/// [`Denied`]: a limit wants to be refused then, or has no room here.
pub fn reserve_alone(
    holders: Holders,
    demand: Demand,
    clock: Clock,
    terms: Terms,
    names: Names<'_>,
    mut on_scope: impl FnMut(ScopeRef),
) -> Result<Lease, Box<Denied>> {
    let mut is_closed = false;
    open(&holders, clock, names, |scope, slices, limits| {
        on_scope(scope);
        slices.meet(limits, terms.slice_percent, clock);
        is_closed |= limits.says_when_down().unwrap_or(terms.when_down) == WhenDown::Closed;
    });
    if is_closed {
        let standing = super::standing(&holders, clock);
        return Err(Box::new(Denied { refusal: Refusal::NoLimits { retry_after: UNKNOWN_WAIT }, standing }));
    }
    let part = |holder: Holder| Holder { plan: Arc::new(holder.plan.part(terms.gateways)), ..holder };
    let mut lease = reserve(holders.map(|holder| holder.map(part)), demand, clock)?;
    lease.source = Source::Alone;
    with_locks(&lease.holders, |locked| {
        for (tally, limits, _) in each(locked, &lease.holders) {
            let Some(slices) = &mut tally.slices else { continue };
            for (measure, _) in limits.iter() {
                slices.take_alone(measure, lease.reserved[measure as usize], clock);
            }
        }
    });
    Ok(lease)
}

/// Counts what was recorded earlier, as [`super::restore`] does, in the store: the least that was used of its budgets.
/// Gives the scopes that have to be told.
pub fn restore(
    holders: &Holders,
    tokens: u64,
    pico_eur: u64,
    clock: Clock,
    terms: Terms,
    names: Names<'_>,
) -> Vec<ScopeRef> {
    let mut scopes = Vec::new();
    open(holders, clock, names, |scope, slices, limits| {
        slices.meet(limits, terms.slice_percent, clock);
        for (measure, used) in [(Measure::Day, tokens), (Measure::Month, pico_eur)] {
            if used > 0 && limits.get(measure).is_some() {
                slices.record(measure, used, clock);
            }
        }
        scopes.push(scope);
    });
    scopes
}

impl ScopeRef {
    /// Its key in the store.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the store is to be told now, if anything; all of it at the begin of a connection (`is_whole`).
    #[must_use]
    pub fn tell(&self, clock: Clock, is_whole: bool) -> Option<Tell> {
        self.with(|slices| slices.tell(clock, false, is_whole)).flatten()
    }

    /// Forgets the slices, if nothing is held of them. `false` if something is.
    #[must_use]
    pub fn close(&self) -> bool {
        let close = |slot: &mut Option<Box<Slices>>| {
            let is_blank = slot.as_ref().is_none_or(|slices| slices.is_blank());
            if is_blank {
                *slot = None;
            }
            is_blank
        };
        self.usage.with_slices(self.pattern.as_ref(), close).unwrap_or(true)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Slices) -> T) -> Option<T> {
        self.usage.with_slices(self.pattern.as_ref(), |slot| slot.as_deref_mut().map(work)).flatten()
    }
}

impl Grant {
    /// Notes what the store has said, by the time here and there.
    #[must_use]
    pub fn new(order: Order, reply: Reply, now: Duration) -> Self {
        let clock = Clock { now, unix: reply.unix };
        let mut replies = reply.items.iter();
        for entry in &order.entries {
            entry.scope.with(|slices| {
                slices.is_known = !entry.tell.is_last;
                for (item, said) in entry.items.iter().zip(&mut replies) {
                    if reply.is_granted {
                        slices.promise(item.measure, said.granted, said.left, clock);
                    } else {
                        slices.note_left(item.measure, said.left, clock);
                    }
                }
            });
        }
        Self { order, reply, clock, is_received: false }
    }

    /// Whether the store gave what was asked.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.reply.is_granted
    }

    /// What was given of each item, by the scope's position in the order, in our units.
    fn amounts(&self) -> Vec<Amounts> {
        let mut replies = self.reply.items.iter();
        let of_entry = |entry: &Entry| {
            let mut amounts = [0; MEASURES];
            for (item, said) in entry.items.iter().zip(&mut replies) {
                amounts[item.measure as usize] = said.granted.saturating_mul(item.unit);
            }
            amounts
        };
        self.order.entries.iter().map(of_entry).collect()
    }

    /// The measure that will be there last, with its limit and the position of its scope.
    fn worst(&self) -> Option<(Lack, usize)> {
        let entries = self.order.entries.iter().enumerate();
        let items = entries.flat_map(|(at, entry)| entry.items.iter().map(move |item| (at, item)));
        let lacking = items.zip(&self.reply.items).filter(|(_, said)| said.is_lacking);
        let lacks = lacking.map(|((at, item), said)| {
            let wait = match item.measure {
                Measure::InFlight => UNKNOWN_WAIT,
                Measure::Day => self.clock.next_day().0,
                Measure::Month => self.clock.next_month().0,
                _ => said.wait,
            };
            (Lack { measure: item.measure, limit: item.limit.saturating_mul(item.unit), wait }, at)
        });
        lacks.max_by_key(|(lack, _)| lack.wait)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if self.is_received || !self.reply.is_granted {
            return;
        }
        for (entry, granted) in self.order.entries.iter().zip(self.amounts()) {
            entry.scope.with(|slices| {
                for item in &entry.items {
                    let of = period(item.measure, self.clock);
                    slices.receive(item.measure, granted[item.measure as usize], 0, of);
                }
            });
        }
    }
}

impl Ask {
    /// Reserves what the store has given, or says what it lacked; without asking again where others have brought
    /// enough meanwhile.
    ///
    /// # Errors
    /// [`Denied`]: there is no room.
    pub fn answered(mut self, mut grant: Grant) -> Result<Lease, Box<Denied>> {
        if grant.is_granted() {
            return Ok(self.receive(&mut grant));
        }
        let clock = grant.clock;
        self.aside.put_back();
        let holders = self.holders.clone();
        with_locks(&self.holders, |locked| {
            if let Some(amounts) = take_ready(locked, &self.holders, self.demand, clock, self.terms) {
                let standing = standing_of(locked, &self.holders, clock);
                let Demand { output, price, .. } = self.demand;
                return Ok(Lease::new(holders, amounts, output, price, clock, Source::Shared, standing));
            }
            let standing = standing_of(locked, &self.holders, clock);
            let scopes = each(locked, &self.holders).filter(|(_, limits, _)| !limits.is_empty());
            let scopes: Vec<_> = scopes.map(|(_, _, scope)| scope).collect();
            let refusal = match grant.worst() {
                Some((lack, at)) => refuse(lack, scopes[at], clock),
                // The store refuses only for want of something.
                None => Refusal::NoLimits { retry_after: UNKNOWN_WAIT },
            };
            Err(Box::new(Denied { refusal, standing }))
        })
    }

    /// Gives up: the store does not answer. What the request needs is to be had by [`reserve_alone`].
    #[must_use]
    pub fn unanswered(self) -> (Holders, Demand) {
        (self.holders.clone(), self.demand)
    }

    fn receive(&mut self, grant: &mut Grant) -> Lease {
        let clock = grant.clock;
        let output = grant.reply.output;
        let amounts = Demand { output, ..self.demand }.amounts();
        let granted = grant.amounts();
        let mut parts = self.aside.parts.iter().zip(&granted);
        let standing = with_locks(&self.holders, |locked| {
            for (tally, limits, _) in each(locked, &self.holders) {
                if limits.is_empty() {
                    tally.take(limits, &amounts, clock);
                    continue;
                }
                let ((_, have, filling), granted) = parts.next().expect("a part for each scope with limits");
                tally.take(limits, &amounts, clock);
                let Some(slices) = &mut tally.slices else { continue };
                for (measure, limit) in limits.iter() {
                    let at = measure as usize;
                    let amount = if is_rate(measure) { amounts[at].min(limit) } else { amounts[at] };
                    let of = period(measure, clock);
                    // What was set aside in an earlier period is gone with it.
                    let have = if period(measure, self.aside.clock) == of { have[at] } else { 0 };
                    if filling[at] {
                        slices.end_filling(measure);
                    }
                    slices.receive(measure, have.saturating_add(granted[at]), amount, of);
                }
                slices.asks -= 1;
            }
            standing_of(locked, &self.holders, clock)
        });
        (self.aside.is_over, grant.is_received) = (true, true);
        Lease::new(self.holders.clone(), amounts, output, self.demand.price, clock, Source::Shared, standing)
    }
}

impl Aside {
    fn put_back(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        for (scope, have, filling) in &self.parts {
            scope.with(|slices| {
                slices.asks = slices.asks.saturating_sub(1);
                for measure in Measure::ALL {
                    let at = measure as usize;
                    if filling[at] {
                        slices.end_filling(measure);
                    }
                    slices.receive(measure, have[at], 0, period(measure, self.clock));
                }
            });
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.put_back();
    }
}

/// Takes everything out of what is ready, or nothing.
fn take_ready(
    locked: &mut super::Locked<'_>,
    holders: &Holders,
    demand: Demand,
    clock: Clock,
    terms: Terms,
) -> Option<Amounts> {
    let amounts = demand.amounts();
    let amount = |measure: Measure, limit: u64| {
        let amount = amounts[measure as usize];
        if is_rate(measure) { amount.min(limit) } else { amount }
    };
    let is_ready = each(locked, holders).all(|(tally, limits, _)| {
        let Some(slices) = &tally.slices else { return limits.is_empty() };
        limits.iter().all(|(measure, limit)| slices.ready(measure, clock) >= amount(measure, limit))
    });
    if !is_ready {
        return None;
    }
    for (tally, limits, _) in each(locked, holders) {
        tally.take(limits, &amounts, clock);
        let Some(slices) = &mut tally.slices else { continue };
        slices.meet(limits, terms.slice_percent, clock);
        for (measure, limit) in limits.iter() {
            slices.take(measure, amount(measure, limit));
        }
    }
    Some(amounts)
}

/// Runs `work` with the slices of each scope that has limits, making them where there are none.
fn open(
    holders: &Holders,
    clock: Clock,
    names: Names<'_>,
    mut work: impl FnMut(ScopeRef, &mut Slices, &super::Limits),
) {
    with_locks(holders, |locked| {
        for (index, (lock, holder)) in locked.iter_mut().zip(holders).enumerate() {
            let (Some(tallies), Some(holder)) = (lock, holder) else { continue };
            let tallies: &mut Tallies = tallies;
            let pattern = holder.rule.and_then(|rule| holder.plan.rules.get(rule)).map(|rule| &rule.pattern);
            for (tally, limits, is_model) in tallies.scopes(&holder.plan, holder.rule) {
                if limits.is_empty() {
                    continue;
                }
                let pattern = pattern.filter(|_| is_model);
                let slices = tally.slices.get_or_insert_with(|| {
                    Box::new(Slices::new(name(names, index == 1, pattern), clock.now))
                });
                let scope = ScopeRef {
                    usage: Arc::clone(&holder.usage),
                    pattern: pattern.cloned(),
                    name: Arc::clone(&slices.name),
                };
                work(scope, slices, limits);
            }
        }
    });
}

/// `tollgate:{tenant}:…`: the braces keep all scopes of a tenant on one node of a cluster.
fn name(names: Names<'_>, is_key: bool, pattern: Option<&Arc<str>>) -> Arc<str> {
    let Names { tenant, key_id } = names;
    let holder = if is_key { format!("key:{key_id}") } else { "tenant".to_owned() };
    match pattern {
        Some(pattern) => format!("tollgate:{{{tenant}}}:{holder}:model:{pattern}").into(),
        None => format!("tollgate:{{{tenant}}}:{holder}").into(),
    }
}

/// What a request needs of one measure, as the store works it out.
fn item(measure: Measure, limit: u64, demand: &Demand, have: u64, extra: u64) -> Item {
    let (fixed, each) = match measure {
        Measure::Requests | Measure::InFlight => (1, 0),
        Measure::Tokens | Measure::Day => (demand.input, 1),
        Measure::Input => (demand.input, 0),
        Measure::Output => (0, 1),
        Measure::Month => (demand.input.saturating_mul(demand.price.input), demand.price.output),
    };
    let fixed = i64::try_from(fixed).unwrap_or(i64::MAX);
    Item { measure, limit: limit / unit(measure), fixed, each, have, unit: unit(measure), extra }
}

#[cfg(test)]
#[path = "shared/tests.rs"]
mod tests;
