//! How the engine's messages get into Aeron's log and out of it.

use std::hint::spin_loop;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use narrows_bench::payload::{Sink, Source};
use narrows_bench::{Case, Rx, Tx};

use super::media::{Claim, Driver, Publication, Subscription};

/// Messages that one look at the log may show.
const MOST: usize = 256;
/// After so many looks that showed nothing, there is time for the driver's work.
const IDLE_LOOKS: u32 = 1000;
/// The longest wait for room.
const PATIENCE: Duration = Duration::from_secs(30);

/// A kind of message.
pub(super) trait Kind: Sized {
    /// What a received message is copied to, where it is copied.
    type Place;
    fn place(size: usize) -> Self::Place;
    fn send(out: &mut Out<Self>, source: &mut Source) -> Result<()>;
    fn check(message: &[u8], place: &mut Self::Place, sink: &mut Sink) -> Result<()>;
}

/// `N` words, written and read where they lie.
pub(super) struct Words<const N: usize>;

impl<const N: usize> Kind for Words<N> {
    type Place = ();

    fn place(_: usize) {}

    #[inline]
    fn send(out: &mut Out<Self>, source: &mut Source) -> Result<()> {
        let words: [u64; N] = source.words();
        let claim = out.claim(size_of_val(&words))?;
        claim.commit(words.map(u64::to_ne_bytes).as_flattened())
    }

    #[inline]
    fn check(message: &[u8], (): &mut (), sink: &mut Sink) -> Result<()> {
        let (words, rest) = message.as_chunks();
        ensure!(words.len() == N && rest.is_empty(), "a message of {} bytes came", message.len());
        sink.words::<N>(&std::array::from_fn(|index| u64::from_ne_bytes(words[index])))
    }
}

/// Bytes, copied in and out.
pub(super) struct Bytes;

impl Kind for Bytes {
    type Place = Vec<u8>;

    fn place(size: usize) -> Vec<u8> {
        vec![0; size]
    }

    #[inline]
    fn send(out: &mut Out<Self>, source: &mut Source) -> Result<()> {
        let claim = out.claim(source.size())?;
        claim.commit(source.bytes())
    }

    #[inline]
    fn check(message: &[u8], place: &mut Vec<u8>, sink: &mut Sink) -> Result<()> {
        place.clear();
        place.extend_from_slice(message);
        sink.bytes(place)
    }
}

pub(super) struct Out<M> {
    publication: Publication,
    driver: Option<Driver>,
    kind: PhantomData<M>,
}

impl<M> Out<M> {
    pub(super) fn new(publication: Publication, driver: Option<Driver>) -> Self {
        Self { publication, driver, kind: PhantomData }
    }

    #[inline]
    fn claim(&mut self, size: usize) -> Result<Claim> {
        match self.publication.claim(size)? {
            Some(claim) => Ok(claim),
            None => self.claim_when_there_is_room(size),
        }
    }

    #[cold]
    fn claim_when_there_is_room(&mut self, size: usize) -> Result<Claim> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.driver {
                Some(driver) => driver.work()?,
                None => spin_loop(),
            }
            if let Some(claim) = self.publication.claim(size)? {
                return Ok(claim);
            }
            ensure!(Instant::now() < end, "Aeron has no room for a message within {PATIENCE:?}");
        }
    }
}

impl<M: Kind> Tx for Out<M> {
    #[inline]
    fn send(&mut self, source: &mut Source) -> Result<()> {
        M::send(self, source)
    }
}

pub(super) struct In<M: Kind> {
    subscription: Subscription,
    driver: Option<Driver>,
    place: M::Place,
    /// Messages that the last look showed and that were not asked for yet.
    ahead: usize,
}

impl<M: Kind> In<M> {
    pub(super) fn new(subscription: Subscription, case: &Case, driver: Option<Driver>) -> Self {
        Self { subscription, driver, place: M::place(case.size), ahead: 0 }
    }

    /// Looks until there are messages, and checks them all.
    fn look(&mut self, sink: &mut Sink) -> Result<usize> {
        let mut looks = 0;
        loop {
            let mut checked = Ok(());
            let mut check = |message: &[u8]| {
                if checked.is_ok() {
                    checked = M::check(message, &mut self.place, sink);
                }
            };
            let count = self.subscription.poll(&mut check, MOST)?;
            checked?;
            if count > 0 {
                return Ok(count);
            }
            looks += 1;
            if let (0, Some(driver)) = (looks % IDLE_LOOKS, self.driver) {
                driver.work().context("Aeron's media driver")?;
            }
        }
    }
}

impl<M: Kind> Rx for In<M> {
    #[inline]
    fn recv(&mut self, sink: &mut Sink) -> Result<()> {
        if self.ahead == 0 {
            self.ahead = self.look(sink)?;
        }
        self.ahead -= 1;
        Ok(())
    }
}
