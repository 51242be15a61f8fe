//! The scenarios of `narrows bench` for other systems: floors, narrows and the rival in one run.

mod iceoryx;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use narrows_bench::Scheme;
use narrows_bench::cli::{Args, run_with};
use narrows_bench::goals::{Goal, Limit, Probe, Ratio};

fn goals() -> Vec<Goal> {
    let latency = |scheme| Probe::spin(scheme, "latency_many_to_many", 48);
    let throughput = |scheme| Probe::spin(scheme, "throughput_many_to_many", 48);
    vec![
        Goal {
            figure: "latency 48 B, many to many, by iceoryx2's",
            ratio: Ratio::Latency(latency("shm"), latency("iceoryx2")),
            limit: Limit::AtMost(0.35),
        },
        Goal {
            figure: "throughput 48 B, many to many, by iceoryx2's",
            ratio: Ratio::Rate(throughput("shm"), throughput("iceoryx2")),
            limit: Limit::AtLeast(8.0),
        },
    ]
}

fn main() -> Result<ExitCode> {
    let mut args = Args::parse();
    // What narrows offers beside shared memory has no counterpart here.
    if args.schemes.is_empty() && !args.goals {
        args.schemes = ["floor", "shm", "iceoryx2"].map(str::to_owned).to_vec();
    }
    run_with(&args, &[], &[&iceoryx::Iceoryx as &dyn Scheme], &goals())
}
