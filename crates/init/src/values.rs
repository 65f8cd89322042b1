//! The values of options.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use gracefully_core::policy::{Timeout, Within};
use gracefully_core::signal::Signal;
use gracefully_core::time::parse_duration;

/// A budget: a time, or a negative number for ever, as docker's stop timeout.
pub fn timeout(text: &str) -> Option<Timeout> {
    match text.strip_prefix('-') {
        Some(number) => number.parse::<u32>().ok().filter(|&n| n > 0).map(|_| Timeout::Never),
        None => parse_duration(text).map(Timeout::After),
    }
}

/// `auto` or a time.
pub fn within(text: &str) -> Option<Within> {
    if text == "auto" { Some(Within::Budget) } else { parse_duration(text).map(Within::AtMost) }
}

/// A signal by name or number.
pub fn signal(text: &str) -> Option<Signal> {
    text.parse().ok()
}

/// An exit code: 0 to 255.
pub fn exit_code(text: &str) -> Option<u8> {
    // A plus sign is a number for `parse`, and for nobody else.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Ports, separated by commas.
pub fn ports(text: &str) -> Option<Vec<u16>> {
    text.split(',').map(|port| port.parse().ok().filter(|&port| port > 0)).collect()
}

/// A command that a shell would run, or, as a JSON array, one that is executed as it is: the two forms that Dockerfiles know.
/// `None`: it begins like an array and is none of words.
pub fn command(text: &str) -> Option<Vec<String>> {
    if text.trim_start().starts_with('[') {
        let words: Vec<String> = serde_json::from_str(text).ok()?;
        let usable = !words.is_empty() && words.iter().all(|word| !word.contains('\0'));
        return usable.then_some(words);
    }
    Some(["/bin/sh", "-c", text].map(ToString::to_string).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::time::Duration;

    #[test]
    fn budgets() {
        assert_eq!(timeout("30"), Some(Timeout::from_seconds(30)));
        assert_eq!(timeout("-1"), Some(Timeout::Never));
        assert_eq!((timeout("-"), timeout("-0"), timeout("--1")), (None, None, None));
        assert_eq!(within("auto"), Some(Within::Budget));
        assert_eq!(within("2s"), Some(Within::AtMost(Duration::from_secs(2))));
    }

    #[test]
    fn codes_and_ports() {
        assert_eq!((exit_code("0"), exit_code("255")), (Some(0), Some(255)));
        for bad in ["256", "-1", "abc", "", "+1", "1 "] {
            assert_eq!(exit_code(bad), None, "{bad:?}");
        }
        assert_eq!(ports("80,8080"), Some(vec![80, 8080]));
        for bad in ["", "0", "80,", "65536", "http"] {
            assert_eq!(ports(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn commands() {
        assert_eq!(command("a; b").unwrap(), ["/bin/sh", "-c", "a; b"]);
        assert_eq!(command(r#"["a", "b c"]"#).unwrap(), ["a", "b c"]);
        for bad in ["[", "[]", "[1]", r#"["a\u0000"]"#, r#"["a"] b"#] {
            assert_eq!(command(bad), None, "{bad:?}");
        }
    }
}
