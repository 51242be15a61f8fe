//! Memory that goes away: turns the SIGBUS that kills into [`Error::Corrupt`](crate::Error::Corrupt).
//!
//! Whoever may write a segment's file may also cut it, or punch a hole into it while the file system is full. The kernel
//! then raises SIGBUS in every process that touches what is not there, which ends it
//! ([mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html)). With the guard, the process lives and is told.
//!
//! The handler puts private zeros in the place of the *whole* mapping, so that the access which faulted goes on, and those
//! of other threads. It also changes the mapping's word, the one that each operation looks at anyway, to notice a fork
//! (`MappingMark`): so the guard costs nothing as long as nothing happens. With the mapping goes the lock that it
//! pinned: for its peers this process has died at that very instruction, and they know how to go on after that.
//!
//! Facts:
//! - **registered**: a mapping's range and its word, for as long as it can be touched: from before its first use until it
//!   is about to be unmapped. A word belongs to one registration alone, as no epoch comes twice; so a range that was
//!   read between two looks at the same word is that registration's. A forked child finds all words free.
//! - **free**: nobody needs the range any more.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

use libc::{c_int, c_void, sigaction, siginfo_t};

use super::process::{ProcessMark, Words, next_epoch, words_if_any};

/// A word without a mapping.
const FREE: u64 = 0;
/// A word whose range is being written. Epochs are greater, and even.
const TAKEN: u64 = 1;
/// Set beside an epoch: the mapping's memory is lost.
const LOST: u64 = 1;

/// Where a mapping lies.
struct Range {
    start: AtomicUsize,
    len: AtomicUsize,
    is_writable: AtomicBool,
}

/// One for each of the [`Words`]; the first goes unused.
static RANGES: [Range; size_of::<Words>() / 8] = [const {
    Range { start: AtomicUsize::new(0), len: AtomicUsize::new(0), is_writable: AtomicBool::new(false) }
}; size_of::<Words>() / 8];

/// What was done with SIGBUS before.
static PREVIOUS: AtomicPtr<sigaction> = AtomicPtr::new(null_mut());

/// Has memory that goes away while it is mapped give [`Error::Corrupt`](crate::Error::Corrupt) instead of ending this
/// process by SIGBUS. For programs, early in `main`; the command `narrows` does it. To do it again does nothing.
///
/// After that, a channel whose file was cut under it ([ftruncate(2)](https://man7.org/linux/man-pages/man2/ftruncate.2.html)),
/// or whose hole finds no room in a full file system, gives `Corrupt` by each operation, at the latest by its deadline:
/// the one under way when it next waits or finds a contradiction, and every later one at once. Messages in it are lost, as
/// they were before the guard noticed: a message that was sent or copied at that very moment may be lost, or be zeros.
/// Views of messages in place read as zeros. To its peers, this process counts as dead. [`Region`](crate::Region)s give `Corrupt`
/// likewise; a word of theirs that is used in place reads as zero.
///
/// A SIGBUS from elsewhere goes to whoever handled it before, or ends the process as it always did; so whoever installs a
/// handler later has to pass on to this one what is not its own. 2047 mappings of a process are guarded, those
/// that it inherits by a fork are not.
///
/// ```
/// narrows::guard::install();
/// let address = format!("shm:guarded-{}", std::process::id());
/// let mut receiver = narrows::Receiver::<[u8]>::open(&address)?;
/// # let path = format!("/dev/shm/guarded-{}", std::process::id());
/// std::fs::File::options().write(true).open(&path)?.set_len(0)?; // somebody is evil, or mistaken
/// assert!(matches!(receiver.recv(), Err(narrows::Error::Corrupt { .. })));
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn install() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: all zero is a valid action, also with a mask.
    let none: sigaction = unsafe { std::mem::zeroed() };
    // Never freed: the handler may be reading them.
    let (before, replaced) = (Box::leak(Box::new(none)), Box::leak(Box::new(none)));
    let mut action = none;
    action.sa_sigaction = on_sigbus as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the actions live for ever; the handler does what a handler may: no allocation, no lock, errno as it was.
    // It can be called from here on, so it has to know then what was before.
    unsafe {
        sigaction(libc::SIGBUS, std::ptr::null(), before);
        action.sa_mask = before.sa_mask;
        PREVIOUS.store(before, Ordering::Release); // gives: previous
        sigaction(libc::SIGBUS, &raw const action, replaced);
    }
    PREVIOUS.store(replaced, Ordering::Release); // gives: previous
}

/// A mapping in the process that made it. It says so when one of both is gone, at the price of one load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MappingMark {
    word: &'static AtomicU64,
    epoch: u64,
}

