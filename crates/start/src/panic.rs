//! What a panic comes to: its message on standard error, and the end.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use rustix::fd::BorrowedFd;
use rustix::io::write;

use crate::entry::exit;

/// As of a program with the standard library that a panic ends.
const CODE: i32 = 101;

/// Says what went wrong and ends the program. For [`program!`](crate::program).
pub fn panic(info: &PanicInfo<'_>) -> ! {
    // Nobody hears that nobody hears it.
    let _ = writeln!(StandardError, "{info}");
    exit(CODE)
}

struct StandardError;

impl Write for StandardError {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: nothing of this crate closes it; and if somebody has, the write fails.
        let stderr = unsafe { BorrowedFd::borrow_raw(2) };
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written = write(stderr, rest).map_err(|_| fmt::Error)?;
            rest = &rest[written..];
        }
        Ok(())
    }
}
