//! iceoryx2, publish-subscribe between two processes: no message is dropped, 64 fit, the receiver looks again and
//! again; where it sleeps, it waits for an event that the sender notifies after each message.

use std::fmt::Debug;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use iceoryx2::config::Config;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use narrows_bench::payload::{Sink, Source};
use narrows_bench::scenario::{Act, By, CHANNEL, Pattern};
use narrows_bench::{Case, Player, Rx, Scheme, Tx, Wait};

use crate::leftovers;

/// Messages that fit between two ends.
const CAPACITY: usize = 64;
/// The same where messages are larger than a mebibyte.
const CAPACITY_LARGE: usize = 8;

/// The rival.
pub(crate) struct Iceoryx;

impl Scheme for Iceoryx {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn cases(&self) -> Vec<Case> {
        CHANNEL.iter().flat_map(|scenario| scenario.cases()).filter(has).collect()
    }

    fn play(&self, player: Player) -> Result<()> {
        match (player.case().scenario.by, player.case().size) {
            (By::Reference, _) => play::<[u8], ByReference>(player),
            (_, 8) => play::<[u64; 1], Words>(player),
            (_, 32) => play::<[u64; 4], Words>(player),
            (_, 48) => play::<[u64; 6], Words>(player),
            _ => play::<[u8], ByCopy>(player),
        }
    }

    fn clean_up(&self, name: &str) {
        let _ = std::fs::remove_dir_all(root(name));
        // The name is followed by a separator: "bench-1-2" is not the beginning of "bench-1-22".
        leftovers::remove(&prefix(name));
    }
}

/// It has no batches and no slots of a chosen size, and no bound on what is unread; it sleeps by events alone.
fn has(case: &Case) -> bool {
    let scenario = case.scenario;
    let is_known = matches!(scenario.by, By::Copy | By::Reference);
    match scenario.act {
        Act::PingPong => is_known,
        Act::Stream => is_known && case.wait == Some(Wait::Spin),
        Act::Round | Act::Alone | Act::Idle => false,
    }
}

fn prefix(name: &str) -> String {
    format!("{name}_")
}

fn root(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Everything of one measurement under one prefix and one directory, so that what is killed can be removed.
fn node(player: &Player) -> Result<Node<ipc::Service>> {
    let name = player.measurement();
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix(name).as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
    let root = root(name);
    let root = Path::new(root.as_os_str().as_encoded_bytes()).map_err(|error| anyhow!("{error:?}"))?;
    config.global.set_root_path(&root);
    iceoryx2::prelude::set_log_level(LogLevel::Error);
    Ok(NodeBuilder::new().config(&config).create()?)
}

/// One channel's service, and the event beside it where the receiver sleeps.
struct Channel<'a, T: Debug + IceoryxSend + ?Sized> {
    service: iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, T, ()>,
    event: Option<iceoryx2::service::port_factory::event::PortFactory<ipc::Service>>,
    case: &'a Case,
}

/// How messages of a type go through.
trait Ends<T: Debug + IceoryxSend + ?Sized + 'static> {
    fn open<'a>(node: &Node<ipc::Service>, name: &str, case: &'a Case) -> Result<Channel<'a, T>>;
    fn publisher(channel: &Channel<'_, T>) -> Result<Publisher<ipc::Service, T, ()>>;
    fn send(publisher: &Publisher<ipc::Service, T, ()>, source: &mut Source) -> Result<()>;
    /// Whether there was a message.
    fn receive(
        subscriber: &Subscriber<ipc::Service, T, ()>,
        place: &mut [u8],
        sink: &mut Sink,
    ) -> Result<bool>;
}

fn play<T, E>(player: Player) -> Result<()>
where
    T: Debug + IceoryxSend + ?Sized + 'static,
    E: Ends<T>,
{
    let (node, case, role) = (node(&player)?, player.case(), player.role());
    let open = |number| E::open(&node, &player.name(number), &case);
    let tx = |channel: &Channel<'_, T>| -> Result<Out<T, E>> {
        let notifier = channel.event.as_ref().map(|event| event.notifier_builder().create()).transpose()?;
        Ok(Out { publisher: E::publisher(channel)?, notifier, ends: std::marker::PhantomData })
    };
    let rx = |channel: &Channel<'_, T>| -> Result<In<T, E>> {
        let listener = channel.event.as_ref().map(|event| event.listener_builder().create()).transpose()?;
        let subscriber = channel.service.subscriber_builder().create()?;
        Ok(In { subscriber, listener, place: vec![0; case.size], ends: std::marker::PhantomData })
    };
    if case.scenario.act == Act::PingPong {
        let (to, from) = if role == 0 { (open(0)?, open(1)?) } else { (open(1)?, open(0)?) };
        let (rx, tx) = (rx(&from)?, tx(&to)?);
        return if role == 0 { player.ping(tx, rx) } else { player.pong(tx, rx) };
    }
    let channel = open(0)?;
    if role == 1 {
        let rx = rx(&channel)?;
        player.stream_in(rx)
    } else {
        let tx = tx(&channel)?;
        player.stream_out(tx)
    }
}

fn event(
    node: &Node<ipc::Service>,
    name: &str,
    case: &Case,
) -> Result<Option<iceoryx2::service::port_factory::event::PortFactory<ipc::Service>>> {
    if case.wait != Some(Wait::Sleep) {
        return Ok(None);
    }
    Ok(Some(node.service_builder(&name.try_into()?).event().open_or_create()?))
}

