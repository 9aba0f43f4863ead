//! What one scope has used: a tenant, a key, or the models of a rule within one of them.

use std::sync::Arc;
use std::time::Duration;

use super::bucket::Bucket;
use super::calendar::Clock;
use super::limits::{Amounts, Limits, Measure};
use super::slices::{Kept, Slices};

/// What one scope has used.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What this gateway holds of the limits, where several share them.
    pub(super) slices: Option<Box<Slices>>,
    /// What is remembered of them while there are none.
    kept: Option<Box<Kept>>,
    /// By measure, from [`Measure::Requests`] to [`Measure::Output`].
    rates: [Bucket; 4],
    in_flight: u64,
    /// Tokens that are reserved and not yet charged.
    reserved: u64,
    day: Budget,
    month: Budget,
}

/// What was used of a budget, in its latest period.
#[derive(Debug, Clone, Copy, Default)]
struct Budget {
    period: u64,
    used: u64,
}

/// A limit that has no room for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lack {
    pub(super) measure: Measure,
    pub(super) limit: u64,
    /// When it will have.
    pub(super) wait: Duration,
}

impl Lack {
    /// A budget that is used up.
    pub(super) fn of_budget(measure: Measure, limits: &Limits, clock: Clock) -> Self {
        let wait = if measure == Measure::Day { clock.next_day().0 } else { clock.next_month().0 };
        Self { measure, limit: limits.get(measure).unwrap_or(0), wait }
    }
}

/// What is left of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// The limit.
    pub limit: u64,
    /// What is left of it now.
    pub remaining: u64,
    /// When all of it is there again.
    pub reset: Duration,
}

/// How long a request should wait for another one to end: nobody knows, and it is asked for as a number.
pub(super) const UNKNOWN_WAIT: Duration = Duration::from_secs(1);

impl Budget {
    fn used(self, period: u64) -> u64 {
        if self.period == period { self.used } else { 0 }
    }

    fn take(&mut self, amount: u64, period: u64) {
        *self = Self { period, used: self.used(period).saturating_add(amount) };
    }

    /// Sets right what was reserved in `period`. Once that is over there is nothing to set right.
    fn settle(&mut self, reserved: u64, used: u64, period: u64) {
        if self.period == period {
            self.used = self.used.saturating_sub(reserved).saturating_add(used);
        }
    }
}

/// The period that a budget counts.
fn period(measure: Measure, clock: Clock) -> u64 {
    if measure == Measure::Day { clock.day() } else { clock.month() }
}

impl Tally {
    /// The slices, made where there are none under the name that `name` gives.
    pub(super) fn open_slices(&mut self, name: impl FnOnce() -> Arc<str>, now: Duration) -> &mut Slices {
        let kept = &mut self.kept;
        self.slices.get_or_insert_with(|| {
            Box::new(Slices::new(name(), kept.take().map_or_else(Kept::default, |kept| *kept), now))
        })
    }

    /// Forgets the slices, if nothing is held of them. `false` if something is.
    pub(super) fn close_slices(&mut self) -> bool {
        let Some(slices) = &self.slices else { return true };
        if !slices.is_blank() {
            return false;
        }
        self.kept = slices.kept().map(Box::new);
        self.slices = None;
        true
    }

    /// The limit that has no room for `amounts` for the longest, if one has none.
    pub(super) fn lacks(&self, limits: &Limits, amounts: &Amounts, clock: Clock) -> Option<Lack> {
        let mut worst: Option<Lack> = None;
        for (measure, limit) in limits.iter() {
            let amount = amounts[measure as usize];
            let wait = match measure {
                Measure::InFlight if self.in_flight < limit => Duration::ZERO,
                Measure::InFlight => UNKNOWN_WAIT,
                Measure::Day | Measure::Month => {
                    let used = self.budget(measure).used(period(measure, clock));
                    let is_there = used.saturating_add(amount) <= limit;
                    let next =
                        || if measure == Measure::Day { clock.next_day().0 } else { clock.next_month().0 };
                    if is_there { Duration::ZERO } else { next() }
                }
                // A request larger than the limit takes all of it: it would never pass otherwise.
                _ => self.rates[measure as usize].lacks(amount.min(limit), limit, clock.now),
            };
            if wait > worst.map_or(Duration::ZERO, |worst| worst.wait) {
                worst = Some(Lack { measure, limit, wait });
            }
        }
        worst
    }

    /// Takes `amounts`.
    pub(super) fn take(&mut self, limits: &Limits, amounts: &Amounts, clock: Clock) {
        self.in_flight += 1;
        self.reserved = self.reserved.saturating_add(amounts[Measure::Tokens as usize]);
        for (measure, limit) in limits.iter() {
            let amount = amounts[measure as usize];
            match measure {
                Measure::InFlight => {}
                Measure::Day | Measure::Month => {
                    let period = period(measure, clock);
                    self.budget_mut(measure).take(amount, period);
                }
                _ => self.rates[measure as usize].take(amount.min(limit), limit, clock.now),
            }
        }
    }

