//! The values of flags, by docker's rules and with docker's texts.
//!
//! Numbers follow Go's `strconv.ParseInt` with base 0, because that is what docker's flags do: `0x10` is 16, `010` is
//! 8. Times follow Go's `time.ParseDuration`, the form of compose files.

use std::num::NonZeroUsize;
use std::time::{Duration, UNIX_EPOCH};

use gracefully_core::plan::NewConnections;
use gracefully_core::policy::{Timeout, Within};
use gracefully_engine::{Filter, Restart};

/// `-e NAME=VALUE`, or `-e NAME`, which takes the value of our own environment if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// `--filter`: docker takes the empty text for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filtered(pub(crate) Option<Filter>);

/// `--tail`: a number of lines; `None` is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) Option<usize>);

/// `--since`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// This long ago.
    Ago(Duration),
    /// At this time after 1970.
    Epoch(Duration),
}

/// A whole number, as pflag's `Int`.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    parse_int(text).map_err(|why| format!("strconv.ParseInt: parsing {text:?}: {}", why.text()))
}

/// A switch's value, as pflag's `Bool`.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A stop timeout: docker's whole seconds, where negative means for ever, or a Go duration.
pub(crate) fn timeout(text: &str) -> Result<Timeout, String> {
    match integer(text) {
        Ok(seconds) => Ok(Timeout::from_seconds(seconds)),
        Err(why) => duration(text).map(Timeout::After).ok_or(why),
    }
}

/// A time: seconds or a Go duration.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    match timeout(text) {
        Ok(Timeout::After(time)) => Ok(time),
        Ok(Timeout::Never) => Err("a time is not negative".into()),
        // This option is not docker's, and need not speak as Go.
        Err(_) => Err("not a time such as 10, 1m30s or 500ms".into()),
    }
}

/// A name or an address of a machine.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let is_host = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:%".contains(c));
    if is_host { Ok(text.into()) } else { Err("not a host such as 10.0.0.7, ::1 or web-1.internal".into()) }
}

/// A name and what it stands for.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("not NAME=VALUE".into()),
    }
}

/// How long a phase may wait for traffic.
pub(crate) fn within(text: &str) -> Result<Within, String> {
    match text {
        "auto" => Ok(Within::Budget),
        time => self::time(time).map(Within::AtMost),
    }
}

/// What happens to new connections.
pub(crate) fn new_connections(text: &str) -> Result<NewConnections, String> {
    match text {
        "hold" => Ok(NewConnections::Hold),
        "refuse" => Ok(NewConnections::Refuse),
        "serve" => Ok(NewConnections::Serve),
        _ => Err("use one of 'hold', 'refuse' or 'serve'".into()),
    }
}

/// How many at once.
pub(crate) fn at_once(text: &str) -> Result<NonZeroUsize, String> {
    let number = integer(text).map_err(|_| "not a whole number")?;
    let number = usize::try_from(number).ok().and_then(NonZeroUsize::new);
    number.ok_or_else(|| "at least one".into())
}

/// A restart policy.
pub(crate) fn restart(text: &str) -> Result<Restart, String> {
    let (policy, times) = match text.split_once(':') {
        None => (text, None),
        Some(("", _)) => return Err("invalid restart policy format: no policy provided before colon".into()),
        Some((policy, times)) => {
            let integer =
                || "invalid restart policy format: maximum retry count must be an integer".to_string();
            (policy, Some(times.parse::<u32>().map_err(|_| integer())?))
        }
    };
    match (policy, times) {
        ("" | "no", None) => Ok(Restart::No),
        ("always" | "unless-stopped", None) => Ok(Restart::Always),
        // Docker: a maximum of zero is none.
        ("on-failure", times) => Ok(Restart::OnFailure(times.filter(|&times| times > 0))),
        ("no" | "always" | "unless-stopped", Some(_)) => {
            Err("invalid restart policy: maximum retry count can only be used with 'on-failure'".into())
        }
        _ => Err(format!(
            "invalid restart policy: unknown policy '{policy}'; use one of 'no', 'always', or 'on-failure'"
        )),
    }
}

/// An environment variable.
pub(crate) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(Variable { name: name.to_owned(), value })
}

