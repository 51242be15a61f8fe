//! What a victim does. Adding one takes a function and a row.

use std::any::Any;
use std::time::Duration;

use anyhow::Result;
use narrows::{Deadline, Error, Receiver, Sender};

use super::message::{self, LARGE, SMALL};
use super::mode::{Mode, Scope};
use super::state::State;

/// The end of the channel that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
    /// None: it looks or removes.
    Nobody,
}

/// What an operation may have done when it is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing that a message shows.
    Nothing,
    /// Some of its first messages were sent: at most so many.
    Adds(usize),
    /// Some of the first messages were taken: at most so many.
    Takes(usize),
    /// The channel is gone with all that waited, or it is there.
    Removes,
}

/// Who does it, and with what.
pub(crate) struct Part {
    /// With all options.
    pub(crate) address: String,
    /// Numbers for the messages that it sends.
    pub(crate) ids: Vec<u64>,
}

/// What came of an operation that ended.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) error: Option<Error>,
    /// How many messages were sent.
    pub(crate) sent: usize,
    /// The numbers of messages that were received, and whether they came again. `None`: torn.
    pub(crate) received: Vec<(Option<u64>, bool)>,
    /// What must not be dropped inside the operation.
    pub(crate) kept: Vec<Box<dyn Any>>,
}

impl From<Result<(), Error>> for Outcome {
    fn from(result: Result<(), Error>) -> Self {
        Self { error: result.err(), ..Self::default() }
    }
}

pub(crate) type Act = Box<dyn FnMut() -> Outcome>;

pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) effect: Effect,
    /// Whether it moves messages, or waits for them.
    pub(crate) moves: bool,
    /// Whether it spends most of its time asleep.
    pub(crate) sleeps: bool,
    /// Whether it may take back what it did.
    pub(crate) retracts: bool,
    /// Whether it lets go of what it took before it ends.
    pub(crate) releases: bool,
    /// Why it makes no sense there.
    pub(crate) misfit: fn(&Mode, &State) -> Option<&'static str>,
    /// Prepares, and gives what is interrupted.
    pub(crate) act: fn(Part) -> Result<Act>,
}

pub(crate) const fn operation(
    name: &'static str,
    role: Role,
    effect: Effect,
    act: fn(Part) -> Result<Act>,
) -> Operation {
    Operation {
        name,
        role,
        effect,
        moves: true,
        sleeps: false,
        retracts: false,
        releases: true,
        misfit: |_, _| None,
        act,
    }
}

/// One that opens, closes, looks or removes.
const fn name(name: &'static str, role: Role, effect: Effect, act: fn(Part) -> Result<Act>) -> Operation {
    Operation { moves: false, ..operation(name, role, effect, act) }
}

/// One that waits.
const fn sleeper(name: &'static str, role: Role, effect: Effect, act: fn(Part) -> Result<Act>) -> Operation {
    Operation { sleeps: true, ..operation(name, role, effect, act) }
}

/// One that sends until its message is taken, or takes it back.
const fn delivery(operation: Operation) -> Operation {
    Operation { retracts: true, misfit: needs_taking_back, ..operation }
}

pub(crate) const OPERATIONS: &[Operation] = &[
    operation("send", Role::Sender, Effect::Adds(1), |part| send(part, SMALL)),
    operation("send_large", Role::Sender, Effect::Adds(1), |part| send(part, LARGE)),
    operation("send_many", Role::Sender, Effect::Adds(3), send_many),
    Operation {
        misfit: needs_room,
        ..operation("commit", Role::Sender, Effect::Adds(1), |part| commit(part, LARGE))
    },
    Operation {
        misfit: needs_room_if_leased,
        ..operation("commit_small", Role::Sender, Effect::Adds(1), |part| commit(part, SMALL))
    },
    delivery(sleeper("deliver", Role::Sender, Effect::Adds(1), deliver)),
    delivery(sleeper("deliver_large", Role::Sender, Effect::Adds(1), deliver_large)),
    delivery(operation("deliver_now", Role::Sender, Effect::Adds(1), deliver_now)),
    Operation { misfit: needs_room, ..operation("abandon", Role::Sender, Effect::Nothing, abandon) },
    operation("recv", Role::Receiver, Effect::Takes(1), recv),
    operation("recv_many", Role::Receiver, Effect::Takes(3), recv_many),
    operation("recv_in_place", Role::Receiver, Effect::Takes(1), |part| in_place(part, true)),
    Operation {
        releases: false,
        ..operation("recv_and_hold", Role::Receiver, Effect::Takes(1), |part| in_place(part, false))
    },
    Operation { misfit: needs_empty, ..sleeper("recv_asleep", Role::Receiver, Effect::Nothing, recv_asleep) },
    name("open_sender", Role::Sender, Effect::Nothing, open_sender),
    name("open_receiver", Role::Receiver, Effect::Nothing, open_receiver),
    name("close_sender", Role::Sender, Effect::Nothing, close_sender),
    name("close_receiver", Role::Receiver, Effect::Nothing, close_receiver),
    Operation { misfit: needs_many, ..name("clone_sender", Role::Sender, Effect::Nothing, clone_sender) },
    Operation {
        misfit: needs_many,
        ..name("clone_receiver", Role::Receiver, Effect::Nothing, clone_receiver)
    },
    name("status", Role::Nobody, Effect::Nothing, status),
    Operation { misfit: needs_nobody, ..name("remove", Role::Nobody, Effect::Removes, remove) },
    Operation { misfit: needs_full, ..sleeper("send_asleep", Role::Sender, Effect::Adds(1), send_asleep) },
    Operation {
        misfit: needs_exhaustion,
        ..sleeper("send_large_asleep", Role::Sender, Effect::Adds(1), send_large_asleep)
    },
    Operation { misfit: needs_vastness, ..sleeper("trim", Role::Receiver, Effect::Nothing, trim) },
];

