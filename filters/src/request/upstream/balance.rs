//! Which server takes a request: the one with the fewest outstanding requests for its weight, counted until
//! the last byte of their answers; among equals, turns in proportion to weight. Picking charges nothing and
//! may be repeated: a failed server is left for another that this request has not tried.
//!
//! Outstanding requests are what a gateway knows of a GPU server's load without asking it, and they adapt to
//! slow servers by themselves. Cost: one pass over the route's servers under a short lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::health::{Health, Standing};

/// What balancing knows of a server. Kept across configuration reloads.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU64,
    /// Its health.
    pub health: Health,
}

impl Load {
    /// Requests that it has not answered to the last byte.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// A server as a route sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Position in the gateway's list of servers.
    pub server: usize,
    /// Share of traffic, at least 1.
    pub weight: u32,
    /// Most requests at a time; 0 is no limit.
    pub max_in_flight: usize,
    /// Shared by all routes that use the server.
    pub load: Arc<Load>,
}

/// The servers of one model.
#[derive(Debug)]
pub struct Route {
    candidates: Vec<Candidate>,
    min_weight: u64,
    /// For each candidate, when its next turn is: each turn moves it on by 1/weight (stride scheduling).
    turns: Mutex<Vec<u64>>,
}

/// One turn of a server of weight 1; weights up to this many can be told apart.
const STRIDE: u64 = 1 << 20;

/// A place on a server, held until the last byte.
#[derive(Debug)]
pub struct Place {
    /// Position of the candidate in its route.
    pub candidate: usize,
    /// Position in the gateway's list of servers.
    pub server: usize,
    load: Arc<Load>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why no server was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoServer {
    /// None is up, or all that are were tried.
    NoneUp,
    /// All that are up are full.
    AllFull,
}

impl Route {
    /// A route over `candidates`.
    #[must_use]
    pub fn new(candidates: Vec<Candidate>) -> Self {
        let turns = Mutex::new(vec![0; candidates.len()]);
        let min_weight = candidates.iter().map(|candidate| u64::from(candidate.weight)).min().unwrap_or(1);
        Self { candidates, min_weight, turns }
    }

