//! `/proc/PID/stat` (`proc_pid_stat(5)`): one line of numbers around a name that may contain anything.

use alloc::string::String;
use core::time::Duration;

use gracefully_core::diagnosis::State;
use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;

use crate::procfs::{number, words};

/// `PF_KTHREAD` and `PF_EXITING` of `include/linux/sched.h`.
const KERNEL_THREAD: u32 = 0x0020_0000;
const EXITING: u32 = 0x4;

/// When a process was started. Together with the PID it tells a process from a later one with the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartTime(u64);

impl StartTime {
    /// Clock ticks in a second. `USER_HZ` is 100 on every architecture that Rust has Linux for.
    pub const TICKS_PER_SECOND: u64 = 100;

    /// From the number in `/proc/PID/stat`: clock ticks since the machine was started.
    pub const fn from_ticks(ticks: u64) -> Self {
        Self(ticks)
    }

    /// The number in `/proc/PID/stat`.
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// The same on `CLOCK_BOOTTIME`, to the hundredth of a second.
    pub const fn since_boot(self) -> Duration {
        let (seconds, rest) = (self.0 / Self::TICKS_PER_SECOND, self.0 % Self::TICKS_PER_SECOND);
        Duration::from_millis(rest * (1000 / Self::TICKS_PER_SECOND))
            .saturating_add(Duration::from_secs(seconds))
    }
}

/// What `/proc/PID/stat` says. Everybody may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The kernel's name for the process: usually the first 15 bytes of the program's file name, but the process may
    /// change it to anything.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// The PID of its parent; zero if that is outside our PID namespace.
    pub parent: u32,
    /// Its process group; zero if the leader is outside our PID namespace.
    pub group: u32,
    /// Is it a part of the kernel? Such a process takes no signals.
    pub kernel_thread: bool,
    /// Is it about to end? The kernel says so before it closes the process's files, and long before others hear of the end.
    pub exiting: bool,
    /// When it was started.
    pub start_time: StartTime,
    /// How it ended, if it is a zombie. The kernel shows `exit 0` instead to those who may not trace the process
    /// (`PTRACE_MODE_READ`, ptrace(2)).
    pub ended: Option<ExitStatus>,
}

impl Stat {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        // The name may contain parentheses, spaces and line breaks. After it there are only numbers.
        let open = text.iter().position(|&b| b == b'(')?;
        let close = text.iter().rposition(|&b| b == b')')?;
        let name = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        // The manual page counts from 1, and the first field here is number 3.
        let mut fields = words(&text[close + 1..]);
        let letter = *fields.next()?.first()?;
        let parent = number(fields.next()?)?;
        let group = number(fields.next()?)?;
        let flags: u32 = number(fields.nth(3)?)?;
        let threads: i64 = number(fields.nth(10)?)?;
        let start_time = StartTime(number(fields.nth(1)?)?);
        // Since Linux 3.5.
        let exit_code: Option<i32> = fields.nth(29).and_then(number);

        let state = match letter {
            b'R' => State::Running,
            b'D' => State::Uninterruptible,
            b'T' | b't' => State::Stopped,
            // The main thread ended by `pthread_exit(3)`; the others go on.
            b'Z' if threads > 1 => State::Sleeping,
            b'Z' | b'X' | b'x' => State::Zombie,
            _ => State::Sleeping,
        };
        let ended = exit_code.filter(|_| state == State::Zombie).map(exit_status);
        let (kernel_thread, exiting) = (flags & KERNEL_THREAD != 0, flags & EXITING != 0);
        Some(Self { name, state, parent, group, kernel_thread, exiting, start_time, ended })
    }
}