fn needs_room(_: &Mode, state: &State) -> Option<&'static str> {
    state.exhausted.then_some("no chunk is left, and a loan waits for one without a bound")
}

/// Small messages take a chunk only where they are leased.
fn needs_room_if_leased(mode: &Mode, state: &State) -> Option<&'static str> {
    if mode.release { needs_room(mode, state) } else { None }
}

fn needs_taking_back(mode: &Mode, _: &State) -> Option<&'static str> {
    mode.is_pair().then_some("one to one, nothing is taken back")
}

fn needs_full(mode: &Mode, state: &State) -> Option<&'static str> {
    if mode.drops {
        return Some("no sender waits for room");
    }
    (!state.full).then_some("there is room: nobody sleeps")
}

fn needs_empty(_: &Mode, state: &State) -> Option<&'static str> {
    (!state.empty).then_some("a message waits: nobody sleeps")
}

fn needs_many(mode: &Mode, _: &State) -> Option<&'static str> {
    mode.one.then_some("one to one, there is no second of a kind")
}

fn needs_nobody(_: &Mode, state: &State) -> Option<&'static str> {
    (!state.deserted).then_some("who has it open goes on with it")
}

fn needs_exhaustion(_: &Mode, state: &State) -> Option<&'static str> {
    (!state.exhausted).then_some("there is a chunk: nobody sleeps")
}

fn needs_vastness(mode: &Mode, state: &State) -> Option<&'static str> {
    (mode.scope != Scope::Only("trim") || state.name != "fresh").then_some("its channel is made for it")
}

/// Long enough to fall asleep under a tracer, and to be killed asleep.
const NAP: Duration = Duration::from_millis(30);

/// More idle memory than is kept, in few chunks; when it counts as idle.
const IDLE_CHUNKS: usize = 10;
const IDLE_BYTES: usize = 1 << 20;
const IDLE: Duration = Duration::from_millis(91);

fn sender(part: &Part) -> Result<Sender> {
    Ok(Sender::open(part.address.as_str())?)
}

fn receiver(part: &Part) -> Result<Receiver> {
    Ok(Receiver::open(part.address.as_str())?)
}

/// How many messages were sent, if it went well.
fn sent(result: Result<usize, Error>) -> Outcome {
    match result {
        Ok(sent) => Outcome { sent, ..Outcome::default() },
        Err(error) => Err(error).into(),
    }
}

fn send(part: Part, len: usize) -> Result<Act> {
    let mut sender = sender(&part)?;
    let message = message::write(part.ids[0], len);
    Ok(Box::new(move || sent(sender.send_by(&message, Deadline::Now).map(|()| 1))))
}

fn send_many(part: Part) -> Result<Act> {
    let mut sender = sender(&part)?;
    let messages: Vec<Vec<u8>> = part.ids.iter().map(|id| message::write(*id, SMALL)).collect();
    Ok(Box::new(move || sent(sender.send_many(messages.iter().map(Vec::as_slice), Deadline::Now))))
}

fn commit(part: Part, len: usize) -> Result<Act> {
    let mut sender = sender(&part)?;
    let message = message::write(part.ids[0], len);
    let mut loan = Some(sender.loan(len)?);
    Ok(Box::new(move || {
        let Some(mut loan) = loan.take() else { return Outcome::default() };
        loan.write(&message);
        sent(sender.commit_by(loan, Deadline::Now).map(|()| 1).map_err(Error::from))
    }))
}

fn abandon(part: Part) -> Result<Act> {
    let mut sender = sender(&part)?;
    Ok(Box::new(move || sender.loan(LARGE).map(drop).into()))
}

fn deliver(part: Part) -> Result<Act> {
    delivered(part, SMALL, NAP)
}

fn deliver_large(part: Part) -> Result<Act> {
    delivered(part, LARGE, NAP)
}

fn deliver_now(part: Part) -> Result<Act> {
    delivered(part, SMALL, Deadline::Now)
}

/// Sends until it is taken, or takes it back.
fn delivered(mut part: Part, len: usize, deadline: impl Into<Deadline> + Copy + 'static) -> Result<Act> {
    part.address += ",wait=sleep";
    let mut sender = sender(&part)?;
    let message = message::write(part.ids[0], len);
    Ok(Box::new(move || sent(sender.send_delivered(&message, deadline).map(|()| 1))))
}

