//! The decoder beside what `docs/wire.md` says, on bytes that a fuzzer chooses (`cargo xtask fuzz frames`); what it
//! kept is judged again by the unit tests.

use super::{Decoder, Fault, HEADER, Kind, MAGIC, Manners, Packet, Settings, Wire, cut_packet};
use crate::error::{Error, Text};
use crate::message::Inbox;

const WIRES: [Wire; 4] = [Wire::Frames, Wire::Frames, Wire::Lines, Wire::Raw];
const BUFFERS: [usize; 4] = [HEADER, HEADER + 3, 100, 4096];
const LIMITS: [u64; 4] = [1 << 20, 20, 0, u64::MAX];

/// What came of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    messages: Vec<Vec<u8>>,
    is_fault: bool,
    died: u64,
}

/// Has a stream decoded in pieces: the input's first bytes choose how it is cut and what the receiver has room for,
/// the others are the stream.
///
/// # Panics
/// Where what comes out is not what the format says, or memory does not follow what arrived.
pub fn judge_stream(input: &[u8]) {
    let [manner, refusals, count, stream @ ..] = input else { return };
    let (pieces, stream) = stream.split_at(stream.len().min(usize::from(count & 7)));
    let choice = |shift: u8| usize::from(manner >> shift & 3);
    let settings = Settings { wire: WIRES[choice(0)], max_message: LIMITS[choice(4)] };
    let was_there = manner & 0x40 != 0;
    if manner & 0x80 != 0 {
        return judge_packet(stream, usize::from(*refusals), settings);
    }
    let mut expected = expect(settings, stream, was_there);
    let mut decoder = Decoder::new(settings, BUFFERS[choice(2)]);
    // Perhaps a second time, as a FIFO's next sender: nothing is left of the first.
    for round in 1..=1 + (count >> 3 & 1) {
        let before = decoder.died;
        let mut outcome = decode(&mut decoder, stream, pieces, *refusals, was_there);
        outcome.died -= before;
        if settings.wire == Wire::Raw {
            outcome.messages = vec![outcome.messages.concat()];
            expected.messages = vec![stream.to_vec()];
        }
        assert_eq!(outcome, expected, "round {round}, {settings:?}");
    }
}

/// Feeds the stream in pieces of these sizes, over and over.
fn decode(decoder: &mut Decoder, stream: &[u8], pieces: &[u8], refusals: u8, was_there: bool) -> Outcome {
    let what = Text::from("fuzz");
    let mut outcome = Outcome::default();
    let mut inbox = Fickle { refusals, is_refused: false, message: Vec::new() };
    let (mut rest, mut sizes, mut arrived) = (stream, pieces.iter().cycle(), decoder.message.capacity());
    loop {
        let is_last = rest.is_empty();
        match decoder.deliver_next(&what, &mut inbox) {
            Ok(Some(Ok(()))) => outcome.messages.push(inbox.message.clone()),
            Ok(Some(Err(Error::NoSpace { .. }))) => assert!(inbox.is_refused, "memory was there"),
            Ok(Some(Err(error))) => panic!("{error:?}"),
            Ok(None) if is_last => break,
            Ok(None) => {
                let space = decoder.space();
                assert!(!space.is_empty(), "what arrives has no place to go to");
                let size = sizes.next().map_or(usize::MAX, |size| usize::from(*size).max(1));
                let len = rest.len().min(space.len()).min(size);
                space[..len].copy_from_slice(&rest[..len]);
                decoder.filled(len);
                rest = &rest[len..];
                arrived = arrived.max(stream.len() - rest.len());
                assert!(decoder.message.capacity() <= (2 * arrived).max(64), "memory follows what arrived");
            }
            Err(Fault { found, hint }) => {
                assert!(!found.is_empty() && !hint.is_empty());
                (outcome.is_fault, outcome.died) = (true, decoder.died());
                decoder.discard();
                return outcome;
            }
        }
    }
    match decoder.deliver_last(was_there, &what, &mut inbox) {
        Some(Ok(())) => outcome.messages.push(inbox.message),
        Some(Err(error)) => {
            assert!(matches!(error, Error::NoSpace { .. }) && inbox.is_refused, "{error:?}");
            let again = decoder.deliver_next(&what, &mut inbox);
            assert!(matches!(again, Ok(Some(Ok(())))), "what there was no room for comes again: {again:?}");
            outcome.messages.push(inbox.message);
        }
        None => {}
    }
    outcome.died = decoder.died();
    outcome
}

