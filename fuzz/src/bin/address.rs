//! The fuzzer over `narrows_fuzz::address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| narrows_fuzz::address::judge(input));
