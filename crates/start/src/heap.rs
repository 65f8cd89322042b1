//! A heap for one thread, that gives large pieces back to the kernel and never takes more pages than it has needed at
//! once.
//!
//! Small pieces have sizes that are powers of two. Those that are free form a list for each size, and a list that is
//! empty is fed from a block of fresh pages. They are never merged: what a size has once needed stays for that size,
//! so the heap cannot fragment, and a program that does the same thing every day needs the same memory every day.
//! Pieces of more than 16 KiB are mappings of their own (mmap(2)); they grow without being copied (mremap(2)), and are
//! gone when they are freed.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap, munmap};

/// The smallest piece: a free one must hold the address of the next.
const SMALLEST: usize = 16;

/// The largest piece that is kept for later.
const LARGEST: usize = 16 * 1024;

/// How many sizes there are.
const SIZES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

/// How much is asked of the kernel at once. Only pages that are used take memory.
const BLOCK: usize = 64 * 1024;

/// The kernel's page, and the strictest alignment that this heap knows.
const PAGE: usize = 4096;

/// The heap.
#[derive(Debug)]
pub struct Heap {
    /// The first free piece of each size; it holds the address of the next one.
    free: [Cell<Option<NonNull<u8>>>; SIZES],
    /// What is left of the last block: from here to there.
    fresh: Cell<(*mut u8, *mut u8)>,
}

// SAFETY: a program of this crate has one thread (see the crate's documentation).
unsafe impl Sync for Heap {}

impl Heap {
    /// An empty heap.
    #[expect(clippy::new_without_default, reason = "a heap is a static")]
    pub const fn new() -> Self {
        Self { free: [const { Cell::new(None) }; SIZES], fresh: Cell::new((null_mut(), null_mut())) }
    }

    /// A piece of `size` bytes, one of the sizes, that nobody has.
    fn take(&self, size: usize) -> *mut u8 {
        let list = &self.free[place(size)];
        if let Some(piece) = list.get() {
            // SAFETY: a free piece holds the address of the next one; it is aligned and large enough for that.
            list.set(unsafe { piece.cast().read() });
            return piece.as_ptr();
        }
        let (start, end) = self.fresh.get();
        // Blocks begin at a page, and every size divides a page or is a number of pages.
        let start = start.wrapping_add(start.align_offset(size.min(PAGE)));
        if start.is_null() || end.addr().saturating_sub(start.addr()) < size {
            let Some(block) = map(BLOCK) else { return null_mut() };
            // What was left of the last one has never been touched: it costs addresses, not memory.
            self.fresh.set((block, block.wrapping_add(BLOCK)));
            return self.take(size);
        }
        self.fresh.set((start.wrapping_add(size), end));
        start
    }
}

// SAFETY: pieces do not overlap, are as large and as aligned as asked for, and stay until they are freed. Nothing here
// panics or allocates.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match size(layout) {
            Some(size) => self.take(size),
            None if layout.align() <= PAGE => map(layout.size()).unwrap_or(null_mut()),
            None => null_mut(),
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match (size(layout), NonNull::new(piece)) {
            (Some(size), Some(piece)) => {
                let list = &self.free[place(size)];
                // SAFETY: the piece is the caller's until now, aligned, and at least as large as an address.
                unsafe { piece.cast().write(list.get()) };
                list.set(Some(piece));
            }
            // SAFETY: `alloc` has mapped it with this size, and the caller gives it up.
            (None, Some(piece)) => drop(unsafe { munmap(piece.as_ptr().cast(), layout.size()) }),
            (_, None) => {}
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // SAFETY: the caller says that the new size, rounded up to the alignment, is a size.
        let wanted = unsafe { Layout::from_size_align_unchecked(new, layout.align()) };
        match (size(layout), size(wanted)) {
            (Some(old), Some(new)) if old == new => piece,
            (None, None) => {
                // SAFETY: the piece is a mapping of this size, of which the caller gives up the old address.
                let moved = unsafe { mremap(piece.cast(), layout.size(), new, MremapFlags::MAYMOVE) };
                moved.map_or(null_mut(), <*mut core::ffi::c_void>::cast)
            }
            _ => {
                // SAFETY: `wanted` is not empty by the caller's contract.
                let to = unsafe { self.alloc(wanted) };
                if !to.is_null() {
                    // SAFETY: both pieces have as many bytes, and the new one is nobody else's.
                    unsafe { piece.copy_to_nonoverlapping(to, layout.size().min(new)) };
                    // SAFETY: the caller gives the old one up.
                    unsafe { self.dealloc(piece, layout) };
                }
                to
            }
        }
    }
}

/// The size of the piece for this layout; `None` if it is a mapping of its own.
fn size(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(SMALLEST);
    (size <= LARGEST && layout.align() <= PAGE).then(|| size.next_power_of_two())
}

/// Where the list of a size is.
fn place(size: usize) -> usize {
    (size / SMALLEST).ilog2() as usize
}

fn map(size: usize) -> Option<*mut u8> {
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let mapped =
        unsafe { mmap_anonymous(null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
    mapped.ok().map(<*mut core::ffi::c_void>::cast)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// Pieces of all sizes, in an order that is the same in every run, taken, grown, shrunk and given back: each keeps its
    /// bytes, which it would not if two of them overlapped.
    #[test]
    fn pieces_keep_their_bytes() {
        let heap = Heap::new();
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let check = |(piece, layout, byte): &(*mut u8, Layout, u8)| {
            assert_eq!(piece.addr() % layout.align(), 0);
            // SAFETY: the piece has that many bytes, all of them written.
            let bytes = unsafe { core::slice::from_raw_parts(*piece, layout.size()) };
            assert!(bytes.iter().all(|b| b == byte), "{layout:?}");
        };
        for round in 0..20_000 {
            let byte = u8::try_from(round % 251).unwrap();
            match next(3) {
                0 if !held.is_empty() => {
                    let gone = held.swap_remove(next(held.len()));
                    check(&gone);
                    // SAFETY: it came from this heap with this layout.
                    unsafe { heap.dealloc(gone.0, gone.1) };
                }
                1 if !held.is_empty() => {
                    let at = next(held.len());
                    let (piece, old, _) = held[at];
                    check(&held[at]);
                    let new = 1 + next(3 * LARGEST);
                    // SAFETY: as above, and the new size is not zero.
                    let moved = unsafe { heap.realloc(piece, old, new) };
                    let kept = (moved, layout(old.size().min(new), old.align()), held[at].2);
                    check(&kept);
                    // SAFETY: it has `new` bytes now.
                    unsafe { moved.write_bytes(byte, new) };
                    held[at] = (moved, layout(new, old.align()), byte);
                }
                _ if held.len() < 200 => {
                    let layout = layout(1 + next(2 * LARGEST), 1 << next(13));
                    // SAFETY: the size is not zero.
                    let piece = unsafe { heap.alloc(layout) };
                    assert!(!piece.is_null());
                    // SAFETY: it has that many bytes.
                    unsafe { piece.write_bytes(byte, layout.size()) };
                    held.push((piece, layout, byte));
                }
                _ => {}
            }
        }
        held.iter().for_each(check);
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let heap = Heap::new();
        // SAFETY: sizes are not zero, and every piece is given back with its own layout.
        unsafe {
            let first = heap.alloc(layout(100, 8));
            heap.dealloc(first, layout(100, 8));
            assert_eq!(heap.alloc(layout(65, 1)), first, "both are pieces of 128 bytes");
            assert_ne!(heap.alloc(layout(64, 1)), first);
            assert!(heap.alloc(layout(1, 2 * PAGE)).is_null(), "nobody needs that");
        }
    }
}
