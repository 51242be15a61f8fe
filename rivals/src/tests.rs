//! Every rival between real processes: this binary, started again with the arguments that run `player` alone.

use std::time::Duration;

use narrows_bench::scenario::By;
use narrows_bench::{Case, Effort, Measurement, Scheme, Stage, Wait, play_if_asked};

use super::rivals;

const EFFORT: Effort = Effort { runs: 1, budget: Duration::from_millis(2), floor_rounds: 200 };

/// Not a test of its own: what the players run.
#[test]
fn player() {
    if play_if_asked(&rivals()).is_err() {
        std::process::exit(1);
    }
}

fn measure(rival: &dyn Scheme, case: Case, corrupt_at: Option<u64>) -> anyhow::Result<()> {
    let stage = Stage { corrupt_at, ..Stage::new(&["--exact", "tests::player", "--nocapture"]) };
    Measurement::start(rival, case, &stage, EFFORT)?.repeat().map(drop)
}

/// Files of this process's measurements.
fn leftovers() -> Vec<std::ffi::OsString> {
    let prefix = format!("narrows-bench-{}-", std::process::id());
    let directories = [std::path::PathBuf::from("/dev/shm"), std::env::temp_dir()];
    let entries = directories.iter().flat_map(|directory| std::fs::read_dir(directory).unwrap());
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(&prefix)).collect()
}

#[test]
fn messages_pass_whole_a_changed_one_is_noticed_and_nothing_is_left() {
    for rival in rivals() {
        let is_quick = |case: &Case| case.wait == Some(Wait::Spin) && case.size <= 1024;
        for case in rival.cases().into_iter().filter(is_quick) {
            let what = format!("{} {case}", rival.name());
            measure(rival, case, None).unwrap_or_else(|error| panic!("{what}: {error:#}"));
            if case.scenario.by != By::Reference {
                let error = measure(rival, case, Some(64)).expect_err(&what);
                assert!(error.to_string().contains("corrupted"), "{what}: {error:#}");
            }
            assert_eq!(leftovers(), Vec::<std::ffi::OsString>::new(), "{what}");
        }
    }
}
