//! Time as it is written down: moments by RFC 3339, in UTC, and lengths of time.
//!
//! The calendar is the proleptic Gregorian one, from 1970 to 9999, without leap seconds: as the kernel's clock counts
//! (`clock_gettime(2)`) and as docker writes it.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment, counted from 1970-01-01T00:00:00Z. Written with nanoseconds, read with any number of digits up to nine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cow<str>", into = "String")]
pub struct Timestamp(Duration);

/// 9999-12-31T23:59:59Z, the last second that has four digits for its year.
const LAST_SECOND: u64 = 253_402_300_799;

const SECONDS_A_DAY: u64 = 86_400;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

/// Days in 400 years, after which the calendar repeats itself.
const DAYS_IN_400_YEARS: u64 = 146_097;

impl Timestamp {
    /// 1970-01-01T00:00:00Z
    pub const BEGINNING: Self = Self(Duration::ZERO);

    /// The moment that is this long after the beginning of 1970. What is later than 9999 becomes its last second.
    pub fn since_1970(time: Duration) -> Self {
        if time.as_secs() > LAST_SECOND { Self(Duration::from_secs(LAST_SECOND)) } else { Self(time) }
    }

    /// How long after the beginning of 1970 it is.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// As a report writes it: `2016-10-06T00:17:09.669Z`.
    pub fn to_millis(self) -> String {
        format!("{}.{:03}Z", self.to_seconds(), self.0.subsec_millis())
    }

    /// Up to the second, without a zone.
    fn to_seconds(self) -> impl fmt::Display {
        let (days, second) = (self.0.as_secs() / SECONDS_A_DAY, self.0.as_secs() % SECONDS_A_DAY);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        fmt::from_fn(move |f| write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}Z", self.to_seconds(), self.0.subsec_nanos())
    }
}

/// A text that is not such a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTimestampError;

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time in UTC as RFC 3339 writes it")
    }
}

impl core::error::Error for ParseTimestampError {}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.as_bytes()).ok_or(ParseTimestampError)
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl TryFrom<Cow<'_, str>> for Timestamp {
    type Error = ParseTimestampError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A length of time as our variables and the options of `gracefully-init` have it: `10`, `10s`, `1m30s`, `500ms`. A number alone is
/// seconds. `None` if it is none, or too long to be counted.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
        sum = sum.checked_add(Duration::from_millis(part))?;
        rest = after;
    }
    Some(sum)
}

fn parse(text: &[u8]) -> Option<Timestamp> {
    let (to_the_second, rest) = text.split_at_checked(19)?;
    let shape = b"0000-00-00T00:00:00";
    let fits =
        |(&byte, &shape): (&u8, &u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if !to_the_second.iter().zip(shape).all(fits) {
        return None;
    }
    let number = |at: core::ops::Range<usize>| digits(&to_the_second[at]);
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    let (fraction, zone) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let nanos = match fraction {
        [] => 0,
        [b'.', places @ ..] if (1..=9).contains(&places.len()) && places.iter().all(u8::is_ascii_digit) => {
            digits(places) * 10_u64.pow(9 - u32::try_from(places.len()).ok()?)
        }
        _ => return None,
    };
    if zone != b"Z" || year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day)?;
    let seconds = days * SECONDS_A_DAY + hour * 3600 + minute * 60 + second;
    Some(Timestamp(Duration::new(seconds, u32::try_from(nanos).ok()?)))
}

fn digits(text: &[u8]) -> u64 {
    text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// The date of a day, counted from 1970. Years are taken to begin in March, so that the leap day is their last and the
/// lengths of the months before it follow one rule: 153 days in five months.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

/// The reverse; `None` if there is no such date.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year_from_march, month_from_march) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, in_era) = (year_from_march / 400, year_from_march % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = era * DAYS_IN_400_YEARS + in_era * 365 + in_era / 4 - in_era / 100 + day_of_year;
    // The 31st of a shorter month has become a day of the next one.
    let days = days.checked_sub(DAYS_TO_1970)?;
    (date(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> Timestamp {
        Timestamp(Duration::new(seconds, nanos))
    }

    #[test]
    fn moments_that_others_have_computed() {
        // date -u -d @SECONDS +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_475_713_029, "2016-10-06T00:17:09"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (LAST_SECOND, "9999-12-31T23:59:59"),
        ] {
            assert_eq!(at(seconds, 0).to_string(), format!("{text}.000000000Z"));
            assert_eq!(format!("{text}Z").parse(), Ok(at(seconds, 0)));
        }
        assert_eq!(at(1_475_713_029, 669_794_202).to_string(), "2016-10-06T00:17:09.669794202Z");
        assert_eq!(at(1_475_713_029, 669_794_202).to_millis(), "2016-10-06T00:17:09.669Z");
    }

    #[test]
    fn every_day_has_its_date_and_follows_the_one_before() {
        let mut before = (1969, 12, 31);
        for day in 0..=LAST_SECOND / SECONDS_A_DAY {
            let (year, month, date_of_month) = date(day);
            let follows = (year, month, date_of_month) == (before.0, before.1, before.2 + 1)
                || (year, month, date_of_month) == (before.0, before.1 + 1, 1) && before.2 >= 28
                || (year, month, date_of_month) == (before.0 + 1, 1, 1) && (before.1, before.2) == (12, 31);
            assert!(follows, "day {day}: {before:?} is followed by {year}-{month}-{date_of_month}");
            assert_eq!(days(year, month, date_of_month), Some(day));
            before = (year, month, date_of_month);
        }
        assert_eq!(before, (9999, 12, 31));
    }

    #[test]
    fn a_fraction_has_up_to_nine_digits() {
        for (fraction, nanos) in [(".1", 100_000_000), (".669", 669_000_000), (".000000001", 1)] {
            assert_eq!(format!("1970-01-01T00:00:00{fraction}Z").parse(), Ok(at(0, nanos)));
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "Z",
            "1970-01-01T00:00:00",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.0000000001Z",
            "1970-01-01T00:00:00.+1Z",
            "1970-01-01T00:00:00+00:00",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:60Z",
            "1970-00-01T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-04-31T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "1970-01-01T00:00:0\u{e9}",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(ParseTimestampError), "{text:?}");
        }
    }

    #[test]
    fn it_is_a_text_in_json() {
        let json = serde_json::to_string(&at(0, 5)).unwrap();
        assert_eq!(json, "\"1970-01-01T00:00:00.000000005Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at(0, 5));
        assert!(serde_json::from_str::<Timestamp>("\"soon\"").is_err());
        assert_eq!(Timestamp::since_1970(Duration::MAX), at(LAST_SECOND, 0));
    }

    #[test]
    fn lengths_of_time() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10", Some(10_000)),
            ("10s", Some(10_000)),
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("10 s", None),
            ("s", None),
            ("1.5s", None),
            ("-1", None),
            ("auto", None),
            ("1d", None),
            ("18446744073709551616", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
        assert_eq!(parse_duration(""), None, "no number at all");
    }
}
