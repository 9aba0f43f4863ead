//! What one gateway holds of the limits of one scope that several gateways share. The store counts what has been
//! taken in all; a gateway takes a slice more than it needs, and serves the next requests out of that without asking.
//!
//! Rates: what was taken flows back in the store with time, whoever holds it. What is given back before that, and what
//! is owed beyond a reservation, is told once and never twice: when it is lost on the way, too little passes, not too
//! much. Requests at a time and budgets do not flow back: the store keeps for each gateway what is outstanding, and
//! gets it back when the gateway dies. They are told so that telling again changes nothing.
//!
//! Budgets are counted by lives: the store has, for each process that ever used some of it in the period, how much that
//! was, and what was used is the sum. A process tells its own as a number that only rises, and what the ledger has of
//! every life is told in the same way: of two numbers for one life the larger counts. So a store that lost everything
//! can be told it again by everybody at once, in any order, and counts nothing twice.
//!
//! Invariant: what lies ready of a rate is never more than the slice.

use std::sync::Arc;
use std::time::Duration;

use super::bucket::WINDOW_NS;
use super::calendar::Clock;
use super::limits::{Amounts, Limits, MEASURES, Measure};
use super::tally::{Remaining, tighter};

/// What does not flow back before its period ends.
const BUDGETS: [Measure; 2] = [Measure::Day, Measure::Month];

/// A slice that nobody has taken from for this long is given back.
const IDLE: Duration = Duration::from_secs(1);

/// How often a gateway says that it still holds something, at least. The store takes back what it has not heard of for
/// [`EXPIRY`].
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);

/// After what silence of a gateway the store takes back what it holds.
pub const EXPIRY: Duration = Duration::from_secs(10);

/// How much of a measure the store counts as one. Its numbers are doubles, exact to 2^53: money is counted in units of
/// 1e-9 EUR there.
pub(super) fn unit(measure: Measure) -> u64 {
    if measure == Measure::Month { 1000 } else { 1 }
}

/// Whether a measure flows back by itself.
pub(super) fn is_rate(measure: Measure) -> bool {
    (measure as usize) < Measure::InFlight as usize
}

/// The slice of a limit.
pub(super) fn slice_of(limit: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(limit) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// One scope's slices.
#[derive(Debug)]
pub(super) struct Slices {
    /// Its key in the store.
    pub(super) name: Arc<str>,
    shares: [Share; MEASURES],
    /// Requests that are asking the store for it.
    pub(super) asks: u32,
    /// When a request last took from it.
    used_at: Duration,
    /// When the store was last told about it.
    told_at: Duration,
    /// Whether the store has an entry of this gateway, so that it has lost it if it has none.
    pub(super) is_known: bool,
    /// What the ledger has of each life, as it was last read.
    recorded: Vec<Recorded>,
    /// Which reading that was.
    reading: u64,
    is_recorded_told: bool,
}

/// Of the day and of the month: the period, and what was used in it.
pub type Spent = [(u64, u64); 2];

/// What the ledger has of one life.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recorded {
    life: Arc<str>,
    used: Spent,
}

/// What is remembered of the budgets of a scope whose slices were given back: of the day and of the month.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept([KeptBudget; 2]);

#[derive(Debug, Clone, Copy, Default)]
struct KeptBudget {
    period: u64,
    charged: u64,
    left: u64,
    is_left_known: bool,
    alone: u64,
}

/// What is held of one measure.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    limit: u64,
    percent: u64,
    /// Ready to be taken.
    held: u64,
    /// For requests that are asking the store.
    promised: u64,
    /// In requests; not of rates.
    out: u64,
    /// Charged in this period; of budgets only.
    charged: u64,
    /// How much of that the store was told.
    told: u64,
    /// What the store has as outstanding here, in its units; not of rates.
    known: u64,
    /// To be given back, and to be added, in the store; of rates only.
    back: u64,
    owed: u64,
    /// What period a budget is of.
    period: u64,
    /// What the store had left, and when.
    left: u64,
    left_at: Duration,
    is_left_known: bool,
    /// Taken of a budget since then without the store.
    alone: u64,
    /// Whether somebody is fetching a slice.
    is_filling: bool,
}

