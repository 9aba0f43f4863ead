//! What goes to the store and comes back. The caller carries it; nothing here knows the way.

use std::sync::Arc;
use std::time::Duration;

use super::super::calendar::Clock;
use super::super::limits::{Amounts, MEASURES, Measure};
use super::super::slices::{Slices, Tell, is_rate, period};
use super::super::tally::{Lack, UNKNOWN_WAIT};
use super::super::usage::Usage;

/// One scope of limits, and where its slices are.
#[derive(Debug, Clone)]
pub struct ScopeRef {
    pub(super) usage: Arc<Usage>,
    pub(super) pattern: Option<Arc<str>>,
    pub(super) name: Arc<str>,
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
    /// What is left then, if it was looked at.
    pub left: Option<u64>,
    /// Whether it is what there is not enough of.
    pub is_lacking: bool,
    /// How long until there is, for a rate.
    pub wait: Duration,
}

/// An order that was answered. What was given goes back unless a request receives it.
#[derive(Debug)]
pub struct Grant {
    order: Order,
    pub(super) reply: Reply,
    /// The time here, and the time of day of the store.
    pub(super) clock: Clock,
    pub(super) is_received: bool,
}

impl ScopeRef {
    /// Its key in the store.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What tells it from every other: the key, and whose use it is. A tenant that was removed and is there again is counted
    /// anew while requests of the old one still run.
    #[must_use]
    pub fn id(&self) -> (Arc<str>, usize) {
        (Arc::clone(&self.name), Arc::as_ptr(&self.usage) as usize)
    }

    /// What the store is to be told now, if anything; all of it at the begin of a connection (`is_whole`).
    #[must_use]
    pub fn tell(&self, clock: Clock, is_whole: bool) -> Option<Tell> {
        self.with(|slices| slices.tell(clock, false, is_whole)).flatten()
    }

    /// Forgets the slices, if nothing is held of them. `false` if something is.
    #[must_use]
    pub fn close(&self) -> bool {
        self.usage.close_slices(self.pattern.as_ref())
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Slices) -> T) -> Option<T> {
        self.usage.with_slices(self.pattern.as_ref(), work)
    }
}

impl Tell {
    /// Whether it says nothing that would be lost unsaid.
    fn is_idle(&self) -> bool {
        let [day, month] = &self.budgets;
        let is_outstanding = self.in_flight != 0 || day.2 != 0 || month.2 != 0;
        self.rates.is_empty() && !is_outstanding && !self.has_charged && self.lives.is_empty()
    }
}

impl Item {
    /// What is needed of the store for so much output.
    fn need(&self, output: u64) -> u128 {
        let all = i128::from(self.fixed) + i128::from(self.each) * i128::from(output);
        let all = if is_rate(self.measure) { all.min(i128::from(self.limit)) } else { all };
        u128::try_from(all - i128::from(self.have)).unwrap_or(0).div_ceil(u128::from(self.unit))
    }
}

impl Order {
    /// What the store would say to this order, given that it has just refused another one: the same, if this one needs as
    /// much of what that lacked. `None` if the store has to be asked.
    #[must_use]
    pub fn refused_like(&self, refused: &Self, reply: &Reply) -> Option<Reply> {
        let theirs = refused.entries.iter().flat_map(|entry| {
            let of_entry = |item| (&entry.scope.name, item);
            entry.items.iter().map(of_entry)
        });
        let lacks: Vec<_> = theirs.zip(&reply.items).filter(|(_, said)| said.is_lacking).collect();
        let unknown = ItemReply { granted: 0, left: None, is_lacking: false, wait: Duration::ZERO };
        let like = |name: &Arc<str>, item: &Item| {
            let same = lacks.iter().find(|((other, theirs), _)| {
                *other == name && (theirs.measure, theirs.limit) == (item.measure, item.limit)
            });
            let as_much = same
                // That was refused for as much output as the budgets have room for, not for the least of it.
                .filter(|((_, theirs), _)| item.need(self.least_output) >= theirs.need(reply.output));
            as_much.map_or(unknown, |(_, said)| **said)
        };
        let items: Vec<_> = self
            .entries
            .iter()
            .flat_map(|entry| entry.items.iter().map(|item| like(&entry.scope.name, item)))
            .collect();
        let is_refused = items.iter().any(|said| said.is_lacking);
        is_refused.then_some(Reply { is_granted: false, output: 0, unix: reply.unix, items })
    }

    /// What of it must be told although nobody waits for it any more; `None` if that is nothing.
    #[must_use]
    pub fn tells(&self) -> Option<Self> {
        let entries = self.entries.iter().filter(|entry| !entry.tell.is_idle()).map(|entry| Entry {
            scope: entry.scope.clone(),
            tell: entry.tell.clone(),
            items: Vec::new(),
        });
        let entries: Vec<_> = entries.collect();
        (!entries.is_empty()).then_some(Self { entries, output: 0, least_output: 0 })
    }
}

impl Grant {
    /// Notes what the store has said, by the time here and there.
    #[must_use]
    pub fn new(order: Order, reply: Reply, now: Duration) -> Self {
        for entry in &order.entries {
            entry.scope.with(|slices| slices.is_known = true);
        }
        Self::unsent(order, reply, now)
    }

    /// The same for an order that was answered without being sent.
    #[must_use]
    pub fn unsent(order: Order, reply: Reply, now: Duration) -> Self {
        let clock = Clock { now, unix: reply.unix };
        let mut replies = reply.items.iter();
        for entry in &order.entries {
            entry.scope.with(|slices| {
                for (item, said) in entry.items.iter().zip(&mut replies) {
                    if reply.is_granted {
                        slices.promise(item.measure, said.granted, clock);
                    }
                    if let Some(left) = said.left {
                        slices.note_left(item.measure, left, clock);
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
    pub(super) fn amounts(&self) -> Vec<Amounts> {
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
    pub(super) fn worst(&self) -> Option<(Lack, usize)> {
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
