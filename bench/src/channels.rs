//! The schemes of narrows.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use narrows::message::{Bytes, Plain};
use narrows::{Address, Deadline, Message, Receiver, Sender};

use crate::clock::Ticks;
use crate::payload::{Sink, Source};
use crate::player::Player;
use crate::scenario::{Act, BATCH, By, CHANNEL, Case, Pattern, ROOMY, Wait};
use crate::scheme::{Rx, Scheme, Tx};

/// One scheme of narrows.
pub(crate) struct Channels {
    scheme: narrows::Scheme,
    name: &'static str,
}

/// Datagrams of Unix sockets, the one kind of channel that is no scheme of its own.
const DATAGRAMS: &str = "unix-dgram";
/// What fits one of them wherever the kernel's settings are the usual ones.
const DATAGRAM_MAX: usize = 128 << 10;

const fn of(scheme: narrows::Scheme) -> Channels {
    Channels { scheme, name: scheme.name() }
}

/// Those that are measured.
pub(crate) const ALL: [Channels; 6] = [
    of(narrows::Scheme::Shm),
    of(narrows::Scheme::File),
    of(narrows::Scheme::Memfd),
    of(narrows::Scheme::Unix),
    Channels { name: DATAGRAMS, ..of(narrows::Scheme::Unix) },
    of(narrows::Scheme::Fifo),
];

impl Scheme for Channels {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cases(&self) -> Vec<Case> {
        CHANNEL.iter().flat_map(|scenario| scenario.cases()).filter(|case| self.has(case)).collect()
    }

    fn play(&self, player: Player) -> Result<()> {
        let case = player.case();
        if case.scenario.act == Act::Alone {
            return self.open_alone(player);
        }
        match (case.scenario.by, case.size) {
            (By::Reference, _) => self.play_as::<[u8], ByReference>(player),
            (_, 8) => self.play_as::<[u64; 1], Words<1>>(player),
            (_, 32) => self.play_as::<[u64; 4], Words<4>>(player),
            (_, 48) => self.play_as::<[u64; 6], Words<6>>(player),
            _ => self.play_as::<[u8], ByCopy>(player),
        }
    }

    fn clean_up(&self, name: &str) {
        for number in 0..2 {
            let _ = match self.scheme {
                narrows::Scheme::Shm => std::fs::remove_file(format!("/dev/shm/{name}-{number}")),
                _ => std::fs::remove_file(path(&format!("{name}-{number}"))),
            };
        }
    }
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

impl Channels {
    /// Kernel channels sleep always, and are measured between one sender and one receiver.
    fn has(&self, case: &Case) -> bool {
        let scenario = case.scenario;
        match self.scheme {
            narrows::Scheme::Unix | narrows::Scheme::Fifo => {
                let is_sleeping = matches!(case.wait, Some(Wait::Sleep));
                let is_one_to_one = scenario.pattern == Pattern::OneToOne && scenario.by != By::FittedCopy;
                let fits = self.name != DATAGRAMS || case.size <= DATAGRAM_MAX;
                is_sleeping && is_one_to_one && fits
            }
            // Another process cannot open anonymous memory by a name.
            narrows::Scheme::Memfd => {
                scenario.senders == 1 && matches!(scenario.act, Act::PingPong | Act::Stream)
            }
            _ => true,
        }
    }

    fn address(&self, player: &Player, channel: usize) -> Result<Address> {
        let (name, case) = (player.name(channel), player.case());
        let address = match self.scheme {
            narrows::Scheme::Unix => {
                let address = Address::new(self.scheme, format!("@{name}"))?;
                return Ok(if self.name == DATAGRAMS { address.with("type", "dgram")? } else { address });
            }
            narrows::Scheme::Fifo => return Ok(Address::new(self.scheme, path(&name))?),
            narrows::Scheme::File => Address::new(self.scheme, path(&name))?,
            _ => Address::new(self.scheme, name)?,
        };
        let address = match case.wait {
            Some(wait) => address.with("wait", wait.name())?,
            None => address,
        };
        let address = match case.scenario.pattern {
            Pattern::OneToOne => address.with("peers", "one")?,
            Pattern::ManyToMany => address,
        };
        // Sixteen megabytes in each of many places would measure the machine's memory.
        let address = if case.size > 1 << 20 { address.with("capacity", 8)? } else { address };
        let address = if case.scenario.act == Act::Round { address.with("capacity", 0)? } else { address };
        let address = if case.scenario.is_roomy { address.with("capacity", ROOMY)? } else { address };
        Ok(match case.scenario.by {
            By::FittedCopy => address.with("capacity", 64)?.with("slot_bytes", case.size)?,
            _ => address,
        })
    }

