//! The atomics of everything that processes share. Built with `--cfg loom`, they are the model checker's.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
