//! The three descriptors that a process is given, and those that it did not ask for.

use rustix::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{DupFlags, Errno, FdFlags, dup3, fcntl_getfd, fcntl_setfd};

use crate::syscall::{CLOSE_RANGE, syscall};

const INPUT: i32 = 0;
const OUTPUT: i32 = 1;
const ERROR: i32 = 2;

/// Standard error.
pub fn error() -> BorrowedFd<'static> {
    // SAFETY: nobody in our programs closes it, only replaces it; and if it was never open, writing to it fails.
    unsafe { BorrowedFd::borrow_raw(ERROR) }
}

/// Standard input.
pub fn input() -> BorrowedFd<'static> {
    // SAFETY: as for standard error.
    unsafe { BorrowedFd::borrow_raw(INPUT) }
}

/// Standard output.
pub fn output() -> BorrowedFd<'static> {
    // SAFETY: as for standard error.
    unsafe { BorrowedFd::borrow_raw(OUTPUT) }
}

/// Makes this the standard input.
pub fn set_input(fd: impl AsFd) -> Result<(), Errno> {
    replace(fd, INPUT)
}

/// Makes this the standard output.
pub fn set_output(fd: impl AsFd) -> Result<(), Errno> {
    replace(fd, OUTPUT)
}

/// Makes this the standard error.
pub fn set_error(fd: impl AsFd) -> Result<(), Errno> {
    replace(fd, ERROR)
}

fn replace(fd: impl AsFd, standard: i32) -> Result<(), Errno> {
    // SAFETY: it is open in every program of ours, or becomes so; and it is not closed below.
    let mut standard = unsafe { OwnedFd::from_raw_fd(standard) };
    let replaced = dup3(fd, &mut standard, DupFlags::empty());
    let _ = standard.into_raw_fd();
    replaced
}

/// Takes over a descriptor that our parent has left open for us. To be called once for a number.
pub fn inherited(number: i32) -> Result<OwnedFd, Errno> {
    if number <= ERROR {
        return Err(Errno::BADF);
    }
    // SAFETY: it is only looked at. If it is not open that fails.
    let open = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(open, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and our parent has left it to whoever calls this.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor but the standard ones and these, which are in order (negative ones are none): what a parent has
/// left open by mistake.
///
/// To be called by a process that owns nothing but them yet.
pub fn close_all_but(kept: &[i32]) -> Result<(), Errno> {
    let mut first = ERROR.unsigned_abs() + 1;
    for kept in
        kept.iter().filter_map(|&kept| u32::try_from(kept).ok()).filter(|&kept| kept > ERROR.unsigned_abs())
    {
        close_range(first, kept - 1)?;
        first = kept + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the caller has opened nothing else, so nobody's descriptor is closed behind their back.
    unsafe { syscall(CLOSE_RANGE, [first as usize, last as usize, 0, 0, 0]) }.map(drop)
}

/// Takes the place of each standard descriptor that is not open, so that nothing that is opened later is taken for it. What
/// takes the place can be neither read nor written, and is closed when a program is executed.
pub fn hold_places() {
    for fd in [input(), output(), error()] {
        if fcntl_getfd(fd) == Err(Errno::BADF)
            && let Ok(held) = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        {
            // The kernel gives the lowest number that is free, which is this one.
            let _ = held.into_raw_fd();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsRawFd;
    use rustix::pipe::pipe;

    #[test]
    fn only_what_is_open_and_not_standard_is_taken_over() {
        let (from, _to) = pipe().unwrap();
        let number = from.into_raw_fd();
        assert_eq!(inherited(number).unwrap().as_raw_fd(), number);
        assert_eq!(inherited(1 << 20).unwrap_err(), Errno::BADF);
        assert_eq!(inherited(ERROR).unwrap_err(), Errno::BADF);
    }
}
