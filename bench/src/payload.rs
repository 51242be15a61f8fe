//! What is sent and how it is checked, the same for every scheme.
//!
//! A message of up to 64 bytes is written and checked whole: every word follows from the message's number. Of a
//! larger one the first and the last word carry the number and are checked each time, while the copy by the
//! scheme reads and writes every byte; every 64th is written anew and checked whole.

use anyhow::{Result, bail};

/// Messages up to this size are written and checked whole, in bytes.
pub const SMALL: usize = 64;
/// Of larger messages, one of so many is written and checked whole.
const WHOLE_EVERY: u64 = 64;
/// Where the sender's number stands in a message's number.
const SENDER_SHIFT: u32 = 56;
/// The most senders that one receiver tells apart.
const SENDERS: usize = 16;

/// The word at `index` of the message `number`.
#[inline]
const fn word(number: u64, index: usize) -> u64 {
    number ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Makes messages, numbered in order.
pub struct Source {
    buffer: Vec<u8>,
    number: u64,
    corrupt_at: Option<u64>,
}

impl Source {
    /// Messages of `size` bytes (a multiple of 8) by one of up to 16 senders.
    pub fn new(size: usize, sender: usize) -> Self {
        assert!(size.is_multiple_of(8) && size >= 8 && sender < SENDERS, "whole words, a known sender");
        Self { buffer: vec![0; size], number: (sender as u64) << SENDER_SHIFT, corrupt_at: None }
    }

    /// Spoils the message of this number (counted from 0) in the middle, to prove that it is noticed.
    pub fn corrupt_at(mut self, number: Option<u64>) -> Self {
        self.corrupt_at = number;
        self
    }

    /// The size of each message in bytes.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// The next message of `N` words, up to 8.
    #[inline]
    pub fn words<const N: usize>(&mut self) -> [u64; N] {
        let number = self.number;
        self.number += 1;
        let mut words = std::array::from_fn(|index| word(number, index));
        if self.corrupt_at == Some(number) {
            words[N / 2] ^= 1;
        }
        words
    }

    /// The next message.
    #[inline]
    pub fn bytes(&mut self) -> &[u8] {
        let number = self.number;
        self.number += 1;
        if self.buffer.len() <= SMALL || number.is_multiple_of(WHOLE_EVERY) {
            self.fill(number);
        } else {
            write_ends(&mut self.buffer, number);
        }
        &self.buffer
    }

    /// The first and the last word of the next message, to be written where it will be read.
    #[inline]
    pub fn ends(&mut self) -> [[u8; 8]; 2] {
        let number = self.number;
        self.number += 1;
        let spoilt = u64::from(self.corrupt_at == Some(number));
        [(number ^ spoilt).to_ne_bytes(), word(number, self.buffer.len() / 8 - 1).to_ne_bytes()]
    }

    #[inline(never)]
    fn fill(&mut self, number: u64) {
        for (index, place) in self.buffer.chunks_exact_mut(8).enumerate() {
            place.copy_from_slice(&word(number, index).to_ne_bytes());
        }
        if self.corrupt_at == Some(number) {
            let middle = self.buffer.len() / 2;
            self.buffer[middle] ^= 1;
        }
    }
}

#[inline]
fn write_ends(place: &mut [u8], number: u64) {
    let last = place.len() / 8 - 1;
    place[..8].copy_from_slice(&number.to_ne_bytes());
    place[last * 8..].copy_from_slice(&word(number, last).to_ne_bytes());
}

/// Checks messages: none lost, none twice, none changed.
pub struct Sink {
    size: usize,
    next: [u64; SENDERS],
}

impl Sink {
    /// Expects messages of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { size, next: [0; SENDERS] }
    }

    /// The size of each message in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Checks a message of `N` words.
    ///
    /// # Errors
    /// What differs.
    #[inline]
    pub fn words<const N: usize>(&mut self, words: &[u64; N]) -> Result<()> {
        let number = words[0];
        let wrong = (1..N).fold(0, |sum, index| sum | (words[index] ^ word(number, index)));
        self.count(number, wrong)
    }

    /// Checks a message.
    ///
    /// # Errors
    /// What differs.
    #[inline]
    pub fn bytes(&mut self, message: &[u8]) -> Result<()> {
        if message.len() != self.size {
            return Err(wrong_size(message.len(), self.size));
        }
        let number = read_word(message, 0);
        self.ends(message.len(), [number, read_word(message, message.len() / 8 - 1)])?;
        if message.len() <= SMALL || number.is_multiple_of(WHOLE_EVERY) {
            return whole(message);
        }
        Ok(())
    }

    /// Checks the first and the last word of a message of `len` bytes.
    ///
    /// # Errors
    /// What differs.
    #[inline]
    pub fn ends(&mut self, len: usize, [number, last]: [u64; 2]) -> Result<()> {
        if len != self.size {
            return Err(wrong_size(len, self.size));
        }
        self.count(number, last ^ word(number, len / 8 - 1))
    }

    #[inline]
    fn count(&mut self, number: u64, wrong: u64) -> Result<()> {
        let sender = (number >> SENDER_SHIFT) as usize % SENDERS;
        let expected = self.next[sender] | ((sender as u64) << SENDER_SHIFT);
        if number != expected || wrong != 0 {
            return Err(wrong_message(number, expected));
        }
        self.next[sender] += 1;
        Ok(())
    }
}

