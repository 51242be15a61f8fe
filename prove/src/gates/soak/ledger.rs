//! Memory in which every process writes what it does before and after it does it.
//!
//! ```text
//! signs    words for all: the next page, the next sender's number, the end, counters
//! rows     a channel each: counters of what has no cell of its own
//! seats    a thread each: what it is at, what it could take to its grave
//! times    how long operations took, in classes
//! pages    64 B each: whose it is; how many of its messages were begun; how many sends have returned
//! cells    a byte a message, 4096 to a page: received once, again, or never to be received
//! ```
//!
//! A message's number is its cell. A sender writes on its own pages alone and in order: what it was about to do
//! when it was killed is what it had begun and not done.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result};
use narrows::Region;
use narrows_bench::clock::now_ns;

/// Messages that one ledger accounts for; senders pause when it is full.
pub(super) const MESSAGES: u64 = 1 << 26;
/// Messages on a page.
pub(super) const PAGE: u32 = 4096;
const PAGES: u64 = MESSAGES / PAGE as u64;
pub(super) const CHANNELS: u64 = 64;
pub(super) const SEATS: u64 = 512;
/// Four to an octave of nanoseconds.
pub(super) const CLASSES: u64 = 160;

const LINE: u64 = 64;
const ROWS_AT: u64 = 4096;
const ROW: u64 = 2 * LINE;
const SEATS_AT: u64 = ROWS_AT + CHANNELS * ROW;
const SEAT: u64 = 2 * LINE;
const TIMES_AT: u64 = SEATS_AT + SEATS * SEAT;
const TIMES: u64 = Clock::ControlSinceRelease as u64 + 1;
const PAGES_AT: u64 = TIMES_AT + TIMES * CLASSES * 8;
const CELLS_AT: u64 = PAGES_AT + PAGES * LINE;
const LEN: u64 = CELLS_AT + MESSAGES;

/// A cell: twice two bits and a flag; what does not fit stays at the largest.
pub(super) const FIRST: u32 = 0b11;
pub(super) const WITHDRAWN: u32 = 0b100;
pub(super) const AGAIN: u32 = 0b1111_1000;

/// Words for all.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign {
    NextPage,
    NextSender,
    /// Senders come to an end, receivers when nothing is left.
    Stop,
    /// Processes that became other programs.
    Execs,
    /// Channels opened, in any role.
    Opened,
    /// Names that were removed under others' hands.
    Removed,
    /// Looks from outside: status, list, check.
    Looks,
}

/// Counters of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    BlanksBegun,
    BlanksDone,
    BlanksReceived,
    BlanksAgain,
    /// Bytes that nobody sent.
    Torn,
    /// After a later message of the same sender.
    Disordered,
    /// Whole, but of another channel, or never sent.
    Strange,
    /// The longest operation of those that nothing happens to, in nanoseconds.
    Longest,
}

/// What a seat says of the thread that has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    /// Operations that it finished.
    Beats,
    /// It is to leave in order.
    Leave,
    /// Messages that its call under way may have taken and not yet noted.
    Grasp,
    /// When one of its peers was killed, and when the killer saw that it was gone; for those that nothing happens to.
    Killed,
    Released,
}

/// What is timed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    /// Every operation of those that nothing happens to.
    Operation,
    /// From a peer's kill to the end of the first operation that ends after it is gone.
    SinceKill,
    /// The same, from when the killer saw that it was gone.
    SinceRelease,
    /// Two threads that hand each other a word, in a process that has no channel: what the load alone costs.
    Control,
    /// The same, from a death to the end of the first exchange.
    ControlSinceRelease,
}

pub(super) struct Ledger(Region);

/// A page's three words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) channel: u64,
    pub(super) sender: u32,
    /// Which of its sender's pages it is.
    pub(super) ordinal: u64,
    pub(super) begun: u32,
    pub(super) done: u32,
}

const OWNED: u64 = 1 << 63;

impl Ledger {
    pub(super) fn create() -> Result<Self> {
        Ok(Self(Region::create("memfd:narrows-soak", LEN)?))
    }

