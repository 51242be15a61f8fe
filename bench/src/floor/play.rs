//! The scheme `floor`: each floor as a scenario of the engine.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::thread::futex;

use super::line::Lines;
use super::memory::{self, LINE, Shared};
use super::ring::{self, RingReceiver, RingSender};
use crate::clock::Ticks;
use crate::payload::{Sink, Source};
use crate::player::{Meter, Player, RINGS_AT};
use crate::scenario::{Act, BATCH, By, Case, DEFAULT, FLOOR, ROOMY};
use crate::scheme::{Rx, Scheme, Tx};

/// How long a side of the bare ring rests when there is nothing to do.
const PAUSES: u32 = 64;
/// Slots of the copying ring.
const SLOTS: usize = 64;
/// What a new segment reserves, in bytes.
const SEGMENT_BYTES: usize = 128 << 10;

/// The floors.
pub(crate) struct Floor;

impl Scheme for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn cases(&self) -> Vec<Case> {
        FLOOR.iter().flat_map(|scenario| scenario.cases()).collect()
    }

    fn play(&self, player: Player) -> Result<()> {
        let case = player.case();
        let bytes = match case.scenario.by {
            By::FittedCopy => 2 * ring::bytes(SLOTS, slot_bytes(&player)),
            _ => ring::bytes(ROOMY, LINE),
        };
        let memory = player.map_scratch(bytes)?;
        match (case.scenario.name, case.scenario.act) {
            ("latency_one_to_one_cache_line", _) => bounce(player, &memory, true),
            ("latency_one_to_one_cache_line_shared", _) => bounce(player, &memory, false),
            ("latency_one_to_one_futex", _) => wake(player, &memory),
            ("throughput_memcpy", _) => copy(player),
            ("latency_create", _) => create(player),
            ("latency_open", _) => open(player),
            (_, Act::PingPong) => slots_there_and_back(player, &memory),
            (_, _) if case.scenario.by == By::FittedCopy => slots(player, &memory),
            (_, _) => items(player, &memory),
        }
    }

    fn clean_up(&self, name: &str) {
        for number in 0..2 {
            let _ = std::fs::remove_file(format!("/dev/shm/{name}-{number}"));
        }
    }
}

fn bounce(player: Player, memory: &Shared, one_way: bool) -> Result<()> {
    let lines = |writer| Lines::new(memory, RINGS_AT, writer, one_way);
    match player.role() {
        0 => player.ping(lines(0), lines(1)),
        _ => player.pong(lines(1), lines(0)),
    }
}

impl Tx for Lines<'_> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        self.write(source.words());
        Ok(())
    }
}

impl Rx for Lines<'_> {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        sink.words(&self.read())
    }
}

/// One way of the bare futex: a word that counts.
struct Word<'a> {
    word: &'a AtomicU32,
    count: u32,
}

fn wake(player: Player, memory: &Shared) -> Result<()> {
    let word = |which: usize| Word { word: memory.half_word(RINGS_AT + which * 2 * LINE), count: 0 };
    match player.role() {
        0 => player.ping(word(0), word(1)),
        _ => player.pong(word(1), word(0)),
    }
}

impl Tx for Word<'_> {
    fn send(&mut self, _: &mut Source) -> Result<()> {
        self.count = self.count.wrapping_add(1);
        self.word.store(self.count, Ordering::Release);
        futex::wake(self.word, futex::Flags::empty(), 1)?;
        Ok(())
    }
}

impl Rx for Word<'_> {
    fn recv(&mut self, _: &mut Sink) -> Result<()> {
        let old = self.count;
        self.count = self.count.wrapping_add(1);
        while self.word.load(Ordering::Acquire) == old {
            match futex::wait(self.word, futex::Flags::empty(), old, None) {
                Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn items(player: Player, memory: &Shared) -> Result<()> {
    let items = if player.case().scenario.is_roomy { ROOMY } else { DEFAULT };
    match player.role() {
        0 => player.stream_out(Items(RingSender::new(memory, RINGS_AT, items, LINE).patient(PAUSES))),
        _ => player.stream_in(Items(RingReceiver::new(memory, RINGS_AT, items, LINE).patient(PAUSES))),
    }
}

/// An end of the bare ring.
struct Items<R>(R);

impl Tx for Items<RingSender<'_>> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        self.0.put(source.words());
        self.0.publish();
        Ok(())
    }

    #[inline]
    fn send_batch(&mut self, source: &mut Source) -> Result<()> {
        for _ in 0..BATCH {
            self.0.put(source.words());
        }
        self.0.publish();
        Ok(())
    }
}

impl Rx for Items<RingReceiver<'_>> {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        let item = self.0.get();
        self.0.release();
        sink.words(&item)
    }

    #[inline]
    fn recv_batch(&mut self, sink: &mut Sink) -> Result<usize> {
        let count = self.0.wait().min(BATCH as u64) as usize;
        for _ in 0..count {
            sink.words(&self.0.get())?;
        }
        self.0.release();
        Ok(count)
    }
}

