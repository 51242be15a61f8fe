//! The gates that a mutant must pass through: what is built for each, and which tests it has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One binary of tests.
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    build: &'static [&'static str],
    /// The model checker's: its executions are the same each time.
    pub(crate) is_model: bool,
    tests: Tests,
    /// Whether what a red test said is something about the sources.
    is_finding: fn(&str) -> bool,
}

/// One test of one binary.
pub(crate) struct Trial {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) folder: PathBuf,
    pub(crate) is_finding: fn(&str) -> bool,
}

/// What can be run of a binary.
enum Tests {
    /// The tests that it lists and that count.
    Listed(fn(&str) -> bool),
    /// The gates of `narrows-prove`, the parts that a change must pass.
    Samples,
}

/// All gates, from the cheapest to the dearest.
pub(crate) const GATES: &[Gate] = &[
    Gate {
        name: "loom",
        build: &["test", "--no-run", "--release", "--package", "narrows", "--lib"],
        is_model: true,
        // Those that need something sabotage the model by themselves.
        tests: Tests::Listed(|test| {
            test.contains("loom_") && !["_need", "_must_"].iter().any(|word| test.contains(word))
        }),
        // A mutant that does less is explored sooner.
        is_finding: |text| {
            !["are too few to have checked anything", "nothing to die in"]
                .iter()
                .any(|words| text.contains(words))
        },
    },
    Gate {
        name: "unit",
        build: &["test", "--no-run", "--package", "narrows", "--lib"],
        is_model: false,
        tests: Tests::Listed(|_| true),
        is_finding: |_| true,
    },
    Gate {
        name: "crash",
        build: &["test", "--no-run", "--package", "narrows", "--test", "crash"],
        is_model: false,
        // What things cost is no question of right or wrong.
        tests: Tests::Listed(|test| !test.starts_with("cost::")),
        is_finding: |_| true,
    },
    Gate {
        name: "conformance",
        build: &["test", "--no-run", "--package", "narrows", "--test", "conformance"],
        is_model: false,
        // Its other transports use the same structures, or none of them.
        tests: Tests::Listed(|test| test.starts_with("shm")),
        is_finding: |_| true,
    },
    Gate {
        name: "guard",
        build: &["test", "--no-run", "--package", "narrows", "--test", "guard"],
        is_model: false,
        tests: Tests::Listed(|_| true),
        is_finding: |_| true,
    },
    Gate {
        name: "hostile",
        build: &["test", "--no-run", "--package", "narrows", "--test", "hostile"],
        is_model: false,
        tests: Tests::Listed(|_| true),
        is_finding: |_| true,
    },
    Gate {
        name: "prove",
        build: &["build", "--release", "--package", "narrows-prove"],
        is_model: false,
        tests: Tests::Samples,
        // On a busy machine, survivors may be slow.
        is_finding: |text| text.lines().any(|line| line.starts_with("FAILED ")),
    },
];

impl Gate {
    pub(crate) fn find(name: &str) -> Result<&'static Self> {
        let names = || GATES.iter().map(|gate| gate.name).collect::<Vec<_>>().join(", ");
        GATES
            .iter()
            .find(|gate| gate.name == name)
            .with_context(|| format!("there is no gate {name}; there are: {}", names()))
    }

    fn cargo(&self, tree: &Path, target: &Path) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // The dependencies are those of the workspace's own builds.
        let (flags, target) =
            if self.is_model { ("--cfg loom", target.join("loom")) } else { ("", target.to_owned()) };
        cargo.current_dir(tree).env("CARGO_TARGET_DIR", target);
        if !flags.is_empty() {
            cargo.env("RUSTFLAGS", flags);
        }
        cargo.args(self.build);
        cargo
    }

    /// Builds it in a copy of the workspace.
    pub(crate) fn build(&'static self, tree: &Path, target: &Path) -> Result<Built> {
        let mut cargo = self.cargo(tree, target);
        cargo.args(["--quiet", "--message-format=json"]);
        let output = cargo.stderr(Stdio::inherit()).output().context("cargo")?;
        let mut refusals = Vec::new();
        let mut program = None;
        for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let message: Value = serde_json::from_slice(line)?;
            if message["reason"] == "compiler-artifact" && message["executable"].is_string() {
                program = message["executable"].as_str().map(PathBuf::from);
            }
            if message["reason"] == "compiler-message" && message["message"]["level"] == "error" {
                refusals.push(Refusal::of(&message["message"]));
            }
        }
        match program {
            _ if !refusals.is_empty() => Ok(Built::Refused(refusals)),
            Some(built) if output.status.success() => {
                // Out of the way of the next build.
                let (program, folder) = (tree.with_extension(self.name), tree.to_owned());
                std::fs::copy(&built, &program).with_context(|| built.display().to_string())?;
                let mut ready = Ready { gate: self, program, folder, tests: Vec::new() };
                ready.tests = ready.list()?;
                Ok(Built::Ready(ready))
            }
            _ => bail!("{} was not built", self.name),
        }
    }
}

