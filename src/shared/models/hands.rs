//! Whether bytes that change hands are let go first. Loom has no load that returns what is stored behind it in time,
//! so a copy that slides behind the step that gives its bytes away would go unseen. So whoever is done with bytes
//! says so in a word of its own, relaxed, before it gives them away; and whoever gets them must see that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread::{ThreadId, current};

/// Threads that loom can have.
const THREADS: usize = 5;

#[derive(Clone)]
pub(super) struct Hands {
    said: Arc<[AtomicU64; THREADS]>,
    known: Arc<Mutex<Known>>,
}

/// What nobody in the model sees.
#[derive(Default)]
struct Known {
    threads: Vec<ThreadId>,
    /// What each said last.
    said: [u64; THREADS],
    /// Who had it last, and what he had said by then.
    given: BTreeMap<u64, Mark>,
}

/// What was said, by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize, u64);

impl Hands {
    pub(super) fn new() -> Self {
        Self { said: Arc::new(std::array::from_fn(|_| AtomicU64::new(0))), known: Arc::default() }
    }

    /// This thread is done with bytes: before the step that gives them away.
    pub(super) fn done(&self) -> Mark {
        let mark = {
            let known = &mut *self.known.lock().unwrap();
            let me = known.threads.iter().position(|thread| *thread == current().id()).unwrap_or_else(|| {
                known.threads.push(current().id());
                known.threads.len() - 1
            });
            known.said[me] += 1;
            Mark(me, known.said[me])
        };
        self.said[mark.0].store(mark.1, Ordering::Relaxed);
        mark
    }

    /// They are given away.
    pub(super) fn give(&self, bytes: u64, mark: Mark) {
        self.known.lock().unwrap().given.insert(bytes, mark);
    }

    /// They are this thread's now.
    pub(super) fn take(&self, bytes: u64) {
        let given = self.known.lock().unwrap().given.get(&bytes).copied();
        let seen = given.is_none_or(|Mark(who, said)| self.said[who].load(Ordering::Relaxed) >= said);
        assert!(seen, "bytes are overwritten that are still read");
    }
}
