//! Reservations out of limits that several gateways share. What a request takes lies ready here (a slice), or it is
//! asked of the store: all that it lacks in every limit at once, so that it waits at most once. The caller carries an
//! [`Order`] to the store and a [`Grant`] back; nothing here waits or knows the way.
//!
//! Whatever is dropped on the way gives back what it holds: a client that leaves while its request asks, a grant that
//! comes too late, an answer that never comes.
//! Invariants: of budgets and requests at a time, what all gateways hold never exceeds the limit; of a rate, in any
//! span `t`, at most `limit × (1 + t / 60 s) + gateways × slice` is taken by what was reserved.
//! Cost: where slices have room, the locks of a reservation and no allocation.

mod ask;
mod more;
mod order;

use std::sync::Arc;

use super::calendar::Clock;
use super::limits::{Amounts, Demand, MEASURES, Measure, WhenDown};
pub use super::slices::{EXPIRY, Spent, Tell};
use super::slices::{Slices, is_rate, unit};
use super::tally::{Lack, Remaining, UNKNOWN_WAIT};
use super::usage::Tallies;
use super::{
    Denied, Holder, Holders, Lease, Limits, Source, Standing, each, refuse, reserve, standing_of, tighter_of,
    with_locks,
};
use crate::refusal::Refusal;

use ask::Aside;
pub use ask::Ask;
pub use more::{More, MoreAsk};
pub use order::{Entry, Grant, Item, ItemReply, Order, Reply, ScopeRef};

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
    let mut scopes = Vec::new();
    open(&holders, clock, names, |scope, slices, limits| {
        slices.meet(limits, terms.slice_percent, clock);
        // Until it has been taken from, nobody may forget it.
        slices.asks += 1;
        is_closed |= limits.says_when_down().unwrap_or(terms.when_down) == WhenDown::Closed;
        scopes.push(scope);
    });
    // Without the locks: whoever forgets a scope has the caller's lock and takes them.
    scopes.iter().cloned().for_each(&mut on_scope);
    let lease = take_alone(holders, demand, clock, terms, is_closed);
    for scope in scopes {
        scope.with(|slices| slices.asks = slices.asks.saturating_sub(1));
    }
    lease
}

fn take_alone(
    holders: Holders,
    demand: Demand,
    clock: Clock,
    terms: Terms,
    is_closed: bool,
) -> Result<Lease, Box<Denied>> {
    if is_closed {
        let standing = standing_closed(&holders, clock);
        return Err(Box::new(Denied { refusal: Refusal::NoLimits { retry_after: UNKNOWN_WAIT }, standing }));
    }
    let parts = parts(&holders, clock, terms);
    let mut lease = reserve(parts.clone(), demand, clock).map_err(|denied| {
        let standing = standing_of_parts(&parts, &holders, clock);
        exhausted_or_unknown(Box::new(Denied { standing, ..*denied }), &holders, clock)
    })?;
    lease.source = Source::Alone;
    lease.standing = standing_of_parts(&parts, &holders, clock);
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

/// What is left while the store is away, for an answer that takes nothing: of this gateway's part of each limit.
#[must_use]
pub fn standing_alone(holders: &Holders, clock: Clock, terms: Terms) -> Standing {
    let is_closed = holders.iter().flatten().any(|holder| {
        let rule = holder.rule.and_then(|rule| holder.plan.rules.get(rule)).map(|rule| &rule.limits);
        let mut limits = [&holder.plan.limits].into_iter().chain(rule).filter(|limits| !limits.is_empty());
        limits.any(|limits| limits.says_when_down().unwrap_or(terms.when_down) == WhenDown::Closed)
    });
    if is_closed {
        return standing_closed(holders, clock);
    }
    standing_of_parts(&parts(holders, clock, terms), holders, clock)
}

/// By what this gateway itself counts: it goes by the limits of `parts`, and they are parts of those of `holders`.
fn standing_of_parts(parts: &Holders, holders: &Holders, clock: Clock) -> Standing {
    with_locks(holders, |locked| {
        let stated: Vec<Limits> = each(locked, holders).map(|(_, limits, _)| *limits).collect();
        each(locked, parts).zip(stated).fold([None, None], |all, ((tally, limits, _), stated)| {
            tighter_of(all, tally.left_here(limits, &stated, clock))
        })
    })
}

/// Where a limit is closed without its store nothing is left of any.
fn standing_closed(holders: &Holders, clock: Clock) -> Standing {
    with_locks(holders, |locked| standing_of(locked, holders, clock))
        .map(|left| left.map(|left| Remaining { remaining: 0, ..left }))
}

/// The same holders with the limits of this gateway by itself: of rates and of requests at a time its part, of budgets its
/// part of what is left.
fn parts(holders: &Holders, clock: Clock, terms: Terms) -> Holders {
    let part = |holder: &Holder| {
        let mut plan = holder.plan.part(terms.gateways);
        let mut tallies = holder.usage.lock();
        for (tally, limits, is_model) in tallies.scopes(&holder.plan, holder.rule) {
            let own = match holder.rule.and_then(|rule| plan.rules.get_mut(rule)).filter(|_| is_model) {
                Some(rule) => &mut rule.limits,
                None => &mut plan.limits,
            };
            let Some(slices) = &tally.slices else { continue };
            for measure in [Measure::Day, Measure::Month] {
                if let Some(limit) = limits.get(measure) {
                    let used = tally.budget_used(measure, clock);
                    let part = slices.part_of_budget(measure, limit, used, terms.gateways, clock);
                    *own = own.with(measure, Some(part));
                }
            }
        }
        drop(tallies);
        Holder { plan: Arc::new(plan), ..holder.clone() }
    };
    [holders[0].as_ref().map(part), holders[1].as_ref().map(part)]
}

/// A budget is said to be used up only where the store had nothing left of it. Otherwise others may have room: the client
/// may ask again.
fn exhausted_or_unknown(denied: Box<Denied>, holders: &Holders, clock: Clock) -> Box<Denied> {
    let Refusal::QuotaExhausted { measure, scope, frees, retry_after, .. } = denied.refusal else {
        return denied;
    };
    let limit = with_locks(holders, |locked| {
        let (tally, limits, _) = each(locked, holders).find(|(.., other)| *other == scope)?;
        let is_out = tally.slices.as_ref()?.known_left(measure, clock) == Some(0);
        limits.get(measure).filter(|_| is_out)
    });
    let refusal = match limit {
        Some(limit) => Refusal::QuotaExhausted { measure, scope, limit, frees, retry_after },
        None => Refusal::NoLimits { retry_after: UNKNOWN_WAIT },
    };
    Box::new(Denied { refusal, ..*denied })
}

/// What the ledger has of one life, and which reading of the ledger it is of.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// Told apart from earlier readings, which no longer count.
    pub reading: u64,
    /// Whose use: the name of a process in the store.
    pub life: &'a Arc<str>,
    /// Tokens used on this day, for a model.
    pub tokens: u64,
    /// Money used in this month for it, in units of 1e-12 EUR.
    pub pico_eur: u64,
}

