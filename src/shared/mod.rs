//! What lives in a segment's bytes.
//!
//! | module | what is there |
//! |---|---|
//! | `memory` | words and payloads by offset; the model checker's stand-in |
//! | `layout` | where everything lies, the header |
//! | `slot` | the state word of a slot |
//! | `ring` | the ring of slots, many to many |
//! | `pair` | the ring of slots, one to one |
//! | `chunks` | whose a chunk is |
//! | `extents` | how the pool grows |
//! | `pool` | which chunk a sender uses next |
//! | `participants` | who takes part, who is dead |
//! | `repair` | what is done for the dead |
//! | `wait` | spinning before sleeping |
//! | `held` | loans and held messages in a process's hands |
//! | `audit` | whether all of it may stand as it does |
//! | `attachment` | one mapping that takes part: joining, leaving, retiring |
//!
//! Facts that the structures hand over by Acquire and Release are named in **bold** at the top of each file; a
//! comment at each such operation says which it `gives` or `takes`, or what a fence `orders`.
#![allow(unsafe_code)]

#[cfg(not(loom))]
pub(crate) mod attachment;
#[cfg(not(loom))]
pub(crate) mod audit;
pub(crate) mod chunks;
pub(crate) mod extents;
#[cfg(not(loom))]
pub(crate) mod held;
pub(crate) mod layout;
pub(crate) mod memory;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod pair;
pub(crate) mod participants;
pub(crate) mod pool;
pub(crate) mod repair;
pub(crate) mod ring;
pub(crate) mod slot;
pub(crate) mod wait;

/// Words that contradict each other: a peer broke the protocol, or the bytes are not what they seem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contradiction(pub(crate) &'static str);

#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(all(test, not(loom)))]
mod tests_pool;