/// What the store is told about one scope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tell {
    /// For each rate: its measure, limit, what is given back and what is owed.
    pub rates: Vec<(usize, u64, u64, u64)>,
    /// Requests at a time: how many more are outstanding, or how many in all where `is_whole`.
    pub in_flight: i64,
    /// Of the day and of the month: the period, what this process has charged in it so far, and how much more is
    /// outstanding (or how much in all), in units of the store.
    pub budgets: [(u64, u64, i64); 2],
    /// What the ledger has of each life.
    pub lives: Vec<(Arc<str>, Spent)>,
    /// Whether more was charged than was told before.
    pub has_charged: bool,
    /// Whether what is outstanding is said in whole, as at the begin of a connection.
    pub is_whole: bool,
    /// Whether nothing is outstanding and all has been told before, so that the scope can be forgotten here.
    pub is_last: bool,
    /// Whether the store must know this gateway here.
    pub is_known: bool,
    /// For how long the store must remember the scope.
    pub keep: Duration,
}

impl Share {
    /// Money and tokens of an earlier period are gone. Clocks differ a little: nobody goes back to one.
    fn enter(&mut self, period: u64) {
        if period > self.period {
            let Self { limit, percent, .. } = *self;
            *self = Self { limit, percent, period, ..Self::default() };
        }
    }

    /// Outstanding here, in units of the store.
    fn outstanding(&self, unit: u64) -> u64 {
        (self.held.saturating_add(self.promised).saturating_add(self.out)).div_ceil(unit)
    }

    /// Puts `amount` back so that it can be taken again here; of a rate no more than the slice.
    fn put(&mut self, measure: Measure, amount: u64) {
        if !is_rate(measure) {
            self.held = self.held.saturating_add(amount);
            return;
        }
        // A slice that is on its way is ready too when it comes.
        let slice = if self.is_filling { 0 } else { slice_of(self.limit, self.percent) };
        let kept = amount.min(slice.saturating_sub(self.held));
        self.held += kept;
        self.back = self.back.saturating_add(amount - kept);
    }
}

/// The period that a measure counts, 0 for one without.
pub(super) fn period(measure: Measure, clock: Clock) -> u64 {
    match measure {
        Measure::Day => clock.day(),
        Measure::Month => clock.month(),
        _ => 0,
    }
}

impl Slices {
    /// Slices of nothing, of a scope of which `kept` is remembered.
    pub(super) fn new(name: Arc<str>, kept: Kept, now: Duration) -> Self {
        let mut shares = [Share::default(); MEASURES];
        for (measure, kept) in BUDGETS.into_iter().zip(kept.0) {
            let KeptBudget { period, charged, left, is_left_known, alone } = kept;
            let told = charged;
            shares[measure as usize] =
                Share { period, charged, told, left, is_left_known, alone, ..Share::default() };
        }
        Self {
            name,
            shares,
            asks: 0,
            used_at: now,
            told_at: now,
            is_known: false,
            recorded: Vec::new(),
            reading: 0,
            is_recorded_told: true,
        }
    }

    /// What has to be remembered of them when they are forgotten.
    pub(super) fn kept(&self) -> Option<Kept> {
        let kept = BUDGETS.map(|measure| {
            let Share { period, charged, left, is_left_known, alone, .. } = self.shares[measure as usize];
            KeptBudget { period, charged, left, is_left_known, alone }
        });
        kept.iter().any(|kept| kept.charged > 0 || kept.is_left_known).then_some(Kept(kept))
    }

    /// Notes what limits hold, as a request meets them.
    pub(super) fn meet(&mut self, limits: &Limits, percent: u64, clock: Clock) {
        self.used_at = clock.now;
        for (measure, limit) in limits.iter() {
            let share = &mut self.shares[measure as usize];
            (share.limit, share.percent) = (limit, percent);
            share.enter(period(measure, clock));
        }
    }

