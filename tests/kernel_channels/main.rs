//! `unix:` and `fifo:`: what the kernel's channels promise, against real processes and other people's programs.

#![allow(clippy::print_stdout)] // peers speak by it, and a skipped test says why

mod datagrams;
mod deadlines;
mod death;
mod errors;
mod interop;
mod peers;
mod traffic;