/// `ps --filter`
pub(crate) fn filter(text: &str) -> Result<Filtered, String> {
    if text.is_empty() {
        return Ok(Filtered(None));
    }
    let (key, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    let key = key.trim().to_lowercase();
    Ok(Filtered(Some(Filter { key, value: value.trim().to_owned() })))
}

/// `logs --tail`. Docker takes whatever is not a number for "all"; here that is an error.
pub(crate) fn tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail(None));
    }
    // A negative number of lines is all of them, as with docker.
    integer(text).map(|lines| Tail(usize::try_from(lines).ok()))
}

/// `logs --since`: docker's forms of a time. One that names no zone is UTC, as the times that `logs -t` prints; to docker
/// it is the client's local time.
pub(crate) fn since(text: &str) -> Result<Since, String> {
    if text.is_empty() {
        return Ok(Since::Epoch(Duration::ZERO));
    }
    if let Some(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    let since_1970 = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => date(text),
    };
    since_1970
        .map(Since::Epoch)
        .ok_or_else(|| "not a time such as 2013-01-02T13:23:37Z, 1357133017 or 42m".to_string())
}

/// `2006-01-02`, with as much of the time behind it as there is: `T15`, `T15:04`, `T15:04:05.999999999`; then nothing, `Z`,
/// or an offset such as `+01:00`.
fn date(text: &str) -> Option<Duration> {
    let day = text.get(..10)?;
    let (time, offset) = match text[10..].find(['Z', '+', '-']) {
        Some(at) => text[10..].split_at(at),
        None => (&text[10..], "Z"),
    };
    let local = format!("{day}{time}");
    let rest = match local.len() {
        10 => "T00:00:00",
        13 => ":00:00",
        16 => ":00",
        _ => "",
    };
    let local = humantime::parse_rfc3339(&format!("{local}{rest}Z")).ok()?.duration_since(UNIX_EPOCH).ok()?;
    if offset == "Z" {
        return Some(local);
    }
    let (hours, minutes) = offset[1..].split_once(':')?;
    let minutes = Duration::from_mins(hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?);
    if offset.starts_with('+') { local.checked_sub(minutes) } else { local.checked_add(minutes) }
}

/// Go's `time.ParseDuration` without a sign: `1m30s`, `1.5h`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Why a text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotANumber {
    Syntax,
    Range,
}

