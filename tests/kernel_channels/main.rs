//! `unix:` and `fifo:`: what the kernel's channels promise, against real processes and other people's programs.

mod deadlines;
mod death;
mod errors;
mod interop;
mod peers;
mod traffic;
