//! The processes of the storm, which send and receive until they are killed or told to stop.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use narrows::{Receiver, Sender};

use super::checksum;
use super::ledger::Ledger;

/// No single wait takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a small message: number, sender, sequence, filling, checksum.
const SMALL: usize = 48;
/// Bytes of a large one.
const LARGE: usize = 3000;
/// One message in so many is large.
const LARGE_EVERY: u64 = 8;

/// What each is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) parent: u32,
    #[arg(long)]
    pub(crate) ledger: PathBuf,
    #[arg(long)]
    pub(crate) address: String,
    /// No two processes have the same, from 0 on.
    #[arg(long)]
    pub(crate) number: u64,
    /// It is not killed, and its longest operation is written down.
    #[arg(long)]
    pub(crate) survivor: bool,
}

/// Sends until the storm is over.
pub(crate) fn send(args: &Args) -> anyhow::Result<()> {
    let ledger = Ledger::open(&args.ledger)?;
    let mut sender = Sender::<[u8]>::open_by(&*args.address, PATIENCE)?;
    ledger.opened(args.number)?;
    let mut sequence = 0;
    let mut message = Vec::new();
    while !ledger.is_over()? {
        let Some(id) = ledger.begin()? else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        sequence += 1;
        compose(id, args.number, sequence, &mut message);
        let began = Instant::now();
        sender.send_by(&message, PATIENCE)?;
        ledger.done(id)?;
        if args.survivor {
            ledger.lasted(began.elapsed())?;
        }
    }
    Ok(())
}

/// Receives until the storm is over and everything has arrived.
pub(crate) fn receive(args: &Args) -> anyhow::Result<()> {
    let ledger = Ledger::open(&args.ledger)?;
    let mut receiver = Receiver::<[u8]>::open_by(&*args.address, PATIENCE)?;
    ledger.opened(args.number)?;
    // The last sequence number that came from each sender.
    let mut last = Vec::new();
    loop {
        let began = Instant::now();
        let Some(message) = receiver.recv_by(PATIENCE)? else { break };
        if args.survivor {
            ledger.lasted(began.elapsed())?;
        }
        let Some((id, sender, sequence)) = examine(&message) else {
            ledger.torn()?;
            continue;
        };
        ledger.received(id, message.redelivered())?;
        if last.len() <= sender {
            last.resize(sender + 1, 0);
        }
        if !message.redelivered() && std::mem::replace(&mut last[sender], sequence) >= sequence {
            ledger.disordered()?;
        }
        // Acknowledged by its drop, now that it is written down.
        drop(message);
    }
    Ok(())
}

/// Writes a message that shows whether it is whole.
fn compose(id: u64, sender: u64, sequence: u64, message: &mut Vec<u8>) {
    let len = if sequence.is_multiple_of(LARGE_EVERY) { LARGE } else { SMALL };
    message.clear();
    let mut filling = id;
    for word in [id, sender, sequence] {
        message.extend_from_slice(&word.to_le_bytes());
    }
    while message.len() < len - 8 {
        filling = filling.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(sequence);
        message.extend_from_slice(&filling.to_le_bytes());
    }
    let sum = checksum::of(message);
    message.extend_from_slice(&sum.to_le_bytes());
}

/// Number, sender and sequence of a message; `None` where a byte of it is wrong.
fn examine(message: &[u8]) -> Option<(u64, usize, u64)> {
    let (body, sum) = message.split_last_chunk()?;
    if message.len() < SMALL || checksum::of(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let word = |at: usize| u64::from_le_bytes(*body[at * 8..].first_chunk().unwrap_or(&[0; 8]));
    Some((word(0), usize::try_from(word(1)).ok()?, word(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_whether_it_is_whole() {
        let mut message = Vec::new();
        for sequence in [1, LARGE_EVERY] {
            compose(7, 3, sequence, &mut message);
            assert_eq!(message.len(), if sequence == 1 { SMALL } else { LARGE });
            assert_eq!(examine(&message), Some((7, 3, sequence)));
            for at in 0..message.len() {
                message[at] ^= 0x10;
                assert_eq!(examine(&message), None, "byte {at}");
                message[at] ^= 0x10;
            }
            assert_eq!(examine(&message[..message.len() - 8]), None);
        }
        assert_eq!(examine(b""), None);
    }
}
