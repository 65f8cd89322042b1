//! The system calls for filters, for which there is no safe interface: bpf(2) and three options of setsockopt(2).

#![expect(unsafe_code, reason = "bpf(2) and setsockopt(2) take pointers")]

use std::ffi::{c_int, c_long, c_void};
use std::marker::PhantomData;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};

use super::Instruction;

/// `enum bpf_cmd`
const CREATE_MAP: c_int = 0;
const LOOK_UP: c_int = 1;
const UPDATE: c_int = 2;
const DELETE: c_int = 3;
const LOAD_PROGRAM: c_int = 5;

/// Not all C libraries have these (`include/uapi/asm-generic/socket.h`).
const SO_GET_FILTER: c_int = 26;
const SO_DETACH_FILTER: c_int = 27;
const SO_ATTACH_BPF: c_int = 50;

/// How many connections can have something held back. More are still held back, only not remembered.
const CONNECTIONS: u32 = 65_536;

/// The beginning of `union bpf_attr`; a kernel takes what is missing for zero.
#[repr(C)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct LoadProgram {
    program_type: u32,
    instructions: u32,
    instruction: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Numbers and arrays of bytes, of which every pattern is a value.
pub(super) trait Plain: Copy + Default {}

impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for [u8; 16] {}

/// What a program in the kernel and we share.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: OwnedFd,
    of: PhantomData<fn(K) -> V>,
}

impl<V: Plain> Map<u32, V> {
    /// One value, at index 0.
    pub(super) fn array() -> Result<Self> {
        // `BPF_MAP_TYPE_ARRAY`
        Self::create(2, 1, 0)
    }
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Values by key; none at first.
    pub(super) fn hash() -> Result<Self> {
        // `BPF_MAP_TYPE_HASH`, `BPF_F_NO_PREALLOC`: it takes memory as it fills.
        Self::create(1, CONNECTIONS, 1)
    }

    fn create(map_type: u32, max_entries: u32, flags: u32) -> Result<Self> {
        let size = |bytes: usize| u32::try_from(bytes).map_err(|_| Errno::TOOBIG);
        let (key_size, value_size) = (size(size_of::<K>())?, size(size_of::<V>())?);
        let attributes = CreateMap { map_type, key_size, value_size, max_entries, flags };
        // SAFETY: BPF_MAP_CREATE reads the attributes and returns a new file descriptor.
        let fd = unsafe { owned(bpf(CREATE_MAP, &attributes)?)? };
        Ok(Self { fd, of: PhantomData })
    }

    /// Its number in a program that is about to be loaded.
    pub(super) fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    pub(super) fn get(&self, key: K) -> Result<V> {
        let mut value = V::default();
        self.element(LOOK_UP, key, &mut value)?;
        Ok(value)
    }

    pub(super) fn set(&self, key: K, mut value: V) -> Result<()> {
        self.element(UPDATE, key, &mut value)
    }

    pub(super) fn remove(&self, key: K) -> Result<()> {
        self.element(DELETE, key, &mut V::default())
    }

    fn element(&self, command: c_int, key: K, value: &mut V) -> Result<()> {
        let attributes = Element {
            map: self.fd.as_raw_fd().cast_unsigned(),
            _padding: 0,
            key: (&raw const key).expose_provenance() as u64,
            // BPF_MAP_DELETE_ELEM has no value, and no flags either.
            value: if command == DELETE { 0 } else { std::ptr::from_mut(value).expose_provenance() as u64 },
            flags: 0,
        };
        // SAFETY: the kernel reads the attributes and a key, and reads or writes a value, of the sizes with which the map was
        // created, which are those of K and V; all outlive the call. Of both types every pattern is a value.
        unsafe { bpf(command, &attributes).map(drop) }
    }
}

/// A socket filter, if the kernel's verifier accepts it.
pub(super) fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let attributes = LoadProgram {
        // `BPF_PROG_TYPE_SOCKET_FILTER`
        program_type: 1,
        instructions: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instruction: program.as_ptr().expose_provenance() as u64,
        license: c"Dual MIT/GPL".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: BPF_PROG_LOAD reads the attributes, as many instructions as they say, and a string that ends with a zero; all
    // outlive the call. It returns a new file descriptor.
    unsafe { owned(bpf(LOAD_PROGRAM, &attributes)?) }
}

/// Has the socket a filter, of any kind?
pub(super) fn has_filter(socket: BorrowedFd<'_>) -> Result<bool> {
    let mut instructions: libc::socklen_t = 0;
    // SAFETY: with a length of zero SO_GET_FILTER writes only the number of instructions, into the length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_GET_FILTER,
            std::ptr::null_mut(),
            &raw mut instructions,
        )
    };
    match check(result.into()) {
        Ok(_) => Ok(instructions > 0),
        // An eBPF program cannot be shown as classic instructions.
        Err(Errno::ACCESS) => Ok(true),
        Err(errno) => Err(errno),
    }
}

pub(super) fn attach(socket: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    set(socket, SO_ATTACH_BPF, program.as_raw_fd())
}

pub(super) fn detach(socket: BorrowedFd<'_>) -> Result<()> {
    set(socket, SO_DETACH_FILTER, 0)
}

fn set(socket: BorrowedFd<'_>, option: c_int, value: c_int) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(|_| Errno::INVAL)?;
    // SAFETY: both options read an int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast::<c_void>(),
            length,
        )
    };
    check(result.into()).map(drop)
}

/// # Safety
/// The attributes must be what the command reads, and everything that they point to must be there.
unsafe fn bpf<T>(command: c_int, attributes: &T) -> Result<c_long> {
    // SAFETY: the caller's.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) })
}

/// # Safety
/// The number must be that of a file that nobody else closes.
unsafe fn owned(number: c_long) -> Result<OwnedFd> {
    let number = c_int::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: the caller's. bpf(2) sets close-on-exec itself.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn check(result: c_long) -> Result<c_long> {
    if result < 0 {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else {
        Ok(result)
    }
}
