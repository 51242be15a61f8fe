//! The fuzzer over the library's decoder of streams.
#![no_main]

use narrows_fuzz as _; // its allocator

libfuzzer_sys::fuzz_target!(|input: &[u8]| narrows::channel::judge_stream(input));
