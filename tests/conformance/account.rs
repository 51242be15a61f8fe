//! Messages that can be told apart, and the exact account of them.
//!
//! A message is text without line ends, so that every `wire` carries it: sender, number, checksum, filling.

use std::collections::BTreeMap;

/// The smallest numbered message, in bytes.
pub(crate) const HEAD: usize = 28;

/// The message `number` of a sender.
pub(crate) fn message(sender: u32, number: u32, size: usize) -> Vec<u8> {
    let filling = pattern(size.max(HEAD) - HEAD, u64::from(number) * 31 + u64::from(sender));
    let mut bytes =
        format!("{sender:04x}{number:08x}{:016x}", checksum(sender, number, &filling)).into_bytes();
    bytes.extend(filling);
    bytes
}

/// Who sent it and which one it is; an error where a byte is wrong.
pub(crate) fn read(message: &[u8]) -> Result<(u32, u32), String> {
    let digits = |range: std::ops::Range<usize>| {
        let text = message.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or("not one of our messages")
    };
    let (sender, number, sum) = (digits(0..4)? as u32, digits(4..12)? as u32, digits(12..HEAD)?);
    if checksum(sender, number, &message[HEAD..]) != sum {
        return Err(format!("message {number} of sender {sender} arrived damaged"));
    }
    Ok((sender, number))
}

/// Printable bytes that depend on their place.
pub(crate) fn pattern(size: usize, seed: u64) -> Vec<u8> {
    (0..size as u64).map(|at| b'!' + ((at * 7 + at / 90 + seed) % 90) as u8).collect()
}

/// FNV-1a, by words: enough to see a torn or exchanged byte.
fn checksum(sender: u32, number: u32, filling: &[u8]) -> u64 {
    let start =
        (0xcbf2_9ce4_8422_2325 ^ (u64::from(sender) << 32 | u64::from(number))).wrapping_mul(0x100_0000_01b3);
    filling.chunks(8).fold(start, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x100_0000_01b3)
    })
}

/// What was received, in order: (sender, number).
pub(crate) type Received = Vec<(u32, u32)>;

/// Each receiver saw each sender's messages in the order they were sent.
#[track_caller]
pub(crate) fn assert_ordered(received: &Received) {
    let mut last = BTreeMap::new();
    for &(sender, number) in received {
        if let Some(before) = last.insert(sender, number) {
            assert!(before < number, "sender {sender}: {number} came after {before}");
        }
    }
}

/// All receivers together saw every message once: `senders` × `0..count`.
#[track_caller]
pub(crate) fn assert_exact(all: &[Received], senders: std::ops::Range<u32>, count: u32) {
    all.iter().for_each(assert_ordered);
    let mut seen: Received = all.iter().flatten().copied().collect();
    seen.sort_unstable();
    let sent: Received = senders.flat_map(|sender| (0..count).map(move |number| (sender, number))).collect();
    let lost: Vec<_> = sent.iter().filter(|one| seen.binary_search(one).is_err()).take(5).collect();
    assert!(lost.is_empty(), "lost, among others: {lost:?}");
    let twice: Vec<_> = seen.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).take(5).collect();
    assert!(twice.is_empty(), "came twice, among others: {twice:?}");
    assert_eq!(seen.len(), sent.len(), "messages that nobody sent");
}