    fn play_as<T, E>(&self, player: Player) -> Result<()>
    where
        T: Message + ?Sized,
        E: Ends<T>,
    {
        let is_sender = player.role() != 1;
        // Who receives binds, and whoever sends waits for it: so every player opens its receiver first.
        match player.case().scenario.act {
            Act::PingPong => {
                let (to, from) = if is_sender { (0, 1) } else { (1, 0) };
                let rx = E::rx(self.receiver(&player, from)?);
                let tx = E::tx(self.sender(&player, to)?);
                if is_sender { player.ping(tx, rx) } else { player.pong(tx, rx) }
            }
            Act::Round if is_sender => {
                let tx = E::tx(self.sender(&player, 0)?);
                player.round(tx)
            }
            Act::Idle if is_sender => {
                let _sender = self.sender::<T>(&player, 0)?;
                player.stand_by()
            }
            Act::Idle => {
                let mut receiver = self.receiver::<T>(&player, 0)?;
                player.idle(|deadline| match receiver.recv_by(deadline) {
                    Ok(None) => Ok(true),
                    Err(narrows::Error::TimedOut { .. }) => Ok(false),
                    Ok(Some(_)) => bail!("a message came where nobody sends"),
                    Err(error) => Err(error.into()),
                })
            }
            _ if is_sender => {
                let tx = E::tx(self.sender(&player, 0)?);
                player.stream_out(tx)
            }
            _ => {
                let rx = E::rx(self.receiver(&player, 0)?);
                player.stream_in(rx)
            }
        }
    }

    fn sender<T: Message + ?Sized>(&self, player: &Player, channel: usize) -> Result<Sender<T>> {
        if self.scheme == narrows::Scheme::Memfd {
            return Ok(Sender::from_descriptor(taken_over(player, channel)?)?);
        }
        Ok(Sender::open_by(&self.address(player, channel)?, std::time::Duration::from_secs(10))?)
    }

    fn receiver<T: Message + ?Sized>(&self, player: &Player, channel: usize) -> Result<Receiver<T>> {
        let receiver = Receiver::open(&self.address(player, channel)?)?;
        if self.scheme == narrows::Scheme::Memfd {
            hand_over(player, channel, receiver.descriptor()?.as_raw_fd());
        }
        Ok(receiver)
    }

    fn open_alone(&self, player: Player) -> Result<()> {
        let address = self.address(&player, 0)?;
        let keeper = match player.case().scenario.name {
            "latency_many_to_many_open" => Some(Receiver::<[u8]>::open(&address)?),
            _ => None,
        };
        player.alone(|| {
            let before = Ticks::read();
            let opened = Sender::<[u8]>::open(&address)?;
            let ticks = Ticks::read() - before;
            drop(opened);
            Ok(ticks)
        })?;
        drop(keeper);
        Ok(())
    }
}

/// Tells the others where a descriptor of this process is.
fn hand_over(player: &Player, channel: usize, descriptor: i32) {
    let place = (u64::from(std::process::id()) << 32) | descriptor as u64;
    player.word(channel).store(place, Ordering::Release);
}

fn taken_over(player: &Player, channel: usize) -> Result<OwnedFd> {
    let mut place = 0;
    for _ in 0..10_000 {
        place = player.word(channel).load(Ordering::Acquire);
        if place != 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let path = format!("/proc/{}/fd/{}", place >> 32, place & 0xffff_ffff);
    let file = File::options().read(true).write(true).open(&path);
    Ok(file.with_context(|| format!("the channel's descriptor {path}"))?.into())
}

/// How messages of a type go through a narrows channel.
trait Ends<T: Message + ?Sized> {
    type Tx: Tx;
    type Rx: Rx;
    fn tx(sender: Sender<T>) -> Self::Tx;
    fn rx(receiver: Receiver<T>) -> Self::Rx;
}

/// Plain values of `N` words.
struct Words<const N: usize>;
struct WordsTx<const N: usize>(Sender<[u64; N]>);
struct WordsRx<const N: usize> {
    receiver: Receiver<[u64; N]>,
    places: [Plain<[u64; N]>; BATCH],
}

impl<const N: usize> Ends<[u64; N]> for Words<N> {
    type Tx = WordsTx<N>;
    type Rx = WordsRx<N>;

    fn tx(sender: Sender<[u64; N]>) -> WordsTx<N> {
        WordsTx(sender)
    }

    fn rx(receiver: Receiver<[u64; N]>) -> WordsRx<N> {
        WordsRx { receiver, places: [Plain([0; N]); BATCH] }
    }
}

impl<const N: usize> Tx for WordsTx<N> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        Ok(self.0.send(&source.words())?)
    }

