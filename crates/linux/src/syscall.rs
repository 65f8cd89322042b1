//! System calls that rustix does not have, made directly: the kernel's own interface (syscall(2)), which needs no C
//! library. The numbers are those of `include/uapi/asm-generic/unistd.h` and `arch/x86/entry/syscalls/syscall_64.tbl`.

use core::arch::asm;

use rustix::io::Errno;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const SETSOCKOPT: usize = 54;
    pub(crate) const GETSOCKOPT: usize = 55;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const KILL: usize = 62;
    pub(crate) const GETPGID: usize = 121;
    pub(crate) const GETSID: usize = 124;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const SYNC_FILE_RANGE: usize = 277;
    pub(crate) const SIGNALFD4: usize = 289;
    pub(crate) const EXECVEAT: usize = 322;
    pub(crate) const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(crate) const SYNC_FILE_RANGE: usize = 84;
    pub(crate) const RT_SIGACTION: usize = 134;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const KILL: usize = 129;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const GETPGID: usize = 155;
    pub(crate) const GETSID: usize = 156;
    pub(crate) const SETSOCKOPT: usize = 208;
    pub(crate) const GETSOCKOPT: usize = 209;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const SIGNALFD4: usize = 74;
    pub(crate) const EXECVEAT: usize = 281;
    pub(crate) const CLOSE_RANGE: usize = 436;
}

pub(crate) use number::*;

/// Makes a system call; arguments that it does not have are zero.
///
/// # Safety
///
/// What the call does to memory, descriptors and processes must be what the caller may do.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn syscall(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    let [first, second, third, fourth, fifth] = arguments;
    let answer: isize;
    // SAFETY: the kernel changes `rax`, `rcx` and `r11`, and otherwise does what the caller answers for.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => answer,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth, in("r8") fifth,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result(answer)
}

/// Makes a system call; arguments that it does not have are zero.
///
/// # Safety
///
/// What the call does to memory, descriptors and processes must be what the caller may do.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn syscall(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    let [first, second, third, fourth, fifth] = arguments;
    let answer: isize;
    // SAFETY: the kernel changes `x0`, and otherwise does what the caller answers for.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inout("x0") first => answer,
            in("x1") second, in("x2") third, in("x3") fourth, in("x4") fifth,
            options(nostack)
        );
    }
    result(answer)
}

/// Ends the process at once.
pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: nothing of this process is used after this.
        let _ = unsafe { syscall(EXIT_GROUP, [code, 0, 0, 0, 0]) };
        // It does not return; but the compiler cannot know that.
        core::hint::spin_loop();
    }
}

/// The kernel answers with a negated error number between -4095 and -1.
fn result(answer: isize) -> Result<usize, Errno> {
    match i32::try_from(answer) {
        Ok(error @ -4095..=-1) => Err(Errno::from_raw_os_error(-error)),
        _ => Ok(answer.cast_unsigned()),
    }
}
