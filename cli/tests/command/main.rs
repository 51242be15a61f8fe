//! The command as people and scripts meet it: real processes, pipes and signals.

// How a test says that it was skipped.
#![allow(clippy::print_stdout)]

mod demo;
mod flow;
mod harness;
mod manual;
mod objects;
mod quitting;
mod screens;
mod starving;