    /// Notes what the ledger has of a budget and a life, more than was noted of this reading before.
    pub(super) fn record(
        &mut self,
        reading: u64,
        life: &Arc<str>,
        measure: Measure,
        used: u64,
        clock: Clock,
    ) {
        if self.reading != reading {
            self.recorded.clear();
            self.reading = reading;
        }
        let known = self.recorded.iter().position(|recorded| recorded.life == *life);
        let at = known.unwrap_or_else(|| {
            self.recorded.push(Recorded { life: Arc::clone(life), used: [(0, 0); 2] });
            self.recorded.len() - 1
        });
        let recorded = &mut self.recorded[at].used[usize::from(measure == Measure::Month)];
        let period = period(measure, clock);
        let before = if recorded.0 == period { recorded.1 } else { 0 };
        *recorded = (period, before.saturating_add(used));
        self.is_recorded_told = false;
    }

    /// Ready of a measure.
    pub(super) fn ready(&self, measure: Measure, clock: Clock) -> u64 {
        let share = &self.shares[measure as usize];
        if share.period == period(measure, clock) { share.held } else { 0 }
    }

    /// Sets `amount` of what is ready aside for a request that asks the store for more.
    pub(super) fn set_aside(&mut self, measure: Measure, amount: u64) {
        let share = &mut self.shares[measure as usize];
        debug_assert!(share.held >= amount, "only what is ready is set aside");
        share.held = share.held.saturating_sub(amount);
        share.promised = share.promised.saturating_add(amount);
    }

    /// How much more than it needs a request should fetch: a slice, unless another one does.
    pub(super) fn begin_filling(&mut self, measure: Measure) -> u64 {
        let share = &mut self.shares[measure as usize];
        let slice = slice_of(share.limit, share.percent) / unit(measure);
        if slice == 0 || std::mem::replace(&mut share.is_filling, true) { 0 } else { slice }
    }

    pub(super) fn end_filling(&mut self, measure: Measure) {
        self.shares[measure as usize].is_filling = false;
    }

    /// What the store has given (in its units) for somebody who will call [`Slices::receive`].
    pub(super) fn promise(&mut self, measure: Measure, granted: u64, clock: Clock) {
        let unit = unit(measure);
        let share = &mut self.shares[measure as usize];
        share.enter(period(measure, clock));
        if share.period != period(measure, clock) {
            return;
        }
        share.promised = share.promised.saturating_add(granted.saturating_mul(unit));
        if !is_rate(measure) {
            share.known = share.known.saturating_add(granted);
        }
    }

    /// Notes what the store has left.
    pub(super) fn note_left(&mut self, measure: Measure, left: u64, clock: Clock) {
        let share = &mut self.shares[measure as usize];
        (share.left, share.left_at) = (left.saturating_mul(unit(measure)), clock.now);
        (share.is_left_known, share.alone) = (true, 0);
    }

    /// Takes `amount` out of `promised`, which had been set aside or given; the rest is ready for others.
    pub(super) fn receive(&mut self, measure: Measure, promised: u64, amount: u64, of: u64) {
        let share = &mut self.shares[measure as usize];
        if share.period != of {
            return;
        }
        share.promised = share.promised.saturating_sub(promised);
        if !is_rate(measure) {
            share.out = share.out.saturating_add(amount);
        }
        share.put(measure, promised.saturating_sub(amount));
    }

    /// Takes `amount` of what is ready.
    pub(super) fn take(&mut self, measure: Measure, amount: u64) {
        let share = &mut self.shares[measure as usize];
        debug_assert!(share.held >= amount, "it was looked at under the same lock");
        share.held = share.held.saturating_sub(amount);
        if !is_rate(measure) {
            share.out = share.out.saturating_add(amount);
        }
    }

    /// Counts what a request takes that the store does not give, because it is away.
    pub(super) fn take_alone(&mut self, measure: Measure, amount: u64, clock: Clock) {
        let share = &mut self.shares[measure as usize];
        if !is_rate(measure) {
            share.enter(period(measure, clock));
            if share.period == period(measure, clock) {
                share.out = share.out.saturating_add(amount);
                share.alone = share.alone.saturating_add(amount);
            }
        }
    }

    /// What the store had left of a budget in this period when it last answered, in our units; `None` if it was not asked.
    pub(super) fn known_left(&self, measure: Measure, clock: Clock) -> Option<u64> {
        let share = &self.shares[measure as usize];
        (share.is_left_known && share.period == period(measure, clock)).then_some(share.left)
    }

