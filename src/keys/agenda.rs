//! What there is to do or to tell about a key, and when: pure, so that every gateway comes to the same.
//!
//! A rotation is told when it has happened, and again when three quarters of the grace period are over. A new secret
//! that is due is made, or announced day by day until somebody makes one.

use tollgate_filters::units::Moment;

use super::record::{Life, Record};

/// That the secret was replaced has been told.
pub const TOLD_ROTATED: i64 = 1;
/// That the previous secret is about to end has been told.
pub const TOLD_ENDING: i64 = 2;
/// That a new secret is due has been told. The highest of them.
pub const TOLD_DUE: i64 = 4;

/// How often an overdue rotation is announced.
const AGAIN: u64 = 86_400;

/// Something to do or to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Tell that the secret was replaced.
    TellRotated,
    /// Tell that the previous secret is about to end.
    TellEnding,
    /// Make a new secret, or tell that one is due.
    Rotate,
}

/// The next task of a key and when it is due; `None` while there is none to come.
#[must_use]
pub fn next(record: &Record, now: Moment) -> Option<(Moment, Task)> {
    if matches!(record.life(now), Life::Revoked | Life::Expired) {
        return None;
    }
    let mut tasks = Vec::with_capacity(3);
    if let (Some(previous), Some(rotated)) = (&record.previous, record.rotated) {
        if record.told & TOLD_ROTATED == 0 {
            tasks.push((rotated, Task::TellRotated));
        }
        if record.told & TOLD_ENDING == 0 && now < previous.until {
            let grace = previous.until.0.saturating_sub(rotated.0);
            tasks.push((Moment(previous.until.0 - grace / 4), Task::TellEnding));
        }
    }
    if let Some(due) = record.rotation_due() {
        let is_told = record.told & TOLD_DUE != 0;
        tasks.push((if is_told { Moment(now.0.saturating_add(AGAIN)) } else { due }, Task::Rotate));
    }
    tasks.into_iter().min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::record::{KeySpec, Previous};

    const MADE: u64 = 1_000_000;

    fn record(rotate_every_s: Option<u64>) -> Record {
        let spec = KeySpec { tenant: "t".to_owned(), rotate_every_s, ..KeySpec::default() };
        Record::new("abcd".to_owned(), spec, [0; 32], Moment(MADE))
    }

    #[test]
    fn a_rotation_is_told_and_its_end_before_it_comes() {
        let mut record = record(None);
        assert_eq!(next(&record, Moment(MADE)), None);
        record.rotated = Some(Moment(MADE + 100));
        record.previous = Some(Previous { hash: [1; 32], until: Moment(MADE + 500), used: None });
        let at =
            |record: &Record, now| next(record, Moment(MADE + now)).map(|(at, task)| (at.0 - MADE, task));
        assert_eq!(at(&record, 100), Some((100, Task::TellRotated)));
        assert_eq!(at(&record, 600), Some((100, Task::TellRotated)), "late is better than never");
        record.told = TOLD_ROTATED;
        assert_eq!(at(&record, 100), Some((400, Task::TellEnding)));
        assert_eq!(at(&record, 500), None, "nothing is told of what is over");
        record.told |= TOLD_ENDING;
        assert_eq!(at(&record, 100), None);
    }

    #[test]
    fn a_due_rotation_comes_up_again_each_day_until_it_is_made() {
        let mut record = record(Some(1000));
        assert_eq!(next(&record, Moment(MADE)), Some((Moment(MADE + 1000), Task::Rotate)));
        record.told = TOLD_DUE;
        assert_eq!(next(&record, Moment(MADE + 1000)), Some((Moment(MADE + 1000 + AGAIN), Task::Rotate)),);
        record.rotated = Some(Moment(MADE + 2000));
        record.told = 0;
        assert_eq!(next(&record, Moment(MADE + 2000)), Some((Moment(MADE + 3000), Task::Rotate)));
        record.revoked = Some(Moment(MADE + 2000));
        assert_eq!(next(&record, Moment(MADE + 2000)), None);
    }
}
