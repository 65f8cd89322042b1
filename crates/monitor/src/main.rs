//! The monitor as a program of its own. Built alone it is small; built together with `gracefully`, whose dependencies
//! need the standard library, or for tests, which unwind, it is an ordinary program (see `build.rs`).
#![cfg_attr(small, no_std, no_main)]

#[cfg(small)]
mod program {
    use gracefully_start::Arguments;

    gracefully_start::program!(main);

    fn main(arguments: Arguments) -> u8 {
        gracefully_monitor::main([1, 2, 3].map(|place| arguments.get(place)))
    }
}

#[cfg(not(small))]
fn main() -> std::process::ExitCode {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStringExt;

    let arguments: Vec<CString> =
        std::env::args_os().filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    gracefully_monitor::main([1, 2, 3].map(|place| arguments.get(place).map(CString::as_c_str))).into()
}
