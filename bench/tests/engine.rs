//! The engine between real processes: this binary, started again with the arguments that run `player` alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use narrows_bench::payload::{Sink, Source};
use narrows_bench::{Case, Effort, Measurement, Outcome, Player, Rx, Scheme, Stage, Tx};
use narrows_bench::{outcomes, play_if_asked, schemes};

const EFFORT: Effort = Effort { runs: 1, budget: Duration::from_millis(2), floor_rounds: 200 };

/// Spinning players of two tests at once would take each other's cores.
fn alone() -> MutexGuard<'static, ()> {
    static CORES: Mutex<()> = Mutex::new(());
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stage() -> Stage {
    Stage::new(&["--exact", "player", "--nocapture"])
}

fn all() -> Vec<&'static dyn Scheme> {
    schemes().into_iter().chain([&Broken("dying") as &dyn Scheme, &Broken("stuck")]).collect()
}

/// A scheme whose receiver fails in the middle of a run.
struct Broken(&'static str);

impl Scheme for Broken {
    fn name(&self) -> &'static str {
        self.0
    }

    fn cases(&self) -> Vec<Case> {
        vec![case("floor", "throughput_one_to_one_ring", 64)]
    }

    fn play(&self, player: Player) -> anyhow::Result<()> {
        if player.role() == 0 { player.stream_out(Nowhere) } else { player.stream_in(BrokenEnd(self.0)) }
    }
}

struct Nowhere;
struct BrokenEnd(&'static str);

impl Tx for Nowhere {
    fn send(&mut self, source: &mut Source) -> anyhow::Result<()> {
        source.words::<8>();
        Ok(())
    }
}

impl Rx for BrokenEnd {
    fn recv(&mut self, _: &mut Sink) -> anyhow::Result<()> {
        match self.0 {
            "dying" => std::process::abort(),
            _ => loop {
                std::thread::park();
            },
        }
    }
}

fn case(scheme: &str, scenario: &str, size: usize) -> Case {
    let scheme = schemes().into_iter().find(|known| known.name() == scheme).unwrap();
    let is_asked = |case: &Case| case.scenario.name == scenario && case.size == size;
    scheme.cases().into_iter().find(is_asked).unwrap()
}

fn measure(scheme: &str, scenario: &str, size: usize, stage: &Stage) -> anyhow::Result<Vec<Outcome>> {
    let _alone = alone();
    let case = case(scheme, scenario, size);
    let scheme = schemes().into_iter().find(|known| known.name() == scheme).unwrap();
    let mut measurement = Measurement::start(scheme, case, stage, EFFORT)?;
    Ok(outcomes(scheme.name(), &case, &[measurement.repeat()?]))
}

/// Not a test of its own: what the players run.
#[test]
fn player() {
    if play_if_asked(&all()).is_err() {
        std::process::exit(1);
    }
}

#[test]
fn a_result_has_exactly_the_documented_fields() {
    let results = measure("floor", "latency_one_to_one_cache_line", 56, &stage()).unwrap();
    let object = serde_json::to_value(&results[0]).unwrap();
    let mut fields: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut documented = [
        "scheme",
        "scenario",
        "wait",
        "size_bytes",
        "distance",
        "p50_ns",
        "p99_ns",
        "p999_ns",
        "messages_per_s",
        "bytes_per_s",
        "sender_cpu_ns",
        "receiver_cpu_ns",
        "floor_p50_ns",
        "runs",
        "spread",
    ];
    documented.sort_unstable();
    assert_eq!(fields, documented);
    assert!(object["p50_ns"].as_f64().unwrap() > 0.0 && object["messages_per_s"].is_null());
}

#[test]
fn a_stream_has_a_rate_and_no_latency() {
    let results = measure("floor", "throughput_one_to_one_ring", 64, &stage()).unwrap();
    let result = &results[0];
    assert!(result.p50_ns.is_none() && result.messages_per_s.unwrap() > 0.0);
    assert!(result.sender_cpu_ns.unwrap() > 0.0 && result.receiver_cpu_ns.unwrap() > 0.0);
}

#[test]
fn a_message_changed_on_its_way_is_noticed() {
    for (scenario, size) in [("throughput_one_to_one_ring", 64), ("throughput_one_to_one_slot_ring", 4096)] {
        let stage = Stage { corrupt_at: Some(64), ..stage() };
        let error = measure("floor", scenario, size, &stage).unwrap_err();
        assert!(error.to_string().contains("corrupted"), "{error:#}");
    }
}

fn start_broken(name: &'static str, stage: &Stage) -> String {
    let _alone = alone();
    let scheme = Broken(name);
    let started = Measurement::start(&scheme, scheme.cases()[0], stage, EFFORT);
    format!("{:#}", started.err().unwrap())
}

#[test]
fn a_player_that_dies_ends_the_measurement() {
    let error = start_broken("dying", &stage());
    assert!(error.contains("player 1 ended early") && error.contains("signal"), "{error}");
}

#[test]
fn a_program_that_is_no_player_ends_the_measurement() {
    let error = start_broken("dying", &Stage::new(&["--help"]));
    assert!(error.contains("ended early"), "{error}");
}

#[test]
fn a_player_that_is_stuck_ends_the_measurement() {
    let error = start_broken("stuck", &Stage { patience: Duration::from_millis(300), ..stage() });
    assert!(error.contains("stuck"), "{error}");
}

#[test]
fn names_say_what_they_are() {
    for scheme in schemes() {
        for case in scheme.cases() {
            let name = case.scenario.name;
            assert!(name.starts_with("latency") || name.starts_with("throughput"), "{name}");
            let is_channel = scheme.name() != "floor";
            assert!(!is_channel || name.contains("one_to_one") || name.contains("many_to_many"), "{name}");
            assert!(!is_channel || !name.contains("ring"), "{name}: only floors are rings");
        }
    }
}
