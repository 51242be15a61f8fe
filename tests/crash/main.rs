//! Processes are killed, stopped, forked, exec'd and crowded out under load; the account of messages is exact.
//!
//! | file | what is in it |
//! |---|---|
//! | `peer` | a process in a role, its end bounded; random numbers; names that leave nothing behind |
//! | `ledger` | shared memory in which every process says what it sent and received, and what must come out |
//! | `traffic` | the roles that send and receive, and what shows that a channel is whole again |
//! | `stress` | nobody dies: every way of sending and receiving, every mode |
//! | `storm` | SIGKILL and SIGSTOP at random moments under load |
//! | `faults` | what a participant can do to itself: lose descriptors, fork, exec, share a pid, find no place |
//! | `opening` | openers, leavers and removers of one name at the same moment |
//! | `waking` | sleepers are woken: by messages, by room, by the end, beside a killed sleeper |
//! | `cost` | what waiting and sending cost: processor time, system calls |
//!
//! `NARROWS_CRASH_SEED` repeats a run's random choices; `NARROWS_CRASH_KILLS` is the number of kills in each storm.
#![allow(clippy::print_stdout)] // the harness shows it of tests that failed

mod cost;
mod faults;
mod ledger;
mod opening;
mod peer;
mod storm;
mod stress;
mod traffic;
mod waking;

/// What a peer process can be told to do.
const ROLES: &[(&str, peer::Role)] = &[
    ("sender", traffic::sender),
    ("receiver", traffic::receiver),
    ("visitor", opening::visitor),
    ("collector", opening::collector),
    ("guest", opening::guest),
    ("remover", opening::remover),
    ("hermit", opening::hermit),
    ("reaper", opening::reaper),
    ("tenant", opening::tenant),
    ("talker", faults::talker),
    ("daemon", faults::daemon),
    ("parent", faults::parent),
    ("family", faults::family),
    ("changeling", faults::changeling),
    ("idler", faults::idler),
    ("namesake", faults::namesake),
    ("idle-sender", faults::idle_sender),
    ("sleeper", waking::sleeper),
    ("pusher", waking::pusher),
    ("newcomer", waking::newcomer),
    ("ascetic", cost::ascetic),
    ("watcher", cost::watcher),
];
