//! What a death or another process leaves behind between two steps, made step by step.

use std::cell::Cell;

use crate::address::Address;
use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::segment::{Holder, Place, Segment};

use super::chunks::{self, Chunk};
use super::extents::{Extents, class_of};
use super::layout::{self, Ack, Config, Fence, Full, Layout, Lifetime, Peers, SLOT_MIN};
use super::memory::Memory;
use super::pair::{Bed, Pair};
use super::participants::{Identity, Locks, Role};
use super::pool::{Loan, Pool};
use super::repair::Structures;
use super::ring::{Claim, Cursor, Found, Front};
use super::slot::{About, Slot, State};

/// Who does what, as places name them.
const SENDER: u16 = 1;
const VICTIM: u16 = 2;
const RECEIVER: u16 = 3;

/// A channel of 1 MiB of memory for large messages, in which nobody takes part.
pub(super) fn stage(capacity: u64) -> (Segment, Structures) {
    stage_of(capacity, 1 << 20)
}

pub(super) fn stage_of(capacity: u64, memory_max: u64) -> (Segment, Structures) {
    let layout = Layout::of(Config {
        peers: Peers::Many,
        capacity,
        slot_bytes: SLOT_MIN,
        participants: 4,
        endpoints: 8,
        lifetime: Lifetime::Drained,
        ack: Ack::OnTake,
        fence: Fence::Everyone,
        full: Full::Wait,
        memory_max,
    });
    let address: Address = "memfd:stage".parse().unwrap();
    let place = Place::of(&address).unwrap();
    let segment =
        Segment::create(&address, &place, layout.length, layout.reserved(), 0o600, &mut |_| Ok(())).unwrap();
    let segment = segment.unwrap();
    let shared = Structures::new(Memory::of(&segment), layout);
    (segment, shared)
}

fn claim(shared: &Structures, cursor: &mut Cursor, owner: u16) -> Found {
    match shared.ring.claim(cursor, owner).ok() {
        Some(Claim::Claimed(found)) => found,
        _ => panic!("there is room"),
    }
}

fn front(shared: &Structures, cursor: &mut Cursor) -> Option<Found> {
    match shared.ring.front(cursor).ok() {
        Some(Front::Full(found)) => Some(found),
        _ => None,
    }
}

#[test]
fn a_slow_receiver_does_not_jump_over_messages_that_a_revoked_claim_overtook() {
    let (_segment, shared) = stage(7);
    let mut tail = shared.ring.cursor(layout::TAIL);
    let mut head = shared.ring.cursor(layout::HEAD);
    let mut slow = head;
    let mut send = || assert!(shared.ring.commit(claim(&shared, &mut tail, SENDER)).is_ok_and(|sent| sent));
    for _ in 0..10 {
        send();
        let found = front(&shared, &mut head).unwrap();
        assert!(shared.ring.take(&mut head, found));
    }
    for _ in 10..shared.layout.slot_count {
        send();
    }
    // The slow receiver's slot is claimed for the next lap, and given back for the lap after it.
    let overtaking = claim(&shared, &mut tail, VICTIM);
    assert_eq!(overtaking.position, shared.layout.slot_count);
    shared.ring.reap(VICTIM, || true);
    assert_eq!(front(&shared, &mut slow).map(|found| found.position), Some(10));
}

/// A message in a chunk waits in slot 0.
fn send_chunk(segment: &Segment, shared: &Structures) -> Chunk {
    let Ok(Loan::Chunk(mut chunk)) = Pool::new(shared.memory, &shared.layout).loan(3000, SENDER, segment)
    else {
        panic!("there is memory")
    };
    shared.chunks.queue(&mut chunk).ok().unwrap();
    let found = claim(shared, &mut shared.ring.cursor(layout::TAIL), SENDER);
    let slot = shared.ring.slot(found.position);
    shared.memory.word(slot + 8).store(About::chunk().0, Relaxed);
    shared.memory.word(slot + layout::payload_at(SLOT_MIN)).store(chunk.reference(), Relaxed);
    assert!(shared.ring.commit(found).is_ok_and(|sent| sent));
    chunk
}