impl MappingMark {
    /// Registers a mapping. One too many shares the process's own word, and goes unguarded.
    pub(super) fn register(process: ProcessMark, start: usize, len: usize, is_writable: bool) -> Self {
        let words = process.words;
        let is_free = |index: &usize| {
            words[*index].compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() // takes: free
        };
        let Some(index) = (1..words.len()).find(is_free) else {
            return Self { word: &words[0], epoch: process.epoch };
        };
        let (range, epoch) = (&RANGES[index], next_epoch());
        fence(Ordering::Release); // orders: TAKEN before the new range, for who reads it by an old word
        range.start.store(start, Ordering::Relaxed);
        range.len.store(len, Ordering::Relaxed);
        range.is_writable.store(is_writable, Ordering::Relaxed);
        words[index].store(epoch, Ordering::Release); // gives: registered
        Self { word: &words[index], epoch }
    }

    /// Forgets the mapping, which is about to be unmapped. In a forked child the word is free, or the child's own.
    pub(super) fn unregister(&self) {
        if !self.is_guarded() {
            return;
        }
        for word in [self.epoch, self.epoch | LOST] {
            self.word.compare_exchange(word, FREE, Ordering::Release, Ordering::Relaxed).ok(); // gives: free
        }
    }

    /// Whether the word is the mapping's own.
    fn is_guarded(&self) -> bool {
        words_if_any().is_some_and(|words| !std::ptr::eq(self.word, &words[0]))
    }

    /// Says that the mapping's memory is lost, though nobody touched what is gone.
    pub(crate) fn lose(&self) {
        if self.is_guarded() {
            self.word
                .compare_exchange(self.epoch, self.epoch | LOST, Ordering::Relaxed, Ordering::Relaxed)
                .ok();
        }
    }

    /// Whether the mapping cannot be used: this is a forked child, or its memory is lost.
    #[inline(always)]
    pub(crate) fn is_void(&self) -> bool {
        self.word.load(Ordering::Relaxed) != self.epoch
    }

    /// Whether this is a child, forked since: in it the word is free, or another mapping's, whose epoch is another.
    pub(crate) fn is_forked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & !LOST != self.epoch
    }

    /// Whether the mapping's memory went away.
    pub(crate) fn is_lost(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.epoch | LOST
    }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: each thread has an errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; the code it interrupted may be about to read it.
    let before = unsafe { *errno };
    // SAFETY: the kernel passes what it knows about the signal, which for SIGBUS has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code != libc::BUS_ADRERR || !replace(address) {
        pass_on(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Puts zeros in the place of the mapping at `address`. False: it is none of ours, or there is no way.
fn replace(address: usize) -> bool {
    let Some(words) = words_if_any() else { return false };
    for (word, range) in words.iter().zip(&RANGES).skip(1) {
        let seen = word.load(Ordering::Acquire); // takes: registered
        if seen <= TAKEN {
            continue;
        }
        let (start, len) = (range.start.load(Ordering::Relaxed), range.len.load(Ordering::Relaxed));
        let is_writable = range.is_writable.load(Ordering::Relaxed);
        fence(Ordering::Acquire); // orders: the range before the second look
        // Another thread may have lost it meanwhile. It may not have come to replacing it, so that is done again.
        if word.load(Ordering::Relaxed) | LOST != seen | LOST || address.wrapping_sub(start) >= len {
            continue;
        }
        word.fetch_or(LOST, Ordering::Relaxed);
        // Where so much private memory may not be had at once, this page alone: the next one comes here again.
        let page = rustix::param::page_size();
        return zeros(start, len, is_writable) || zeros(address & !(page - 1), page, is_writable);
    }
    false
}

fn zeros(start: usize, len: usize, is_writable: bool) -> bool {
    let protection = libc::PROT_READ | if is_writable { libc::PROT_WRITE } else { 0 };
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let at = std::ptr::without_provenance_mut(start);
    // SAFETY: replaces a mapping of ours, which is registered as long as it can be touched; nobody holds a reference to
    // plain memory in it, and its words become zero as if a peer had stored that.
    unsafe { libc::mmap(at, len, protection, flags, -1, 0) != libc::MAP_FAILED }
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: null, or an action that is never freed; takes: previous
    let previous = unsafe { PREVIOUS.load(Ordering::Acquire).as_ref() };
    // SAFETY: as in `on_sigbus`.
    let code = unsafe { (*info).si_code };
    // What was sent, and not caused by an access that is made again on return.
    let is_sent = code <= 0 || code == libc::BUS_MCEERR_AO;
    match previous.map_or((libc::SIG_DFL, 0), |previous| (previous.sa_sigaction, previous.sa_flags)) {
        (libc::SIG_IGN, _) if is_sent => {}
        (libc::SIG_DFL | libc::SIG_IGN, _) => {
            // SAFETY: allowed in a handler; what is raised comes when it returns.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if is_sent {
                    libc::raise(signal);
                }
            }
        }
        (handler, flags) if flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: whoever installed it said that it is such a function.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        (handler, _) => {
            // SAFETY: as above.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