    /// The limit of a budget for this gateway by itself, of which it has `used` some with the store and without: that, and
    /// its part of what was left when the store last answered, so that all parts together are no more than was left.
    pub(super) fn part_of_budget(
        &self,
        measure: Measure,
        limit: u64,
        used: u64,
        gateways: u64,
        clock: Clock,
    ) -> u64 {
        let share = &self.shares[measure as usize];
        let alone = if share.period == period(measure, clock) { share.alone } else { 0 };
        let left = self.known_left(measure, clock);
        let left = left.unwrap_or_else(|| limit.saturating_sub(used.saturating_sub(alone)));
        let part = (left / gateways.max(1)).max(u64::from(left > 0));
        used.saturating_add(part.saturating_sub(alone))
    }

    /// Sets right what was taken as `reserved` and turned out as `used`. What a rate got while the store was away
    /// (`is_alone`) was never taken there.
    pub(super) fn settle(
        &mut self,
        limits: &Limits,
        reserved: &Amounts,
        used: &Amounts,
        taken: Clock,
        now: Duration,
        is_alone: bool,
    ) {
        for (measure, limit) in limits.iter().filter(|(measure, _)| *measure != Measure::InFlight) {
            let (reserved, used) = (reserved[measure as usize], used[measure as usize]);
            let share = &mut self.shares[measure as usize];
            if is_rate(measure) {
                if is_alone {
                    continue;
                }
                let reserved = reserved.min(limit);
                // What has flowed back meanwhile is there already.
                let rest = reserved.saturating_sub(used.max(flowed(limit, now.saturating_sub(taken.now))));
                share.put(measure, rest);
                share.owed = share.owed.saturating_add(used.saturating_sub(reserved).min(limit));
            } else if share.period == period(measure, taken) {
                share.out = share.out.saturating_sub(reserved);
                share.charged = share.charged.saturating_add(used);
                if is_alone {
                    // Also what a stream came to beyond its reservation.
                    share.alone = share.alone.saturating_sub(reserved).saturating_add(used);
                    // The store never gave it: what is left of it is nobody's.
                    continue;
                }
                share.held = share.held.saturating_add(reserved.saturating_sub(used));
                // More than was reserved comes out of what is ready, as far as that goes.
                share.held = share.held.saturating_sub(used.saturating_sub(reserved));
            }
        }
    }

    /// One request fewer at a time: its place is ready for the next.
    pub(super) fn leave(&mut self, limits: &Limits, is_alone: bool) {
        if limits.get(Measure::InFlight).is_some() {
            let share = &mut self.shares[Measure::InFlight as usize];
            share.out = share.out.saturating_sub(1);
            share.held = share.held.saturating_add(u64::from(!is_alone));
        }
    }