#[test]
fn a_message_whose_taker_died_before_it_emptied_the_slot_does_not_wait() {
    let (segment, shared) = stage(4);
    let chunk = send_chunk(&segment, &shared);
    assert_eq!(shared.depth(), 1);
    let held = shared.chunks.hold(chunk.reference(), RECEIVER, &mut shared.extents()).ok().flatten().unwrap();
    assert_eq!(shared.depth(), 0);
    // Nor does it when another message is about to be sent in the same chunk ...
    shared.chunks.release(held);
    let word = shared.chunks.loan(chunk.id, SENDER).unwrap();
    shared.chunks.queue(&mut Chunk { word, ..chunk }).ok().unwrap();
    assert_eq!(shared.depth(), 0);
    // ... or when the slot names a chunk that there is not.
    let name = shared.memory.word(shared.ring.slot(0) + layout::payload_at(SLOT_MIN));
    name.store(u64::MAX, Relaxed);
    assert_eq!(shared.depth(), 0);
}

#[test]
fn a_message_in_a_known_chunk_is_had_though_the_table_behind_it_is_broken() {
    let (segment, shared) = stage(4);
    let chunk = send_chunk(&segment, &shared);
    let mut extents = shared.extents();
    shared.memory.word(shared.layout.extents + layout::EXTENT_BYTES).store(7, Relaxed);
    assert!(shared.chunks.hold(chunk.reference(), RECEIVER, &mut extents).is_ok_and(|held| held.is_some()));
}

#[test]
fn what_the_dead_held_is_free_though_a_slot_names_it_still() {
    let (segment, shared) = stage(4);
    let chunk = send_chunk(&segment, &shared);
    shared.chunks.hold(chunk.reference(), VICTIM, &mut shared.extents()).ok().flatten().unwrap();
    shared.chunks.reap(chunk.id, VICTIM, false, &|reference| reference == chunk.reference(), &|| true);
    assert!(shared.chunks.load(chunk.id).is(chunks::State::Free));
}

/// A slot that names the dead again after each repair is left to the next who looks: the work is bounded.
#[test]
fn a_walk_for_the_dead_ends_though_the_slots_change_at_every_step() {
    let (_segment, shared) = stage(1024);
    let claimed = Slot::new(State::Claimed, 0, VICTIM);
    let steps = Cell::new(0);
    shared.memory.word(shared.ring.slot(0)).store(claimed.0, Relaxed);
    let broken = || {
        let (step, slot) = (steps.get(), steps.get() / 10);
        steps.set(step + 1);
        for at in [slot, slot + 1] {
            shared.memory.word(shared.ring.slot(at)).store(claimed.0, Relaxed);
        }
        true
    };
    assert!(!shared.ring.reap(VICTIM, broken));
    assert!(steps.get() <= 5 * 1024, "{} steps", steps.get());
}

#[test]
fn an_extent_that_no_growth_makes_is_none() {
    let (_segment, shared) = stage(4);
    let table = shared.layout.extents;
    for (word, fits) in [
        (2 | 3 << 16, true),                                      // eight chunks of 256 bytes
        (2 | 13 << 16, false),                                    // more than `memory_max`
        (2 | 255 << 8, false),                                    // no class
        (2 | 40 << 16, false),                                    // no count
        (2 | u64::from(class_of(1 << 20)) << 8, true),            // one chunk of 1 MiB
        (2 | u64::from(class_of(1 << 20)) << 8 | 1 << 16, false), // two
        (7, false),                                               // no state
    ] {
        shared.memory.word(table).store(word, Relaxed);
        let mut extents = Extents::new(shared.memory, &shared.layout);
        assert_eq!(
            (extents.refresh().is_ok(), extents.known().len()),
            (fits, usize::from(fits)),
            "{word:#x}"
        );
    }
}

