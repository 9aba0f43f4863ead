//! The clock on the wall, as keys and their owners know it: seconds since 1970 in UTC, and how they are written.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use tollgate_filters::units::Moment;

/// What [`parse_end`] takes, for messages.
pub const END: &str =
    "a date such as 2026-12-31 (its last second counts) or a time such as 2026-12-31T18:00:00Z";

/// The last moment of the year 9999. What is later than this has no four-digit year.
const LATEST: i64 = 253_402_300_799;

/// This second.
#[must_use]
pub fn now() -> Moment {
    Moment(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// The moment at which something ends: after a last day, or at a time with its offset from UTC (RFC 3339).
#[must_use]
pub fn parse_end(text: &str) -> Option<Moment> {
    let seconds = if text.len() == 10 {
        let last = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        last.succ_opt()?.and_time(NaiveTime::MIN).and_utc().timestamp()
    } else {
        DateTime::parse_from_rfc3339(text).ok()?.timestamp()
    };
    u64::try_from(seconds).ok().filter(|_| seconds <= LATEST).map(Moment)
}

/// A moment as RFC 3339 writes it in UTC.
#[must_use]
pub fn show(moment: Moment) -> String {
    let seconds = i64::try_from(moment.0).unwrap_or(LATEST).min(LATEST);
    let time = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_days_or_times() {
        for (text, expected) in [
            ("2026-12-31", Some("2027-01-01T00:00:00Z")),
            ("2026-12-31T18:00:00Z", Some("2026-12-31T18:00:00Z")),
            ("2026-12-31T18:00:00+01:00", Some("2026-12-31T17:00:00Z")),
            ("2026-12-31T18:00:00.9Z", Some("2026-12-31T18:00:00Z")),
            ("9999-12-31", None),
            ("2026-12-31T18:00:00", None),
            ("2026-13-31", None),
            ("1969-12-30", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(parse_end(text).map(show).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn any_moment_can_be_shown() {
        assert_eq!(show(Moment(0)), "1970-01-01T00:00:00Z");
        assert_eq!(show(Moment(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
