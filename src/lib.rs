//! Every way two Linux processes can talk, behind one kind of address.
//!
//! ```text
//! error capabilities address deadline atomic   leaves
//!      ▲
//!     sys         one safe function per kernel call
//!      ▲
//!   segment       named bytes: born whole, removed once; Region: anybody's plain bytes
//!      ▲
//!   shared        what lives in the bytes: participants, ring, pool, waiting
//!      ▲
//!   message       bytes ⇄ types
//!      ▲
//!   channel       Sender and Receiver, the table of transports, one file per transport
//! ```
//!
//! Imports run one way, upward in the picture never.
#![deny(unsafe_code)]
// The model checker builds what it checks: the structures in shared memory, without the kernel's calls.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

pub mod address;
pub(crate) mod atomic;
pub mod capabilities;
#[cfg(not(loom))]
pub mod channel;
pub mod deadline;
pub mod error;
#[cfg(not(loom))]
pub mod message;
#[cfg(not(loom))]
mod segment;
mod shared;
#[cfg(not(loom))]
pub mod sys;

pub use address::{Address, Scheme};
pub use capabilities::{Capabilities, Capability};
#[cfg(not(loom))]
pub use channel::{Received, Receiver, Sender};
pub use deadline::Deadline;
pub use error::{Error, Result};
#[cfg(not(loom))]
pub use message::Message;
#[cfg(not(loom))]
pub use segment::Region;
#[cfg(not(loom))]
pub use sys::guard;
