//! The one way in which bytes that a peer may be writing are copied.
//!
//! A peer that breaks the protocol can write while we read. Through `ptr::copy` that would be a data race, which
//! the language leaves undefined. Here small aligned copies are relaxed atomic words, and all others are done by
//! the C library behind a function pointer that the compiler cannot see through: whatever arrives may be torn,
//! and nothing else may be wrong.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Up to this many bytes are moved in place, word by word.
const NEAR: usize = 64;

/// Copies bytes out of shared memory. What a peer writes meanwhile arrives torn.
///
/// # Safety
/// `src` is mapped for reading over the whole length of `dst`, which is not itself shared.
#[inline(always)]
pub(crate) unsafe fn copy_from_shared(dst: &mut [u8], src: *const u8) {
    let (len, to) = (dst.len(), dst.as_mut_ptr());
    // SAFETY: `at` and the step stay within `len` bytes, mapped at `src` (the caller's promise) and owned at `to`;
    // each word is aligned in shared memory because `src` and every `at` before it are multiples of its size.
    unsafe {
        if len > NEAR || src.addr() % 8 != 0 {
            return far(to, src, len);
        }
        let mut at = 0;
        while at + 8 <= len {
            let word = AtomicU64::from_ptr(src.add(at).cast_mut().cast()).load(Relaxed);
            to.add(at).cast::<u64>().write_unaligned(word);
            at += 8;
        }
        if len & 4 != 0 {
            let word = AtomicU32::from_ptr(src.add(at).cast_mut().cast()).load(Relaxed);
            to.add(at).cast::<u32>().write_unaligned(word);
            at += 4;
        }
        if len & 2 != 0 {
            let word = AtomicU16::from_ptr(src.add(at).cast_mut().cast()).load(Relaxed);
            to.add(at).cast::<u16>().write_unaligned(word);
            at += 2;
        }
        if len & 1 != 0 {
            to.add(at).write(AtomicU8::from_ptr(src.add(at).cast_mut()).load(Relaxed));
        }
    }
}

/// Copies bytes into shared memory. A peer that reads meanwhile sees some of them.
///
/// # Safety
/// `dst` is mapped for writing over the whole length of `src`, which is not itself shared.
#[inline(always)]
pub(crate) unsafe fn copy_to_shared(dst: *mut u8, src: &[u8]) {
    let (len, from) = (src.len(), src.as_ptr());
    // SAFETY: as in `copy_from_shared`, with the directions exchanged.
    unsafe {
        if len > NEAR || dst.addr() % 8 != 0 {
            return far(dst, from, len);
        }
        let mut at = 0;
        while at + 8 <= len {
            AtomicU64::from_ptr(dst.add(at).cast())
                .store(from.add(at).cast::<u64>().read_unaligned(), Relaxed);
            at += 8;
        }
        if len & 4 != 0 {
            AtomicU32::from_ptr(dst.add(at).cast())
                .store(from.add(at).cast::<u32>().read_unaligned(), Relaxed);
            at += 4;
        }
        if len & 2 != 0 {
            AtomicU16::from_ptr(dst.add(at).cast())
                .store(from.add(at).cast::<u16>().read_unaligned(), Relaxed);
            at += 2;
        }
        if len & 1 != 0 {
            AtomicU8::from_ptr(dst.add(at)).store(from.add(at).read(), Relaxed);
        }
    }
}

type Memcpy = unsafe extern "C" fn(*mut libc::c_void, *const libc::c_void, usize) -> *mut libc::c_void;

/// # Safety
/// Both sides are mapped for `len` bytes and do not overlap.
#[inline(never)]
unsafe fn far(dst: *mut u8, src: *const u8, len: usize) {
    #[allow(unused_mut)]
    let mut memcpy: Memcpy = libc::memcpy;
    // SAFETY: no instruction at all; the compiler has to assume that the register holds another function now.
    #[cfg(not(miri))]
    unsafe {
        std::arch::asm!("/* {} */", inlateout(reg) memcpy, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the caller's promise; `memcpy` is still the C library's.
    unsafe { memcpy(dst.cast(), src.cast(), len) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_at_every_alignment_arrives_and_nothing_beside_it() {
        let pattern: Vec<u8> = (0..200).map(|byte| byte as u8 | 1).collect();
        for len in (0..=80).chain([127, 128, 150]) {
            for shift in 0..9 {
                let mut shared = vec![0u64; 32];
                let base = shared.as_mut_ptr().cast::<u8>();
                let mut back = vec![0; len];
                // SAFETY: 256 bytes are there, at most 158 of them are used.
                unsafe {
                    copy_to_shared(base.add(8 + shift), &pattern[..len]);
                    copy_from_shared(&mut back, base.add(8 + shift));
                }
                assert_eq!(back, pattern[..len], "{len} bytes at {shift}");
                let bytes: Vec<u8> = shared.iter().flat_map(|word| word.to_ne_bytes()).collect();
                assert!(bytes[..8 + shift].iter().all(|byte| *byte == 0), "{len} bytes at {shift}");
                assert!(bytes[8 + shift + len..].iter().all(|byte| *byte == 0), "{len} bytes at {shift}");
            }
        }
    }
}
