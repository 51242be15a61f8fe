//! What narrows is measured by.
//!
//! ```text
//! scenario   the list: names, sizes, ways of waiting
//! payload    what is sent, and how it is checked
//! scheme     what a scheme brings: ends that send and receive
//! floor      the scheme `floor`: what the machine can do at best
//! channels   the schemes of narrows
//! player     one process of a measurement, pinned to its core
//! conductor  starts the players, tells them what to do, never waits without a bound
//! measure    repetitions between two looks at the floor
//! result     like with like: medians, spread
//! goals      the ratios that narrows is held to
//! cli        `narrows bench`
//! ```
//!
//! `docs/benchmarks.md` has the rules.
#![deny(unsafe_code)]

pub mod clock;
pub mod payload;
pub mod scenario;
pub mod scheme;

pub mod cli;
pub mod goals;

mod channels;
mod conductor;
mod floor;
mod machine;
mod measure;
mod player;
mod result;
mod table;

pub use conductor::Stage;
pub use machine::Machine;
pub use measure::{Effort, Measurement};
pub use player::{Player, is_player, play_if_asked};
pub use result::{Distance, Outcome, Repetition, outcomes};
pub use scenario::{Case, Wait};
pub use scheme::{Rx, Scheme, Tx};

/// The schemes that narrows is measured by: the floors first, then its own.
pub fn schemes() -> Vec<&'static dyn Scheme> {
    let own = channels::ALL.iter().map(|channels| channels as &dyn Scheme);
    std::iter::once(&floor::Floor as &dyn Scheme).chain(own).collect()
}
