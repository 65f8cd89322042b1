//! Which signal is passed on for one that comes.

use gracefully_core::signal::Signal;

/// What each signal becomes: dumb-init's `-r`, which also takes names here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrites([u8; 65]);

impl Default for Rewrites {
    /// Every signal stays what it is.
    fn default() -> Self {
        let mut same = [0; 65];
        (0..).zip(&mut same).for_each(|(number, to)| *to = number);
        Self(same)
    }
}

impl Rewrites {
    /// Adds `FROM:TO`, where `TO` may be 0: it is not passed on. `None` if it is not of that form, or if `FROM` never comes to us
    /// to be passed on: SIGKILL and SIGSTOP are the kernel's, and SIGCHLD is ours.
    #[must_use]
    pub fn add(&mut self, text: &str) -> Option<()> {
        let (from, to) = text.split_once(':')?;
        let from: Signal = from.parse().ok()?;
        if [Signal::KILL, Signal::STOP, Signal::CHLD].contains(&from) {
            return None;
        }
        let to = if to == "0" { 0 } else { to.parse::<Signal>().ok()?.number() };
        self.0[usize::from(from.number())] = to;
        Some(())
    }

    /// What is passed on for this signal; `None`: nothing.
    pub fn of(&self, signal: Signal) -> Option<Signal> {
        let number = self.0[usize::from(signal.number())];
        Signal::from_number(number.into()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    fn rewrites(texts: &[&str]) -> Rewrites {
        let mut rewrites = Rewrites::default();
        for text in texts {
            rewrites.add(text).unwrap_or_else(|| panic!("{text}"));
        }
        rewrites
    }

    #[test]
    fn nothing_is_changed_unasked() {
        let none = Rewrites::default();
        assert!(Signal::all().all(|signal| none.of(signal) == Some(signal)));
    }

    #[test]
    fn by_number_by_name_and_to_nothing() {
        let some = rewrites(&["15:3", "INT:0", "SIGHUP:TERM", "3:15"]);
        assert_eq!(some.of(Signal::TERM), Some(Signal::QUIT));
        assert_eq!(some.of(Signal::INT), None);
        assert_eq!(some.of(Signal::HUP), Some(Signal::TERM), "what it becomes is not rewritten again");
        assert_eq!(some.of(Signal::QUIT), Some(Signal::TERM));
        assert_eq!(rewrites(&["15:2", "15:3"]).of(Signal::TERM), Some(Signal::QUIT), "the last one counts");
    }

    #[test]
    fn what_is_no_rewrite() {
        for bad in [
            "",
            "herp",
            "herp:derp",
            "15",
            "15::12",
            "15:derp",
            "1:32",
            "0:15",
            ":",
            "15:-1",
            "65:1",
            "9:15",
            "17:1",
        ] {
            assert_eq!(Rewrites::default().add(bad), None, "{bad:?}");
        }
    }

    /// Whatever the text is, it is a rewrite of two signals or none at all, and a rewrite that is none changes nothing.
    #[test]
    fn any_text_at_all() {
        let parts = ["15", "SIG", "TERM", ":", "0", "RTMIN+3", "-1", " ", "\u{e9}", "64"];
        let mut next = numbers();
        let mut rewritten = 0;
        for _ in 0..20_000 {
            let text: alloc::string::String = (0..next(5)).map(|_| parts[next(parts.len())]).collect();
            let mut it = Rewrites::default();
            let added = it.add(&text).is_some();
            let changed = Signal::all().filter(|&signal| it.of(signal) != Some(signal)).count();
            assert!(if added { changed <= 1 } else { changed == 0 }, "{text:?}");
            rewritten += changed;
        }
        assert!(rewritten > 20, "{rewritten}");
    }
}
