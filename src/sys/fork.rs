//! What a forked child must not keep.
//!
//! A child shares its parent's open file descriptions, and with them the locks: through an inherited descriptor, or
//! through a mapping that was copied before it was advised otherwise, it would hold its dead parent's lock for as long
//! as it lives. Close-on-exec does not help a child that never executes anything. So descriptor and mapping are made
//! while no fork is under way ([`NoFork`]), and the descriptor's number is noted for as long as it is open
//! ([`Unshared`]): a child closes it before `fork` returns
//! ([pthread_atfork(3)](https://man7.org/linux/man-pages/man3/pthread_atfork.3.html)).
//!
//! **Fact** *ready*: a fork finds the descriptor noted and the mapping advised, or neither of them there. Both sides
//! say first what they are about to do, and then look at the other; a fork gives way. Neither waits without bound:
//! past it, a child might keep a lock, as might one made by a bare clone(2), which calls nobody, or by a fork that was
//! under way when this process opened its first segment.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::fstat;

/// No number: the note is free.
const NONE: i32 = -1;
/// No number yet: the note is being written.
const TAKEN: i32 = -2;
/// How many descriptors can be noted at once; one more goes without.
const NOTES: usize = 64;
/// How often one side looks whether the other is done, giving up the processor in between ...
const LOOKS: usize = 1000;
/// ... and then how often it naps, for a second in all: the other may have lost its processor in the middle.
const NAPS: usize = 5000;
const NAP: Duration = Duration::from_micros(200);
/// How often a fork gives way.
const GIVES_WAY: usize = 100;

/// A descriptor's number, and its file: other code of the process may have closed and reused the number.
#[derive(Debug)]
struct Note {
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

static ALL: [Note; NOTES] =
    [const { Note { number: AtomicI32::new(NONE), device: AtomicU64::new(0), inode: AtomicU64::new(0) } };
        NOTES];
/// How many threads hold forks off.
static HELD_OFF: AtomicU32 = AtomicU32::new(0);
/// How many threads are forking.
static FORKING: AtomicU32 = AtomicU32::new(0);

/// While it lives, no fork begins.
pub(crate) struct NoFork(());

impl NoFork {
    /// Waits for the forks that are under way, and has others wait. To be kept for microseconds.
    pub(crate) fn begin() -> Self {
        watch();
        HELD_OFF.fetch_add(1, Ordering::SeqCst); // orders: this announcement before the look at the forks
        wait_for_none(&FORKING);
        Self(())
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        HELD_OFF.fetch_sub(1, Ordering::Release); // gives: ready
    }
}

/// Keeps a number noted. To be released once the descriptor is closed.
#[derive(Debug)]
pub(crate) struct Unshared {
    note: AtomicPtr<Note>,
    number: i32,
}

impl Unshared {
    /// Notes a descriptor, which was opened while there was [`NoFork`] and is noted before that ends.
    pub(crate) fn note(file: &OwnedFd) -> Self {
        let number = file.as_raw_fd();
        let is_free = |note: &&Note| {
            note.number.compare_exchange(NONE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() // takes: free
        };
        let note = match fstat(file) {
            Ok(stat) => ALL.iter().find(is_free).map_or(null_mut(), |note| {
                note.device.store(stat.st_dev, Ordering::Relaxed);
                note.inode.store(stat.st_ino, Ordering::Relaxed);
                note.number.store(number, Ordering::Relaxed);
                std::ptr::from_ref(note).cast_mut()
            }),
            Err(_) => null_mut(),
        };
        Self { note: AtomicPtr::new(note), number }
    }

    /// Forgets the number. The descriptor is closed by now; but a fork that is under way may have copied it, and copies
    /// the notes a little later: it must still find this one.
    pub(crate) fn release(&self) {
        let note = self.note.swap(null_mut(), Ordering::Relaxed);
        // SAFETY: null, or one of the notes, which are static and only used through shared references.
        if let Some(note) = unsafe { note.as_ref() } {
            let _no_fork = NoFork::begin();
            // In a forked child the note may be another's already.
            note.number.compare_exchange(self.number, NONE, Ordering::Release, Ordering::Relaxed).ok(); // gives: free
        }
    }
}

impl Drop for Unshared {
    fn drop(&mut self) {
        self.release();
    }
}

/// Has the three functions called around every fork. Twice, where two threads are first: it does no harm.
fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.load(Ordering::Relaxed) {
        // SAFETY: the functions make system calls and touch atomics alone, as a child of threads may.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        WATCHED.store(true, Ordering::Relaxed);
    }
}

fn wait_for_none(others: &AtomicU32) {
    for look in 0..LOOKS + NAPS {
        // orders: this look after the announcement; takes: ready, or the copy is made
        if others.load(Ordering::SeqCst) == 0 {
            return;
        }
        match look {
            0..LOOKS => std::thread::yield_now(),
            _ => std::thread::sleep(NAP),
        }
    }
}

extern "C" fn before() {
    for _ in 0..GIVES_WAY {
        FORKING.fetch_add(1, Ordering::SeqCst); // orders: this announcement before the look at who holds off
        if HELD_OFF.load(Ordering::SeqCst) == 0 {
            return;
        }
        FORKING.fetch_sub(1, Ordering::Relaxed);
        wait_for_none(&HELD_OFF);
    }
    FORKING.fetch_add(1, Ordering::SeqCst); // orders: as above
}

extern "C" fn in_parent() {
    FORKING.fetch_sub(1, Ordering::Release); // gives: the copy is made
}

extern "C" fn in_child() {
    for note in &ALL {
        let number = note.number.swap(NONE, Ordering::Relaxed);
        if number < 0 {
            continue;
        }
        // SAFETY: not negative; `fstat` tells whether it is still the noted file's, which is the parent's affair.
        let stat = fstat(unsafe { BorrowedFd::borrow_raw(number) });
        let (device, inode) = (note.device.load(Ordering::Relaxed), note.inode.load(Ordering::Relaxed));
        if stat.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode)) {
            // SAFETY: the child's copy, which nobody in the child uses.
            unsafe { rustix::io::close(number) };
        }
    }
    // No other thread of the parent is in the child.
    HELD_OFF.store(0, Ordering::Relaxed);
    FORKING.store(0, Ordering::Relaxed);
}
