//! What the fuzzer runs: one function a target, which takes any bytes and panics where a promise is broken.
//!
//! | module | what is there |
//! |---|---|
//! | [`address`] | addresses: parsed, printed, built, asked for their options |
//! | [`segment`] | a segment that somebody writes into, and everything that reads one |
//! | [`memory`] | an allocator that believes no length |
//! | `places`, `values` | where that somebody writes, and what |
//! | `input` | the fuzzer's bytes, read one after the other |
//!
//! The third target, frames, stands beside the decoder that it judges (`src/channel/wire/judge.rs`): that is not
//! public. `tests/corpus.rs` runs the same functions, without a fuzzer, over what the fuzzer kept.

pub mod address;
pub mod memory;
pub mod segment;

mod input;
mod places;
mod values;

#[global_allocator]
static BOUNDED: memory::Bounded = memory::Bounded;
