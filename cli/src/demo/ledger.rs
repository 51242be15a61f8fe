//! What was sent and received, written down by those who are killed while they do it.
//!
//! A cell for each message: whether its send was begun, whether it returned, how often it was received. Each is one
//! atomic step before or after the act, so that the account is exact whoever dies when.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use narrows::Result;
use serde::Serialize;

use super::board::Board;

/// Messages that one ledger accounts for; senders pause when it is full.
const MESSAGES: u64 = 16 << 20;
/// Processes that it knows, each with a cell behind those of the messages.
pub(crate) const PROCESSES: u64 = 10_000;

const BEGUN: u32 = 1;
const DONE: u32 = 2;
const FIRST_TIME: u32 = 1 << 8;
const AGAIN: u32 = 1 << 16;

/// Words of the ledger.
#[derive(Clone, Copy)]
enum Word {
    /// The number of the next message.
    Next,
    /// The storm is over.
    Stop,
    /// Messages with wrong bytes.
    Torn,
    /// Messages that came after a later one of the same sender.
    Disordered,
    /// The longest operation of one that is not killed.
    LongestNs,
}

const WORDS: u64 = Word::LongestNs as u64 + 1;

pub(crate) struct Ledger(Board);

/// What the ledger says.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Account {
    /// Sends that returned.
    pub(crate) sent: u64,
    /// Sends whose process was killed before they returned.
    pub(crate) cut_short: u64,
    /// Of those, messages that arrived: whole, as the others.
    pub(crate) cut_short_arrived: u64,
    /// Messages that arrived.
    pub(crate) received: u64,
    /// Sent, and never received.
    pub(crate) lost: u64,
    /// Received with other bytes than were sent.
    pub(crate) torn: u64,
    /// Received more than once without the flag that says so, or never sent.
    pub(crate) doubled: u64,
    /// Received after a later message of the same sender.
    pub(crate) disordered: u64,
    /// Received again and flagged, because a receiver was killed before it released the message.
    pub(crate) redelivered: u64,
    /// The longest operation of a process that was not killed.
    pub(crate) longest_stall_ns: u64,
}

impl Account {
    /// Whether nothing went wrong, and something was shown by it.
    pub(crate) fn is_clean(&self) -> bool {
        let faults = self.lost + self.torn + self.doubled + self.disordered;
        faults == 0 && self.received == self.sent + self.cut_short_arrived && self.sent > 0
    }
}

impl Ledger {
    pub(crate) fn create() -> anyhow::Result<Self> {
        Ok(Self(Board::create(WORDS, MESSAGES + PROCESSES)?))
    }

    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(Board::open(path, WORDS)?))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path()
    }

    /// The number of the next message, which the caller is about to send; `None` when the ledger is full.
    pub(crate) fn begin(&self) -> Result<Option<u64>> {
        let id = self.0.word(Word::Next as u64)?.fetch_add(1, SeqCst);
        if id >= MESSAGES {
            return Ok(None);
        }
        self.0.cell(id)?.fetch_or(BEGUN, SeqCst);
        Ok(Some(id))
    }

    pub(crate) fn done(&self, id: u64) -> Result<()> {
        self.0.cell(id)?.fetch_or(DONE, SeqCst);
        Ok(())
    }

    /// A message that was whole arrived.
    pub(crate) fn received(&self, id: u64, redelivered: bool) -> Result<()> {
        self.0.cell(id)?.fetch_add(if redelivered { AGAIN } else { FIRST_TIME }, SeqCst);
        Ok(())
    }

    pub(crate) fn torn(&self) -> Result<()> {
        self.0.word(Word::Torn as u64)?.fetch_add(1, SeqCst);
        Ok(())
    }

    pub(crate) fn disordered(&self) -> Result<()> {
        self.0.word(Word::Disordered as u64)?.fetch_add(1, SeqCst);
        Ok(())
    }

    /// A process has opened the channel.
    pub(crate) fn opened(&self, process: u64) -> Result<()> {
        self.0.cell(MESSAGES + process)?.store(1, SeqCst);
        Ok(())
    }

    pub(crate) fn has_opened(&self, process: u64) -> Result<bool> {
        Ok(self.0.cell(MESSAGES + process)?.load(SeqCst) != 0)
    }

    /// One that is not killed was busy with one operation for so long.
    pub(crate) fn lasted(&self, time: Duration) -> Result<()> {
        self.0.word(Word::LongestNs as u64)?.fetch_max(time.as_nanos() as u64, SeqCst);
        Ok(())
    }

    pub(crate) fn stop(&self) -> Result<()> {
        self.0.set(Word::Stop as u64, 1)
    }

    pub(crate) fn is_over(&self) -> Result<bool> {
        Ok(self.0.get(Word::Stop as u64)? != 0)
    }

    /// Messages begun so far.
    pub(crate) fn begun(&self) -> Result<u64> {
        Ok(self.0.get(Word::Next as u64)?.min(MESSAGES))
    }

    /// What came out, once nobody sends or receives any more.
    pub(crate) fn account(&self) -> Result<Account> {
        let mut account = Account {
            torn: self.0.get(Word::Torn as u64)?,
            disordered: self.0.get(Word::Disordered as u64)?,
            longest_stall_ns: self.0.get(Word::LongestNs as u64)?,
            ..Account::default()
        };
        for id in 0..self.begun()? {
            let cell = self.0.cell(id)?.load(SeqCst);
            let (firsts, agains) = (cell >> 8 & 0xff, cell >> 16);
            let (is_begun, is_done, has_arrived) = (cell & BEGUN != 0, cell & DONE != 0, firsts + agains > 0);
            account.sent += u64::from(is_done);
            account.cut_short += u64::from(is_begun && !is_done);
            account.cut_short_arrived += u64::from(!is_done && has_arrived);
            account.received += u64::from(has_arrived);
            account.lost += u64::from(is_done && !has_arrived);
            account.doubled += u64::from(firsts > 1 || has_arrived && !is_begun);
            account.redelivered += u64::from(agains);
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_seen() {
        let ledger = Ledger::create().unwrap();
        let next = || ledger.begin().unwrap().unwrap();
        // Sent and received; received, and again with the flag; begun, and arrived or not.
        let [plain, again, arrived, _] = [next(), next(), next(), next()];
        for id in [plain, again] {
            ledger.done(id).unwrap();
        }
        for id in [plain, again, arrived] {
            ledger.received(id, false).unwrap();
        }
        ledger.received(again, true).unwrap();
        let account = ledger.account().unwrap();
        assert!(account.is_clean(), "{account:?}");
        assert_eq!((account.sent, account.received, account.redelivered), (2, 3, 1));
        assert_eq!((account.cut_short, account.cut_short_arrived), (2, 1));

        ledger.received(plain, false).unwrap();
        assert_eq!(ledger.account().unwrap().doubled, 1);
        ledger.done(next()).unwrap();
        assert_eq!(ledger.account().unwrap().lost, 1);
        ledger.torn().unwrap();
        ledger.disordered().unwrap();
        let account = ledger.account().unwrap();
        assert_eq!((account.torn, account.disordered), (1, 1));
        assert!(!account.is_clean());
    }
}
