//! The faults of `cargo xtask prove`, where iceoryx2 has what they break. What came of them is kept for
//! docs/reliability.md, beside what came of narrows.

mod faults;
mod midst;
mod process;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// As `prove/` reads it.
#[derive(Serialize)]
struct Rival {
    name: &'static str,
    command: &'static str,
    machine: String,
    /// By gate and fault, as the gates name them.
    outcomes: BTreeMap<&'static str, BTreeMap<&'static str, Outcome>>,
}

/// Whether the promise of narrows held here, and the figure.
#[derive(Serialize)]
pub(crate) struct Outcome {
    held: bool,
    figure: String,
}

type Fault = fn() -> Result<Outcome>;

/// Gate, fault, and what does it.
const FAULTS: &[(&str, &str, Fault)] = &[
    ("kill", "SIGKILL in front of an instruction", midst::publisher_killed),
    ("wakeups", "the first of two waiting receivers is killed beside a send", faults::listener_killed),
    ("wakeups", "a sender is killed at its wake of a receiver", faults::publisher_killed),
    ("containers", "two PID namespaces, both peers PID 1; one is killed while they talk", faults::containers),
];

fn main() -> Result<()> {
    let mut rival = Rival {
        name: "iceoryx2",
        command: "cargo run --release --manifest-path rivals/Cargo.toml --bin prove",
        machine: narrows_bench::Machine::this().to_string(),
        outcomes: BTreeMap::new(),
    };
    let only = std::env::args().nth(1).unwrap_or_default();
    for (gate, fault, run) in
        FAULTS.iter().filter(|(gate, fault, _)| gate.contains(&only) || fault.contains(&only))
    {
        let outcome = run()?;
        println!("{fault}: {}{}", if outcome.held { "" } else { "no: " }, outcome.figure);
        rival.outcomes.entry(gate).or_default().insert(fault, outcome);
    }
    if only.is_empty() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reliability/rivals");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("iceoryx2.json"), serde_json::to_string_pretty(&rival)? + "\n")?;
    }
    Ok(())
}
