//! The physical floor of latency: a cache line that carries a flag and 56 bytes from one core to the other.

use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::{LINE, Shared};

/// How many lines take turns. On processors whose caches lie on a mesh a line is nearer or farther by its
/// address; turns make the floor a mean of them, as the slots of a ring are.
const LINES: usize = 64;

/// Words of payload beside the flag.
pub(crate) const WORDS: usize = 7;

/// The lines that lead from one player to the other, each `[flag, 7 words of payload]`.
///
/// **written**: the payload is in the line when the flag names its message. Stores to one line travel together, so
/// the payload costs no second transfer.
pub(crate) struct Lines<'a> {
    lines: Vec<[&'a AtomicU64; 1 + WORDS]>,
    writer: u64,
    count: u64,
}

impl<'a> Lines<'a> {
    /// The lines that player `writer` (0 or 1) writes to. Where `one_way`, each direction has lines of its own, as
    /// two channels have; else both players write to the same.
    pub(crate) fn new(memory: &'a Shared, offset: usize, writer: usize, one_way: bool) -> Self {
        let first = offset + if one_way { writer * LINES * LINE } else { 0 };
        let line = |which| std::array::from_fn(|word| memory.word(first + which * LINE + word * 8));
        Self { lines: (0..LINES).map(line).collect(), writer: writer as u64, count: 0 }
    }

    /// Begins where earlier users of the same memory ended, after so many messages.
    pub(crate) fn after(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    #[inline]
    fn next(&mut self) -> (&[&'a AtomicU64; 1 + WORDS], u64) {
        let flag = 2 * self.count + 1 + self.writer;
        let line = &self.lines[self.count as usize % LINES];
        self.count += 1;
        (line, flag)
    }

    /// Writes the next message.
    #[inline]
    pub(crate) fn write(&mut self, payload: [u64; WORDS]) {
        let (line, flag) = self.next();
        for (word, value) in line[1..].iter().zip(payload) {
            word.store(value, Ordering::Relaxed);
        }
        line[0].store(flag, Ordering::Release); // gives: written
    }

    /// Waits for the next message.
    #[inline]
    pub(crate) fn read(&mut self) -> [u64; WORDS] {
        let (line, flag) = self.next();
        while line[0].load(Ordering::Acquire) != flag {} // takes: written
        std::array::from_fn(|word| line[1 + word].load(Ordering::Relaxed))
    }
}
