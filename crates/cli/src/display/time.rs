//! Lengths of time for people.

use std::time::{Duration, SystemTime};

/// "96 ms", from a second on "1.26 s".
pub(super) fn short(duration: Duration) -> String {
    if duration < Duration::from_secs(1) { format!("{} ms", duration.as_millis()) } else { seconds(duration) }
}

/// "0.10 s"
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// How long ago, in docker's words (docker/go-units, `HumanDuration`).
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    // A clock that was set back makes a negative age; docker shows that as less than a second, too.
    human(now.duration_since(then).unwrap_or_default())
}

fn human(age: Duration) -> String {
    let seconds = age.as_secs();
    let minutes = seconds / 60;
    // Docker rounds hours and cuts everything else.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_dockers() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (3 * MINUTE, "3 minutes"),
            (59 * MINUTE + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (89 * MINUTE, "About an hour"),
            (90 * MINUTE, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), expected, "{seconds} s");
        }
    }

    #[test]
    fn lengths_have_two_decimals_from_a_second_on() {
        assert_eq!(short(Duration::from_micros(96_400)), "96 ms");
        assert_eq!(short(Duration::from_millis(1_260)), "1.26 s");
        assert_eq!(seconds(Duration::from_millis(100)), "0.10 s");
    }
}