#[test]
fn a_claim_that_somebody_else_ended_is_a_contradiction_and_not_sent() {
    let (_segment, shared) = stage(4);
    let mut tail = shared.ring.cursor(layout::TAIL);
    // As if it were dead, though it is not; then another has the very same slot, and has its own claim revoked.
    let robbed = claim(&shared, &mut tail, VICTIM);
    assert!(shared.ring.reap(VICTIM, || true));
    assert!(shared.ring.commit(robbed).is_err());
    let (first, other) = (claim(&shared, &mut tail, VICTIM), claim(&shared, &mut tail, SENDER));
    shared.ring.revoke(other);
    let mistaken = Found { position: other.position, word: first.word };
    assert!(shared.ring.commit(mistaken).is_err());
    assert!(shared.ring.commit(other).is_ok_and(|sent| !sent));
}

#[test]
fn a_message_of_another_lap_is_nobodys_to_take_back() {
    let (_segment, shared) = stage(4);
    let (mut tail, mut head) = (shared.ring.cursor(layout::TAIL), shared.ring.cursor(layout::HEAD));
    let mut send = || assert!(shared.ring.commit(claim(&shared, &mut tail, SENDER)).is_ok_and(|sent| sent));
    let count = shared.layout.slot_count;
    for _ in 0..count {
        send();
        let found = front(&shared, &mut head).unwrap();
        assert!(shared.ring.take(&mut head, found));
    }
    let starts = || [layout::TAIL, layout::HEAD].map(|hint| shared.ring.cursor(hint).position);
    assert_eq!(starts(), [count; 2], "where whoever comes now begins to look");
    send();
    assert!(shared.ring.waiting(0).is_none() && shared.ring.retract(0).is_ok_and(|is_back| !is_back));
    assert!(shared.ring.waiting(count).is_some() && shared.ring.retract(count).is_ok_and(|is_back| is_back));
}

/// The slot behind the capacity was passed over, and the younger message taken back: there is no room all the same.
#[test]
fn the_oldest_message_counts_though_a_slot_was_passed_over() {
    let (_segment, shared) = stage(2);
    let mut tail = shared.ring.cursor(layout::TAIL);
    shared.memory.word(shared.ring.slot(2)).store(Slot::new(State::Void, u64::MAX, VICTIM).0, Relaxed);
    for _ in 0..2 {
        assert!(shared.ring.commit(claim(&shared, &mut tail, SENDER)).is_ok_and(|sent| sent));
    }
    assert!(shared.ring.retract(1).is_ok_and(|is_back| is_back));
    assert!(matches!(shared.ring.claim(&mut tail, SENDER), Ok(Claim::Full(found)) if found.position == 0));
    assert_eq!(shared.ring.cursor(layout::TAIL).position, 3);
}

/// Whose places nobody's locks hold: whoever joins so is dead.
pub(super) struct Unlocked;

impl Locks for Unlocked {
    fn try_lock(&self, _place: u16) -> Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _place: u16) {}

    fn is_free(&self, _place: u16) -> bool {
        true
    }
}

/// Between the look at the first place's word and its lock, another came there and left.
struct Overtaken<'a>(&'a Segment, &'a Structures);

impl Locks for Overtaken<'_> {
    fn try_lock(&self, place: u16) -> Result<bool> {
        if place == 0 {
            self.1.memory.word(self.1.layout.participants).store(1 << 32, Relaxed);
        }
        Locks::try_lock(self.0, place)
    }

    fn unlock(&self, place: u16) {
        Locks::unlock(self.0, place);
    }

    fn is_free(&self, place: u16) -> bool {
        Locks::is_free(self.0, place)
    }
}

#[test]
fn the_lock_of_a_place_that_another_was_faster_to_take_is_given_back() {
    let (segment, shared) = stage(4);
    let joined = shared.participants.join(&Overtaken(&segment, &shared), Identity::default());
    assert_eq!(joined.unwrap().unwrap().owner(), 2);
    assert_eq!([0, 1].map(|place| segment.holder(place)), [Holder::Free, Holder::Held]);
}