    /// Sets right what was taken as `reserved` at `taken` and turned out as `used` by `now`.
    pub(super) fn settle(
        &mut self,
        limits: &Limits,
        reserved: &Amounts,
        used: &Amounts,
        taken: Clock,
        now: Duration,
    ) {
        self.reserved = self.reserved.saturating_sub(reserved[Measure::Tokens as usize]);
        for (measure, limit) in limits.iter() {
            let (reserved, used) = (reserved[measure as usize], used[measure as usize]);
            match measure {
                Measure::InFlight => {}
                Measure::Day | Measure::Month => {
                    self.budget_mut(measure).settle(reserved, used, period(measure, taken));
                }
                _ => self.rates[measure as usize].settle(limit, reserved.min(limit), used, taken.now, now),
            }
        }
    }

    /// One request fewer at a time.
    pub(super) fn leave(&mut self) {
        debug_assert!(self.in_flight > 0, "every request that leaves has come");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// What a request that holds `reserved` of a budget may come to in all; `None` without a limit, or once the
    /// period that it was reserved in is over.
    pub(super) fn ceiling(
        &self,
        limits: &Limits,
        measure: Measure,
        reserved: u64,
        taken: Clock,
    ) -> Option<u64> {
        let (limit, budget) = (limits.get(measure)?, self.budget(measure));
        let period = period(measure, taken);
        if reserved > 0 && budget.period != period {
            return None;
        }
        Some(limit.saturating_sub(budget.used(period).saturating_sub(reserved)))
    }

    /// Adds to what a request holds of a budget.
    pub(super) fn hold_more(&mut self, limits: &Limits, measure: Measure, more: u64, taken: Clock) {
        if limits.get(measure).is_some() {
            self.budget_mut(measure).settle(0, more, period(measure, taken));
        }
    }

    /// Counts use that another process, or this one before it was started anew, has recorded.
    pub(super) fn restore(&mut self, measure: Measure, used: u64, clock: Clock) {
        let period = period(measure, clock);
        self.budget_mut(measure).take(used, period);
    }

    /// Used of a budget in this period, with what is reserved.
    pub(super) fn budget_used(&self, measure: Measure, clock: Clock) -> u64 {
        self.budget(measure).used(period(measure, clock))
    }

    /// What is left of the tightest limit on requests, and of the tightest on tokens.
    pub(super) fn left(&self, limits: &Limits, clock: Clock) -> [Option<Remaining>; 2] {
        match &self.slices {
            Some(slices) => slices.left(limits, clock),
            None => self.left_here(limits, limits, clock),
        }
    }

    /// The same by what this gateway itself counts, where it goes by `limits`. Of a budget the limit is told as it is
    /// `stated`.
    pub(super) fn left_here(&self, limits: &Limits, stated: &Limits, clock: Clock) -> [Option<Remaining>; 2] {
        let mut left = [None, None];
        for (measure, limit) in limits.iter() {
            let (remaining, reset) = match measure {
                Measure::InFlight | Measure::Month => continue,
                Measure::Day => {
                    let used = self.day.used(period(measure, clock));
                    (limit.saturating_sub(used), if used > 0 { clock.next_day().0 } else { Duration::ZERO })
                }
                _ => self.rates[measure as usize].left(limit, clock.now),
            };
            let slot = &mut left[usize::from(measure != Measure::Requests)];
            let limit = stated.get(measure).filter(|_| measure == Measure::Day).unwrap_or(limit);
            *slot = tighter(*slot, Some(Remaining { limit, remaining, reset }));
        }
        left
    }

    /// Whether it is as if nothing had ever been used.
    pub(super) fn is_blank(&self, clock: Clock) -> bool {
        self.in_flight == 0
            && self.slices.is_none()
            && self.rates.iter().all(|rate| rate.is_full(clock.now))
            && self.day.used(clock.day()) == 0
            && self.month.used(clock.month()) == 0
    }

    /// Requests at a time, and the tokens that are reserved for them.
    pub(super) fn in_work(&self) -> (u64, u64) {
        (self.in_flight, self.reserved)
    }

    fn budget(&self, measure: Measure) -> Budget {
        if measure == Measure::Day { self.day } else { self.month }
    }

    fn budget_mut(&mut self, measure: Measure) -> &mut Budget {
        if measure == Measure::Day { &mut self.day } else { &mut self.month }
    }
}

/// The one of two that has less left.
pub(super) fn tighter(a: Option<Remaining>, b: Option<Remaining>) -> Option<Remaining> {
    match (a, b) {
        (Some(a), Some(b)) if b.remaining < a.remaining => Some(b),
        (a, b) => a.or(b),
    }
}
