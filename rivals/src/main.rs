//! The scenarios of `narrows bench` for other systems: floors, narrows and the rivals in one run.

#[cfg(feature = "aeron")]
mod aeron;
mod iceoryx;
mod leftovers;
mod shaq;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use narrows_bench::Scheme;
use narrows_bench::cli::{Args, run_with};
use narrows_bench::goals::{Goal, Limit, Probe, Ratio};

fn rivals() -> Vec<&'static dyn Scheme> {
    vec![
        &iceoryx::Iceoryx,
        &shaq::Shaq,
        #[cfg(feature = "aeron")]
        &aeron::INVOKED,
        #[cfg(feature = "aeron")]
        &aeron::ON_A_THREAD,
    ]
}

fn goals() -> Vec<Goal> {
    let latency = |scheme| Probe::spin(scheme, "latency_many_to_many", 48);
    let throughput = |scheme| Probe::spin(scheme, "throughput_many_to_many", 48);
    let goals = [
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
    ];
    goals
        .into_iter()
        .chain(
            #[cfg(feature = "aeron")]
            aeron::goals(),
            #[cfg(not(feature = "aeron"))]
            [],
        )
        .collect()
}

fn main() -> Result<ExitCode> {
    let mut args = Args::parse();
    let is_aeron_asked = args.schemes.iter().any(|scheme| scheme.starts_with("aeron"));
    ensure!(
        cfg!(feature = "aeron") || !is_aeron_asked,
        "Aeron is not built in: add --features aeron (rivals/README.md says what that needs)"
    );
    let rivals = rivals();
    // What narrows offers beside shared memory has no counterpart here.
    if args.schemes.is_empty() && !args.goals {
        let names = ["floor", "shm"].into_iter().chain(rivals.iter().map(|rival| rival.name()));
        args.schemes = names.map(str::to_owned).collect();
    }
    let _remover = match narrows_bench::is_player() {
        true => None,
        false => Some(leftovers::remove_after_death().context("sh")?),
    };
    run_with(&args, &[], &rivals, &goals())
}
