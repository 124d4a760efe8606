//! Times as the protocols write them: RFC 3339 out, the dates of HTTP headers in.

use std::time::Duration;

use crate::slot::Timestamp;

const MICROS_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// Days from 0000-03-01, where years of this reckoning begin, to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_CYCLE: u64 = 146_097;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The time in UTC with microseconds, e.g. `2026-01-31T12:00:00.000250Z`.
pub fn rfc3339(at: Timestamp) -> String {
    let (seconds, micros) = (at.0 / MICROS_PER_SECOND, at.0 % MICROS_PER_SECOND);
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970-01-01. Years are counted from March, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_EPOCH;
    let (cycle, day) = (days / DAYS_PER_CYCLE, days % DAYS_PER_CYCLE);
    // Leap days before this one in the cycle: every 4th year has one, every 100th has none, the 400th has one.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days, over and over.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (calendar_month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next_year, calendar_month, day_of_month)
}

/// The wait that a `Retry-After` header asks for: seconds, or a date. `None` if it is neither.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    // Some providers send fractions, which the RFC doesn't have.
    if let Ok(seconds) = text.parse() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = Timestamp(http_date_seconds(text)?.checked_mul(MICROS_PER_SECOND)?);
    Some(at.since(now))
}

/// Unix seconds of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7, the one format that servers send today).
fn http_date_seconds(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let mut next = || clock.next().flatten();
    let (hour, minute, second) = (next()?, next()?, next()?);
    let possible = (1970..=9_999).contains(&year) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    (possible && second <= 60)
        .then(|| days_of(year, month, day) * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970-01-01 of a date from then on.
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_BEFORE_EPOCH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_have_their_text() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(Timestamp(micros)), text);
        }
    }

    #[test]
    fn a_wait_is_read_from_seconds_or_a_date() {
        let now = Timestamp(784_111_770 * MICROS_PER_SECOND);
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("1.5", now), Some(Duration::from_millis(1_500)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1993 08:49:37 GMT", now), Some(Duration::ZERO));
        for text in ["soon", "", "-1", "inf", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT"] {
            assert_eq!(retry_after(text, now), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn dates_and_days_are_each_others_inverse(day in 0..2_900_000u64) {
            let (year, month, date_day) = date(day);
            prop_assert_eq!(days_of(year, month, date_day), day);
        }

        #[test]
        fn no_text_is_a_panic(text: String) {
            retry_after(&text, Timestamp(0));
        }
    }
}
