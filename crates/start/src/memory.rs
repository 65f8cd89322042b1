//! What the compiler expects from a C library, and calls without being asked to: it copies, sets and compares values
//! with these six functions. Their contract is C's.
//!
//! They are written in the processor's language, because the compiler would make calls of themselves out of loops in
//! Rust, and so that link-time optimization finds nothing in them to take away. The copying ones use the processor's own
//! instruction, which is as fast as anything for more than a few hundred bytes (Intel, Optimization Reference Manual,
//! 3.7.6) and takes two bytes of code.
//!
//! Arguments are in `rdi`, `rsi` and `rdx`, the result is in `rax`, and the direction flag is clear (System V ABI,
//! x86-64, 3.2).

use core::arch::naked_asm;
use core::ffi::{c_char, c_int};

#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
}

/// A copy in ascending order reads each byte before it is overwritten, unless the target begins inside the source.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "mov r8, rdi",
        "sub r8, rsi",
        "cmp r8, rdx",
        "jb 2f",
        "rep movsb",
        "ret",
        "2:",
        "lea rdi, [rdi + rcx - 1]",
        "lea rsi, [rsi + rcx - 1]",
        "std",
        "rep movsb",
        "cld",
        "ret"
    )
}

#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memset(to: *mut u8, byte: c_int, n: usize) -> *mut u8 {
    naked_asm!("mov r8, rdi", "mov eax, esi", "mov rcx, rdx", "rep stosb", "mov rax, r8", "ret")
}

#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> c_int {
    naked_asm!(
        "xor eax, eax",
        "mov rcx, rdx",
        // Nothing is compared if there is nothing: then this is the answer.
        "cmp rcx, rcx",
        "repe cmpsb",
        "je 2f",
        "movzx eax, byte ptr [rdi - 1]",
        "movzx ecx, byte ptr [rsi - 1]",
        "sub eax, ecx",
        "2:",
        "ret"
    )
}

#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> c_int {
    naked_asm!("jmp {}", sym memcmp)
}

#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    naked_asm!("xor eax, eax", "2:", "cmp byte ptr [rdi + rax], 0", "je 3f", "inc rax", "jmp 2b", "3:", "ret")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every placement of two ranges in a small buffer, against the standard library's.
    #[test]
    fn moving_is_right_for_every_overlap() {
        let original: [u8; 24] = core::array::from_fn(|n| u8::try_from(n).unwrap());
        for n in 0..=12 {
            for from in 0..=12 {
                for to in 0..=12 {
                    let (mut ours, mut expected) = (original, original);
                    expected.copy_within(from..from + n, to);
                    let start = ours.as_mut_ptr();
                    // SAFETY: both ranges are inside the buffer.
                    let answer = unsafe { memmove(start.add(to), start.add(from), n) };
                    assert_eq!(answer, start.wrapping_add(to));
                    assert_eq!(ours, expected, "{n} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn copying_setting_comparing_and_measuring() {
        let mut text = *b"................";
        // SAFETY: every range is inside its array.
        unsafe {
            memcpy(text.as_mut_ptr().add(2), b"abc".as_ptr(), 3);
            memset(text.as_mut_ptr().add(6), 0x1ff, 2);
            assert_eq!(text, *b"..abc.\xff\xff........");
            assert_eq!(memcmp(b"abc".as_ptr(), b"abd".as_ptr(), 2), 0);
            assert!(memcmp(b"abc".as_ptr(), b"abd".as_ptr(), 3) < 0);
            assert!(memcmp(b"\x80".as_ptr(), b"\x7f".as_ptr(), 1) > 0, "bytes are not signed");
            assert_eq!(bcmp(b"x".as_ptr(), b"y".as_ptr(), 0), 0);
            assert_ne!(bcmp(b"x".as_ptr(), b"y".as_ptr(), 1), 0);
            assert_eq!(strlen(c"".as_ptr()), 0);
            assert_eq!(strlen(c"four".as_ptr()), 4);
        }
    }
}