    /// What the store has to be told now, with the next taking (`is_asking`), at the begin of a connection
    /// (`is_whole`), or because it is time.
    pub(super) fn tell(&mut self, clock: Clock, is_asking: bool, is_whole: bool) -> Option<Tell> {
        let is_idle = !is_asking && self.asks == 0 && clock.now.saturating_sub(self.used_at) >= IDLE;
        let is_known = self.is_known && !is_whole;
        let mut tell = Tell { is_whole, is_known, ..Tell::default() };
        let (mut is_news, mut is_empty) = (is_whole || is_asking, true);
        for measure in Measure::ALL {
            let share = &mut self.shares[measure as usize];
            if matches!(measure, Measure::Day | Measure::Month) {
                share.enter(period(measure, clock));
            }
            let slice = if is_idle { 0 } else { slice_of(share.limit, share.percent) };
            if is_rate(measure) {
                // The same lock as a taking's: nobody is about to take it.
                if is_idle {
                    share.back = share.back.saturating_add(std::mem::take(&mut share.held));
                }
                let (back, owed) = (std::mem::take(&mut share.back), std::mem::take(&mut share.owed));
                if back > 0 || owed > 0 {
                    tell.rates.push((measure as usize, share.limit, back, owed));
                    is_news = true;
                }
                is_empty &= share.held == 0 && share.promised == 0;
                continue;
            }
            if !is_asking {
                share.held = share.held.min(slice);
            }
            let (now, before) = (share.outstanding(unit(measure)), share.known);
            is_news |= now != before || share.charged != share.told;
            tell.has_charged |= share.charged != share.told;
            share.told = share.charged;
            is_empty &= now == 0;
            share.known = now;
            let more = i64::try_from(now).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX);
            let told = if is_whole { i64::try_from(now).unwrap_or(i64::MAX) } else { more };
            if measure == Measure::InFlight {
                tell.in_flight = told;
            } else {
                let budget = (share.period, share.charged / unit(measure), told);
                tell.budgets[usize::from(measure == Measure::Month)] = budget;
            }
        }
        let has_recorded = !std::mem::replace(&mut self.is_recorded_told, true);
        if has_recorded || is_whole {
            let told = |recorded: &Recorded| {
                let [day, (month, money)] = recorded.used;
                (Arc::clone(&recorded.life), [day, (month, money / unit(Measure::Month))])
            };
            tell.lives = self.recorded.iter().map(told).collect();
        }
        is_news |= has_recorded;
        // Only once all else has been told: what is said last may get lost, and nobody would say it again.
        tell.is_last = is_idle && is_empty && !is_news;
        let is_time = clock.now.saturating_sub(self.told_at) >= HEARTBEAT;
        if !is_news && !is_time && !tell.is_last {
            return None;
        }
        self.told_at = clock.now;
        tell.keep = self.keep();
        Some(tell)
    }

    /// Whether nothing is held and all has been told.
    pub(super) fn is_blank(&self) -> bool {
        let is_blank = |share: &Share| {
            share.held == 0
                && share.promised == 0
                && share.out == 0
                && share.back == 0
                && share.owed == 0
                && share.known == 0
                && share.charged == share.told
        };
        self.asks == 0 && self.is_recorded_told && self.shares.iter().all(is_blank)
    }

    /// For how long the store has to remember: rates for as long as they take to fill, budgets to their end.
    fn keep(&self) -> Duration {
        const MINUTES: Duration = Duration::from_secs(180);
        const DAY: Duration = Duration::from_secs(86_400);
        let has = |measure: Measure| self.shares[measure as usize].limit > 0;
        match (has(Measure::Month), has(Measure::Day)) {
            (true, _) => 32 * DAY,
            (_, true) => DAY + MINUTES,
            _ => MINUTES,
        }
    }

    /// What is left, as far as this gateway knows: what the store had left when it was last asked, and what is ready.
    pub(super) fn left(&self, limits: &Limits, clock: Clock) -> [Option<Remaining>; 2] {
        let mut left = [None, None];
        for (measure, limit) in limits.iter() {
            let share = &self.shares[measure as usize];
            let is_asked = share.limit > 0 && share.period == period(measure, clock);
            let known = if is_asked { share.left } else { limit };
            let (remaining, reset) = match measure {
                Measure::InFlight | Measure::Month => continue,
                Measure::Day => {
                    let remaining = known.saturating_add(share.held).min(limit);
                    let reset = if remaining < limit { clock.next_day().0 } else { Duration::ZERO };
                    (remaining, reset)
                }
                _ => {
                    let flowed = flowed(limit, clock.now.saturating_sub(share.left_at));
                    let remaining = known.saturating_add(flowed).saturating_add(share.held).min(limit);
                    let missing = u128::from(limit - remaining) * u128::from(WINDOW_NS);
                    let reset = u64::try_from(missing / u128::from(limit.max(1))).unwrap_or(WINDOW_NS);
                    (remaining, Duration::from_nanos(reset))
                }
            };
            let slot = &mut left[usize::from(measure != Measure::Requests)];
            *slot = tighter(*slot, Some(Remaining { limit, remaining, reset }));
        }
        left
    }
}

/// How much of a rate flows back in `time`, to the unit above.
fn flowed(limit: u64, time: Duration) -> u64 {
    let flowed = u128::from(limit) * time.as_nanos();
    u64::try_from(flowed.div_ceil(u128::from(WINDOW_NS))).unwrap_or(u64::MAX)
}
