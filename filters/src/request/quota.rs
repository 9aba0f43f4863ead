//! Limits on requests, tokens and money. A request pays its worst case (prompt plus the output that it may ask for)
//! before it is forwarded and gets the rest back when its lease is dropped, however it ended. Charging afterwards
//! would let one burst of long answers overrun the limit by the whole burst. Fails closed.
//!
//! Limits nest: the tenant's, the tenant's for some models, the key's, the key's for some models. A request takes
//! from all of them or from none, under the locks of its tenant and its key, always in that order.
//!
//! Rates are GCRA (`bucket`): a full minute's allowance may be spent at once and then flows back evenly. Budgets
//! (tokens a day, money a month) are counted against the UTC calendar. A running stream may go beyond what it
//! reserved, as a server that was given no cap does: rates then owe the difference, a budget ends the stream.
//! Invariants: what is reserved and charged of a budget never exceeds it; of a rate, never more than
//! `limit × (1 + t / 60 s)` in any span `t` by what was reserved.
//! Cost: two short locks at the start and at the end of a request, never across a wait; see
//! `filters/examples/quota_cost.rs`.

mod bucket;
mod calendar;
mod limits;
pub mod shared;
mod slices;
mod tally;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use crate::refusal::Refusal;

pub use calendar::{Clock, Date};
use limits::{Amounts, amounts};
pub use limits::{Demand, Limits, Measure, Plan, Price, Rule, Used, WhenDown};
pub use tally::Remaining;
use tally::{Lack, tighter};
use usage::Tallies;
pub use usage::{Usage, Usages};

/// Output tokens that a stream beyond its reservation takes of a budget at a time.
const STEP: u64 = 256;

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The key's own, or the tenant's.
    pub is_key: bool,
    /// Of some models, or of everything.
    pub is_model: bool,
}

/// One holder of limits that a request lies under: its tenant, or its key.
#[derive(Debug, Clone)]
pub struct Holder {
    /// What it has used.
    pub usage: Arc<Usage>,
    /// What it may use.
    pub plan: Arc<Plan>,
    /// The rule of the plan for the request's model.
    pub rule: Option<usize>,
}

/// All that a request lies under: its tenant, and its key where that has limits.
pub type Holders = [Option<Holder>; 2];

/// What is left of the tightest limit on requests, and of the tightest on tokens, for the `x-ratelimit-*` headers.
pub type Standing = [Option<Remaining>; 2];

/// A request that has no room.
#[derive(Debug)]
pub struct Denied {
    /// What the client is told.
    pub refusal: Refusal,
    /// What is left.
    pub standing: Standing,
}

/// A reservation. Dropping it gives back what was not charged.
#[derive(Debug)]
pub struct Lease {
    holders: Holders,
    reserved: Amounts,
    charged: Amounts,
    output: u64,
    price: Price,
    taken: Clock,
    ended: Duration,
    is_given_back: bool,
    source: Source,
    /// What is left after this reservation.
    pub standing: Standing,
}

/// Where a reservation was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Limits that this gateway counts alone.
    Own,
    /// Limits that gateways share.
    Shared,
    /// Those, while their store is away.
    Alone,
}

/// Takes what a request may come to out of every limit that it lies under.
///
/// # Errors
/// [`Denied`], with the limit that has no room for the longest; nothing is then reserved.
pub fn reserve(holders: Holders, demand: Demand, clock: Clock) -> Result<Lease, Box<Denied>> {
    let mut output = demand.output;
    let (reserved, standing) = with_locks(&holders, |locked| {
        if demand.is_open {
            let room = each(locked, &holders)
                .filter_map(|(tally, limits, _)| room(|m| tally.ceiling(limits, m, 0, clock), &demand))
                .min();
            output = room.filter(|room| *room > 0).map_or(output, |room| room.min(output));
        }
        let amounts = Demand { output, ..demand }.amounts();
        let mut worst: Option<(Lack, Scope)> = None;
        for (tally, limits, scope) in each(locked, &holders) {
            let lack = tally.lacks(limits, &amounts, clock);
            let is_worse = |lack: &Lack| lack.wait > worst.map_or(Duration::ZERO, |(worst, _)| worst.wait);
            worst = lack.filter(is_worse).map(|lack| (lack, scope)).or(worst);
        }
        if worst.is_none() {
            each(locked, &holders).for_each(|(tally, limits, _)| tally.take(limits, &amounts, clock));
        }
        let standing = each(locked, &holders).fold([None, None], |all, (tally, limits, _)| {
            tighter_of(all, tally.left_here(limits, limits, clock))
        });
        match worst {
            None => Ok((amounts, standing)),
            Some((lack, scope)) => Err(Box::new(Denied { refusal: refuse(lack, scope, clock), standing })),
        }
    })?;
    Ok(Lease::new(holders, reserved, output, demand.price, clock, Source::Own, standing))
}