impl NotANumber {
    fn text(self) -> &'static str {
        match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        }
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)`.
fn parse_int(text: &str) -> Result<i64, NotANumber> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    let digits = &without_underscores(digits, base).ok_or(NotANumber::Syntax)?;
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err(NotANumber::Syntax);
    }
    // Only digits are left, so whatever fails now is too long.
    let magnitude = i128::from_str_radix(digits, base).map_err(|_| NotANumber::Range)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| NotANumber::Range)
}

/// Go allows one underscore between two digits, and behind the prefix that names the base.
fn without_underscores(digits: &str, base: u32) -> Option<String> {
    let behind_prefix = if base == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let groups: Vec<&str> = behind_prefix.split('_').collect();
    let between_digits = groups.len() == 1 || groups.iter().all(|group| !group.is_empty());
    between_digits.then(|| groups.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        for (text, expected) in [
            ("2", 2),
            ("+2", 2),
            ("-1", -1),
            ("0", 0),
            ("0x10", 16),
            ("010", 8),
            ("0b11", 3),
            ("0o17", 15),
            ("1_000", 1000),
            ("0x_1_0", 16),
            ("0_10", 8),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(integer(text), Ok(expected), "{text}");
        }
        for text in
            ["", "x", "1.5", " 1", "1 ", "--1", "+-1", "0x", "09", "é", "_1", "1_", "1__0", "0x_", "_"]
        {
            assert_eq!(
                integer(text),
                Err(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")),
                "{text}"
            );
        }
        for text in
            ["99999999999999999999", "9223372036854775808", "-99999999999999999999999999999999999999999"]
        {
            assert_eq!(
                integer(text),
                Err(format!("strconv.ParseInt: parsing {text:?}: value out of range")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_stop_timeout_is_a_number_of_seconds_or_a_duration() {
        let after = |ms| Ok(Timeout::After(Duration::from_millis(ms)));
        assert_eq!(timeout("10"), after(10_000));
        assert_eq!(timeout("0"), after(0));
        assert_eq!(timeout("-1"), Ok(Timeout::Never));
        assert_eq!(timeout("1m30s"), after(90_000));
        assert_eq!(timeout("500ms"), after(500));
        assert_eq!(timeout("1.5s"), after(1_500));
        assert_eq!(timeout("2h"), after(7_200_000));
        for text in ["", "1M", "5 s", "s", "1d", "-5s", "1..5s", "1e400s", "1m30", "99999999999999999999s5"] {
            assert!(timeout(text).is_err(), "{text}");
        }
        assert_eq!(timeout("1.5"), Err(r#"strconv.ParseInt: parsing "1.5": invalid syntax"#.into()));
    }

    #[test]
    fn a_time_that_is_none_is_told_in_plain_words() {
        assert_eq!(within("1.2"), Err("not a time such as 10, 1m30s or 500ms".into()));
        assert_eq!(within("-1"), Err("a time is not negative".into()));
        assert_eq!(within("1.2s"), Ok(Within::AtMost(Duration::from_millis(1200))));
    }

    #[test]
    fn restart_policies_have_dockers_texts() {
        assert_eq!(restart("no"), Ok(Restart::No));
        assert_eq!(restart("always"), Ok(Restart::Always));
        assert_eq!(restart("on-failure"), Ok(Restart::OnFailure(None)));
        assert_eq!(restart("on-failure:0"), Ok(Restart::OnFailure(None)));
        assert_eq!(restart("on-failure:3"), Ok(Restart::OnFailure(Some(3))));
        for (text, error) in [
            ("on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
            ("on-failure:1:2", "invalid restart policy format: maximum retry count must be an integer"),
            (":1", "invalid restart policy format: no policy provided before colon"),
            ("always:1", "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
            (
                "foo",
                "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', or 'on-failure'",
            ),
        ] {
            assert_eq!(restart(text), Err(error.into()), "{text}");
        }
    }

    #[test]
    fn a_variable_needs_a_name_and_may_have_an_empty_value() {
        let variable = |text| variable(text).map(|v| (v.name, v.value));
        assert_eq!(variable("A=b=c"), Ok(("A".into(), Some("b=c".into()))));
        assert_eq!(variable("A="), Ok(("A".into(), Some(String::new()))));
        assert_eq!(variable("A"), Ok(("A".into(), None)));
        assert_eq!(variable("=x"), Err("invalid environment variable: =x".into()));
    }

    #[test]
    fn since_is_a_moment_or_a_distance() {
        assert_eq!(since("42m"), Ok(Since::Ago(Duration::from_mins(42))));
        assert_eq!(since("1970-01-01T00:01:00Z"), Ok(Since::Epoch(Duration::from_mins(1))));
        assert_eq!(since("60.5"), Ok(Since::Epoch(Duration::from_millis(60_500))));
        for (text, hours) in [
            ("", 0),
            ("1970-01-02", 24),
            ("1970-01-02Z", 24),
            ("1970-01-02T03", 27),
            ("1970-01-02T03:00", 27),
            ("1970-01-02T03:00:00.000000000", 27),
            ("1970-01-02T03:00:00+01:00", 26),
            ("1970-01-02T03:00-01:30", 28),
        ] {
            let minutes = if text.ends_with("30") { 30 } else { 0 };
            let expected = Duration::from_mins(hours * 60 + minutes);
            assert_eq!(since(text), Ok(Since::Epoch(expected)), "{text}");
        }
        for text in [
            "yesterday",
            "-5",
            "1970-01",
            "1970-01-02T",
            "1970-01-02T3",
            "1970-01-02T1",
            "1970-01-02T1:00",
            "1970-01-02 03:00:00é",
            "1970-13-01",
            "1970-01-02T03:00:00+1",
            "1970-01-02T03:00:00+01:00+01:00",
            "1970-01-02T03:00:0",
            "1970-01-0é",
            "ééééééééé",
        ] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_is_a_key_and_a_value() {
        let filter = |text| filter(text).map(|Filtered(filter)| filter.map(|it| (it.key, it.value)));
        assert_eq!(filter(" Name = a=b "), Ok(Some(("name".into(), "a=b".into()))));
        assert_eq!(filter("="), Ok(Some((String::new(), String::new()))));
        assert_eq!(filter(""), Ok(None));
        assert_eq!(filter("name"), Err("bad format of filter (expected name=value)".into()));
    }

    #[test]
    fn tails_are_numbers_or_all() {
        assert_eq!(tail("all"), Ok(Tail(None)));
        assert_eq!(tail("-1"), Ok(Tail(None)));
        assert_eq!(tail("0"), Ok(Tail(Some(0))));
        assert!(tail("x").is_err());
    }
}
