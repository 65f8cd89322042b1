//! `gracefully-init` as a program. Built alone it is small and static; built together with `gracefully`, whose dependencies
//! need the standard library, or for tests, which unwind, it is an ordinary program (see `build.rs`).
#![cfg_attr(small, no_std)]
#![no_main]

#[cfg(small)]
mod program {
    extern crate alloc;

    use alloc::vec::Vec;

    use gracefully_start::Arguments;

    gracefully_start::program!(main);

    fn main(arguments: Arguments) -> u8 {
        gracefully_init::main(|| (arguments.all().collect::<Vec<_>>(), arguments.environment().collect()))
    }
}

/// The C library's entry and not Rust's, which would ignore SIGPIPE, for main as well, before we know what it was.
#[cfg(not(small))]
#[expect(unsafe_code, reason = "the name by which the C library calls a program")]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    use std::ffi::{CStr, CString, OsStr, OsString};
    use std::os::unix::ffi::OsStringExt;

    // As those of the kernel, they live as long as the process.
    let string = |text: OsString| -> Option<&'static CStr> {
        Some(Box::leak(CString::new(text.into_vec()).ok()?.into_boxed_c_str()))
    };
    let variable = |(name, value): (OsString, OsString)| string([&*name, &*value].join(OsStr::new("=")));
    gracefully_init::main(|| {
        (std::env::args_os().filter_map(string).collect(), std::env::vars_os().filter_map(variable).collect())
    })
    .into()
}
