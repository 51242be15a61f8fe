//! For each rule a snippet that breaks it, and its nearest lawful neighbour.

use super::*;

fn complaints(path: &str, text: &str) -> Vec<String> {
    let lib =
        Source::new("src/lib.rs", "pub use address::{Address, Scheme}; pub use channel::{Received, Sender};");
    faults(&Source::new(path, text), &aliases(&[lib]))
}

#[track_caller]
fn refused(path: &str, text: &str, complaint: &str) {
    let found = complaints(path, text);
    assert!(found.len() == 1 && found[0].contains(complaint), "{text}: {found:?}");
}

#[track_caller]
fn accepted(path: &str, text: &str) {
    assert_eq!(complaints(path, text), Vec::<String>::new(), "{text}");
}

#[test]
fn imports_run_one_way() {
    refused("src/sys/futex.rs", "use crate::segment::Segment;", "sys imports segment");
    refused("src/sys/futex.rs", "use crate::{error::Error, shared::{ring}};", "sys imports shared");
    refused("src/shared/ring.rs", "fn f() { crate::message::empty() }", "shared imports message");
    refused("src/address.rs", "use super::channel::Transport;", "address imports channel");
    refused("src/message.rs", "use crate::Sender;", "message imports channel");
    refused("src/shared/ring/slot.rs", "use super::super::super::channel::X;", "shared imports channel");
    refused("src/stray.rs", "fn f() {}", "no layer");
    accepted(
        "src/channel/shm.rs",
        "use crate::shared::ring; use crate::{Address, sys}; use super::transport::X;",
    );
    accepted(
        "src/sys/mod.rs",
        "use crate::error::Result; #[cfg(test)] mod tests { use crate::channel::Sender; }",
    );
}

#[test]
fn transports_do_not_see_each_other() {
    refused("src/channel/fifo.rs", "use super::unix::Socket;", "fifo sees its sibling unix");
    refused("src/channel/wire.rs", "use crate::channel::shm::X;", "wire sees its sibling shm");
    accepted("src/channel/unix.rs", "use super::wire::Frames; use super::transport::RawSender;");
    accepted("src/channel/transport.rs", "use super::shm::ShmSender;");
}

#[test]
fn unsafe_code_has_its_places() {
    refused("src/channel/unix.rs", "fn f() { unsafe { g() } }", "unsafe code stands in");
    refused("src/channel/guards.rs", "fn f() { unsafe { g() } }", "unsafe code stands in");
    accepted(
        "src/channel/guards.rs",
        "pub unsafe fn as_slice(&self) -> &[u8] { unsafe { self.held.as_slice() } }",
    );
    accepted("src/sys/mmap.rs", "fn f() { unsafe { g() } }");
    accepted("src/channel/unix.rs", "// unsafe\nconst WORD: &str = \"unsafe\";");
}

#[test]
fn banned_calls_are_found() {
    refused("src/sys/futex.rs", "fn f() { futex::wake(word, Flags::empty(), 1) }", "one of several sleepers");
    accepted("src/sys/futex.rs", "fn f() { futex::wake(word, Flags::empty(), i32::MAX as u32) }");
    refused("src/sys/futex.rs", "fn f() { wait(word, Flags::PRIVATE) }", "private futex");
    accepted("src/sys/memory.rs", "fn f() { mmap(MapFlags::PRIVATE) }");
    refused("src/shared/ring.rs", "use std::sync::atomic::AtomicU64;", "atomics come from");
    refused("src/shared/ring.rs", "use core::{mem, sync::{Arc, atomic::AtomicU64}};", "atomics come from");
    accepted("src/atomic.rs", "pub use std::sync::atomic::AtomicU64;");
    refused("cli/src/main.rs", concat!("fn f() { to", "do!() }"), "unfinished");
    refused("src/channel/unix.rs", "fn f() { println!(\"x\") }", "does not print");
    accepted("cli/src/main.rs", "fn f() { println!(\"x\") }");
    refused("src/shared/participants.rs", "fn f() { libc::kill(pid, 0) }", "no proof of life");
    refused("src/sys/process.rs", "fn f() { rustix::process::test_kill_process(pid) }", "no proof of life");
    refused("src/channel/shm.rs", "fn f() { slice::from_raw_parts(p, n) }", "others may write");
}

#[test]
fn sizes_are_bounded() {
    let body = "    call();\n".repeat(FUNCTION_LINES_MAX - 1);
    refused("src/error.rs", &format!("fn f() {{\n{body}}}\n"), "f has 71 lines");
    let comments = body.replace("call();", "// why");
    accepted("src/error.rs", &format!("fn f() {{\n{comments}{comments}}}\n"));
    let file = "const A: u8 = 0;\n".repeat(FILE_LINES_MAX);
    refused("src/error.rs", &file, "400 lines of code");
    accepted("src/error.rs", &format!("#[cfg(test)]\nmod tests {{\n{file}}}\n"));
    let documented = "/// Documented.\n".repeat(FILE_LINES_MAX);
    accepted("src/error.rs", &format!("{documented}const A: u8 = 0;"));
}

#[test]
fn orderings_name_their_facts() {
    let ring = "src/shared/ring.rs";
    refused(ring, "fn f() {\n    a.load(Ordering::Acquire);\n}", "an Acquire says");
    refused(ring, "fn f() {\n    a.store(1, Release); // takes: filled\n}", "a Release says");
    refused(ring, "fn f() {\n    fence(SeqCst); // gives: filled\n}", "a SeqCst says");
    refused(ring, "fn f() {\n    a.swap(1, AcqRel); // gives: filled\n}", "an AcqRel says");
    refused(ring, "fn f() {\n    // takes: filled\n    b();\n    a.load(Acquire);\n}", "an Acquire says");
    accepted(
        ring,
        "fn f() {\n    // takes: filled (the slot's bytes)\n    a\n        .load(Ordering::Acquire);\n}",
    );
    accepted(ring, "fn f() {\n    a.swap(1, AcqRel); // takes: filled; gives: drained\n}");
    accepted(ring, "fn f() {\n    fence(SeqCst); // orders: commit before sleepers\n}");
    accepted(ring, "use crate::atomic::Ordering::{Acquire, Release};");
    let half = Source::new(ring, "fn f() {\n    a.store(1, Release); // gives: filled\n}");
    assert!(unpaired_facts(&[half])[0].contains("'filled' is given only"));
}

#[test]
fn words_of_a_desk_are_found() {
    assert_eq!(words("README.md", concat!("a\nsee /wo", "rk/main\n")).len(), 1);
    assert_eq!(words("README.md", "a\nsee workers\n").len(), 0);
}