    #[inline]
    fn send_batch(&mut self, source: &mut Source) -> Result<()> {
        let messages: [[u64; N]; BATCH] = std::array::from_fn(|_| source.words());
        match self.0.send_many(&messages, Deadline::Never)? {
            BATCH => Ok(()),
            sent => bail!("{sent} of {BATCH} messages were sent without a deadline"),
        }
    }
}

impl<const N: usize> Rx for WordsRx<N> {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        match self.receiver.recv()? {
            Some(message) => sink.words(&message),
            None => Err(ended()),
        }
    }

    #[inline]
    fn recv_batch(&mut self, sink: &mut Sink) -> Result<usize> {
        let count = self.receiver.recv_many(&mut self.places, Deadline::Never)?;
        self.places[..count].iter().try_for_each(|place| sink.words(&place.0))?;
        if count == 0 { Err(ended()) } else { Ok(count) }
    }
}

/// Bytes, copied.
struct ByCopy;
struct CopyTx(Sender);
struct CopyRx(Receiver, Bytes);

impl Ends<[u8]> for ByCopy {
    type Tx = CopyTx;
    type Rx = CopyRx;

    fn tx(sender: Sender) -> CopyTx {
        CopyTx(sender)
    }

    fn rx(receiver: Receiver) -> CopyRx {
        CopyRx(receiver, Bytes::default())
    }
}

impl Tx for CopyTx {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        Ok(self.0.send(source.bytes())?)
    }
}

impl Rx for CopyRx {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        match self.0.recv_into(&mut self.1, Deadline::Never)? {
            true => sink.bytes(&self.1),
            false => Err(ended()),
        }
    }
}

/// Bytes, written and read where they lie.
struct ByReference;
struct ReferenceTx(Sender);
struct ReferenceRx(Receiver);

impl Ends<[u8]> for ByReference {
    type Tx = ReferenceTx;
    type Rx = ReferenceRx;

    fn tx(sender: Sender) -> ReferenceTx {
        ReferenceTx(sender)
    }

    fn rx(receiver: Receiver) -> ReferenceRx {
        ReferenceRx(receiver)
    }
}

impl Tx for ReferenceTx {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        let [first, last] = source.ends();
        let mut loan = self.0.loan(source.size())?;
        loan.write_at(0, &first);
        loan.write_at(source.size() - 8, &last);
        Ok(self.0.commit(loan).map_err(narrows::Error::from)?)
    }
}

impl Rx for ReferenceRx {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        let Some(message) = self.0.recv_in_place(Deadline::Never)? else { return Err(ended()) };
        let word = |at| {
            let mut word = [0; 8];
            message.read_at(at, &mut word);
            u64::from_ne_bytes(word)
        };
        sink.ends(message.len(), [word(0), word(message.len() - 8)])
    }
}

#[cold]
fn ended() -> anyhow::Error {
    anyhow::anyhow!("the channel ended in the middle of a measurement")
}