    /// What another process made.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::options().read(true).write(true).open(path);
        let file = file.with_context(|| format!("cannot open the ledger {}", path.display()))?;
        Ok(Self(Region::from_descriptor(file.into())?))
    }

    /// Where a child of this process finds it.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_fd().as_raw_fd()).into()
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        self.0.atomic_u64(offset).expect("every word lies in the ledger")
    }

    pub(super) fn sign(&self, sign: Sign) -> &AtomicU64 {
        self.word(sign as u64 * LINE)
    }

    pub(super) fn count(&self, channel: u64, count: Count) -> &AtomicU64 {
        self.word(ROWS_AT + channel * ROW + count as u64 * 8)
    }

    pub(super) fn mark(&self, seat: u64, mark: Mark) -> &AtomicU64 {
        self.word(SEATS_AT + seat * SEAT + mark as u64 * 8)
    }

    pub(super) fn class(&self, clock: Clock, class: u64) -> &AtomicU64 {
        self.word(TIMES_AT + (clock as u64 * CLASSES + class) * 8)
    }

    pub(super) fn is(&self, sign: Sign) -> bool {
        self.sign(sign).load(Ordering::Acquire) != 0
    }

    pub(super) fn add(&self, sign: Sign) {
        self.sign(sign).fetch_add(1, Ordering::Relaxed);
    }

    /// Before somebody else has the seat.
    pub(super) fn clear(&self, seat: u64) {
        for mark in [Mark::Beats, Mark::Leave, Mark::Grasp, Mark::Killed, Mark::Released] {
            self.mark(seat, mark).store(0, Ordering::Release);
        }
    }

    /// An operation is finished that began then; only of those that nothing happens to is its time noted.
    pub(super) fn beat(&self, channel: u64, seat: u64, began: Option<u64>) {
        self.mark(seat, Mark::Beats).fetch_add(1, Ordering::Release);
        let Some(began) = began else { return };
        let now = now_ns();
        self.time(Clock::Operation, now - began);
        if let Some((killed, released)) = self.mourned(seat) {
            self.time(Clock::SinceKill, now.saturating_sub(killed));
            self.time(Clock::SinceRelease, now.saturating_sub(released));
        }
        if self.count(channel, Count::Longest).load(Ordering::Relaxed) < now - began {
            self.count(channel, Count::Longest).fetch_max(now - began, Ordering::Relaxed);
        }
    }

    /// An exchange is finished that has nothing to do with any channel.
    pub(super) fn beat_control(&self, seat: u64, began: u64) {
        self.mark(seat, Mark::Beats).fetch_add(1, Ordering::Release);
        let now = now_ns();
        self.time(Clock::Control, now - began);
        if let Some((_, released)) = self.mourned(seat) {
            self.time(Clock::ControlSinceRelease, now.saturating_sub(released));
        }
    }

    /// When a peer was killed, and when it was seen to be gone, if one was since this was last asked.
    fn mourned(&self, seat: u64) -> Option<(u64, u64)> {
        if self.mark(seat, Mark::Released).load(Ordering::Acquire) == 0 {
            return None;
        }
        let killed = self.mark(seat, Mark::Killed).load(Ordering::Acquire);
        Some((killed, self.mark(seat, Mark::Released).swap(0, Ordering::AcqRel)))
    }

    /// Tells one that nothing happens to that a peer was killed; the first of several counts.
    pub(super) fn mourn(&self, seat: u64, killed: u64, released: u64) {
        if self.mark(seat, Mark::Released).load(Ordering::Acquire) == 0 {
            self.mark(seat, Mark::Killed).store(killed, Ordering::Release);
            self.mark(seat, Mark::Released).store(released, Ordering::Release);
        }
    }

    pub(super) fn time(&self, clock: Clock, ns: u64) {
        self.class(clock, class_of(ns)).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pages_used(&self) -> u64 {
        self.sign(Sign::NextPage).load(Ordering::Acquire).min(PAGES)
    }

    /// A page that somebody took to write on.
    pub(super) fn page(&self, page: u64) -> Option<Page> {
        let [owner, begun, done] = self.page_words(page).map(|word| word.load(Ordering::Acquire));
        (owner & OWNED != 0).then_some(Page {
            channel: owner >> 56 & 0x7f,
            sender: (owner >> 28) as u32 & 0x0fff_ffff,
            ordinal: owner & 0x0fff_ffff,
            begun: begun as u32,
            done: done as u32,
        })
    }

    fn page_words(&self, page: u64) -> [&AtomicU64; 3] {
        [0, 8, 16].map(|at| self.word(PAGES_AT + page * LINE + at))
    }

    /// The cells of eight messages, whose numbers begin at a multiple of eight.
    pub(super) fn cells(&self, first: u64) -> u64 {
        self.word(CELLS_AT + first).load(Ordering::Acquire)
    }

    fn change_cell(&self, id: u32, change: impl Fn(u32) -> u32) {
        let shift = id % 4 * 8;
        let word: &AtomicU32 =
            self.0.atomic_u32(CELLS_AT + u64::from(id & !3)).expect("every cell lies in the ledger");
        let step = |cells: u32| Some(cells & !(0xff << shift) | change(cells >> shift & 0xff) << shift);
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
    }

    /// A whole message came out of a channel: whose it is and which of his, unless nobody sent it there.
    pub(super) fn received(&self, channel: u64, id: u32, redelivered: bool) -> Option<(u32, u64)> {
        let page = u64::from(id / PAGE);
        let found = (page < PAGES).then(|| self.page(page)).flatten();
        let Some(found) = found.filter(|found| found.channel == channel && id % PAGE < found.begun) else {
            self.count(channel, Count::Strange).fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.change_cell(id, |cell| match redelivered {
            false => (cell & !FIRST) | ((cell + 1) & FIRST).max(cell & FIRST),
            true => (cell & !AGAIN) | (cell & AGAIN).saturating_add(8).min(AGAIN),
        });
        Some((found.sender, found.ordinal * u64::from(PAGE) + u64::from(id % PAGE)))
    }
}

/// The class of a time: its octave, and which fourth of it.
fn class_of(ns: u64) -> u64 {
    let ns = ns.max(4);
    let octave = u64::from(63 - ns.leading_zeros());
    ((octave - 2) * 4 + (ns >> (octave - 2) & 3)).min(CLASSES - 1)
}

/// The longest time of a class, in nanoseconds.
pub(super) fn class_end(class: u64) -> u64 {
    let (octave, part) = (class / 4 + 2, class % 4);
    ((4 + part + 1) << (octave - 2)) - 1
}

/// One sender's hand in the ledger.
pub(super) struct Hand<'a> {
    ledger: &'a Ledger,
    channel: u64,
    sender: u64,
    page: Option<u64>,
    ordinal: u64,
    used: u32,
}

