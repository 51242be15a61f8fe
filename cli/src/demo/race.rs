//! The first act: a file goes from one process to another through each mechanism, as often as the time allows.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use narrows::{Address, Scheme};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::board::Board;
use super::cast;
use super::scene::Scene;
use super::stream::{self, Word};
use super::words;

/// One mechanism at its best, and the size in bytes of the pieces in which it is fastest.
struct Lane {
    scheme: Scheme,
    options: &'static [(&'static str, &'static str)],
    chunk: usize,
}

const LANES: [Lane; 3] = [
    Lane { scheme: Scheme::Shm, options: &[("peers", "one"), ("capacity", "8")], chunk: 256 << 10 },
    Lane { scheme: Scheme::Unix, options: &[], chunk: 64 << 10 },
    Lane { scheme: Scheme::Fifo, options: &[("capacity_bytes", "1M")], chunk: 128 << 10 },
];

/// How one mechanism did. Bytes and times are those after the first pass, which is hashed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) scheme: String,
    pub(crate) chunk_bytes: usize,
    pub(crate) bytes: u64,
    pub(crate) ns: u64,
    pub(crate) bytes_per_s: f64,
    pub(crate) latency_p50_ns: u64,
    pub(crate) sender_cpu_ns_per_mib: f64,
    pub(crate) receiver_cpu_ns_per_mib: f64,
    pub(crate) sha256: String,
}

/// What is known of a mechanism while it runs, and after.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) scheme: &'static str,
    pub(crate) bytes_per_s: Option<f64>,
    pub(crate) latency_ns: Option<u64>,
    /// Of the sender and the receiver, in nanoseconds for a mebibyte.
    pub(crate) cpu_ns: Option<[f64; 2]>,
    /// The length of its bar, 1 for the longest.
    pub(crate) part: f64,
}

/// The hash of bytes as people compare it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes).iter())
}

fn hexadecimal<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Runs each mechanism for `seconds`.
pub(crate) fn run(scene: &Scene, file: &Path, seconds: f64) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for lane in &LANES {
        let outcome = lane.run(scene, file, seconds, &outcomes)?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// What is known of mechanisms that have run, the bars to scale.
pub(crate) fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let fastest = outcomes.iter().map(|outcome| outcome.bytes_per_s).fold(0.0, f64::max);
    let row = |(lane, outcome): (&Lane, &Outcome)| Row {
        scheme: lane.scheme.name(),
        bytes_per_s: Some(outcome.bytes_per_s),
        latency_ns: Some(outcome.latency_p50_ns),
        cpu_ns: Some([outcome.sender_cpu_ns_per_mib, outcome.receiver_cpu_ns_per_mib]),
        part: outcome.bytes_per_s / fastest,
    };
    LANES.iter().zip(outcomes).map(row).collect()
}

impl Lane {
    fn run(&self, scene: &Scene, file: &Path, seconds: f64, before: &[Outcome]) -> anyhow::Result<Outcome> {
        let board = Board::create(stream::WORDS, 0)?;
        let mut arguments: Vec<OsString> =
            vec!["--board".into(), board.path().into(), "--file".into(), file.into()];
        for way in ["there", "back"] {
            let address = self.address(scene, way)?.to_string();
            arguments.extend([format!("--{way}").into(), address.into()]);
        }
        arguments.extend(
            ["--chunk", &self.chunk.to_string(), "--seconds", &seconds.to_string()].map(OsString::from),
        );
        let mut actors = [scene.start("far", arguments.clone())?, scene.start("near", arguments)?];
        let mut start = None;
        cast::end(&mut actors, scene.bound(), || {
            scene.check()?;
            let bytes = board.get(Word::Bytes as u64)?;
            if bytes > 0 && start.is_none() {
                start = Some((std::time::Instant::now(), bytes));
            }
            let passed = start.map_or(Duration::ZERO, |(start, _)| start.elapsed()).as_secs_f64();
            let row = self.row_so_far(&board, bytes, passed, seconds, before)?;
            scene.show(|| rows(before).iter().chain([&row]).map(words::race_row).collect());
            Ok(())
        })?;
        self.outcome(&board)
    }

    fn address(&self, scene: &Scene, way: &str) -> anyhow::Result<Address> {
        let address = scene.address(self.scheme, &format!("{}-{way}", self.scheme))?;
        let with = |address: Address, (key, value): &(&str, &str)| address.with(key, value);
        Ok(self.options.iter().try_fold(address, with)?)
    }

    /// The bar grows with the bytes; that of the first mechanism, which has nothing to be compared with, with the time.
    fn row_so_far(
        &self,
        board: &Board,
        bytes: u64,
        passed: f64,
        seconds: f64,
        before: &[Outcome],
    ) -> anyhow::Result<Row> {
        let latency = board.get(Word::LatencyNs as u64)?;
        let longest = before.iter().map(|outcome| outcome.bytes).max();
        let part = longest.map_or(passed / seconds, |longest| bytes as f64 / longest as f64);
        Ok(Row {
            scheme: self.scheme.name(),
            bytes_per_s: (passed > 0.05).then(|| bytes as f64 / passed),
            latency_ns: (latency > 0).then_some(latency),
            cpu_ns: None,
            part,
        })
    }

    fn outcome(&self, board: &Board) -> anyhow::Result<Outcome> {
        let get = |word: Word| board.get(word as u64);
        let (bytes, ns) = (get(Word::Bytes)?, get(Word::Nanoseconds)?);
        ensure!(bytes > 0 && ns > 0, "nothing came through {}: in so short a time", self.scheme);
        let mib = bytes as f64 / f64::from(1 << 20);
        let mut hash = Vec::new();
        for at in 0..4 {
            hash.extend_from_slice(&board.get(Word::Hash as u64 + at)?.to_be_bytes());
        }
        Ok(Outcome {
            scheme: self.scheme.to_string(),
            chunk_bytes: self.chunk,
            bytes,
            ns,
            bytes_per_s: bytes as f64 * 1e9 / ns as f64,
            latency_p50_ns: get(Word::LatencyNs)?,
            sender_cpu_ns_per_mib: get(Word::NearCpuNs)? as f64 / mib,
            receiver_cpu_ns_per_mib: get(Word::FarCpuNs)? as f64 / mib,
            sha256: hexadecimal(hash.iter()),
        })
    }
}
