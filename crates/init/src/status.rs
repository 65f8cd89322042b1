//! What the init is doing, for whoever asks: `docker exec NAME /gracefully-init status`.
//!
//! PID 1 keeps what there is to tell in a file that exists only in memory (`memfd_create(2)`), and writes to it when something
//! changes. Whoever asks finds that file behind `/proc/PID/fd`, which takes the same user, and reads it. So asking wakes
//! nobody, needs no directory to write to, and works while PID 1 is busy or stopped.

use alloc::format;
use alloc::string::{String, ToString};
use core::ffi::CStr;

use gracefully_core::phase::Step;
use gracefully_core::signal::Signal;
use gracefully_linux::Errno;
use gracefully_linux::errno::Described;
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, MemfdFlags, Mode, OFlags, ftruncate, memfd_create, open, openat, readlinkat};
use rustix::io::{pwrite, read, retry_on_intr};
use serde::Serialize;

use crate::FAILURE;
use crate::say::{say, write_out};

const NAME: &CStr = c"gracefully-init";

/// What the link of such a file says.
const LINK: &[u8] = b"/memfd:gracefully-init (deleted)";

/// What there is to tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status<'a> {
    /// Of this form; a change of meaning raises it.
    pub(crate) version: u32,
    pub(crate) state: State,
    /// PID of main.
    pub(crate) main: u32,
    /// The phase of the stop.
    pub(crate) phase: Option<gracefully_core::phase::Phase>,
    pub(crate) signal: Option<Signal>,
    /// How long the whole stop may take, in seconds.
    pub(crate) budget_s: Option<f64>,
    /// The phases that have ended.
    pub(crate) steps: &'a [Step],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Main runs, and nobody has asked for anything.
    Running,
    /// Somebody has asked for the stop.
    Stopping,
    /// Main has ended by itself, and the others are waited for.
    Ending,
}

impl<'a> Status<'a> {
    pub(crate) fn new(state: State, main: u32, steps: &'a [Step]) -> Self {
        Self { version: 1, state, main, phase: None, signal: None, budget_s: None, steps }
    }
}

/// The file that others read.
#[derive(Debug)]
pub(crate) struct Board(Option<OwnedFd>);

impl Board {
    /// Where there is none, for lack of the system call or of memory, nobody can ask; everything else goes on.
    pub(crate) fn new() -> Self {
        Self(memfd_create(NAME, MemfdFlags::CLOEXEC).ok())
    }

    pub(crate) fn show(&self, status: &Status<'_>) {
        let Some(file) = &self.0 else { return };
        let mut json = serde_json::to_string(status).unwrap_or_default();
        json.push('\n');
        // The end of a longer text that was there before; who reads between the two sees it with both.
        let _ = pwrite(file, json.as_bytes(), 0);
        let _ = ftruncate(file, json.len() as u64);
    }
}

/// Tells what the init with this PID is doing.
pub(crate) fn show(pid: u32) -> u8 {
    match read_board(pid) {
        Ok(text) => write_out(text),
        Err(Errno::ACCESS | Errno::PERM) => {
            say(format_args!("pid {pid} belongs to another user: ask as that one (docker exec --user)"));
            FAILURE
        }
        Err(Errno::NOENT | Errno::SRCH) => {
            say(format_args!("no gracefully-init has pid {pid}: say which pid it has"));
            FAILURE
        }
        Err(errno) => {
            say(format_args!("pid {pid} cannot be asked: {}", Described(errno)));
            FAILURE
        }
    }
}

fn read_board(pid: u32) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let files = open(format!("/proc/{pid}/fd"), flags | OFlags::DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&files)? {
        let entry = entry?;
        let link = readlinkat(&files, entry.file_name(), alloc::vec::Vec::new());
        if link.is_ok_and(|link| link.to_bytes() == LINK) {
            let board = openat(&files, entry.file_name(), flags, Mode::empty())?;
            let mut text = alloc::vec::Vec::new();
            loop {
                text.reserve(4096);
                if retry_on_intr(|| read(&board, spare_capacity(&mut text)))? == 0 {
                    // What is behind the first line is what is left of a longer one.
                    let first = text.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
                    return Ok(String::from_utf8_lossy(first).to_string());
                }
            }
        }
    }
    Err(Errno::NOENT)
}