/// An end of the copying ring, with the private memory that messages are copied to.
struct Slots<R>(R, Vec<u8>);

fn slot_bytes(player: &Player) -> usize {
    player.case().size.next_multiple_of(LINE)
}

fn slots(player: Player, memory: &Shared) -> Result<()> {
    let slot_bytes = slot_bytes(&player);
    match player.role() {
        0 => player.stream_out(Slots::sender(memory, RINGS_AT, slot_bytes)),
        _ => player.stream_in(Slots::receiver(memory, RINGS_AT, slot_bytes)),
    }
}

fn slots_there_and_back(player: Player, memory: &Shared) -> Result<()> {
    let slot_bytes = slot_bytes(&player);
    let (there, back) = (RINGS_AT, RINGS_AT + ring::bytes(SLOTS, slot_bytes));
    match player.role() {
        0 => player.ping(Slots::sender(memory, there, slot_bytes), Slots::receiver(memory, back, slot_bytes)),
        _ => player.pong(Slots::sender(memory, back, slot_bytes), Slots::receiver(memory, there, slot_bytes)),
    }
}

impl<'a> Slots<RingSender<'a>> {
    fn sender(memory: &'a Shared, offset: usize, slot_bytes: usize) -> Self {
        Self(RingSender::new(memory, offset, SLOTS, slot_bytes), Vec::new())
    }
}

impl<'a> Slots<RingReceiver<'a>> {
    fn receiver(memory: &'a Shared, offset: usize, slot_bytes: usize) -> Self {
        Self(RingReceiver::new(memory, offset, SLOTS, slot_bytes), vec![0; slot_bytes])
    }
}

impl Tx for Slots<RingSender<'_>> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        self.0.copy_in(source.bytes());
        self.0.publish();
        Ok(())
    }
}

impl Rx for Slots<RingReceiver<'_>> {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        let message = &mut self.1[..sink.size()];
        self.0.copy_out(message);
        self.0.release();
        sink.bytes(message)
    }
}

fn copy(player: Player) -> Result<()> {
    let mut source = Source::new(player.case().size, 0);
    let mut to = vec![0; player.case().size];
    player.other(|count| {
        let meter = Meter::start()?;
        for _ in 0..count {
            to.copy_from_slice(source.bytes());
            std::hint::black_box(&mut to);
        }
        meter.stop(count)
    })
}

/// Maps a file of shared memory and locks it: a lock that the mapping holds, as long as this process lives.
fn take_part(path: &str) -> Result<Shared> {
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let memory = Shared::map(&file, SEGMENT_BYTES)?;
    memory.keep_private()?;
    memory::lock(&file)?;
    Ok(memory)
}

/// Makes a file of shared memory, whole before it has its name, and maps it.
fn make(path: &str) -> Result<(OwnedFd, Shared)> {
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::open("/dev/shm", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SEGMENT_BYTES as u64)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let memory = take_part(&unnamed)?;
    rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok((file, memory))
}

fn create(player: Player) -> Result<()> {
    let path = format!("/dev/shm/{}", player.name(0));
    player.alone(|| {
        let before = Ticks::read();
        let made = make(&path)?;
        let ticks = Ticks::read() - before;
        drop(made);
        rustix::fs::unlink(&path)?;
        Ok(ticks)
    })
}

fn open(player: Player) -> Result<()> {
    let path = format!("/dev/shm/{}", player.name(0));
    make(&path)?;
    let played = player.alone(|| {
        let before = Ticks::read();
        let file = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::fstat(&file)?;
        let memory = take_part(&path)?;
        let ticks = Ticks::read() - before;
        drop((file, memory));
        Ok(ticks)
    });
    rustix::fs::unlink(&path)?;
    played
}
