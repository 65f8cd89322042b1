//! Signal names and numbers, by docker's rules.
//!
//! Docker parses a signal the same way for `kill --signal`, `stop --signal`, `STOPSIGNAL` and `--stop-signal`
//! (moby/sys/signal, `ParseSignal`): first as a decimal number, where `+15` and `015` are 15 and zero is an error;
//! else in upper case, without one leading `SIG`, in a table. The table is Linux's, with the real-time signals as
//! glibc numbers them (RTMIN is 34, because the threads library keeps 32 and 33 for itself).

use alloc::string::String;
use alloc::{borrow::Cow, format};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Linux signal that can be sent: 1 to 64, without 32 and 33.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(try_from = "Cow<str>", into = "String")]
#[cfg_attr(any(feature = "schema", test), schemars(with = "String"))]
pub struct Signal(u8);

const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// Names in docker's table, the preferred name of a number first. Real-time signals are computed.
const NAMES: [(&str, u8); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", RTMIN),
];

impl Signal {
    /// SIGHUP
    pub const HUP: Self = Self(1);
    /// SIGINT
    pub const INT: Self = Self(2);
    /// SIGQUIT
    pub const QUIT: Self = Self(3);
    /// SIGKILL, which no process can catch.
    pub const KILL: Self = Self(9);
    /// SIGUSR1
    pub const USR1: Self = Self(10);
    /// SIGPIPE
    pub const PIPE: Self = Self(13);
    /// SIGTERM, the default stop signal.
    pub const TERM: Self = Self(15);
    /// SIGCHLD
    pub const CHLD: Self = Self(17);
    /// SIGCONT
    pub const CONT: Self = Self(18);
    /// SIGSTOP, which no process can catch.
    pub const STOP: Self = Self(19);

    /// The signal with this number, if it can be sent.
    pub fn from_number(number: i64) -> Result<Self, ParseSignalError> {
        match u8::try_from(number) {
            Ok(0) => Err(ParseSignalError::Invalid(String::from("0"))),
            Ok(n @ (1..=31 | RTMIN..=RTMAX)) => Ok(Self(n)),
            _ => Err(ParseSignalError::Unsupported(number)),
        }
    }

    /// The number as the kernel knows it on x86 and ARM.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The bit of this signal in the masks of `/proc/PID/status` (`proc_pid_status(5)`).
    pub fn mask(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// All signals that can be sent, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=31).chain(RTMIN..=RTMAX).map(Self)
    }

    /// The name with `SIG`, such as `SIGTERM` or `SIGRTMIN+3`.
    pub fn name(self) -> Cow<'static, str> {
        match self.0 {
            RTMIN => Cow::Borrowed("SIGRTMIN"),
            RTMAX => Cow::Borrowed("SIGRTMAX"),
            n @ 35..=49 => Cow::Owned(format!("SIGRTMIN+{}", n - RTMIN)),
            n @ 50..=63 => Cow::Owned(format!("SIGRTMAX-{}", RTMAX - n)),
            n => match NAMES.iter().find(|(_, number)| *number == n) {
                Some((name, _)) => Cow::Owned(format!("SIG{name}")),
                None => Cow::Owned(format!("signal {n}")),
            },
        }
    }
}

impl FromStr for Signal {
    type Err = ParseSignalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(number) = text.parse::<i64>() {
            return Self::from_number(number);
        }
        let upper = text.to_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        named(name).map(Self).ok_or_else(|| ParseSignalError::Invalid(String::from(text)))
    }
}