#[inline]
fn read_word(message: &[u8], index: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&message[index * 8..index * 8 + 8]);
    u64::from_ne_bytes(bytes)
}

#[inline(never)]
fn whole(message: &[u8]) -> Result<()> {
    let number = read_word(message, 0);
    let differs = |index: &usize| read_word(message, *index) != word(number, *index);
    match (0..message.len() / 8).find(differs) {
        Some(index) => bail!("message {number} is corrupted at byte {}", index * 8),
        None => Ok(()),
    }
}

#[cold]
fn wrong_size(found: usize, expected: usize) -> anyhow::Error {
    anyhow::anyhow!("a message of {found} bytes came, not of {expected}")
}

#[cold]
fn wrong_message(found: u64, expected: u64) -> anyhow::Error {
    match found == expected {
        true => anyhow::anyhow!("message {expected} is corrupted"),
        false => {
            anyhow::anyhow!("message {found:#x} came where {expected:#x} was due: lost, doubled or corrupted")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pass_whole_and_in_order() {
        for size in [8, 48, 64, 72, 4096] {
            let (mut source, mut sink) = (Source::new(size, 3), Sink::new(size));
            for _ in 0..200 {
                sink.bytes(source.bytes()).unwrap();
            }
        }
        let (mut source, mut sink) = (Source::new(48, 0), Sink::new(48));
        for _ in 0..3 {
            sink.words(&source.words::<6>()).unwrap();
        }
    }

    #[test]
    fn one_changed_bit_is_found() {
        for size in [16, 48, 4096, 1 << 20] {
            let (mut source, mut sink) = (Source::new(size, 0).corrupt_at(Some(64)), Sink::new(size));
            for _ in 0..64 {
                sink.bytes(source.bytes()).unwrap();
            }
            assert!(sink.bytes(source.bytes()).unwrap_err().to_string().contains("corrupted"), "{size}");
        }
    }

    #[test]
    fn lost_doubled_and_cut_messages_are_found() {
        let (mut source, mut sink) = (Source::new(4096, 0), Sink::new(4096));
        let first = source.bytes().to_vec();
        sink.bytes(&first).unwrap();
        assert!(sink.bytes(&first).is_err(), "doubled");
        source.bytes();
        assert!(sink.bytes(source.bytes()).is_err(), "lost");
        assert!(sink.bytes(&first[..8]).is_err(), "cut");
    }
}
