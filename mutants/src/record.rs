//! What became of every mutant, and the page that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::gates::GATES;
use crate::points::{Mutant, Operator};

/// What became of one mutant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// A test goes red, or does not end.
    Caught { gate: String, test: String, hangs: bool },
    /// The compiler refuses it.
    Refused,
    /// So many tests pass its place and stay green.
    Survived { tests: usize },
    /// No test passes its place.
    Unreached,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught { gate, test, hangs } => {
                let test = test.rsplit("models::").next().unwrap_or(test);
                write!(out, "{gate}: {test}{}", if *hangs { " (hangs)" } else { "" })
            }
            Self::Refused => write!(out, "compiler"),
            Self::Survived { tests } => write!(out, "survives {tests} tests"),
            Self::Unreached => write!(out, "is reached by no test"),
        }
    }
}

/// The outcomes of this run and of those before, by the mutants' names.
#[derive(Default)]
pub(crate) struct Outcomes {
    path: PathBuf,
    known: BTreeMap<String, Outcome>,
}

impl Outcomes {
    /// What earlier runs kept.
    pub(crate) fn load(path: PathBuf) -> Result<Self> {
        let known = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string())?,
            Err(_) => BTreeMap::new(),
        };
        Ok(Self { path, known })
    }

    pub(crate) fn put(&mut self, mutant: &Mutant, outcome: Outcome) -> Result<()> {
        self.known.insert(mutant.key(), outcome);
        fs::write(&self.path, serde_json::to_string_pretty(&self.known)?)
            .with_context(|| self.path.display().to_string())
    }

    pub(crate) fn of(&self, mutant: &Mutant) -> Option<&Outcome> {
        self.known.get(&mutant.key())
    }

    pub(crate) fn is_caught(&self, mutant: &Mutant) -> bool {
        matches!(self.of(mutant), Some(Outcome::Caught { .. } | Outcome::Refused))
    }
}

/// Mutants that nobody can notice, and why: `equivalent.txt`.
pub(crate) struct Equivalents(BTreeMap<String, String>);

impl Equivalents {
    /// A name on a line of its own, its reason indented below.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut keys: Vec<String> = Vec::new();
        let mut last_was_reason = false;
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let is_reason = line.starts_with(' ');
            if is_reason {
                for key in &keys {
                    let reason = found.entry(key.clone()).or_default();
                    *reason = format!("{reason} {}", line.trim()).trim().to_owned();
                }
            } else {
                if last_was_reason {
                    keys.clear();
                }
                keys.push(line.to_owned());
            }
            last_was_reason = is_reason;
        }
        match keys.iter().find(|key| !found.contains_key(*key)) {
            Some(key) => bail!("equivalent.txt gives no reason for {key}"),
            None => Ok(Self(found)),
        }
    }

    pub(crate) fn reason(&self, mutant: &Mutant) -> Option<&str> {
        self.0.get(&mutant.key()).map(String::as_str)
    }

    /// Names that no mutant bears any more.
    pub(crate) fn stale(&self, mutants: &[Mutant]) -> Vec<&str> {
        let keys: BTreeSet<String> = mutants.iter().map(Mutant::key).collect();
        self.0.keys().filter(|key| !keys.contains(*key)).map(String::as_str).collect()
    }
}

/// How many mutants ended how: for each operator, and whom nobody caught.
#[derive(Default)]
pub(crate) struct Tally {
    counts: BTreeMap<(Operator, String), usize>,
    pub(crate) open: Vec<String>,
}

impl Tally {
    pub(crate) fn of(mutants: &[&Mutant], outcomes: &Outcomes, equivalents: &Equivalents) -> Self {
        let mut tally = Self::default();
        for mutant in mutants {
            let column = match (outcomes.of(mutant), equivalents.reason(mutant)) {
                (Some(Outcome::Caught { gate, .. }), _) => gate,
                (Some(Outcome::Refused), _) => "compiler",
                (_, Some(_)) => EQUIVALENT,
                (outcome, None) => {
                    let became = outcome.map_or_else(|| "was not run".to_owned(), Outcome::to_string);
                    tally.open.push(format!("{}:{} {became}: {}", mutant.file, mutant.line, mutant.key()));
                    OPEN
                }
            };
            *tally.counts.entry((mutant.operator, column.to_owned())).or_default() += 1;
        }
        tally
    }

