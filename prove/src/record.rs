//! What a gate found: a row for each fault.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use narrows_bench::Machine;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What one gate found in one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) gate: String,
    /// What repeats the run.
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) seconds: u64,
    pub(crate) rows: Vec<Row>,
}

/// One fault, what is promised, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was done to the system: "a waiter is killed before a post".
    pub(crate) fault: String,
    /// What narrows promises then.
    pub(crate) promise: String,
    pub(crate) ours: Outcome,
    /// The same done to others, by their names, where it applies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) others: BTreeMap<String, Outcome>,
}

/// Whether the promise held, and the figure that shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) held: bool,
    /// "0 of 10,000 lost".
    pub(crate) figure: String,
}

/// What came of a gate's faults where somebody else's program was broken by them (`rivals/`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rival {
    pub(crate) name: String,
    /// What repeats the run.
    pub(crate) command: String,
    pub(crate) machine: String,
    /// By gate and fault, as the rows have them.
    pub(crate) outcomes: BTreeMap<String, BTreeMap<String, Outcome>>,
}

impl Record {
    pub(crate) fn new(gate: &str, command: impl Into<String>) -> Self {
        let machine = Machine::this().to_string();
        Self { gate: gate.to_owned(), command: command.into(), machine, seconds: 0, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, fault: &str, promise: &str, ours: Outcome) -> &mut Row {
        let (fault, promise) = (fault.to_owned(), promise.to_owned());
        self.rows.push(Row { fault, promise, ours, others: BTreeMap::new() });
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    pub(crate) fn after(mut self, elapsed: Duration) -> Self {
        self.seconds = elapsed.as_secs();
        self
    }

    /// Whether every promise of ours held.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.ours.held)
    }

    /// Keeps it in a folder, in the place of the gate's last one.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.json", self.gate));
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| path.display().to_string())
    }

    /// All that a folder keeps, by the gates' names.
    pub(crate) fn load_all(folder: &Path) -> Result<BTreeMap<String, Self>> {
        Ok(load_all(folder)?.into_iter().map(|record: Self| (record.gate.clone(), record)).collect())
    }
}

/// What the JSON files of a folder say, in the order of their names.
fn load_all<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path)?;
            let one = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            found.insert(path, one);
        }
    }
    Ok(found.into_values().collect())
}

impl Rival {
    pub(crate) fn load_all(folder: &Path) -> Result<Vec<Self>> {
        load_all(folder)
    }

    /// Puts each outcome beside ours of the same fault.
    pub(crate) fn join(&self, records: &mut BTreeMap<String, Record>) {
        for record in records.values_mut() {
            for row in &mut record.rows {
                if let Some(outcome) = self.outcomes.get(&record.gate).and_then(|gate| gate.get(&row.fault)) {
                    row.other(&self.name, outcome.clone());
                }
            }
        }
    }
}

impl Row {
    pub(crate) fn other(&mut self, name: &str, outcome: Outcome) -> &mut Self {
        self.others.insert(name.to_owned(), outcome);
        self
    }
}

impl Outcome {
    pub(crate) fn new(held: bool, figure: impl Into<String>) -> Self {
        Self { held, figure: figure.into() }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", if self.held { "" } else { "FAILED: " }, self.figure)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(out, "{}: {}", row.fault, row.ours)?;
            for (name, outcome) in &row.others {
                writeln!(out, "    {name}: {outcome}")?;
            }
        }
        writeln!(out, "== {}: {}, {} s", self.gate, if self.holds() { "ok" } else { "FAILED" }, self.seconds)
    }
}