/// Options that all types have in common.
macro_rules! channel {
    ($node:expr, $name:expr, $case:expr, $type:ty) => {{
        let is_one = $case.scenario.pattern == Pattern::OneToOne;
        let capacity = if $case.size > 1 << 20 { CAPACITY_LARGE } else { CAPACITY };
        let service = $node
            .service_builder(&$name.try_into()?)
            .publish_subscribe::<$type>()
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(capacity)
            .max_publishers(if is_one { 1 } else { 8 })
            .max_subscribers(if is_one { 1 } else { 8 })
            .open_or_create()?;
        Ok(Channel { service, event: event($node, $name, $case)?, case: $case })
    }};
}

struct Words;

impl<const N: usize> Ends<[u64; N]> for Words {
    fn open<'a>(node: &Node<ipc::Service>, name: &str, case: &'a Case) -> Result<Channel<'a, [u64; N]>> {
        channel!(node, name, case, [u64; N])
    }

    fn publisher(channel: &Channel<'_, [u64; N]>) -> Result<Publisher<ipc::Service, [u64; N], ()>> {
        let builder = channel.service.publisher_builder();
        Ok(builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()?)
    }

    #[inline]
    fn send(publisher: &Publisher<ipc::Service, [u64; N], ()>, source: &mut Source) -> Result<()> {
        publisher.loan_uninit()?.write_payload(source.words()).send()?;
        Ok(())
    }

    #[inline]
    fn receive(
        subscriber: &Subscriber<ipc::Service, [u64; N], ()>,
        _: &mut [u8],
        sink: &mut Sink,
    ) -> Result<bool> {
        let Some(sample) = subscriber.receive()? else { return Ok(false) };
        sink.words(sample.payload()).map(|()| true)
    }
}

fn bytes_publisher(channel: &Channel<'_, [u8]>) -> Result<Publisher<ipc::Service, [u8], ()>> {
    let builder = channel.service.publisher_builder().initial_max_slice_len(channel.case.size);
    Ok(builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()?)
}

struct ByCopy;

impl Ends<[u8]> for ByCopy {
    fn open<'a>(node: &Node<ipc::Service>, name: &str, case: &'a Case) -> Result<Channel<'a, [u8]>> {
        channel!(node, name, case, [u8])
    }

    fn publisher(channel: &Channel<'_, [u8]>) -> Result<Publisher<ipc::Service, [u8], ()>> {
        bytes_publisher(channel)
    }

    #[inline]
    fn send(publisher: &Publisher<ipc::Service, [u8], ()>, source: &mut Source) -> Result<()> {
        let sample = publisher.loan_slice_uninit(source.size())?;
        sample.write_from_slice(source.bytes()).send()?;
        Ok(())
    }

    #[inline]
    fn receive(
        subscriber: &Subscriber<ipc::Service, [u8], ()>,
        place: &mut [u8],
        sink: &mut Sink,
    ) -> Result<bool> {
        let Some(sample) = subscriber.receive()? else { return Ok(false) };
        place.copy_from_slice(sample.payload());
        drop(sample);
        sink.bytes(place).map(|()| true)
    }
}

struct ByReference;

impl Ends<[u8]> for ByReference {
    fn open<'a>(node: &Node<ipc::Service>, name: &str, case: &'a Case) -> Result<Channel<'a, [u8]>> {
        channel!(node, name, case, [u8])
    }

    fn publisher(channel: &Channel<'_, [u8]>) -> Result<Publisher<ipc::Service, [u8], ()>> {
        bytes_publisher(channel)
    }

    #[inline]
    fn send(publisher: &Publisher<ipc::Service, [u8], ()>, source: &mut Source) -> Result<()> {
        let mut sample = publisher.loan_slice_uninit(source.size())?;
        let [first, last] = source.ends();
        let payload = sample.payload_mut();
        let end = payload.len() - 8;
        payload[..8].write_copy_of_slice(&first);
        payload[end..].write_copy_of_slice(&last);
        // SAFETY: the bytes between lie in zeroed or formerly written shared memory: any byte is a u8.
        unsafe { sample.assume_init() }.send()?;
        Ok(())
    }

    #[inline]
    fn receive(
        subscriber: &Subscriber<ipc::Service, [u8], ()>,
        _: &mut [u8],
        sink: &mut Sink,
    ) -> Result<bool> {
        let Some(sample) = subscriber.receive()? else { return Ok(false) };
        let payload = sample.payload();
        let word =
            |at: usize| payload[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        sink.ends(payload.len(), [word(0), word(payload.len() - 8)]).map(|()| true)
    }
}

struct Out<T: Debug + IceoryxSend + ?Sized + 'static, E> {
    publisher: Publisher<ipc::Service, T, ()>,
    notifier: Option<Notifier<ipc::Service>>,
    ends: std::marker::PhantomData<E>,
}

impl<T: Debug + IceoryxSend + ?Sized, E: Ends<T>> Tx for Out<T, E> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        E::send(&self.publisher, source)?;
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }
}

struct In<T: Debug + IceoryxSend + ?Sized + 'static, E> {
    subscriber: Subscriber<ipc::Service, T, ()>,
    listener: Option<Listener<ipc::Service>>,
    place: Vec<u8>,
    ends: std::marker::PhantomData<E>,
}

impl<T: Debug + IceoryxSend + ?Sized, E: Ends<T>> Rx for In<T, E> {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        while !E::receive(&self.subscriber, &mut self.place, sink)? {
            if let Some(listener) = &self.listener {
                listener.blocking_wait(|_| ())?;
            }
        }
        Ok(())
    }
}