    fn sum(&self, operator: Option<Operator>, column: Option<&str>) -> usize {
        let wanted = |(row, name): &(Operator, String)| {
            operator.is_none_or(|operator| operator == *row) && column.is_none_or(|column| column == name)
        };
        self.counts.iter().filter(|(key, _)| wanted(key)).map(|(_, count)| count).sum()
    }
}

const EQUIVALENT: &str = "*equivalent*";
const OPEN: &str = "**open**";

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gates = GATES.iter().map(|gate| gate.name);
        let columns: Vec<&str> = ["compiler"].into_iter().chain(gates).chain([EQUIVALENT, OPEN]).collect();
        writeln!(out, "| operator | mutants | {} |", columns.join(" | "))?;
        writeln!(out, "|---|---|{}", "---|".repeat(columns.len()))?;
        let operators: BTreeSet<Operator> = self.counts.keys().map(|(operator, _)| *operator).collect();
        for operator in operators.into_iter().map(Some).chain([None]) {
            let name = operator.map_or_else(|| "together".to_owned(), |operator| format!("{operator:?}"));
            write!(out, "| {} | {} |", name.to_lowercase(), self.sum(operator, None))?;
            for column in &columns {
                write!(out, " {} |", self.sum(operator, Some(column)))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Draws `docs/mutants.md`.
pub(crate) fn draw(
    path: &Path,
    mutants: &[&Mutant],
    outcomes: &Outcomes,
    equivalents: &Equivalents,
) -> Result<()> {
    let mut page = HEAD.to_owned();
    write!(page, "{}", Tally::of(mutants, outcomes, equivalents))?;
    let mut file = "";
    for mutant in mutants {
        if mutant.file != file {
            file = &mutant.file;
            write!(
                page,
                "\n## {file}\n\n| line | function | mutant | what became of it |\n|---|---|---|---|\n"
            )?;
        }
        let became = match (outcomes.of(mutant), equivalents.reason(mutant)) {
            (Some(caught @ (Outcome::Caught { .. } | Outcome::Refused)), _) => caught.to_string(),
            (_, Some(reason)) => format!("*equivalent*: {reason}"),
            (Some(outcome), None) => format!("**{outcome}**"),
            (None, None) => "**not run**".to_owned(),
        };
        let (what, became) = (escaped(&mutant.what), escaped(&became));
        writeln!(page, "| {} | {} | {what} | {became} |", mutant.line, mutant.function)?;
    }
    fs::write(path, page).with_context(|| path.display().to_string())
}

const HEAD: &str = "# Mutants

`src/shared` broken in every way that a program can think of, one at a time: each memory ordering weakened, each
compare-and-swap made blind, each fence and each statement that touches shared memory left out or put before the one in
front of it, each condition held for true and for false. For every mutant some gate must go red, or nobody can notice it
and the reason stands here.

    cargo xtask mutants --record        # makes this page anew: about an hour on two cores

Tests that pass a mutant's place are run one by one, the cheapest first, until one fails. A test that takes ten times as
long as without the mutant, and five seconds, hangs. Where a red test may be chance, it must be green again without
the mutant. `mutants/` is the tool; all mutants stand in one copy of the sources, which has a switch.

";

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_the_reason_below_them() {
        let text = "# comment\nring.rs a: b\nring.rs c: d\n    because\n    so\nring.rs e: f\n    why\n";
        let parsed = Equivalents::parse(text).unwrap();
        assert_eq!(parsed.0["ring.rs a: b"], "because so");
        assert_eq!(
            (parsed.0["ring.rs c: d"].as_str(), parsed.0["ring.rs e: f"].as_str()),
            ("because so", "why")
        );
        assert!(Equivalents::parse("ring.rs a: b\n").is_err());
    }
}
