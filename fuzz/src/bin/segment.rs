//! The fuzzer over `narrows_fuzz::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| narrows_fuzz::segment::judge(input));
