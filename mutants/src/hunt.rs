//! Every mutant through every test that passes its place, the cheapest first, until one goes red.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::gates::{Gate, Ready, Refusal, build_all};
use crate::points::{Mutant, Mutants};
use crate::record::{Outcome, Outcomes};
use crate::tree::Tree;
use crate::trial::{self, End, Switch};

/// A test takes so many times as long as without a mutant, and a while: it hangs.
const SLOWER: u32 = 10;
const WHILE: Duration = Duration::from_secs(5);
/// A test without a mutant.
const TRACE_MAX: Duration = Duration::from_secs(300);
/// How often a red test must be green without the mutant, where its runs are not all alike or the machine may be busy.
const CONTROLS: usize = 2;

/// A test of a gate: what it passes, and how long it takes.
struct Test<'a> {
    ready: &'a Ready,
    name: &'a str,
    elapsed: Duration,
    reached: Vec<bool>,
}

/// When a test hangs that takes so long without a mutant.
pub(crate) fn bound(elapsed: Duration) -> Duration {
    elapsed * SLOWER + WHILE
}

impl Test<'_> {
    fn run(&self, mutant: u32) -> Result<End> {
        let trial = self.ready.trial(self.name);
        Ok(trial::run(&trial, Switch::Mutant(mutant), bound(self.elapsed))?.0)
    }
}

/// Grows the copy with its mutants and builds the gates; mutants that the compiler refuses fall out.
pub(crate) fn prepare(
    root: &Path,
    folder: &str,
    gates: &[&'static Gate],
    mutants: &mut Mutants,
) -> Result<(Vec<Ready>, Vec<u32>)> {
    let target = root.join("target");
    let mut refused = Vec::new();
    let mut tree: Option<Tree> = None;
    let ready = build_all(gates, &target, |refusals| {
        if let Some(tree) = &tree {
            let culprits = culprits(tree, refusals)?;
            mutants.without(&culprits);
            refused.extend(culprits);
        }
        let grown = Tree::grow(root, &target.join("mutants").join(folder), &mutants.edits)?;
        Ok(tree.insert(grown).folder.clone())
    })?;
    Ok((ready, refused))
}

fn culprits(tree: &Tree, refusals: &[Refusal]) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for refusal in refusals {
        let mut places = refusal.places.iter();
        match places.find_map(|(file, place)| tree.culprit(file, place)) {
            Some(mutant) => found.push(mutant),
            None if refusal.places.is_empty() => {} // "aborting due to ..."
            None => bail!("the copy does not build, and no mutant is to blame:\n{}", refusal.text),
        }
    }
    Ok(found)
}

/// Looks at every test once without a mutant.
fn trace<'a>(ready: &'a [Ready], places: usize, jobs: usize) -> Result<Vec<Test<'a>>> {
    let tests: Vec<(&Ready, &str)> =
        ready.iter().flat_map(|gate| gate.tests.iter().map(move |test| (gate, test.as_str()))).collect();
    let bar = bar("tests without a mutant", tests.len())?;
    let found = Mutex::new(Vec::new());
    each(&tests, jobs, |(ready, name)| {
        let (end, elapsed, reached) = trial::trace(&ready.trial(name), places, TRACE_MAX)?;
        bar.inc(1);
        match end {
            End::Passed if reached.iter().any(|reached| *reached) => {
                lock(&found).push(Test { ready, name, elapsed, reached });
            }
            End::Passed => {}
            End::Failed | End::Hung => {
                bar.suspend(|| println!("without a mutant {name} is {end:?}: left out"))
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let mut tests = found.into_inner().unwrap_or_default();
    tests.sort_by_key(|test| test.elapsed);
    Ok(tests)
}

/// Runs the chosen mutants; every outcome is kept as soon as it is known.
pub(crate) fn hunt(
    ready: &[Ready],
    mutants: &Mutants,
    chosen: &[&Mutant],
    jobs: usize,
    outcomes: &mut Outcomes,
) -> Result<()> {
    let tests = trace(ready, mutants.list.len() + 1, jobs)?;
    let bar = bar("mutants", chosen.len())?;
    let outcomes = Mutex::new(outcomes);
    each(chosen, jobs, |mutant| {
        let outcome = judge(mutant.id, &tests)?;
        if !matches!(outcome, Outcome::Caught { .. }) {
            bar.suspend(|| println!("{}:{} {outcome}: {}", mutant.file, mutant.line, mutant.key()));
        }
        bar.inc(1);
        lock(&outcomes).put(mutant, outcome)
    })?;
    bar.finish_and_clear();
    Ok(())
}

fn judge(mutant: u32, tests: &[Test<'_>]) -> Result<Outcome> {
    let mut passed = 0;
    for test in tests.iter().filter(|test| test.reached[mutant as usize]) {
        let end = test.run(mutant)?;
        passed += 1;
        let is_certain = end == End::Failed && test.ready.gate.is_model;
        if end == End::Passed || !is_certain && !is_green(test)? {
            continue;
        }
        return Ok(Outcome::Caught {
            gate: test.ready.gate.name.to_owned(),
            test: test.name.to_owned(),
            hangs: end == End::Hung,
        });
    }
    Ok(if passed == 0 { Outcome::Unreached } else { Outcome::Survived { tests: passed } })
}

fn is_green(test: &Test<'_>) -> Result<bool> {
    for _ in 0..CONTROLS {
        if test.run(0)? != End::Passed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One after the other, some at a time. The first error ends it.
fn each<T: Sync>(list: &[T], jobs: usize, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || {
            while let Some(item) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = work(item) {
                    next.store(list.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
            Ok(())
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn bar(what: &'static str, len: usize) -> Result<ProgressBar> {
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").context("the progress line")?;
    Ok(ProgressBar::new(len as u64).with_style(style).with_message(what))
}
