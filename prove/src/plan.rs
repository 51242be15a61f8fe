//! What a run is asked to do.

use std::collections::BTreeSet;

use clap::Parser;

use anyhow::{Context, Result};

use crate::atlas::Atlas;
use crate::random::Random;
use crate::tracer::Place;

/// Breaks narrows on purpose, in every way that its promises name, and counts what happens.
#[derive(Debug, Parser)]
#[command(name = "narrows-prove", bin_name = "cargo xtask prove", max_term_width = 110)]
pub(crate) struct Plan {
    /// Gates to run; all when none is named
    #[arg(value_name = "GATE")]
    pub(crate) gates: Vec<String>,
    /// The part that fits into a change's tests, instead of the whole
    #[arg(long)]
    pub(crate) sample: bool,
    /// Repeats a run's random choices
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long the soak goes on [default: 60]
    #[arg(long, value_name = "N")]
    pub(crate) minutes: Option<u64>,
    /// Only the cases whose name contains this; a name with @ and a place repeats one failure
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Keep what was found as a row of docs/reliability.md
    #[arg(long)]
    pub(crate) record: bool,
    /// List the gates
    #[arg(long)]
    pub(crate) list: bool,
}

impl Plan {
    /// As it was typed, with a seed.
    pub(crate) fn from_arguments() -> Self {
        let mut plan = Self::parse();
        plan.seed.get_or_insert_with(|| narrows_bench::clock::now_ns() % 1_000_000_007);
        plan
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_default()
    }

    /// What repeats a gate of this run.
    pub(crate) fn command(&self, gate: &str) -> String {
        let mut command = format!("cargo xtask prove {gate}");
        if self.sample {
            command += &format!(" --sample --seed {}", self.seed());
        }
        if let Some(only) = &self.only {
            command += &format!(" --only {only}");
        }
        command
    }

    /// The cases to walk: all, those whose name was asked for, or in a sample `count` of them.
    pub(crate) fn select(&self, names: Vec<String>, count: usize) -> Vec<String> {
        match &self.only {
            Some(only) => {
                let text = only.split(['@', ':']).next().unwrap_or_default();
                let exact = only.contains(['@', ':']);
                names
                    .into_iter()
                    .filter(|name| if exact { name == text } else { name.contains(text) })
                    .collect()
            }
            None if self.sample => self.pick(names, count),
            None => names,
        }
    }

    /// `count` of them, by the seed, in their order.
    pub(crate) fn pick<T>(&self, all: Vec<T>, count: usize) -> Vec<T> {
        let mut order: Vec<usize> = (0..all.len()).collect();
        Random::seeded(self.seed()).shuffle(&mut order);
        let chosen: BTreeSet<usize> = order.into_iter().take(count).collect();
        all.into_iter().enumerate().filter(|(at, _)| chosen.contains(at)).map(|(_, item)| item).collect()
    }

    /// The change behind the first : of `--only`, and who comes behind it.
    pub(crate) fn behind(&self) -> Option<(usize, &str)> {
        let (_, behind) = self.only.as_ref()?.split_once(':')?;
        let (change, rest) = behind.split_once('/')?;
        Some((change.parse().ok()?, rest.split('@').next()?))
    }

    /// What stands behind the @ of `--only`.
    pub(crate) fn named(&self) -> Option<&str> {
        self.only.as_ref()?.split_once('@').map(|(_, named)| named)
    }

    /// The place behind the @ of `--only`.
    pub(crate) fn place(&self, atlas: &Atlas) -> Result<Option<Place>> {
        let Some(place) = self.named() else { return Ok(None) };
        let (address, nth) = place.split_once('#').context("a place ends in #n, the n-th time")?;
        Ok(Some(Place { address: atlas.address(address)?, nth: nth.parse()? }))
    }
}