/// What is left now, for an answer that takes nothing.
#[must_use]
pub fn standing(holders: &Holders, clock: Clock) -> Standing {
    with_locks(holders, |locked| standing_of(locked, holders, clock))
}

/// Counts what was recorded earlier on this day (`tokens`) and in this month (`pico_eur`) for a model against the
/// budgets of one holder: the tenant, or the key. The holder's rule is that of the model.
pub fn restore(holder: &Holder, tokens: u64, pico_eur: u64, clock: Clock) {
    for (tally, limits, _) in holder.usage.lock().scopes(&holder.plan, holder.rule) {
        for (measure, used) in [(Measure::Day, tokens), (Measure::Month, pico_eur)] {
            if used > 0 && limits.get(measure).is_some() {
                tally.restore(measure, used, clock);
            }
        }
    }
}

impl Lease {
    fn new(
        holders: Holders,
        reserved: Amounts,
        output: u64,
        price: Price,
        taken: Clock,
        source: Source,
        standing: Standing,
    ) -> Self {
        Self {
            holders,
            reserved,
            // A request counts as one, whatever becomes of it.
            charged: amounts(Used::default()),
            output,
            price,
            taken,
            ended: taken.now,
            is_given_back: false,
            source,
            standing,
        }
    }

    /// States what the request really used, by the time it ended.
    pub fn charge(&mut self, used: Used, now: Duration) {
        self.charged = amounts(used);
        self.ended = now;
    }

    /// Gives tokens and money back at once, for a request that will use none. It still counts as a request, and as
    /// one in work until it is dropped.
    pub fn release(&mut self, now: Duration) {
        self.charge(Used::default(), now);
        self.give_back(false);
    }

