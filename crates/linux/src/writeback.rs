//! Data that is on its way to the disk before anybody waits for it.

use rustix::fd::RawFd;

use crate::Errno;
use crate::syscall::{SYNC_FILE_RANGE, syscall};

/// `SYNC_FILE_RANGE_WRITE`
const WRITE: usize = 2;

/// Has the kernel begin to write what it has in memory of a file, and does not wait for it (`sync_file_range(2)`).
///
/// Nothing is durable by it, and no error of the disk is told: that is fdatasync(2), which has less left to do then. What the file
/// is on may know no such call.
pub fn start(file: RawFd, offset: u64, length: usize) -> Result<(), Errno> {
    let fd = usize::try_from(file).map_err(|_| Errno::BADF)?;
    let offset = usize::try_from(offset).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: it has no address.
    unsafe { syscall(SYNC_FILE_RANGE, [fd, offset, length, WRITE, 0]) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn it_is_a_hint_for_files_only() {
        let path = std::env::temp_dir().join(std::format!("gracefully-writeback-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"text").unwrap();
        assert_eq!(start(file.as_raw_fd(), 0, 4), Ok(()));
        let (_reads, writes) = std::io::pipe().unwrap();
        assert_eq!(start(writes.as_raw_fd(), 0, 4), Err(Errno::SPIPE));
        assert_eq!(start(-1, 0, 4), Err(Errno::BADF));
    }
}
