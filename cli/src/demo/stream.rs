//! The two processes of the race: `near` has the file, `far` gets it.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use narrows::message::Bytes;
use narrows::{Capability, Receiver, Sender};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

use super::board::Board;
use super::checksum::Checksum;

/// No more of a file is streamed, so that it fits into memory and is hashed in time.
pub(crate) const FILE_MAX: u64 = 256 << 20;
/// No single wait takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a ping.
const PING: usize = 48;
/// Round trips between two looks at the clock.
const ROUNDS: usize = 8;
/// Bytes that are checked at once: they stay in the first cache.
const PIECE: usize = 16 << 10;

/// Words on the board of one race.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    /// Bytes that arrived after the first pass.
    Bytes,
    /// The time in which they did.
    Nanoseconds,
    LatencyNs,
    NearCpuNs,
    FarCpuNs,
    /// The first pass has arrived and is hashed.
    Ready,
    /// The first of four that hold the hash.
    Hash,
}

/// Words in all.
pub(crate) const WORDS: u64 = Word::Hash as u64 + 4;

/// What both sides are told.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) parent: u32,
    #[arg(long)]
    pub(crate) board: PathBuf,
    #[arg(long)]
    pub(crate) there: String,
    #[arg(long)]
    pub(crate) back: String,
    #[arg(long)]
    pub(crate) file: PathBuf,
    #[arg(long)]
    pub(crate) chunk: usize,
    #[arg(long)]
    pub(crate) seconds: f64,
}

/// The file's bytes, the first [`FILE_MAX`] of a longer one.
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends the file once to be hashed, then again and again for the time that was asked for, then an empty message. Pings
/// come last: by then the scheduler has found a place for both processes.
pub(crate) fn near(args: &Args) -> anyhow::Result<()> {
    let board = Board::open(&args.board, WORDS)?;
    let bytes = read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let mut back = Receiver::<[u8]>::open_by(&*args.back, PATIENCE)?;
    let mut there = Sender::<[u8]>::open_by(&*args.there, PATIENCE)?;
    let seconds = Duration::from_secs_f64(args.seconds);
    for chunk in bytes.chunks(args.chunk) {
        there.send_by(chunk, PATIENCE)?;
    }
    board.wait(Word::Ready as u64, PATIENCE.into())?;
    let (cpu, start) = (cpu_ns(), Instant::now());
    for chunk in std::iter::repeat_with(|| bytes.chunks(args.chunk)).flatten() {
        there.send_by(chunk, PATIENCE)?;
        if start.elapsed() >= seconds {
            break;
        }
    }
    board.set(Word::NearCpuNs as u64, cpu_ns() - cpu)?;
    there.send_by(&[], PATIENCE)?;
    board.set(Word::LatencyNs as u64, latency(&mut there, &mut back, seconds / 10)?)?;
    Ok(())
}

/// Half the median round trip in nanoseconds. The last ping begins with 1.
fn latency(there: &mut Sender, back: &mut Receiver, time: Duration) -> anyhow::Result<u64> {
    let mut samples = Vec::new();
    let mut place = Bytes::default();
    let start = Instant::now();
    while start.elapsed() < time || samples.is_empty() {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            there.send_by(&[0; PING], PATIENCE)?;
            ensure!(back.recv_into(&mut place, PATIENCE)?, "the far side is gone");
        }
        samples.push(began.elapsed().as_nanos() as u64);
    }
    there.send_by(&[1; PING], PATIENCE)?;
    samples.sort_unstable();
    Ok(samples[samples.len() / 2] / (2 * ROUNDS as u64))
}

/// Hashes the first pass, compares every later chunk with it by a checksum of all its bytes, and echoes the pings.
pub(crate) fn far(args: &Args) -> anyhow::Result<()> {
    let board = Board::open(&args.board, WORDS)?;
    let mut incoming = Incoming::new(Receiver::open_by(&*args.there, PATIENCE)?);
    let mut back = Sender::<[u8]>::open_by(&*args.back, PATIENCE)?;
    let len = std::fs::metadata(&args.file)?.len().min(FILE_MAX);
    let mut hash = Sha256::new();
    let mut sums = Vec::new();
    for _ in 0..len.div_ceil(args.chunk as u64) {
        let mut sum = Checksum::default();
        let came = incoming.next(|piece| {
            hash.update(piece);
            sum.add(piece);
        })?;
        ensure!(came.is_some(), "the near side is gone");
        sums.push(sum.value());
    }
    for (at, part) in hash.finalize().chunks_exact(8).enumerate() {
        board.set(Word::Hash as u64 + at as u64, u64::from_be_bytes(part.try_into()?))?;
    }
    let (cpu, start) = (cpu_ns(), Instant::now());
    board.set(Word::Ready as u64, 1)?;
    let bytes = board.word(Word::Bytes as u64)?;
    for expected in sums.iter().cycle() {
        let mut sum = Checksum::default();
        let len = incoming.next(|piece| sum.add(piece))?.context("the near side is gone")?;
        if len == 0 {
            break;
        }
        ensure!(sum.value() == *expected, "a chunk arrived with other bytes than before");
        bytes.fetch_add(len as u64, Relaxed);
    }
    board.set(Word::Nanoseconds as u64, start.elapsed().as_nanos() as u64)?;
    board.set(Word::FarCpuNs as u64, cpu_ns() - cpu)?;
    echo(&mut incoming.receiver, &mut back)
}

fn echo(from: &mut Receiver, to: &mut Sender) -> anyhow::Result<()> {
    let mut place = Bytes::default();
    loop {
        ensure!(from.recv_into(&mut place, PATIENCE)?, "the near side is gone");
        if place[0] == 1 {
            return Ok(());
        }
        to.send_by(black_box(&place), PATIENCE)?;
    }
}

/// A receiver that reads messages where they lie, where it can.
struct Incoming {
    receiver: Receiver,
    is_in_place: bool,
    place: Bytes,
    piece: Vec<u8>,
}

impl Incoming {
    fn new(receiver: Receiver) -> Self {
        let is_in_place = receiver.capabilities().has(Capability::InPlace);
        Self { receiver, is_in_place, place: Bytes::default(), piece: vec![0; PIECE] }
    }

    /// Hands over a message's bytes piece by piece, and gives their number; `None` at the end.
    fn next(&mut self, mut each: impl FnMut(&[u8])) -> anyhow::Result<Option<usize>> {
        if !self.is_in_place {
            if !self.receiver.recv_into(&mut self.place, PATIENCE)? {
                return Ok(None);
            }
            self.place.chunks(PIECE).for_each(each);
            return Ok(Some(self.place.len()));
        }
        let Some(message) = self.receiver.recv_in_place(PATIENCE)? else { return Ok(None) };
        for at in (0..message.len()).step_by(PIECE) {
            let piece = &mut self.piece[..PIECE.min(message.len() - at)];
            message.read_at(at, piece);
            each(piece);
        }
        Ok(Some(message.len()))
    }
}

/// The processor time that this process has used.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
