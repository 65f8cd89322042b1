//! Giving memory back that a process needs only while it starts.

use core::ffi::c_void;
use core::ptr;

use rustix::fs::CWD;
use rustix::mm::{Advice, madvise};

use crate::procfs::{lines, read_file, words};

/// Our own table of mappings is longer only if somebody maps files by the thousand.
const TABLE: usize = 256 * 1024;

/// Unmaps the pages of code that have been touched so far. What is needed again comes back from the page cache by a minor
/// fault (madvise(2), `MADV_DONTNEED`). For a process that waits most of the time and of which there are many: the kernel
/// maps 16 pages around each one that is touched, and counts them all as resident.
pub fn release_code() {
    let Ok(table) = read_file(CWD, "/proc/self/maps", TABLE) else { return };
    for (start, len) in lines(&table).filter_map(code) {
        // SAFETY: the range is a mapping of ours as the kernel has just described it: the executable part of a file,
        // which nobody may write to and which is therefore unmodified. Its pages are read anew from the same file.
        let _ =
            unsafe { madvise(ptr::with_exposed_provenance_mut::<c_void>(start), len, Advice::LinuxDontNeed) };
    }
}

/// The range of a line of `/proc/self/maps` (`proc_pid_maps(5)`), if it is code from a file.
fn code(line: &[u8]) -> Option<(usize, usize)> {
    let mut fields = words(line);
    let (start, end) = str::from_utf8(fields.next()?).ok()?.split_once('-')?;
    let is_code = fields.next()? == b"r-xp" && fields.nth(3)?.starts_with(b"/");
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    is_code.then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files() {
        let line = b"55d0c0400000-55d0c0600000 r-xp 00001000 fe:00 1234    /usr/bin/a b";
        assert_eq!(code(line), Some((0x55d0_c040_0000, 0x20_0000)));
        for other in [
            &b"55d0c0400000-55d0c0600000 r--p 00001000 fe:00 1234 /usr/bin/a"[..],
            b"55d0c0400000-55d0c0600000 rwxp 00001000 fe:00 1234 /usr/bin/a",
            b"7ffd1-7ffd2 r-xp 00000000 00:00 0 [vdso]",
            b"7ffd1-7ffd2 r-xp 00000000 00:00 0",
            b"",
            b"x-y r-xp 0 0 0 /a",
        ] {
            assert_eq!(code(other), None, "{}", str::from_utf8(other).unwrap());
        }
    }

    #[test]
    fn we_go_on_afterwards() {
        release_code();
        assert!(crate::process::read(std::process::id()).is_some());
    }
}
