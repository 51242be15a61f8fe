//! Threads of one process over one mapping: every message arrives once, whole, in its sender's order.
//!
//! Real processes map a segment each, which hides their races from a checker; here ThreadSanitizer sees both sides
//! (`cargo xtask sanitize thread`): every atomic word, and every copy of more than 64 bytes, which the C library's
//! `memcpy` makes. Copies of up to 64 bytes are moves in assembly that it does not see. Those are the ones that may
//! race: a receiver copies a small message before it takes it.

use std::thread::scope;
use std::time::Duration;

use narrows::{Receiver, Sender};

/// No operation takes longer, on a slow machine under a checker.
const PATIENCE: Duration = Duration::from_secs(60);
const HEADER: usize = 24;

/// Who sent it, the how-manieth it is, and bytes that follow from both.
fn compose(sender: u64, number: u64, size: usize) -> Vec<u8> {
    let mut message = vec![(sender ^ number) as u8; size.max(HEADER)];
    for (at, word) in [sender, number, size as u64].into_iter().enumerate() {
        message[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    message
}

/// Checks that a message is whole; gives its sender and number.
fn decompose(message: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(message[at * 8..][..8].try_into().unwrap());
    let (sender, number) = (word(0), word(1));
    assert_eq!(message, compose(sender, number, word(2) as usize), "a message is torn");
    (sender, number)
}

/// Sends `count` messages from each of so many threads to so many.
fn run(address: &str, senders: u64, receivers: u64, count: u64, sizes: &[usize]) {
    let first = Sender::<[u8]>::open(address).unwrap();
    let last = first.receiver().unwrap();
    let mut outlets: Vec<Sender> = (1..senders).map(|_| first.try_clone().unwrap()).collect();
    let mut inlets: Vec<Receiver> = (1..receivers).map(|_| last.try_clone().unwrap()).collect();
    outlets.push(first);
    inlets.push(last);
    let mut seen = scope(|scope| {
        for (name, mut outlet) in (0..).zip(outlets) {
            scope.spawn(move || {
                for number in 0..count {
                    let size = sizes[(number % sizes.len() as u64) as usize];
                    let message = compose(name, number, size);
                    if number % 3 == 0 {
                        let mut loan = outlet.loan_by(message.len(), PATIENCE).unwrap();
                        loan.write_at(0, &message);
                        outlet.commit_by(loan, PATIENCE).unwrap();
                    } else {
                        outlet.send_by(&message, PATIENCE).unwrap();
                    }
                }
            });
        }
        let threads: Vec<_> = inlets.into_iter().map(|inlet| scope.spawn(|| receive(inlet))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    seen.sort_unstable();
    let expected: Vec<_> =
        (0..senders).flat_map(|name| (0..count).map(move |number| (name, number))).collect();
    assert_eq!(seen.len(), expected.len(), "{address}");
    assert!(seen == expected, "{address}: a message came twice, and another not at all");
}

/// Receives in every way until the senders are gone; what one sender sent comes in its order.
fn receive(mut inlet: Receiver) -> Vec<(u64, u64)> {
    let mut seen: Vec<(u64, u64)> = Vec::new();
    let mut last = std::collections::HashMap::new();
    loop {
        let came = if seen.len().is_multiple_of(2) {
            inlet.recv_by(PATIENCE).unwrap().map(|received| decompose(&received))
        } else {
            inlet.recv_in_place(PATIENCE).unwrap().map(|held| decompose(&held.to_owned()))
        };
        let Some((sender, number)) = came else { return seen };
        let before = last.insert(sender, number);
        assert!(before < Some(number), "{number} of {sender} after {before:?}");
        seen.push((sender, number));
    }
}

const SIZES: &[usize] = &[24, 40, 48, 49, 100, 1000, 20_000];

#[test]
fn many_to_many() {
    for capacity in [1, 7, 64] {
        let address = format!("memfd:threads,capacity={capacity}");
        run(&address, 2, 2, 3000, SIZES);
    }
    run("memfd:threads,capacity=16", 3, 1, 3000, &[24, 48]);
}

#[test]
fn many_to_many_by_lease() {
    run("memfd:threads,capacity=16,ack=release", 2, 2, 2000, SIZES);
}

#[test]
fn one_to_one() {
    for options in ["capacity=16", "capacity=7,fence=everyone", "capacity=16,wait=sleep", "slot_bytes=1000"] {
        run(&format!("memfd:threads,peers=one,{options}"), 1, 1, 5000, SIZES);
    }
}

#[test]
fn a_pool_that_is_always_too_small() {
    run("memfd:threads,capacity=64,memory_max=262144", 2, 2, 1000, &[20_000, 60_000]);
}
