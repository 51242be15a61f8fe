//! shaq: a ring of items of one size in a shared file, either for one sender and one receiver or for many. As many
//! items as in the channels of narrows; where it sleeps, it does so on its own futex.

use std::fs::File;
use std::hint::spin_loop;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use narrows_bench::payload::{Sink, Source};
use narrows_bench::scenario::{Act, BATCH, By, CHANNEL, DEFAULT, Pattern, ROOMY};
use narrows_bench::{Case, Player, Rx, Scheme, Tx, Wait};
use shaq::{mpmc, spsc};

use crate::leftovers;

/// How long a sender waits until its receiver has made the queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// The rival.
pub(crate) struct Shaq;

impl Scheme for Shaq {
    fn name(&self) -> &'static str {
        "shaq"
    }

    fn cases(&self) -> Vec<Case> {
        CHANNEL.iter().flat_map(|scenario| scenario.cases()).filter(has).collect()
    }

    fn play(&self, player: Player) -> Result<()> {
        match (player.case().scenario.pattern, player.case().size) {
            (Pattern::OneToOne, 8) => play::<spsc::Consumer<[u64; 1]>>(player),
            (Pattern::OneToOne, 32) => play::<spsc::Consumer<[u64; 4]>>(player),
            (Pattern::OneToOne, _) => play::<spsc::Consumer<[u64; 6]>>(player),
            (Pattern::ManyToMany, 8) => play::<mpmc::Consumer<[u64; 1]>>(player),
            (Pattern::ManyToMany, 32) => play::<mpmc::Consumer<[u64; 4]>>(player),
            (Pattern::ManyToMany, _) => play::<mpmc::Consumer<[u64; 6]>>(player),
        }
    }

    fn clean_up(&self, name: &str) {
        leftovers::remove(&format!("{name}-"));
    }
}

/// The size of its items is known when it is compiled: it is, of small messages.
fn has(case: &Case) -> bool {
    let is_small = matches!(case.size, 8 | 32 | 48);
    let is_known = matches!(case.scenario.by, By::Copy | By::Batch);
    match case.scenario.act {
        Act::PingPong => is_small && is_known,
        Act::Stream => is_small && is_known && case.wait == Some(Wait::Spin),
        Act::Round | Act::Alone | Act::Idle => false,
    }
}

/// A queue, by the type of its receiving end.
trait Queue: Sized {
    type Sender;
    fn create(file: &File, capacity: usize) -> Result<Self>;
    fn join(file: &File) -> Result<Self::Sender>;
}

struct In<R> {
    queue: R,
    wait: Option<Wait>,
}

struct Out<S>(S);

fn play<R: Queue>(player: Player) -> Result<()>
where
    In<R>: Rx,
    Out<R::Sender>: Tx,
{
    let case = player.case();
    let rx = |channel| -> Result<In<R>> {
        let path = path(&player.name(channel));
        let unborn = path.with_extension("unborn");
        let file = File::options().read(true).write(true).create_new(true).open(&unborn)?;
        let queue = R::create(&file, if case.scenario.is_roomy { ROOMY } else { DEFAULT })?;
        std::fs::rename(unborn, path)?;
        Ok(In { queue, wait: case.wait })
    };
    let tx = |channel| -> Result<Out<R::Sender>> { Ok(Out(R::join(&born(&path(&player.name(channel)))?)?)) };
    match (case.scenario.act, player.role()) {
        (Act::PingPong, 0) => {
            let (rx, tx) = (rx(1)?, tx(0)?);
            player.ping(tx, rx)
        }
        (Act::PingPong, _) => {
            let (rx, tx) = (rx(0)?, tx(1)?);
            player.pong(tx, rx)
        }
        (_, 1) => {
            let rx = rx(0)?;
            player.stream_in(rx)
        }
        _ => {
            let tx = tx(0)?;
            player.stream_out(tx)
        }
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name)
}

/// The file once it is there.
fn born(path: &Path) -> Result<File> {
    let end = Instant::now() + PATIENCE;
    loop {
        match File::options().read(true).write(true).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                ensure!(Instant::now() < end, "{} is not there after {PATIENCE:?}", path.display());
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened.with_context(|| path.display().to_string()),
        }
    }
}

/// What both kinds of queue do by calls of the same names.
macro_rules! queue {
    ($kind:ident) => {
        impl<const N: usize> Queue for $kind::Consumer<[u64; N]> {
            type Sender = $kind::Producer<[u64; N]>;

            fn create(file: &File, capacity: usize) -> Result<Self> {
                // SAFETY: the file was made for this queue, by the only one who ever initialises it.
                Ok(unsafe { Self::create(file, $kind::minimum_file_size::<[u64; N]>(capacity)) }?)
            }

            fn join(file: &File) -> Result<Self::Sender> {
                // SAFETY: the file got its name when the queue in it was whole; both ends have items of `N` words.
                // Where only one may send, one does.
                Ok(unsafe { $kind::Producer::join(file) }?)
            }
        }

        impl<const N: usize> Rx for In<$kind::Consumer<[u64; N]>> {
            #[inline]
            fn recv(&mut self, sink: &mut Sink) -> Result<()> {
                loop {
                    let words = match self.wait {
                        Some(Wait::Sleep) => self.queue.read_timeout(PATIENCE).ok(),
                        _ => self.queue.try_read(),
                    };
                    match words {
                        Some(words) => return sink.words(&words),
                        None => spin_loop(),
                    }
                }
            }

            #[inline]
            fn recv_batch(&mut self, sink: &mut Sink) -> Result<usize> {
                const MOST: NonZeroUsize = NonZeroUsize::new(BATCH).unwrap();
                loop {
                    if let Some(batch) = self.queue.try_reserve_read_batch(MOST) {
                        batch.iter().try_for_each(|words| sink.words(words))?;
                        return Ok(batch.len());
                    }
                    spin_loop();
                }
            }
        }
    };
}

queue!(spsc);
queue!(mpmc);

impl<const N: usize> Tx for Out<spsc::Producer<[u64; N]>> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        let words = source.words();
        while self.0.try_write(words).is_err() {
            spin_loop();
        }
        Ok(())
    }

    #[inline]
    fn send_batch(&mut self, source: &mut Source) -> Result<()> {
        let mut batch = self.0.write_batch();
        for _ in 0..BATCH {
            let words = source.words();
            while batch.try_write(words).is_err() {
                // What was written is published, and what was read meanwhile is seen.
                drop(batch);
                spin_loop();
                batch = self.0.write_batch();
            }
        }
        Ok(())
    }
}

impl<const N: usize> Tx for Out<mpmc::Producer<[u64; N]>> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        let words = source.words();
        while self.0.try_write(words).is_err() {
            spin_loop();
        }
        Ok(())
    }

    #[inline]
    fn send_batch(&mut self, source: &mut Source) -> Result<()> {
        let messages: [[u64; N]; BATCH] = std::array::from_fn(|_| source.words());
        while !self.0.try_write_slice(&messages) {
            spin_loop();
        }
        Ok(())
    }
}