/// From the number that wait(2) delivers: the signal in the low seven bits, the exit code in the next eight bits
/// above the flag for a core dump.
pub fn exit_status(status: i32) -> ExitStatus {
    let [low, code, ..] = status.to_le_bytes();
    match low & 0x7f {
        0 => ExitStatus::Code(code),
        signal => Signal::from_number(signal.into()).map_or(ExitStatus::Unknown, ExitStatus::Signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use alloc::format;
    use alloc::string::ToString;

    const AFTER_NAME: &str = "S 1033 1056 1033 0 -1 4194304 110 0 0 0 0 0 0 0 20 0 1 0 207741 5754880 407 \
        18446744073709551615 94028 94098 140727 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 94105 94107 94506 140727 140727 \
        140727 140727 0\n";

    fn stat(name: &str, rest: &str) -> Option<Stat> {
        Stat::parse(format!("1056 ({name}) {rest}").as_bytes())
    }

    #[test]
    fn a_line_of_a_sleeping_process() {
        let expected = Stat {
            name: "sleep".to_owned(),
            state: State::Sleeping,
            parent: 1033,
            group: 1056,
            kernel_thread: false,
            exiting: false,
            start_time: StartTime(207_741),
            ended: None,
        };
        assert_eq!(stat("sleep", AFTER_NAME), Some(expected));
    }

    #[test]
    fn a_name_may_contain_anything() {
        for name in ["", ")", "(", "a b", ") R 1 (", "((sd-pam))", "x\ny", "1 (y) Z 0"] {
            let parsed = stat(name, AFTER_NAME).unwrap_or_else(|| panic!("{name:?}"));
            assert_eq!((parsed.name.as_str(), parsed.parent), (name, 1033));
        }
        let mut bytes = b"5 (\xff\xfe) ".to_vec();
        bytes.extend(AFTER_NAME.as_bytes());
        assert_eq!(Stat::parse(&bytes).map(|s| s.name), Some("\u{fffd}\u{fffd}".to_string()));
    }

    #[test]
    fn the_letters_of_the_states() {
        for (letter, state) in [
            ("R", State::Running),
            ("S", State::Sleeping),
            ("I", State::Sleeping),
            ("D", State::Uninterruptible),
            ("T", State::Stopped),
            ("t", State::Stopped),
            ("Z", State::Zombie),
            ("X", State::Zombie),
        ] {
            let line = AFTER_NAME.replacen('S', letter, 1);
            assert_eq!(stat("x", &line).map(|s| s.state), Some(state), "{letter}");
        }
    }

    #[test]
    fn a_zombie_says_how_it_ended() {
        let zombie = "Z 8292 8238 31034 0 -1 4227148 220 0 0 0 0 0 0 0 20 0 1 0 242358 0 0 18446744073709551615 \
            0 0 0 0 0 0 0 16781312 2 1 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 1792\n";
        assert_eq!(stat("python3", zombie).unwrap().ended, Some(ExitStatus::Code(7)));
        let threads = zombie.replace(" 20 0 1 0 ", " 20 0 2 0 ");
        let alive = stat("python3", &threads).unwrap();
        assert_eq!(
            (alive.state, alive.ended),
            (State::Sleeping, None),
            "the main thread is gone, others are not"
        );
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flag() {
        let line = AFTER_NAME.replace("4194304", "2129984");
        assert!(stat("kthreadd", &line).unwrap().kernel_thread);
    }

    #[test]
    fn what_is_torn_is_nothing() {
        let whole = format!("1056 (sleep) {AFTER_NAME}");
        let needed = whole.find("5754880").unwrap() - 1;
        for end in 0..needed - "207741".len() {
            assert_eq!(Stat::parse(&whole.as_bytes()[..end]), None, "{}", &whole[..end]);
        }
        for bad in [&b"1 )x( S 1"[..], b"1 (x) S -", b"\0\0\0", b"()", b"1 (x"] {
            assert_eq!(Stat::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_start_time_is_kept_to_the_tick() {
        assert_eq!(StartTime::from_ticks(207_741).since_boot(), Duration::from_millis(2_077_410));
        let last = StartTime::from_ticks(u64::MAX);
        assert_eq!(last.since_boot().as_secs(), u64::MAX / 100);
    }

    #[test]
    fn the_numbers_of_wait() {
        assert_eq!(exit_status(0), ExitStatus::Code(0));
        assert_eq!(exit_status(7 << 8), ExitStatus::Code(7));
        assert_eq!(exit_status(255 << 8), ExitStatus::Code(255));
        assert_eq!(exit_status(15), ExitStatus::Signal(Signal::TERM));
        assert_eq!(exit_status(3 | 0x80), ExitStatus::Signal(Signal::QUIT), "with a core dump");
        assert_eq!(exit_status(32), ExitStatus::Unknown, "a signal that nobody can send");
    }
}