/// What came of building a gate.
pub(crate) enum Built {
    Ready(Ready),
    /// Some mutants are no Rust.
    Refused(Vec<Refusal>),
}

/// An error of the compiler: the places it speaks of.
pub(crate) struct Refusal {
    pub(crate) text: String,
    pub(crate) places: Vec<(String, Range<usize>)>,
}

impl Refusal {
    fn of(message: &Value) -> Self {
        let mut spans: Vec<&Value> = message["spans"].as_array().into_iter().flatten().collect();
        spans.sort_by_key(|span| span["is_primary"] != true);
        let places = spans.iter().filter_map(|span| {
            let offset = |name: &str| span[name].as_u64().map(|offset| offset as usize);
            Some((span["file_name"].as_str()?.to_owned(), offset("byte_start")?..offset("byte_end")?))
        });
        Self { places: places.collect(), text: message["rendered"].as_str().unwrap_or_default().to_owned() }
    }
}

/// A gate that was built.
pub(crate) struct Ready {
    pub(crate) gate: &'static Gate,
    program: PathBuf,
    folder: PathBuf,
    pub(crate) tests: Vec<String>,
}

impl Ready {
    fn list(&self) -> Result<Vec<String>> {
        let arguments: &[&str] = match self.gate.tests {
            Tests::Listed(_) => &["--list", "--format=terse"],
            Tests::Samples => &["--list"],
        };
        let output = Command::new(&self.program)
            .args(arguments)
            .current_dir(&self.folder)
            .output()
            .with_context(|| self.program.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| match self.gate.tests {
            Tests::Listed(counts) => line.strip_suffix(": test").filter(|name| counts(name)),
            Tests::Samples => line.split(' ').next(),
        });
        let whole = |name: &str| match self.gate.tests {
            Tests::Listed(_) => name.to_owned(),
            Tests::Samples => format!("{name} --sample --seed=1"),
        };
        Ok(names.map(whole).collect())
    }

    /// The test whose name ends so. What `narrows-prove` can be asked for is not listed.
    pub(crate) fn find<'a>(&'a self, end: &'a str) -> Result<&'a str> {
        if matches!(self.gate.tests, Tests::Samples) {
            return Ok(end);
        }
        let found = self.tests.iter().find(|test| test.ends_with(end));
        found.map(String::as_str).with_context(|| format!("{} has no test {end}", self.gate.name))
    }

    /// What runs one of its tests.
    pub(crate) fn trial(&self, test: &str) -> Trial {
        let arguments: Vec<&str> = match self.gate.tests {
            Tests::Listed(_) => vec!["--exact", test, "--test-threads=1"],
            Tests::Samples => test.split(' ').collect(),
        };
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let (program, folder) = (self.program.clone(), self.folder.clone());
        Trial { program, arguments, folder, is_finding: self.gate.is_finding }
    }
}

/// Builds the gates; asks `refuse` for another tree as long as the compiler refuses some mutants.
pub(crate) fn build_all(
    gates: &[&'static Gate],
    target: &Path,
    mut grow: impl FnMut(&[Refusal]) -> Result<PathBuf>,
) -> Result<Vec<Ready>> {
    let mut tree = grow(&[])?;
    let mut ready: BTreeMap<usize, Ready> = BTreeMap::new();
    while let Some(at) = (0..gates.len()).find(|at| !ready.contains_key(at)) {
        match gates[at].build(&tree, target)? {
            Built::Ready(built) => drop(ready.insert(at, built)),
            Built::Refused(refusals) => {
                // Another tree is another program.
                ready.clear();
                tree = grow(&refusals)?;
            }
        }
    }
    Ok(ready.into_values().collect())
}
