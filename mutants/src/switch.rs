//! Which mutant is on: `NARROWS_MUTANT` says it, read once. Put into the copy only.
//!
//! `NARROWS_REACHED` names a file instead, shared by all processes of a test: the byte of each place that was
//! passed becomes 1.
#![allow(unsafe_code, warnings)]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicPtr, AtomicU32};

const UNREAD: u32 = u32::MAX;
const TRACING: u32 = u32::MAX - 1;

static CHOSEN: AtomicU32 = AtomicU32::new(UNREAD);
static REACHED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

#[inline(always)]
pub(crate) fn on(mutant: u32) -> bool {
    match CHOSEN.load(Relaxed) {
        UNREAD | TRACING => slowly(mutant),
        chosen => chosen == mutant,
    }
}

#[cold]
#[inline(never)]
fn slowly(mutant: u32) -> bool {
    if CHOSEN.load(Relaxed) == UNREAD {
        if let Some(path) = std::env::var_os("NARROWS_REACHED") {
            REACHED.store(map(&path), Relaxed);
            CHOSEN.store(TRACING, Relaxed);
        } else {
            let chosen = std::env::var("NARROWS_MUTANT").ok().and_then(|text| text.parse().ok());
            CHOSEN.store(chosen.unwrap_or(0), Relaxed);
            return CHOSEN.load(Relaxed) == mutant;
        }
    }
    let reached = REACHED.load(Relaxed);
    if !reached.is_null() {
        // SAFETY: the file has a byte for each mutant, and stays mapped.
        unsafe { reached.add(mutant as usize).write_volatile(1) };
    }
    false
}

fn map(path: &std::ffi::OsStr) -> *mut u8 {
    use std::os::fd::AsRawFd;
    let Ok(file) = std::fs::File::options().read(true).write(true).open(path) else {
        return std::ptr::null_mut();
    };
    let len = file.metadata().map_or(0, |metadata| metadata.len()) as usize;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, which nothing else uses.
    let base =
        unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED { std::ptr::null_mut() } else { base.cast() }
}
