//! What a small static program of ours has in place of the C library.
//!
//! The C library is made for programs that need most of it. Started statically it runs through its own relocations,
//! sets up threads, locales and streams, and has touched 700 kB before `main`; the standard library adds its own. A
//! process that exists once for every container, and PID 1 of an image, need none of that. What they do need:
//!
//! * an entry, which the kernel jumps to with the arguments on the stack: [`program!`]
//! * `memcpy` and its five siblings, which the compiler calls by name: `memory`
//! * a heap: [`heap`]
//! * somebody who says what went wrong before the process ends: `panic`
//!
//! Such a program is `no_std` and `no_main`, is built with `panic = "abort"`, and is linked without the C library (see
//! [`link`](https://doc.rust-lang.org/cargo/reference/build-scripts.html#rustc-link-arg-bin) in its build script):
//!
//! ```text
//! -nostartfiles   no `_start` but ours
//! -static         no dynamic linker, which nobody would have told where it is
//! -no-pie         nothing to relocate, so that no page of it is written to
//! ```
//!
//! It has one thread and may not start another.
//!
//! Nobody is linked with this crate by naming it as a dependency, only by using it: a program with the standard
//! library leaves it alone.
#![no_std]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[cfg(test)]
extern crate std;

#[expect(unsafe_code, reason = "the kernel hands over a stack, not values")]
mod entry;
#[expect(unsafe_code, reason = "a heap makes references out of addresses")]
pub mod heap;
#[expect(unsafe_code, reason = "the compiler's memory functions take addresses")]
mod memory;
#[expect(unsafe_code, reason = "standard error is there without anybody owning it")]
mod panic;

pub use entry::{Arguments, enter};
pub use panic::panic;
