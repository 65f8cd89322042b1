//! For the tests.

extern crate std;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, mkdir};

use crate::files;

/// A directory that is gone after the test.
pub(crate) struct Scratch {
    dir: OwnedFd,
    path: String,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        let name = format!("gracefully-monitor-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name).to_str().unwrap().to_string();
        mkdir(&*path, Mode::RWXU).unwrap();
        Self { dir: files::open_dir(CWD, &path).unwrap(), path }
    }
}

impl AsFd for Scratch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = files::remove_all(CWD, &self.path);
    }
}

/// Random bytes that are the same in every run (`SplitMix64`).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("less than a usize")
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.byte()).collect()
    }
}