    /// Output tokens reserved.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.output
    }

    /// How many output tokens a request that has come to `used` may come to before this is asked again. What it goes
    /// beyond its reservation is taken out of every budget here; rates do not stop a stream, they owe.
    ///
    /// # Errors
    /// The budget that has nothing left for it.
    ///
    /// # Cost
    /// The locks of a reservation; once in `STEP` tokens beyond what was reserved.
    pub fn allow(&mut self, used: Used, clock: Clock) -> Result<u64, Refusal> {
        let (reserved, taken, price) = (self.reserved, self.taken, self.price.output.max(1));
        let so_far = amounts(used);
        let (allowed, reserved) = with_locks(&self.holders, |locked| {
            // Output tokens for which the tightest budget has room, and whose budget that is.
            let mut tightest: Option<(u64, Lack, Scope)> = None;
            for (tally, limits, scope) in each(locked, &self.holders) {
                for (measure, each_token) in [(Measure::Day, 1), (Measure::Month, price)] {
                    let at = measure as usize;
                    let Some(ceiling) = tally.ceiling(limits, measure, reserved[at], taken) else { continue };
                    let room = ceiling.saturating_sub(so_far[at]) / each_token;
                    if tightest.as_ref().is_none_or(|(least, ..)| room < *least) {
                        tightest = Some((room, tally::Lack::of_budget(measure, limits, clock), scope));
                    }
                }
            }
            let Some((room, lack, scope)) = tightest else { return Ok((u64::MAX, reserved)) };
            let more = room.min(STEP);
            if more == 0 {
                return Err(refuse(lack, scope, clock));
            }
            let mut wanted = reserved;
            for (measure, each_token) in [(Measure::Day, 1), (Measure::Month, price)] {
                let at = measure as usize;
                let more = u64::try_from(u128::from(more) * u128::from(each_token)).unwrap_or(u64::MAX);
                wanted[at] = reserved[at].max(so_far[at].saturating_add(more));
                for (tally, limits, _) in each(locked, &self.holders) {
                    tally.hold_more(limits, measure, wanted[at] - reserved[at], taken);
                }
            }
            Ok((used.output.saturating_add(more), wanted))
        })?;
        self.reserved = reserved;
        Ok(allowed)
    }

    /// Whether a budget bounds the request, so that [`Lease::allow`] has to be asked.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        let budgets = [Measure::Day, Measure::Month];
        self.holders.iter().flatten().any(|holder| {
            let rule = holder.rule.and_then(|rule| holder.plan.rules.get(rule)).map(|rule| &rule.limits);
            let mut limits = [&holder.plan.limits].into_iter().chain(rule);
            limits.any(|limits| budgets.iter().any(|budget| limits.get(*budget).is_some()))
        })
    }

    fn give_back(&mut self, is_over: bool) {
        let is_given_back = std::mem::replace(&mut self.is_given_back, true);
        let (taken, ended, is_alone) = (self.taken, self.ended, self.source == Source::Alone);
        with_locks(&self.holders, |locked| {
            for (tally, limits, _) in each(locked, &self.holders) {
                if !is_given_back {
                    tally.settle(limits, &self.reserved, &self.charged, taken, ended);
                }
                if is_over {
                    tally.leave();
                }
                if self.source == Source::Own {
                    continue;
                }
                let Some(slices) = &mut tally.slices else { continue };
                if !is_given_back {
                    slices.settle(limits, &self.reserved, &self.charged, taken, ended, is_alone);
                }
                if is_over {
                    slices.leave(limits, is_alone);
                }
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(true);
    }
}

type Locked<'a> = [Option<std::sync::MutexGuard<'a, Tallies>>; 2];

/// Runs `work` with both holders locked, the tenant first: always in this order, so that no two requests wait for
/// each other.
fn with_locks<T>(holders: &Holders, work: impl FnOnce(&mut Locked<'_>) -> T) -> T {
    let mut locked = [None, None];
    for (lock, holder) in locked.iter_mut().zip(holders) {
        *lock = holder.as_ref().map(|holder| holder.usage.lock());
    }
    work(&mut locked)
}

/// Each scope that a request lies in, with its limits.
fn each<'a>(
    locked: &'a mut Locked<'_>,
    holders: &'a Holders,
) -> impl Iterator<Item = (&'a mut tally::Tally, &'a Limits, Scope)> {
    let pairs = locked.iter_mut().zip(holders).enumerate();
    pairs.filter_map(|(index, (lock, holder))| Some((index, lock.as_mut()?, holder.as_ref()?))).flat_map(
        |(index, lock, holder)| {
            let scopes = lock.scopes(&holder.plan, holder.rule);
            scopes
                .map(move |(tally, limits, is_model)| (tally, limits, Scope { is_key: index == 1, is_model }))
        },
    )
}

fn standing_of(locked: &mut Locked<'_>, holders: &Holders, clock: Clock) -> Standing {
    each(locked, holders)
        .fold([None, None], |all, (tally, limits, _)| tighter_of(all, tally.left(limits, clock)))
}

fn tighter_of([requests, tokens]: Standing, [also_requests, also_tokens]: Standing) -> Standing {
    [tighter(requests, also_requests), tighter(tokens, also_tokens)]
}

/// The output tokens for which the budgets have room, given what each has left; `None` where there is no budget.
fn room(left: impl Fn(Measure) -> Option<u64>, demand: &Demand) -> Option<u64> {
    let tokens = left(Measure::Day).map(|left| left.saturating_sub(demand.input));
    let input = u128::from(demand.input) * u128::from(demand.price.input);
    let money = left(Measure::Month).map(|left| {
        let left = u128::from(left).saturating_sub(input);
        u64::try_from(left / u128::from(demand.price.output.max(1))).unwrap_or(u64::MAX)
    });
    tokens.into_iter().chain(money).min()
}

fn refuse(lack: Lack, scope: Scope, clock: Clock) -> Refusal {
    let Lack { measure, limit, wait } = lack;
    match measure {
        Measure::Day => {
            Refusal::QuotaExhausted { measure, scope, limit, frees: clock.next_day().1, retry_after: wait }
        }
        Measure::Month => {
            Refusal::QuotaExhausted { measure, scope, limit, frees: clock.next_month().1, retry_after: wait }
        }
        _ => Refusal::RateLimited { measure, scope, limit, retry_after: wait },
    }
}

#[cfg(test)]
#[path = "quota/tests.rs"]
mod tests;