#[test]
fn whoever_takes_a_place_is_known_by_what_he_said() {
    let (_segment, shared) = stage(4);
    let participants = &shared.participants;
    let me = Identity { pid: 7, uid: 8, name: *b"a name so long: " };
    let place = participants.join(&Unlocked, me).unwrap().unwrap();
    (0..8).for_each(|_| assert!(participants.open(Role::Sender, place.owner(), None).is_ok()));
    let known = |owner| {
        let Identity { pid, uid, name } = participants.identity(owner);
        (pid, uid, name)
    };
    assert_eq!(known(place.owner()), (me.pid, me.uid, me.name));
    // Nobody, and one behind the last place, where the endpoints lie.
    assert_eq!([0, 5].map(known), [(0, 0, [0; 16]); 2]);
}

#[test]
fn a_full_table_is_nobodys_and_a_taken_end_is_somebodys() {
    let (_segment, shared) = stage(4);
    let participants = &shared.participants;
    let open = |fixed| participants.open(Role::Sender, VICTIM, fixed).map(drop);
    assert_eq!((open(Some(1)), open(Some(1))), (Ok(()), Err(VICTIM)));
    (1..8).for_each(|_| open(None).unwrap());
    assert_eq!(open(None), Err(0));
}

/// Where no sender ever was, no receiver may be told that they are gone.
#[test]
fn receivers_come_wait_go_and_die_uncounted_among_the_senders() {
    let (_segment, shared) = stage(4);
    let participants = &shared.participants;
    let place = participants.join(&Unlocked, Identity::default()).unwrap().unwrap();
    let waiting = || participants.waiting_receivers().collect::<Vec<_>>();
    let mut endpoint = participants.open(Role::Receiver, place.owner(), None).unwrap();
    assert_eq!(waiting(), []);
    participants.mark(&mut endpoint, true);
    assert_eq!(waiting(), [place.owner()]);
    participants.mark(&mut endpoint, false);
    assert_eq!(waiting(), []);
    assert!(participants.close(endpoint) && !participants.close(endpoint));
    let mut dies = participants.open(Role::Receiver, place.owner(), None).unwrap();
    participants.mark(&mut dies, true);
    participants.reap_endpoints(place, || true);
    assert_eq!((participants.receiver_deaths(), participants.deaths(), waiting()), (1, 0, vec![]));
    assert_eq!(participants.senders_epoch(), 0);
    participants.open(Role::Sender, place.owner(), None).unwrap();
    participants.reap_endpoints(place, || true);
    assert_eq!((participants.receiver_deaths(), participants.deaths()), (1, 1));
}

#[test]
fn whoever_comes_in_time_each_time_keeps_the_segment() {
    let (_segment, shared) = stage(4);
    let participants = &shared.participants;
    let me = participants.join(&Unlocked, Identity::default()).unwrap().unwrap();
    participants.leave(me);
    let comes = || !participants.announce();
    assert!(!participants.retire_alone(me, comes, || false), "somebody comes at each look");
    assert!(!participants.retire_alone(me, || true, || false), "somebody dies at each look");
    assert!(participants.attachments().is_some());
    assert!(participants.retire_alone(me, || false, || false));
    assert!(participants.attachments().is_none() && !participants.announce());
    assert!(participants.attachments().is_none(), "it stays retired");
}

/// Has the kernel refuse membarrier(2) to this thread from now on, as containers may. False: it does not let us.
fn refuse_membarrier() -> bool {
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_membarrier as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, refusal, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: it concerns this thread alone; the program lives until it was copied.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "what cannot run here says so")]
fn nobody_sleeps_where_the_kernel_refuses_the_barrier() {
    let (_segment, shared) = stage(4);
    let config = Config { peers: Peers::One, fence: Fence::Sleeper, ..shared.layout.config };
    let pair = Pair::new(shared.memory, &Layout { config, ..shared.layout });
    if !shared.memory.barrier() {
        return println!("SKIPPED: the kernel refuses membarrier(2) already");
    }
    assert!(pair.sleep(Bed::Receiver, Deadline::Now, || false));
    std::thread::scope(|scope| {
        scope.spawn(|| match refuse_membarrier() {
            true => assert!(!pair.sleep(Bed::Receiver, Deadline::Never, || panic!("it may sleep"))),
            false => println!("SKIPPED: no right to refuse system calls"),
        });
    });
}
