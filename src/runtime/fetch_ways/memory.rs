//! Memory of whole pages whose lifetime is ours to decide: filled, read into, passed on, and replaced by fresh pages.
//!
//! Pages that a socket still holds keep their content when they are replaced here: the kernel frees each when the last
//! who refers to it has gone.

use std::ops::Range;
use std::ptr::NonNull;
use std::{io, ptr};

/// What a huge page of this architecture covers.
pub(super) const HUGE_BYTES: usize = 2 << 20;

/// The pages of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    Small,
    /// Transparent huge pages, where the host gives them.
    Huge,
}

/// Private memory that begins at a multiple of [`HUGE_BYTES`].
pub(super) struct Mapping {
    mapped: NonNull<libc::c_void>,
    mapped_bytes: usize,
    start: *mut u8,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes`, more than zero; no page is there yet.
    pub fn new(bytes: usize, pages: Pages) -> io::Result<Mapping> {
        if pages == Pages::Huge {
            let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
            if enabled.is_empty() || enabled.contains("[never]") {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "this host gives no transparent huge pages"));
            }
        }
        let mapped_bytes = bytes + HUGE_BYTES;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping, where the kernel chooses.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), mapped_bytes, access, kind, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapped = NonNull::new(mapped).ok_or(io::ErrorKind::OutOfMemory)?;
        let start = mapped.cast::<u8>().as_ptr();
        // `bytes` of the mapping lie behind the border, as it is longer by one huge page.
        let start = start.wrapping_add(start.align_offset(HUGE_BYTES));
        let mapping = Mapping { mapped, mapped_bytes, start, bytes };
        let advice = match pages {
            Pages::Small => libc::MADV_NOHUGEPAGE,
            Pages::Huge => libc::MADV_HUGEPAGE,
        };
        match mapping.advise(0..bytes, advice) {
            // A kernel without huge pages refuses to be told to use none.
            Err(_) if pages == Pages::Small => Ok(mapping),
            advised => advised.map(|()| mapping),
        }
    }

    /// Where `range` begins.
    ///
    /// # Panics
    /// When it is not within the mapping.
    pub fn place(&self, range: &Range<usize>) -> *mut u8 {
        assert!(range.start <= range.end && range.end <= self.bytes, "{range:?} of {}", self.bytes);
        // SAFETY: within the mapping.
        unsafe { self.start.add(range.start) }
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    /// The content of `range`.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        let (place, len) = (self.place(&range), range.len());
        // SAFETY: mapped, initialised (zero at first); whoever has the kernel read into it calls this only afterwards.
        unsafe { std::slice::from_raw_parts(place, len) }
    }

    /// The same to write to. Never for pages that a socket may hold.
    pub fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let (place, len) = (self.place(&range), range.len());
        // SAFETY: as in `bytes`; borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(place, len) }
    }

    fn advise(&self, range: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        let place = self.place(&range);
        // SAFETY: private pages of this mapping, which no reference points to meanwhile: callers have none (`&mut`), or
        // the advice changes no content.
        match unsafe { libc::madvise(place.cast(), range.len(), advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Lets the pages of `range` go: zeroes take their place when it is touched. What the kernel still sends of the old
    /// ones stays as it was.
    pub fn let_go(&mut self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, libc::MADV_DONTNEED)
    }

    /// Has pages for `range` now, and not at the first touch of each.
    pub fn populate(&mut self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, libc::MADV_POPULATE_WRITE)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped once, and nobody refers to it any more.
        unsafe { libc::munmap(self.mapped.as_ptr(), self.mapped_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_let_go_come_back_empty() {
        let mut memory = Mapping::new(3 << 20, Pages::Small).unwrap();
        assert_eq!((memory.len(), memory.bytes(0..1).as_ptr() as usize % HUGE_BYTES), (3 << 20, 0));
        memory.bytes_mut(0..3 << 20).fill(7);
        memory.let_go(1 << 20..2 << 20).unwrap();
        memory.populate(1 << 20..2 << 20).unwrap();
        for (megabyte, byte) in [(0_usize, 7), (1, 0), (2, 7)] {
            assert!(
                memory.bytes(megabyte << 20..(megabyte + 1) << 20).iter().all(|found| *found == byte),
                "{megabyte}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "of 4096")]
    fn nothing_beyond_it_is_given() {
        Mapping::new(4096, Pages::Small).unwrap().bytes(4095..4097);
    }
}
