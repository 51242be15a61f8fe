//! The floors: what two processes on this machine can do at best. Nothing here survives a crash or waits politely;
//! it is as fast as it can be, and correct.
#![allow(unsafe_code)] // Rings and lines in shared memory; each is a few dozen lines on one page.

mod line;
mod memory;
mod play;
mod ring;

pub(crate) use line::Lines;
pub(crate) use memory::Shared;
pub(crate) use memory::time_stamp;
pub(crate) use play::Floor;