/// Has the store told what the ledger knows of one life; the parts of one reading, for each model, are added up. Gives the
/// scopes of which there is something to tell.
pub fn restore(
    holders: &Holders,
    recorded: Recorded<'_>,
    clock: Clock,
    terms: Terms,
    names: Names<'_>,
) -> Vec<ScopeRef> {
    let Recorded { reading, life, tokens, pico_eur } = recorded;
    let mut scopes = Vec::new();
    let has_budget = |limits: &Limits| {
        let used = [(Measure::Day, tokens), (Measure::Month, pico_eur)];
        used.iter().any(|(measure, used)| *used > 0 && limits.get(*measure).is_some())
    };
    open_some(holders, clock, names, has_budget, |scope, slices, limits| {
        slices.meet(limits, terms.slice_percent, clock);
        for (measure, used) in [(Measure::Day, tokens), (Measure::Month, pico_eur)] {
            if used > 0 && limits.get(measure).is_some() {
                slices.record(reading, life, measure, used, clock);
            }
        }
        scopes.push(scope);
    });
    scopes
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
fn open(holders: &Holders, clock: Clock, names: Names<'_>, work: impl FnMut(ScopeRef, &mut Slices, &Limits)) {
    open_some(holders, clock, names, |limits| !limits.is_empty(), work);
}

/// The same for those whose limits are `wanted`.
fn open_some(
    holders: &Holders,
    clock: Clock,
    names: Names<'_>,
    wanted: impl Fn(&Limits) -> bool,
    mut work: impl FnMut(ScopeRef, &mut Slices, &Limits),
) {
    with_locks(holders, |locked| {
        for (index, (lock, holder)) in locked.iter_mut().zip(holders).enumerate() {
            let (Some(tallies), Some(holder)) = (lock, holder) else { continue };
            let tallies: &mut Tallies = tallies;
            let pattern = holder.rule.and_then(|rule| holder.plan.rules.get(rule)).map(|rule| &rule.pattern);
            for (tally, limits, is_model) in tallies.scopes(&holder.plan, holder.rule) {
                if !wanted(limits) {
                    continue;
                }
                let pattern = pattern.filter(|_| is_model);
                let slices = tally.open_slices(|| name(names, index == 1, pattern), clock.now);
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
mod model;

#[cfg(test)]
#[path = "shared/tests.rs"]
mod tests;
