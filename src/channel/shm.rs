//! Channels in a segment: `shm:`, `file:`, `memfd:`, `fd:`.
#![allow(missing_docs, unused, clippy::all)]
use super::transport::*;
use crate::{address::*, capabilities::*, deadline::*, error::*, message::Inbox};
use std::os::fd::{BorrowedFd, OwnedFd};

pub(crate) struct ShmSender;
pub(crate) struct ShmReceiver;
pub(crate) struct HeldMessage;
pub(crate) struct ShmLoan;

fn later<T>() -> Result<T> {
    Err(Error::Unsupported { what: "shm".into(), capability: "everything".into(), hint: None })
}
pub(crate) fn inherited(_: &OwnedFd) -> Result<(Address, &'static Transport)> {
    later()
}
impl ShmSender {
    pub(crate) fn from_descriptor(_: &Address, _: OwnedFd) -> Result<Self> {
        later()
    }
    #[inline]
    pub(crate) fn send(&mut self, _: &[u8], _: Deadline) -> Result<()> {
        later()
    }
    pub(crate) fn send_many<'a>(&mut self, _: impl Iterator<Item = &'a [u8]>, _: Deadline) -> Result<usize> {
        later()
    }
    pub(crate) fn loan(&mut self, _: usize) -> Result<ShmLoan> {
        later()
    }
    pub(crate) fn commit(&mut self, loan: ShmLoan, _: Deadline) -> Result<(), (ShmLoan, Error)> {
        later().map_err(|error| (loan, error))
    }
    pub(crate) fn try_clone(&self) -> Result<Self> {
        later()
    }
    pub(crate) fn receiver(&self) -> Result<ShmReceiver> {
        later()
    }
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        later()
    }
}
impl ShmReceiver {
    pub(crate) fn from_descriptor(_: &Address, _: OwnedFd) -> Result<Self> {
        later()
    }
    pub(crate) fn recv<I: Inbox>(&mut self, _: &mut I, _: Deadline) -> Result<Option<Option<HeldMessage>>> {
        later()
    }
    pub(crate) fn recv_many<I: Inbox>(&mut self, _: &mut [I], _: Deadline) -> Result<usize> {
        later()
    }
    pub(crate) fn recv_in_place(&mut self, _: Deadline, _: Option<usize>) -> Result<Option<HeldMessage>> {
        later()
    }
    pub(crate) fn died(&self) -> u64 {
        0
    }
    pub(crate) fn try_clone(&self) -> Result<Self> {
        later()
    }
    pub(crate) fn sender(&self) -> Result<ShmSender> {
        later()
    }
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        later()
    }
}
impl HeldMessage {
    pub(crate) fn redelivered(&self) -> bool {
        false
    }
    pub(crate) fn len(&self) -> usize {
        0
    }
    pub(crate) fn read_at(&self, _: usize, _: &mut [u8]) {}
    #[allow(unsafe_code)]
    pub(crate) unsafe fn as_slice(&self) -> &[u8] {
        &[]
    }
}
impl ShmLoan {
    pub(crate) fn len(&self) -> usize {
        0
    }
    pub(crate) fn write_at(&mut self, _: usize, _: &[u8]) {}
    #[allow(unsafe_code)]
    pub(crate) unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut []
    }
}
fn sender(_: &Address, _: Deadline) -> Result<SenderEnd> {
    later()
}
fn receiver(_: &Address, _: Deadline) -> Result<ReceiverEnd> {
    later()
}
const CAPABILITIES: Capabilities = Capabilities::of(&[
    Capability::ManySenders,
    Capability::ManyReceivers,
    Capability::End,
    Capability::Deaths,
    Capability::KeepsEarly,
    Capability::Persistent,
    Capability::Capacity,
    Capability::Boundaries,
    Capability::InPlace,
    Capability::Redelivery,
    Capability::UserSpace,
]);
const fn row(scheme: Scheme) -> Transport {
    Transport {
        scheme,
        summary: "",
        capabilities: CAPABILITIES,
        max_message: None,
        options: &[],
        open_sender: sender,
        open_receiver: receiver,
    }
}
pub(super) const SHM: Transport = row(Scheme::Shm);
pub(super) const FILE: Transport = row(Scheme::File);
pub(super) const MEMFD: Transport = row(Scheme::Memfd);
pub(super) const FD: Transport = row(Scheme::Fd);
/// narrows' own objects in `/dev/shm`, with those that may not be looked into counted in the second value.
pub fn list() -> Result<(Vec<super::status::Status>, usize)> {
    later()
}
/// One channel, seen from outside: takes no place in it.
pub fn status(_: &Address) -> Result<super::status::Status> {
    later()
}
/// Removes the name; who has it open goes on with it.
pub fn remove(_: &Address) -> Result<()> {
    later()
}
