//! `/proc/PID/status` (`proc_pid_status(5)`): names and values, line by line. The kernel escapes line breaks in the
//! process's name, so no name can forge a line.

use crate::procfs::{hexadecimal, number, value, words};

/// The part of `/proc/PID/status` that tells how signals are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// `NSpid`: the PID in the innermost namespace. Since Linux 4.1.
    pub(super) inner_pid: Option<u32>,
    /// `SigBlk` of the main thread.
    pub(super) blocked: u64,
    /// `SigIgn`
    pub(super) ignored: u64,
    /// `SigCgt`
    pub(super) caught: u64,
}

impl Status {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mask = |key| value(text, key).and_then(hexadecimal);
        Some(Self {
            inner_pid: value(text, "NSpid:").and_then(|pids| words(pids).last()).and_then(number),
            blocked: mask("SigBlk:")?,
            ignored: mask("SigIgn:")?,
            caught: mask("SigCgt:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "Name:\tsh\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nNSpid:\t4711\t38\t7\nThreads:\t1\n\
        SigQ:\t0/96365\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000010000\n\
        SigIgn:\t0000000000000006\nSigCgt:\t0000000000004002\nCapInh:\t0000000000000000\n";

    #[test]
    fn the_masks_and_the_innermost_pid() {
        let expected = Status { inner_pid: Some(7), blocked: 0x10000, ignored: 6, caught: 0x4002 };
        assert_eq!(Status::parse(SAMPLE.as_bytes()), Some(expected));
    }

    #[test]
    fn an_old_kernel_has_no_namespaced_pids() {
        let old = SAMPLE.replace("NSpid:\t4711\t38\t7\n", "");
        assert_eq!(Status::parse(old.as_bytes()).unwrap().inner_pid, None);
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        // As the kernel writes the name "x\nSigCgt:\tff".
        let text = SAMPLE.replace("Name:\tsh", "Name:\tx\\nSigCgt:\tff");
        assert_eq!(Status::parse(text.as_bytes()).unwrap().caught, 0x4002);
    }

    #[test]
    fn what_is_torn_is_nothing() {
        for end in 0..SAMPLE.find("0000000000004002").unwrap() {
            assert_eq!(Status::parse(&SAMPLE.as_bytes()[..end]), None, "{}", &SAMPLE[..end]);
        }
    }
}
