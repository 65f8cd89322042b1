//! With which exit code we end.

use alloc::vec::Vec;

use gracefully_core::event::ExitStatus;
use gracefully_core::exit::SIGNAL_BASE;
use gracefully_core::signal::Signal;

/// What becomes of main's exit code. By default it is ours, and 128 + n if a signal ended main.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// `-e N`: these are 0, whyever main ended.
    always_zero: Vec<u8>,
    /// `--map-exit N=M`: after a stop that was asked for.
    after_stop: Vec<(u8, u8)>,
}

/// The code if the kernel does not say how main ended.
const UNKNOWN: u8 = 255;

impl Exits {
    /// `-e N`
    pub fn always_zero(&mut self, code: u8) {
        self.always_zero.push(code);
    }

    /// `--map-exit N=M`. `None` if it is not of that form.
    #[must_use]
    pub fn map(&mut self, text: &str) -> Option<()> {
        let (from, to) = text.split_once('=')?;
        self.after_stop.push((crate::values::exit_code(from)?, crate::values::exit_code(to)?));
        Some(())
    }

    /// `--clean-exit`: the codes of programs that were ended by SIGTERM or SIGINT, as they were asked to.
    pub fn clean(&mut self) {
        for signal in [Signal::TERM, Signal::INT] {
            self.after_stop.push((SIGNAL_BASE + signal.number(), 0));
        }
    }

    /// Our exit code if main has ended like this. `asked`: somebody has asked for the stop.
    pub fn code(&self, main: ExitStatus, asked: bool) -> u8 {
        let code = main.code().unwrap_or(UNKNOWN);
        if self.always_zero.contains(&code) {
            return 0;
        }
        // The one that was given last counts.
        let mapped = self.after_stop.iter().rev().find(|(from, _)| *from == code).filter(|_| asked);
        mapped.map_or(code, |&(_, to)| to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stays_what_it_is() {
        let exits = Exits::default();
        for code in 0..=255 {
            assert_eq!(exits.code(ExitStatus::Code(code), true), code);
        }
        assert_eq!(exits.code(ExitStatus::Signal(Signal::KILL), false), 137);
    }

    #[test]
    fn each_code_can_be_zero_and_no_other_becomes_so() {
        for zero in 0..=255 {
            let mut exits = Exits::default();
            exits.always_zero(zero);
            for code in 0..=255 {
                let expected = if code == zero { 0 } else { code };
                assert_eq!(exits.code(ExitStatus::Code(code), false), expected);
            }
        }
    }

    #[test]
    fn a_stop_that_was_asked_for_may_count_as_success() {
        let mut exits = Exits::default();
        exits.clean();
        exits.map("3=4").unwrap();
        let term = ExitStatus::Signal(Signal::TERM);
        assert_eq!((exits.code(term, true), exits.code(term, false)), (0, 143));
        assert_eq!((exits.code(ExitStatus::Code(130), true), exits.code(ExitStatus::Code(1), true)), (0, 1));
        assert_eq!(exits.code(ExitStatus::Code(3), true), 4);
        for bad in ["", "3", "3=", "=0", "256=0", "3=4=5"] {
            assert_eq!(exits.map(bad), None, "{bad:?}");
        }
    }
}
