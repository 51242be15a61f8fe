//! Messages: one kind of sender and receiver over every mechanism.
//!
//! | module | what is there |
//! |---|---|
//! | [`sender`], [`receiver`] | [`Sender`], [`Receiver`]: what users hold |
//! | [`guards`] | [`Received`], [`InPlace`], [`Loan`]: messages in their hands |
//! | [`transport`] | [`Transport`]: the table, one row per scheme, and the traits behind it |
//! | [`mod@status`] | [`Status`]: a channel seen from outside |
//! | [`check`] | [`Report`]: whether its memory is sound, and who has what of it |
//! | `shm` | `shm:`, `file:`, `memfd:` and `fd:` over a segment |
//! | `unix` | `unix:` sockets: stream, seqpacket, dgram |
//! | `fifo` | `fifo:` named pipes |
//! | `wire` | how messages are cut out of a stream of bytes |
//! | `place` | what stands at a path, and whose it is |
//!
//! Which one? Between processes of one machine that both use narrows: `shm:`. When a peer is somebody else's
//! program: `unix:` or `fifo:` with `wire=lines` or `wire=raw`.

pub mod guards;
pub mod receiver;
pub mod sender;
pub mod status;
pub mod transport;

mod fifo;
mod place;
mod shm;
mod unix;
mod wire;

pub use crate::shared::audit::{Finding, Holding, Moment, Report};
pub use guards::{InPlace, Loan, Received, Uncommitted};
pub use receiver::Receiver;
pub use sender::Sender;
pub use shm::{check, list, remove, status};
pub use status::{Kind, Peer, State, Status};
pub use transport::{Exception, OptionSpec, Transport};
#[cfg(any(test, fuzzing))]
pub use wire::judge_stream;