fn send_asleep(part: Part) -> Result<Act> {
    asleep(part, SMALL)
}

fn send_large_asleep(part: Part) -> Result<Act> {
    asleep(part, LARGE)
}

fn asleep(mut part: Part, len: usize) -> Result<Act> {
    part.address += ",wait=sleep";
    let mut sender = sender(&part)?;
    let message = message::write(part.ids[0], len);
    Ok(Box::new(move || sent(sender.send_by(&message, NAP).map(|()| 1))))
}

/// Gives idle memory back: large messages came, and then none for a while.
fn trim(part: Part) -> Result<Act> {
    let (mut sender, mut receiver) = (sender(&part)?, receiver(&part)?);
    let held: Vec<narrows::channel::InPlace> = (0..IDLE_CHUNKS)
        .map(|_| {
            sender.send_by(&[0; IDLE_BYTES], Deadline::Now)?;
            receiver.recv_in_place(Deadline::Now)
        })
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    drop(held);
    drop(receive(&mut receiver, Deadline::Now));
    std::thread::sleep(IDLE);
    Ok(Box::new(move || receive(&mut receiver, Deadline::Now)))
}

/// What a look gave: a message, the end or nothing.
fn note<M>(
    outcome: &mut Outcome,
    looked: Result<Option<M>, Error>,
    read: impl FnOnce(&M) -> (Option<u64>, bool),
) -> Option<M> {
    match looked {
        Ok(Some(message)) => {
            outcome.received.push(read(&message));
            return Some(message);
        }
        Ok(None) => {}
        Err(error) => outcome.error = Some(error),
    }
    None
}

fn receive(receiver: &mut Receiver, deadline: impl Into<Deadline>) -> Outcome {
    let mut outcome = Outcome::default();
    let looked = receiver.recv_by(deadline);
    let read = |message: &narrows::Received| (message::read(message), message.redelivered());
    drop(note(&mut outcome, looked, read));
    outcome
}

fn recv(part: Part) -> Result<Act> {
    let mut receiver = receiver(&part)?;
    Ok(Box::new(move || receive(&mut receiver, Deadline::Now)))
}

fn recv_many(part: Part) -> Result<Act> {
    let mut receiver = receiver(&part)?;
    let mut places = vec![narrows::message::Bytes::default(); 3];
    Ok(Box::new(move || {
        let mut outcome = Outcome::default();
        match receiver.recv_many(&mut places, Deadline::Now) {
            Ok(count) => {
                outcome.received = places[..count].iter().map(|bytes| (message::read(bytes), false)).collect()
            }
            Err(error) => outcome.error = Some(error),
        }
        outcome
    }))
}

fn in_place(part: Part, released: bool) -> Result<Act> {
    let mut receiver = receiver(&part)?;
    Ok(Box::new(move || {
        let mut outcome = Outcome::default();
        let looked = receiver.recv_in_place(Deadline::Now);
        let read =
            |message: &narrows::channel::InPlace| (message::read(&message.to_owned()), message.redelivered());
        if let Some(held) = note(&mut outcome, looked, read)
            && !released
        {
            outcome.kept.push(Box::new(held));
        }
        outcome
    }))
}

fn recv_asleep(mut part: Part) -> Result<Act> {
    part.address += ",wait=sleep";
    let mut receiver = receiver(&part)?;
    Ok(Box::new(move || receive(&mut receiver, NAP)))
}

fn open_sender(part: Part) -> Result<Act> {
    Ok(Box::new(move || kept(Sender::<[u8]>::open(part.address.as_str()))))
}

fn open_receiver(part: Part) -> Result<Act> {
    Ok(Box::new(move || kept(Receiver::<[u8]>::open(part.address.as_str()))))
}

fn kept<T: Any>(made: Result<T, Error>) -> Outcome {
    match made {
        Ok(made) => Outcome { kept: vec![Box::new(made)], ..Outcome::default() },
        Err(error) => Err(error).into(),
    }
}

fn close_sender(part: Part) -> Result<Act> {
    let mut sender = Some(sender(&part)?);
    Ok(Box::new(move || {
        drop(sender.take());
        Outcome::default()
    }))
}

fn close_receiver(part: Part) -> Result<Act> {
    let mut receiver = Some(receiver(&part)?);
    Ok(Box::new(move || {
        drop(receiver.take());
        Outcome::default()
    }))
}

fn clone_sender(part: Part) -> Result<Act> {
    let sender = sender(&part)?;
    Ok(Box::new(move || kept(sender.try_clone())))
}

fn clone_receiver(part: Part) -> Result<Act> {
    let receiver = receiver(&part)?;
    Ok(Box::new(move || kept(receiver.try_clone())))
}

fn status(part: Part) -> Result<Act> {
    let address: narrows::Address = part.address.parse()?;
    Ok(Box::new(move || narrows::channel::status(&address).map(drop).into()))
}

fn remove(part: Part) -> Result<Act> {
    let address: narrows::Address = part.address.parse()?;
    Ok(Box::new(move || narrows::channel::remove(&address).into()))
}
