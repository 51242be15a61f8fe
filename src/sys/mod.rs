//! One safe function per kernel call that [`rustix`] leaves unsafe or leaves out, or that needs a rule of this
//! house added: interrupted calls go on, descriptors close at exec, futexes are shared and wake everybody.
//!
//! | file | what is in it |
//! |---|---|
//! | `clock` | the time, the boot's id |
//! | `copy` | the one copy that may race with a peer |
//! | `cpu` | which processors, pinning |
//! | `file` | reopening, linking what is unnamed, kinds of files and file systems |
//! | `fork` | what a forked child must not keep |
//! | [`guard`] | memory that goes away: an error instead of SIGBUS |
//! | `futex` | sleeping on a word and waking all, the barrier on all processors |
//! | `lock` | byte locks owned by an open file description |
//! | `memory` | shared mappings |
//! | `pass` | descriptors over Unix sockets |
//! | `pipe` | named pipes, without SIGPIPE |
//! | `poll` | waiting for descriptors and names |
//! | `process` | noticing a fork |
//! | `socket` | Unix sockets |
//!
//! Public is what the command, the benchmarks and users of passed descriptors need.
#![allow(unsafe_code)]

pub(crate) mod clock;
pub(crate) mod copy;
pub(crate) mod cpu;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod futex;
pub mod guard;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod pass;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod socket;

pub use cpu::{cpus, pin_to_cpu};
pub use futex::{Waited, futex_wait, futex_wake_all};
pub use pass::{pass_descriptor, take_descriptor};