/// Has no memory now and then, but never twice in a row.
struct Fickle {
    refusals: u8,
    is_refused: bool,
    message: Vec<u8>,
}

impl Inbox for Fickle {
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.refusals = self.refusals.rotate_left(1);
        self.is_refused = self.refusals & 1 != 0 && !self.is_refused;
        self.message.resize(len, 0);
        (!self.is_refused).then_some(&mut self.message[..])
    }
}

/// What the format says, of a stream that is there whole.
fn expect(settings: Settings, stream: &[u8], was_there: bool) -> Outcome {
    match settings.wire {
        Wire::Frames => expect_frames(settings.max_message, stream, was_there),
        Wire::Lines => expect_lines(settings.max_message, stream),
        Wire::Raw => Outcome::default(),
    }
}

fn expect_frames(max_message: u64, stream: &[u8], was_there: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut rest, mut joined, mut manners) = (stream, None::<Vec<u8>>, Manners::Silent);
    while !rest.is_empty() {
        let begins = rest.iter().zip(&MAGIC).all(|(found, right)| found == right);
        let header = rest.split_first_chunk::<HEADER>();
        let kind = header.map(|(header, _)| Kind::of(header[3]));
        if !begins || kind == Some(None) {
            outcome.is_fault = true;
            return outcome;
        }
        let (Some((header, behind)), Some(Some(kind))) = (header, kind) else { break };
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if matches!(kind, Kind::Message | Kind::Start | Kind::Hello) {
            joined = None;
        }
        let before = joined.as_ref().map_or(0, Vec::len);
        match kind {
            Kind::Hello | Kind::Bye if len > 0 => {
                outcome.is_fault = true;
                return outcome;
            }
            Kind::Hello => {
                outcome.died += u64::from(manners == Manners::Hello);
                manners = Manners::Hello;
            }
            Kind::Bye => manners = Manners::Bye,
            _ if (before + len) as u64 > max_message => {
                outcome.is_fault = true;
                return outcome;
            }
            _ => {}
        }
        let Some((payload, behind)) = behind.split_at_checked(len) else { break };
        match (kind, &mut joined) {
            (Kind::Message, _) => outcome.messages.push(payload.to_vec()),
            (Kind::Start, _) => joined = Some(payload.to_vec()),
            (Kind::Part | Kind::End, Some(joined)) => joined.extend_from_slice(payload),
            _ => {}
        }
        if kind == Kind::End {
            outcome.messages.extend(joined.take());
        }
        rest = behind;
    }
    outcome.died += match manners {
        Manners::Silent => u64::from(was_there),
        Manners::Hello => 1,
        Manners::Bye => 0,
    };
    outcome
}

fn expect_lines(max_message: u64, stream: &[u8]) -> Outcome {
    let mut lines: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let good = lines.iter().take_while(|line| line.len() as u64 <= max_message).count();
    let is_fault = good < lines.len();
    lines.truncate(good);
    if !is_fault && lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop(); // behind the last newline there is nothing
    }
    Outcome { messages: lines.into_iter().map(<[u8]>::to_vec).collect(), is_fault, died: 0 }
}

/// One packet, of which `cut` bytes did not fit the buffer.
fn judge_packet(packet: &[u8], cut: usize, settings: Settings) {
    let len = packet.len() + cut;
    let overhead = settings.wire.overhead();
    let fits = cut == 0 && len.saturating_sub(overhead) as u64 <= settings.max_message;
    let is_frame = |kind: Kind| {
        let begins = packet.starts_with(&MAGIC) && packet.get(3) == Some(&(kind as u8));
        let size = packet.get(4..8).map(|size| u32::from_le_bytes(size.try_into().unwrap_or_default()));
        begins && size.is_some_and(|size| size as usize + HEADER == len)
    };
    match cut_packet(packet, len, settings) {
        Ok(Packet::Message(message)) if settings.wire == Wire::Frames => {
            assert!(fits && is_frame(Kind::Message) && message == &packet[HEADER..]);
        }
        Ok(Packet::Message(message)) => assert!(fits && message == packet),
        Ok(Packet::Bye) => assert!(fits && is_frame(Kind::Bye) && len == HEADER),
        Err(_) => {
            let is_bye = is_frame(Kind::Bye) && len == HEADER;
            let is_right = settings.wire != Wire::Frames || is_frame(Kind::Message) || is_bye;
            assert!(!fits || !is_right);
        }
    }
}