    /// Its servers.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Takes a place on the best server that is not in `tried`.
    ///
    /// # Errors
    /// [`NoServer`], which says whether waiting can help.
    pub fn pick(&self, tried: &[usize], now: Duration) -> Result<Place, NoServer> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best: Option<(Standing, usize)> = None;
        let mut is_full = false;
        for (index, candidate) in self.candidates.iter().enumerate() {
            if tried.contains(&candidate.server) {
                continue;
            }
            let standing = candidate.load.health.standing(now);
            if standing == Standing::Down {
                continue;
            }
            if candidate.max_in_flight != 0 && candidate.load.in_flight() >= candidate.max_in_flight as u64 {
                is_full = true;
                continue;
            }
            let is_better = best.is_none_or(|(best_standing, best_index)| {
                standing < best_standing
                    || (standing == best_standing && self.is_less_loaded(index, best_index, &turns))
            });
            if is_better {
                best = Some((standing, index));
            }
        }
        let Some((_, index)) = best else {
            return Err(if is_full { NoServer::AllFull } else { NoServer::NoneUp });
        };
        self.advance(index, &mut turns);
        let candidate = &self.candidates[index];
        candidate.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Place { candidate: index, server: candidate.server, load: Arc::clone(&candidate.load) })
    }

    /// Whole requests outstanding for a server of the smallest weight's size, then turns. Without the rounding,
    /// a server of weight 3 with one request would always lose to an idle one of weight 1, and light traffic
    /// would be split evenly whatever the weights.
    fn is_less_loaded(&self, left: usize, right: usize, turns: &[u64]) -> bool {
        let level = |of: usize| {
            let candidate = &self.candidates[of];
            candidate.load.in_flight() * self.min_weight / u64::from(candidate.weight.max(1))
        };
        (level(left), turns[left]) < (level(right), turns[right])
    }

    /// Moves a server's turn on. One that has been away does not get all the turns it missed: its turn is
    /// brought up to the earliest of the others first.
    fn advance(&self, index: usize, turns: &mut [u64]) {
        let others = turns.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, turn)| *turn);
        let floor = others.min().unwrap_or(0).saturating_sub(STRIDE);
        turns[index] =
            turns[index].max(floor).saturating_add(STRIDE / u64::from(self.candidates[index].weight.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::upstream::health::EjectRules;

    const NOW: Duration = Duration::from_secs(1);

    fn route(weights: &[u32]) -> Route {
        let candidate = |(server, &weight)| Candidate {
            server,
            weight,
            max_in_flight: 0,
            load: Arc::new(Load::default()),
        };
        Route::new(weights.iter().enumerate().map(candidate).collect())
    }

    fn eject(route: &Route, server: usize) {
        let rules = EjectRules { failures: 1, eject: NOW, eject_max: NOW };
        route.candidates()[server].load.health.observe_failure(rules, NOW);
    }

    fn shares(route: &Route, picks: usize, hold: usize) -> Vec<usize> {
        let mut counts = vec![0; route.candidates().len()];
        let mut held = std::collections::VecDeque::new();
        for _ in 0..picks {
            let place = route.pick(&[], NOW).expect("a server");
            counts[place.server] += 1;
            held.push_back(place);
            while held.len() > hold {
                held.pop_front();
            }
        }
        counts
    }

    #[test]
    fn turns_follow_weight_whether_idle_or_busy() {
        for hold in [0, 1, 8, 40] {
            let counts = shares(&route(&[3, 1]), 4_000, hold);
            assert!((2_900..=3_100).contains(&counts[0]), "holding {hold}: {counts:?}");
        }
        assert_eq!(shares(&route(&[1, 1, 1]), 300, 0), [100, 100, 100]);
    }

    #[test]
    fn the_least_loaded_server_is_next() {
        let route = route(&[1, 1]);
        let slow: Vec<_> = (0..2).map(|_| route.pick(&[1], NOW).expect("server 0")).collect();
        for _ in 0..10 {
            assert_eq!(route.pick(&[], NOW).expect("a server").server, 1);
        }
        drop(slow);
        assert_eq!(route.candidates()[0].load.in_flight(), 0);
    }

    #[test]
    fn a_server_that_is_down_tried_or_full_gets_nothing() {
        let mut route = route(&[1, 1, 1]);
        route.candidates[2].max_in_flight = 1;
        eject(&route, 0);
        let held = route.pick(&[1], NOW).expect("server 2");
        assert_eq!(held.server, 2);
        assert_eq!(route.pick(&[], NOW).expect("a server").server, 1);
        assert_eq!(route.pick(&[1], NOW).expect_err("2 is full"), NoServer::AllFull);
        drop(held);
        assert_eq!(route.pick(&[1, 2], NOW).expect_err("0 is down"), NoServer::NoneUp);
        let later = NOW * 3;
        assert_eq!(route.pick(&[1, 2], later).expect("0 is back").server, 0);
    }

    #[test]
    fn a_server_that_was_away_is_not_flooded() {
        let route = route(&[1, 1]);
        eject(&route, 0);
        assert_eq!(shares(&route, 1_000, 0), [0, 1_000]);
        let later = NOW * 3;
        let mut first_ten = [0; 2];
        for _ in 0..10 {
            first_ten[route.pick(&[], later).expect("a server").server] += 1;
        }
        assert!(first_ten[1] >= 4, "{first_ten:?}");
    }

    #[test]
    fn a_cooling_server_is_the_last_resort() {
        let route = route(&[1, 1]);
        route.candidates()[0].load.health.observe_busy(NOW, NOW);
        assert_eq!(shares(&route, 10, 5), [0, 10]);
        assert_eq!(route.pick(&[1], NOW).expect("the cooling one").server, 0);
    }
}
