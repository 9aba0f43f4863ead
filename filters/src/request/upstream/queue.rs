//! Who waits when every server is full, who is next, and who is sent away. Bounded: a queue that may grow without end
//! only turns one overload into timeouts for everybody.
//!
//! A class of higher priority goes before one of lower. Within a class tenants take turns, one request each, so that a
//! tenant with a thousand requests waiting delays another's first by one request and not by a thousand. When the queue
//! is full, the one to go is of the lowest class, of the tenant that has most waiting there, and came last.
//! Cost: a few steps for each tenant that waits; a queue is only asked when servers are full.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names one that waits, for as long as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    class: u8,
    number: u64,
}

/// Waiting requests.
#[derive(Debug)]
pub struct FairQueue<T> {
    classes: BTreeMap<u8, Turns<T>>,
    len: usize,
    next: u64,
}

/// The tenants of one class that wait, in the order of their turns.
type Turns<T> = VecDeque<Line<T>>;

/// What one tenant has waiting, in the order in which it came.
#[derive(Debug)]
struct Line<T> {
    tenant: Arc<str>,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { classes: BTreeMap::new(), len: 0, next: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Takes one more of `tenant` into a class, where at most `room` may wait in all. Gives its ticket, and the one that
    /// had to go for it.
    ///
    /// # Errors
    /// Itself, if it is the one to go.
    pub fn push(
        &mut self,
        class: u8,
        tenant: &Arc<str>,
        waiter: T,
        room: usize,
    ) -> Result<(Ticket, Option<T>), T> {
        let mut shed = None;
        if self.len >= room {
            if !self.gives_way_to(class, tenant) {
                return Err(waiter);
            }
            shed = self.shed();
        }
        let ticket = Ticket { class, number: self.next };
        self.next += 1;
        self.len += 1;
        let turns = self.classes.entry(class).or_default();
        let at = turns.iter().position(|line| line.tenant == *tenant).unwrap_or_else(|| {
            turns.push_back(Line { tenant: Arc::clone(tenant), waiting: VecDeque::new() });
            turns.len() - 1
        });
        turns[at].waiting.push_back((ticket.number, waiter));
        Ok((ticket, shed))
    }

    /// Takes one out that does not wait any longer; `None` if it had been taken already.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let turns = self.classes.get_mut(&ticket.class)?;
        let find = |line: &Line<T>| line.waiting.iter().position(|(number, _)| *number == ticket.number);
        let (line, at) = turns.iter().enumerate().find_map(|(index, line)| Some((index, find(line)?)))?;
        let (_, waiter) = turns[line].waiting.remove(at)?;
        self.drop_empty(ticket.class, line);
        self.len -= 1;
        Some(waiter)
    }

    /// Offers a turn to each that waits, in order, until `takes` accepts one for it; gives this one and what `takes`
    /// gave.
    pub fn take<P>(&mut self, mut takes: impl FnMut(&T) -> Option<P>) -> Option<(T, P)> {
        for (&class, turns) in self.classes.iter_mut().rev() {
            for line in 0..turns.len() {
                let waiting = turns[line].waiting.iter().enumerate();
                let taken = waiting.into_iter().find_map(|(at, (_, waiter))| Some((at, takes(waiter)?)));
                let Some((at, place)) = taken else { continue };
                let (_, waiter) = turns[line].waiting.remove(at)?;
                // Those before it had their turn offered and could not take it: they keep their places.
                let served = turns.remove(line)?;
                turns.push_back(served);
                self.drop_empty(class, self.classes[&class].len() - 1);
                self.len -= 1;
                return Some((waiter, place));
            }
        }
        None
    }

    /// Whether there is one like this among those who wait.
    pub fn any(&self, mut is_it: impl FnMut(&T) -> bool) -> bool {
        let lines = self.classes.values().flatten();
        lines.flat_map(|line| &line.waiting).any(|(_, waiter)| is_it(waiter))
    }

