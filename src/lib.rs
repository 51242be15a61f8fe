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

pub mod address;
pub(crate) mod atomic;
pub mod capabilities;
pub mod channel;
pub mod deadline;
pub mod error;
pub mod message;
mod segment;
mod shared;
pub mod sys;

pub use address::{Address, Scheme};
pub use capabilities::{Capabilities, Capability};
pub use channel::{Received, Receiver, Sender};
pub use deadline::Deadline;
pub use error::{Error, Result};
pub use message::Message;
pub use segment::Region;
