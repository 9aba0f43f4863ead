//! Days and months in UTC, for budgets that end with them. The caller passes both clocks in: the one that never
//! jumps, by which rates flow back, and the one on the wall, by which days and months begin.

use std::time::Duration;

const DAY: u64 = 86_400;

/// What the time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// Since the process started.
    pub now: Duration,
    /// Since 1970-01-01 in UTC.
    pub unix: Duration,
}

/// A calendar day, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: i64,
    month: u64,
    day: u64,
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Clock {
    /// The day, counted from 1970-01-01.
    #[must_use]
    pub fn day(self) -> u64 {
        self.unix.as_secs() / DAY
    }

    /// The month, counted from January of the year 0.
    #[must_use]
    pub fn month(self) -> u64 {
        let date = date_of(self.day());
        date.year as u64 * 12 + date.month - 1
    }

    /// How long this day still lasts, and the next one.
    pub(super) fn next_day(self) -> (Duration, Date) {
        self.until(self.day() + 1)
    }

    /// How long this month still lasts, and the first day of the next one.
    pub(super) fn next_month(self) -> (Duration, Date) {
        let today = self.day();
        let this = date_of(today).month;
        let next = (1..=31).map(|ahead| today + ahead).find(|day| date_of(*day).month != this);
        self.until(next.expect("no month is longer than 31 days"))
    }

    fn until(self, day: u64) -> (Duration, Date) {
        (Duration::from_secs(day * DAY).saturating_sub(self.unix), date_of(day))
    }
}

/// The date of a day counted from 1970-01-01: Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>), for days from 1970 on.
fn date_of(day: u64) -> Date {
    // Years begin in March here, so that the leap day is the last of its year; eras of 400 years repeat.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = (year_of_era + era * 400 + u64::from(month <= 2)) as i64;
    Date { year, month, day: of_year - (153 * from_march + 2) / 5 + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates_and_months_their_ends() {
        for (day, date, left, next) in [
            (0, "1970-01-01", 31, "1970-02-01"),
            (11_016, "2000-02-29", 1, "2000-03-01"),
            (20_786, "2026-11-29", 2, "2026-12-01"),
            (20_818, "2026-12-31", 1, "2027-01-01"),
            (21_244, "2028-03-01", 31, "2028-04-01"),
        ] {
            let clock = Clock { now: Duration::ZERO, unix: Duration::from_secs(day * DAY) };
            assert_eq!(date_of(clock.day()).to_string(), date);
            let (time, first) = clock.next_month();
            assert_eq!((time.as_secs(), first.to_string().as_str()), (left * DAY, next), "{date}");
            let later = Clock { unix: clock.unix + Duration::from_secs(DAY - 1), ..clock };
            assert_eq!((later.day(), later.next_day().0), (day, Duration::from_secs(1)));
        }
    }
}