    /// How many wait in a class.
    #[must_use]
    pub fn waiting(&self, class: u8) -> usize {
        self.classes.get(&class).map_or(0, |turns| turns.iter().map(|line| line.waiting.len()).sum())
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the one to go would be another than a newcomer of this class and tenant.
    fn gives_way_to(&self, class: u8, tenant: &Arc<str>) -> bool {
        let Some((&lowest, turns)) = self.classes.first_key_value() else { return false };
        if lowest != class {
            return lowest < class;
        }
        let own = turns.iter().find(|line| line.tenant == *tenant).map_or(0, |line| line.waiting.len());
        turns.iter().any(|line| line.waiting.len() > own + 1)
    }

    fn shed(&mut self) -> Option<T> {
        let (&class, turns) = self.classes.first_key_value()?;
        let (line, _) = turns.iter().enumerate().max_by_key(|(_, line)| line.waiting.len())?;
        let (_, waiter) = self.classes.get_mut(&class)?[line].waiting.pop_back()?;
        self.drop_empty(class, line);
        self.len -= 1;
        Some(waiter)
    }

    fn drop_empty(&mut self, class: u8, line: usize) {
        let Some(turns) = self.classes.get_mut(&class) else { return };
        if turns.get(line).is_some_and(|line| line.waiting.is_empty()) {
            turns.remove(line);
        }
        if turns.is_empty() {
            self.classes.remove(&class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of names; each is `tenant` and a number.
    fn queue(names: &[(u8, &'static str)]) -> FairQueue<&'static str> {
        let mut queue = FairQueue::default();
        for (class, name) in names {
            queue.push(*class, &tenant(name), *name, usize::MAX).expect("there is room");
        }
        queue
    }

    fn tenant(name: &str) -> Arc<str> {
        name[..1].into()
    }

    fn drain(mut queue: FairQueue<&'static str>) -> Vec<&'static str> {
        let order = std::iter::from_fn(|| queue.take(|_| Some(())).map(|(name, ())| name)).collect();
        assert!(queue.is_empty() && queue.classes.is_empty());
        order
    }

    #[test]
    fn classes_go_first_and_tenants_take_turns() {
        let queue = queue(&[(5, "a1"), (5, "a2"), (5, "a3"), (1, "z1"), (5, "b1"), (9, "c1"), (5, "b2")]);
        assert_eq!((queue.len(), queue.waiting(5), queue.waiting(9), queue.waiting(2)), (7, 5, 1, 0));
        assert_eq!(drain(queue), ["c1", "a1", "b1", "a2", "b2", "a3", "z1"]);
    }

    #[test]
    fn a_turn_that_one_cannot_take_goes_to_the_next() {
        let mut queue = queue(&[(5, "a1"), (5, "a2"), (5, "b1"), (1, "z1")]);
        let for_z = queue.take(|name| name.starts_with('z').then_some(1));
        assert_eq!(for_z, Some(("z1", 1)));
        assert_eq!(queue.take(|name| (*name == "a2").then_some(())), Some(("a2", ())));
        assert_eq!(queue.take(|_| None::<()>), None);
        assert_eq!(drain(queue), ["b1", "a1"], "tenant a has had its turn");
    }

    #[test]
    fn who_leaves_frees_the_place() {
        let mut queue = FairQueue::default();
        let (first, _) = queue.push(5, &tenant("a"), "a1", 2).expect("room");
        let (second, _) = queue.push(5, &tenant("b"), "b1", 2).expect("room");
        assert_eq!(queue.remove(first), Some("a1"));
        assert_eq!(queue.remove(first), None, "once");
        queue.push(5, &tenant("c"), "c1", 2).expect("room again");
        assert_eq!(queue.take(|_| Some(())), Some(("b1", ())));
        assert_eq!(queue.remove(second), None, "taken already");
        assert_eq!(drain(queue), ["c1"]);
    }

    #[test]
    fn a_full_queue_sheds_the_lowest_class_and_the_longest_line() {
        let mut queue = queue(&[(5, "a1"), (5, "a2"), (5, "a3"), (5, "b1")]);
        assert_eq!(queue.push(5, &tenant("a"), "a4", 4), Err("a4"), "its own line is the longest");
        assert_eq!(queue.push(1, &tenant("z"), "z1", 4), Err("z1"), "none is lower");
        let (_, shed) = queue.push(5, &tenant("b"), "b2", 4).expect("a's last goes");
        assert_eq!(shed, Some("a3"));
        assert_eq!(queue.push(5, &tenant("b"), "b3", 4), Err("b3"), "both have as many");
        let (_, shed) = queue.push(9, &tenant("c"), "c1", 4).expect("a higher class");
        assert!(shed == Some("a2") || shed == Some("b2"), "{shed:?}");
        assert_eq!(queue.len(), 4);
        assert_eq!(queue.push(5, &tenant("a"), "a5", 0), Err("a5"), "no room at all");
    }
}
