//! From the kernel to `main`.

use core::arch::asm;
use core::ffi::{CStr, c_char};
use core::iter;

/// Makes `main`, a `fn(Arguments) -> u8`, the program. The number that it returns is the exit code.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[expect(unsafe_code, reason = "the name and the calling convention are the kernel's and the linker's")]
        const _: () = {
            /// Where the kernel jumps to. The stack pointer shows it the number of arguments, their addresses and a
            /// zero, the environment and a zero, and the auxiliary vector (System V ABI, x86-64, 3.4.1). The frame
            /// pointer is cleared to mark the outermost frame.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn _start() -> ! {
                core::arch::naked_asm!("xor ebp, ebp", "mov rdi, rsp", "call {enter}", "ud2", enter = sym enter)
            }

            unsafe extern "C" fn enter(stack: *const usize) -> ! {
                // SAFETY: we come from `_start`.
                unsafe { $crate::enter(stack, $main) }
            }

            #[global_allocator]
            static HEAP: $crate::heap::Heap = $crate::heap::Heap::new();

            #[panic_handler]
            fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
                $crate::panic(info)
            }

            // The precompiled `core` and `alloc` can unwind and name these two for it. Where a panic is the end nobody
            // calls them.

            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            extern "C" fn rust_eh_personality() {
                core::arch::naked_asm!("ud2")
            }

            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            extern "C" fn _Unwind_Resume() -> ! {
                core::arch::naked_asm!("ud2")
            }
        };
    };
}

/// The command line and the environment.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    count: usize,
    first: *const *const c_char,
}

impl Arguments {
    /// The argument at this place; the program's name is at 0.
    pub fn get(self, place: usize) -> Option<&'static CStr> {
        // SAFETY: the kernel has put that many addresses of strings there, and they stay for the life of the process.
        (place < self.count).then(|| unsafe { CStr::from_ptr(*self.first.add(place)) })
    }

    /// All arguments, the program's name first.
    pub fn all(self) -> impl Iterator<Item = &'static CStr> {
        (0..self.count).filter_map(move |place| self.get(place))
    }

    /// The environment, `NAME=value` each.
    pub fn environment(self) -> impl Iterator<Item = &'static CStr> {
        // Behind the arguments and their zero.
        let mut next = self.first.wrapping_add(self.count + 1);
        iter::from_fn(move || {
            // SAFETY: the kernel has put addresses of strings there, the last of which is followed by a zero.
            let variable = unsafe { next.read() };
            next = next.wrapping_add(1);
            // SAFETY: as for the arguments.
            (!variable.is_null()).then(|| unsafe { CStr::from_ptr(variable) })
        })
        .fuse()
    }
}

/// Runs the program and ends it. For [`program!`].
///
/// # Safety
///
/// `stack` is the stack pointer with which the kernel has started this process.
pub unsafe fn enter(stack: *const usize, main: fn(Arguments) -> u8) -> ! {
    // SAFETY: by the contract the count is there, and the addresses follow it.
    let arguments = unsafe { Arguments { count: *stack, first: stack.add(1).cast() } };
    exit(main(arguments).into())
}

/// Ends the process.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: nothing of this process is used after this call, which cannot fail.
    unsafe { asm!("syscall", in("rax") 231, in("edi") code, options(noreturn, nostack)) }
}
