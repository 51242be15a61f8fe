//! Memory that the demo's processes share with the one that started them: counters that outlive whoever wrote them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::Context;
use narrows::{Deadline, Region};

/// Each word has a cache line of its own, so that nobody's counting slows another's.
const LINE: u64 = 64;

/// Words, then cells. It has no name: whoever dies, nothing is left of it.
pub(crate) struct Board {
    region: Region,
    words: u64,
}

impl Board {
    /// Words and cells, all zero.
    pub(crate) fn create(words: u64, cells: u64) -> anyhow::Result<Self> {
        Ok(Self { region: Region::create("memfd:narrows-demo", words * LINE + cells * 4)?, words })
    }

    /// What another process made with as many `words`.
    pub(crate) fn open(path: &Path, words: u64) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.with_context(|| format!("cannot open the board {}", path.display()))?;
        Ok(Self { region: Region::from_descriptor(file.into())?, words })
    }

    /// Where a child of this process finds it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.region.as_fd().as_raw_fd()).into()
    }

    pub(crate) fn word(&self, at: u64) -> narrows::Result<&AtomicU64> {
        self.region.atomic_u64(at * LINE)
    }

    pub(crate) fn get(&self, at: u64) -> narrows::Result<u64> {
        Ok(self.word(at)?.load(Ordering::SeqCst))
    }

    pub(crate) fn set(&self, at: u64, value: u64) -> narrows::Result<()> {
        self.word(at)?.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Waits until somebody sets a word.
    pub(crate) fn wait(&self, at: u64, deadline: Deadline) -> anyhow::Result<()> {
        while self.get(at)? == 0 {
            anyhow::ensure!(!deadline.is_over(), "the other side did not come");
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        Ok(())
    }

    pub(crate) fn cell(&self, at: u64) -> narrows::Result<&AtomicU32> {
        self.region.atomic_u32(self.words * LINE + at * 4)
    }
}
