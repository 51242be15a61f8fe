//! Shared memory in which every process says what it does before and after it does it.
//!
//! A word for each message: its sender, whether its send was begun and has returned, and how often it was received.
//! What a killed process was about to do is therefore known exactly.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use narrows::Region;

/// Messages that one ledger accounts for.
pub(crate) const MESSAGES: u64 = 1 << 20;
const BOARDS_AT: u64 = 4096;
const BOARD_BYTES: u64 = 128;
const BOARDS: u64 = 256;
const MESSAGES_AT: u64 = BOARDS_AT + BOARDS * BOARD_BYTES;

const BEGUN: u64 = 1;
const DONE: u64 = 2;
const FIRST_TIME: u64 = 1 << 8;
const AGAIN: u64 = 1 << 16;

/// Words for the whole cast.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sign {
    /// The next message's number.
    Next,
    /// Everybody may begin.
    Go,
    /// Everybody comes to an end.
    Stop,
    /// Whatever a test needs.
    A,
    B,
    C,
}

/// Words on the board of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    /// Operations that it finished.
    Beats,
    /// Its longest operation, in nanoseconds.
    Longest,
    Pid,
    Tid,
    /// It has opened what it is to open.
    Ready,
}

pub(crate) struct Ledger {
    region: Region,
}

/// What the ledger says at the end.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Sends that returned.
    pub(crate) sent: u64,
    /// Sends that were begun and never returned.
    pub(crate) in_flight: u64,
    /// In flight, and received all the same.
    pub(crate) arrived: u64,
    pub(crate) received: u64,
    /// Sent, never received.
    pub(crate) lost: u64,
    /// Received more than once without the flag, or never sent: each a fault.
    pub(crate) faults: u64,
    /// Received with the flag that says that they may come again.
    pub(crate) redelivered: u64,
    /// Received although an earlier message of the same sender was not.
    pub(crate) holes: u64,
}

impl Ledger {
    pub(crate) fn create(address: &str) -> Self {
        Self { region: Region::create(address, MESSAGES_AT + MESSAGES * 8).unwrap() }
    }

    pub(crate) fn open(address: &str) -> Self {
        Self { region: Region::open(address).unwrap() }
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        self.region.atomic_u64(offset).unwrap()
    }

    pub(crate) fn sign(&self, sign: Sign) -> &AtomicU64 {
        self.word(sign as u64 * 128)
    }

    pub(crate) fn mark(&self, board: u64, mark: Mark) -> &AtomicU64 {
        assert!(board < BOARDS);
        self.word(BOARDS_AT + board * BOARD_BYTES + mark as u64 * 8)
    }

    pub(crate) fn is(&self, sign: Sign) -> bool {
        self.sign(sign).load(SeqCst) != 0
    }

    /// What a process says of itself when it is ready.
    pub(crate) fn ready(&self, board: u64) {
        self.mark(board, Mark::Pid).store(u64::from(std::process::id()), SeqCst);
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        self.mark(board, Mark::Tid).store(tid as u64, SeqCst);
        self.mark(board, Mark::Ready).store(1, SeqCst);
    }

    pub(crate) fn is_ready(&self, board: u64) -> bool {
        self.mark(board, Mark::Ready).load(SeqCst) != 0
    }

    /// Before a process that writes on the board is started.
    pub(crate) fn clear(&self, board: u64) {
        for mark in [Mark::Beats, Mark::Pid, Mark::Tid, Mark::Ready] {
            self.mark(board, mark).store(0, SeqCst);
        }
    }

    /// An operation is finished that began then.
    pub(crate) fn beat(&self, board: u64, began: std::time::Instant) {
        self.mark(board, Mark::Longest).fetch_max(began.elapsed().as_nanos() as u64, SeqCst);
        self.mark(board, Mark::Beats).fetch_add(1, SeqCst);
    }

    /// The numbers of the next `count` messages, which the sender is about to send; `None` when the ledger is full.
    pub(crate) fn begin(&self, sender: u32, count: u64) -> Option<u64> {
        let first = self.sign(Sign::Next).fetch_add(count, SeqCst);
        if first + count > MESSAGES {
            return None;
        }
        for id in first..first + count {
            self.message(id).store(BEGUN | u64::from(sender) << 32, SeqCst);
        }
        Some(first)
    }

    fn message(&self, id: u64) -> &AtomicU64 {
        assert!(id < MESSAGES, "a message that was never sent: {id}");
        self.word(MESSAGES_AT + id * 8)
    }

    pub(crate) fn done(&self, first: u64, count: u64) {
        for id in first..first + count {
            self.message(id).fetch_or(DONE, SeqCst);
        }
    }

    pub(crate) fn received(&self, id: u64, redelivered: bool) {
        self.message(id).fetch_add(if redelivered { AGAIN } else { FIRST_TIME }, SeqCst);
    }

    /// What came out, once nobody sends or receives any more.
    pub(crate) fn account(&self) -> Account {
        let mut account = Account::default();
        let mut missing = std::collections::HashSet::new();
        let end = self.sign(Sign::Next).load(SeqCst).min(MESSAGES);
        for id in 0..end {
            let word = self.message(id).load(SeqCst);
            let (sender, firsts, agains) = (word >> 32, word >> 8 & 0xff, word >> 16 & 0xff);
            let is_received = firsts + agains > 0;
            account.faults += u64::from(firsts > 1 || is_received && word & BEGUN == 0);
            account.redelivered += agains;
            account.received += u64::from(is_received);
            match (word & DONE != 0, word & BEGUN != 0) {
                (true, _) => {
                    account.sent += 1;
                    account.lost += u64::from(!is_received);
                }
                (false, true) => {
                    account.in_flight += 1;
                    account.arrived += u64::from(is_received);
                }
                (false, false) => {}
            }
            if !is_received {
                missing.insert(sender);
            } else {
                account.holes += u64::from(missing.contains(&sender));
            }
        }
        account
    }
}
