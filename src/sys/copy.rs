//! The one way in which bytes that a peer may be writing are copied.
//!
//! A peer that breaks the protocol can write while we read. Through `ptr::copy` that would be a data race, which
//! the language leaves undefined. Here no load or store of shared bytes is one that the compiler knows: small copies
//! are moves in assembly, all others the C library's `memcpy` behind a pointer that cannot be seen through. Whatever
//! arrives may be torn, and nothing else may be wrong.

/// Up to this many bytes are moved in place.
#[cfg(target_arch = "x86_64")]
const NEAR: usize = 64;

/// Copies bytes out of shared memory. What a peer writes meanwhile arrives torn.
///
/// # Safety
/// `src` is mapped for reading over the whole length of `dst`, which is not itself shared.
#[inline(always)]
pub(crate) unsafe fn copy_from_shared(dst: &mut [u8], src: *const u8) {
    let (len, to) = (dst.len(), dst.as_mut_ptr());
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len <= NEAR {
        // SAFETY: every step lies within `len` bytes, mapped at `src` (the caller's promise) and owned at `to`.
        return near(len, |width, at| unsafe { moves::load(width, to.add(at), src.add(at)) });
    }
    // SAFETY: the caller's promise.
    unsafe { far(to, src, len) }
}

/// Copies bytes into shared memory. A peer that reads meanwhile sees some of them.
///
/// # Safety
/// `dst` is mapped for writing over the whole length of `src`, which is not itself shared.
#[inline(always)]
pub(crate) unsafe fn copy_to_shared(dst: *mut u8, src: &[u8]) {
    let (len, from) = (src.len(), src.as_ptr());
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len <= NEAR {
        // SAFETY: as in `copy_from_shared`, with the directions exchanged.
        return near(len, |width, at| unsafe { moves::store(width, dst.add(at), from.add(at)) });
    }
    // SAFETY: the caller's promise.
    unsafe { far(dst, from, len) }
}

/// Covers `len` bytes with moves of `width` bytes at an offset, of which the last ones may overlap.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn near(len: usize, mut step: impl FnMut(usize, usize)) {
    if len > 16 {
        let whole = len / 16 * 16;
        (0..whole).step_by(16).for_each(|at| step(16, at));
        match len - whole {
            0 => {}
            // No overlap where it can be avoided: a load over two earlier stores waits for both.
            1..=8 => step(8, len - 8),
            _ => step(16, len - 16),
        }
    } else if len >= 8 {
        step(8, 0);
        step(8, len - 8);
    } else if len >= 4 {
        step(4, 0);
        step(4, len - 4);
    } else {
        (0..len).for_each(|at| step(1, at));
    }
}

/// Fetches the line at an address for writing, if it is mapped: nothing is read, and nothing can go wrong.
#[inline(always)]
pub(crate) fn prefetch_write(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch does nothing at an address that is not mapped.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

/// Fetches the line at an address for reading, if it is mapped.
#[inline(always)]
pub(crate) fn prefetch_read(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch does nothing at an address that is not mapped.
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}

/// Moves that the compiler does not know as accesses to memory. Unaligned is fine.
#[cfg(target_arch = "x86_64")]
mod moves {
    use std::arch::asm;
    use std::arch::x86_64::__m128i;

    /// # Safety
    /// `width` bytes are mapped at `src` and owned at `dst`.
    #[inline(always)]
    pub(super) unsafe fn load(width: usize, dst: *mut u8, src: *const u8) {
        // SAFETY: one load of `width` bytes from `src`, one store of as many to `dst`: the caller's promise.
        unsafe {
            match width {
                16 => {
                    let value: __m128i;
                    asm!("movups {}, [{}]", out(xmm_reg) value, in(reg) src, options(readonly, nostack, preserves_flags));
                    dst.cast::<__m128i>().write_unaligned(value);
                }
                8 => {
                    let value: u64;
                    asm!("mov {}, [{}]", out(reg) value, in(reg) src, options(readonly, nostack, preserves_flags));
                    dst.cast::<u64>().write_unaligned(value);
                }
                4 => {
                    let value: u32;
                    asm!("mov {:e}, [{}]", out(reg) value, in(reg) src, options(readonly, nostack, preserves_flags));
                    dst.cast::<u32>().write_unaligned(value);
                }
                _ => {
                    let value: u8;
                    asm!("mov {}, [{}]", out(reg_byte) value, in(reg) src, options(readonly, nostack, preserves_flags));
                    dst.write(value);
                }
            }
        }
    }

    /// # Safety
    /// `width` bytes are owned at `src` and mapped for writing at `dst`.
    #[inline(always)]
    pub(super) unsafe fn store(width: usize, dst: *mut u8, src: *const u8) {
        // SAFETY: one load of `width` bytes from `src`, one store of as many to `dst`: the caller's promise.
        unsafe {
            match width {
                16 => {
                    let value = src.cast::<__m128i>().read_unaligned();
                    asm!("movups [{}], {}", in(reg) dst, in(xmm_reg) value, options(nostack, preserves_flags));
                }
                8 => {
                    let value = src.cast::<u64>().read_unaligned();
                    asm!("mov [{}], {}", in(reg) dst, in(reg) value, options(nostack, preserves_flags));
                }
                4 => {
                    let value = src.cast::<u32>().read_unaligned();
                    asm!("mov [{}], {:e}", in(reg) dst, in(reg) value, options(nostack, preserves_flags));
                }
                _ => {
                    asm!("mov [{}], {}", in(reg) dst, in(reg_byte) src.read(), options(nostack, preserves_flags))
                }
            }
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
        std::arch::asm!("/* {} */", inlateout(reg) memcpy, options(nostack, preserves_flags));
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