/// Looks `name` up in docker's table: upper case, without `SIG`.
fn named(name: &str) -> Option<u8> {
    if let Some(&(_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Some(number);
    }
    // The table has RTMIN+1 to RTMIN+15 and RTMAX-14 to RTMAX-1, written without leading zeros.
    let offset = |digits: &str, limit: u8| -> Option<u8> {
        let canonical = !digits.starts_with(['0', '+']);
        digits.parse().ok().filter(|n| canonical && (1..=limit).contains(n))
    };
    if let Some(digits) = name.strip_prefix("RTMIN+") {
        offset(digits, 15).map(|n| RTMIN + n)
    } else if let Some(digits) = name.strip_prefix("RTMAX-") {
        offset(digits, 14).map(|n| RTMAX - n)
    } else {
        (name == "RTMAX").then_some(RTMAX)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.name().into_owned()
    }
}

impl TryFrom<Cow<'_, str>> for Signal {
    type Error = ParseSignalError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Why a text is not a signal that can be sent. The texts are docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseSignalError {
    /// Neither a number nor a name in the table; or zero.
    Invalid(String),
    /// A number that Linux does not have, or that belongs to the threads library (32, 33).
    Unsupported(i64),
}

impl fmt::Display for ParseSignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "invalid signal: {text}"),
            Self::Unsupported(number) => write!(f, "the linux kernel does not support signal {number}"),
        }
    }
}

impl core::error::Error for ParseSignalError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn number(text: &str) -> u8 {
        text.parse::<Signal>().unwrap_or_else(|e| panic!("{text:?}: {e}")).number()
    }

    /// Every accepted row of research/stop.md, 1.2.
    #[test]
    fn dockers_table_of_accepted_texts() {
        for (texts, expected) in [
            (&["HUP", "hup", "1", "SIGHUP", "sighup", "SigHup"][..], 1),
            (&["15", "+15", "015"], 15),
            (&["RTMIN", "SIGRTMIN", "34"], 34),
            (&["RTMIN+3", "rtmin+3", "37"], 37),
            (&["SIGRTMIN+15"], 49),
            (&["RTMAX", "64"], 64),
            (&["RTMAX-14"], 50),
            (&["CLD", "CHLD"], 17),
            (&["IOT", "ABRT"], 6),
            (&["POLL", "IO"], 29),
            (&["SYS"], 31),
            (&["PWR"], 30),
            (&["STKFLT"], 16),
        ] {
            for text in texts {
                assert_eq!(number(text), expected, "{text}");
            }
        }
    }

    /// Every refused row of research/stop.md, 1.2.
    #[test]
    fn dockers_table_of_refused_texts() {
        for text in [
            "",
            "0",
            "00",
            " HUP",
            "HUP ",
            "SIG",
            "SIGSIG",
            "SIGSIGTERM",
            "TERM15",
            "0xf",
            "15.0",
            "RTMIN+16",
            "RTMIN-1",
            "RTMIN+0",
            "RTMIN+03",
            "RTMIN++3",
            "RTMAX-15",
            "RTMAX-0",
            "EMT",
            "INFO",
            "LOST",
            "UNUSED",
            "BOGUS",
            "99999999999999999999",
        ] {
            let error = text.parse::<Signal>().expect_err(text);
            assert!(matches!(error, ParseSignalError::Invalid(_)), "{text}: {error}");
        }
        for text in ["32", "33", "65", "-1", "999999999999"] {
            let error = text.parse::<Signal>().expect_err(text);
            assert_eq!(error, ParseSignalError::Unsupported(text.parse().unwrap()));
        }
    }

    #[test]
    fn every_signal_survives_its_own_name() {
        assert_eq!(Signal::all().count(), 62);
        for signal in Signal::all() {
            assert_eq!(signal.name().parse(), Ok(signal));
            assert_eq!(signal.number().to_string().parse(), Ok(signal));
        }
    }

    #[test]
    fn names_read_as_the_field_writes_them() {
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert_eq!(Signal(37).to_string(), "SIGRTMIN+3");
        assert_eq!(Signal(63).to_string(), "SIGRTMAX-1");
    }

    #[test]
    fn masks_are_those_of_proc_status() {
        // research/stop.md 1.7: SigCgt of a program that handles INT and TERM.
        assert_eq!(Signal::INT.mask() | Signal::TERM.mask(), 0x4002);
    }
}
