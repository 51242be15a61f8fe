//! What needs a look behind the handles.

use std::time::Instant;

use super::{ShmReceiver, ShmSender, attach};
use crate::address::Address;
use crate::deadline::Deadline;
use crate::message::Bytes;
use crate::shared::layout;
use crate::shared::ring::Claim;

/// A participant that does not exist: nobody will ever commit what it claimed.
const NOBODY: u16 = 0xfff;

#[test]
#[expect(clippy::print_stdout, reason = "the figure is for people; the test bounds nothing by it")]
fn whoever_is_behind_an_abandoned_claim_goes_on() {
    let address: Address = "memfd:abandoned".parse().unwrap();
    let (attachment, mode) = attach(&address, Deadline::Never).unwrap();
    let mut receiver = ShmReceiver::new(attachment.clone(), mode).unwrap();
    let mut sender = ShmSender::new(attachment.clone(), mode).unwrap();
    let ring = &attachment.shared.ring;
    let mut waits = Vec::new();
    for round in 0..200u64 {
        let Ok(Claim::Claimed(claim)) = ring.claim(&mut ring.cursor(layout::TAIL), NOBODY) else { panic!() };
        sender.send(&round.to_le_bytes(), Deadline::Never).unwrap();
        let (start, mut inbox) = (Instant::now(), Bytes::default());
        assert!(receiver.recv(&mut inbox, Deadline::Never).unwrap().is_some());
        waits.push(start.elapsed());
        assert_eq!(*inbox, round.to_le_bytes());
        assert!(!ring.commit(claim).unwrap(), "the claim was revoked, and its owner acknowledges it");
    }
    waits.sort();
    println!(
        "behind an abandoned claim: median {:?}, p99 {:?}, worst {:?}",
        waits[100], waits[198], waits[199]
    );
}
