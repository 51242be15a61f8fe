//! The command as people and scripts meet it: real processes, pipes and signals.

mod flow;
mod harness;
mod objects;
mod quitting;
mod screens;
