//! Repetitions, put together: like with like.

use serde::Serialize;

use crate::scenario::{By, Case, Wait};

/// How far the two cores are from each other at a moment, told by the cache-line floor.
///
/// The thresholds lie between the modes that were seen: 20 to 30 ns, 55 to 160 ns, above 250 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// Below 40 ns one way.
    Near,
    /// Below 200 ns.
    Mid,
    /// All above.
    Far,
}

impl Distance {
    /// The distance of a floor, in nanoseconds one way.
    pub fn of(floor_ns: f64) -> Self {
        match floor_ns {
            ns if ns < 40.0 => Self::Near,
            ns if ns < 200.0 => Self::Mid,
            _ => Self::Far,
        }
    }

    /// The word in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Mid => "mid",
            Self::Far => "far",
        }
    }
}

/// One repetition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repetition {
    /// None where one process works alone.
    pub distance: Option<Distance>,
    /// The cache-line floor around it, in nanoseconds one way.
    pub floor_ns: Option<f64>,
    /// p50, p99 and p99.9 one way, in nanoseconds.
    pub percentiles_ns: Option<[Option<f64>; 3]>,
    /// Messages a second.
    pub messages_per_s: Option<f64>,
    /// Processor time of its sender for one message, in nanoseconds.
    pub sender_cpu_ns: Option<f64>,
    /// Processor time of the receiver for one message, in nanoseconds.
    pub receiver_cpu_ns: Option<f64>,
}

impl Repetition {
    /// The figure that the scenario is about.
    pub fn headline(&self) -> Option<f64> {
        self.percentiles_ns.and_then(|[p50, ..]| p50).or(self.messages_per_s)
    }
}

/// One line of results: the medians of all repetitions at one distance. Serialised, it is the object that
/// `narrows bench --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The scheme.
    pub scheme: String,
    /// The scenario.
    pub scenario: &'static str,
    /// `spin` or `sleep`.
    pub wait: Option<&'static str>,
    /// Bytes a message.
    pub size_bytes: Option<usize>,
    /// `near`, `mid` or `far`.
    pub distance: Option<Distance>,
    /// One way, in nanoseconds; likewise the next two.
    pub p50_ns: Option<f64>,
    /// See `p50_ns`.
    pub p99_ns: Option<f64>,
    /// See `p50_ns`.
    pub p999_ns: Option<f64>,
    /// Messages a second.
    pub messages_per_s: Option<f64>,
    /// Bytes of payload a second, where they are copied.
    pub bytes_per_s: Option<f64>,
    /// Processor time of its sender for one message, in nanoseconds.
    pub sender_cpu_ns: Option<f64>,
    /// Processor time of the receiver for one message, in nanoseconds.
    pub receiver_cpu_ns: Option<f64>,
    /// The cache-line floor around the repetitions, in nanoseconds one way.
    pub floor_p50_ns: Option<f64>,
    /// How many repetitions.
    pub runs: usize,
    /// How far the repetitions lie apart: largest less smallest, divided by the median.
    pub spread: Option<f64>,
}

/// Puts repetitions together, an outcome for each distance that was met.
pub fn outcomes(scheme: &str, case: &Case, repetitions: &[Repetition]) -> Vec<Outcome> {
    let mut distances: Vec<_> = repetitions.iter().map(|repetition| repetition.distance).collect();
    distances.sort_unstable();
    distances.dedup();
    let at =
        |distance| repetitions.iter().copied().filter(|one| one.distance == distance).collect::<Vec<_>>();
    distances.into_iter().map(|distance| outcome(scheme, case, distance, &at(distance))).collect()
}

fn outcome(scheme: &str, case: &Case, distance: Option<Distance>, like: &[Repetition]) -> Outcome {
    let of = |figure: &dyn Fn(&Repetition) -> Option<f64>| median(like.iter().filter_map(figure).collect());
    let percentile = |which: usize| of(&|one| one.percentiles_ns.and_then(|all| all[which]));
    let messages_per_s = of(&|one| one.messages_per_s);
    let size_bytes = (case.size > 0).then_some(case.size);
    let moved_bytes = size_bytes.filter(|_| case.scenario.by != By::Reference);
    Outcome {
        scheme: scheme.to_owned(),
        scenario: case.scenario.name,
        wait: case.wait.map(Wait::name),
        size_bytes,
        distance,
        p50_ns: percentile(0),
        p99_ns: percentile(1),
        p999_ns: percentile(2),
        messages_per_s,
        bytes_per_s: messages_per_s.zip(moved_bytes).map(|(rate, size)| rate * size as f64),
        sender_cpu_ns: of(&|one| one.sender_cpu_ns),
        receiver_cpu_ns: of(&|one| one.receiver_cpu_ns),
        floor_p50_ns: of(&|one| one.floor_ns),
        runs: like.len(),
        spread: spread(like.iter().filter_map(Repetition::headline).collect()),
    }
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Largest less smallest, divided by the median.
pub(crate) fn spread(values: Vec<f64>) -> Option<f64> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let most = values.iter().copied().max_by(f64::total_cmp)?;
    median(values).filter(|middle| *middle > 0.0).map(|middle| (most - least) / middle)
}