impl<'a> Hand<'a> {
    pub(super) fn new(ledger: &'a Ledger, channel: u64) -> Self {
        let sender = ledger.sign(Sign::NextSender).fetch_add(1, Ordering::Relaxed);
        Self { ledger, channel, sender, page: None, ordinal: 0, used: 0 }
    }

    /// The first of the numbers of `count` messages that are about to be sent; `None` when the ledger is full.
    pub(super) fn begin(&mut self, count: u32) -> Option<u32> {
        let page = match self.page {
            Some(page) if self.used + count <= PAGE => page,
            _ => self.turn()?,
        };
        let first = self.used;
        self.used += count;
        self.ledger.page_words(page)[1].store(u64::from(self.used), Ordering::Release);
        Some(page as u32 * PAGE + first)
    }

    fn turn(&mut self) -> Option<u64> {
        let page = self.ledger.sign(Sign::NextPage).fetch_add(1, Ordering::AcqRel);
        if page >= PAGES {
            return None;
        }
        self.ordinal += u64::from(self.page.is_some());
        (self.page, self.used) = (Some(page), 0);
        let owner = OWNED | self.channel << 56 | self.sender << 28 | self.ordinal;
        self.ledger.page_words(page)[0].store(owner, Ordering::Release);
        Some(page)
    }

    /// All before this number were sent or withdrawn.
    pub(super) fn done(&self, end: u32) {
        if let Some(page) = self.page {
            self.ledger.page_words(page)[2].store(u64::from(end - page as u32 * PAGE), Ordering::Release);
        }
    }

    /// The channel refused these, and is not to deliver them.
    pub(super) fn withdraw(&self, ids: std::ops::Range<u32>) {
        for id in ids.clone() {
            self.ledger.change_cell(id, |cell| cell | WITHDRAWN);
        }
        self.done(ids.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_its_class() {
        for ns in (0..100_000).chain((0..64).map(|shift| 1 << shift)) {
            let class = class_of(ns);
            assert!(class == CLASSES - 1 || ns <= class_end(class), "{ns}");
            assert!(class == 0 || class_end(class - 1) < ns, "{ns}");
        }
    }
}
