//! How others wait: what glibc, System V and the bare futex offer between processes. The unsafe part of the gate.

use std::io::Error as IoError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use anyhow::{Result, anyhow, bail};

use super::side::{Side, Wait};
use crate::page::Page;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// `sem_t`, process-shared.
    Semaphore,
    /// `pthread_cond_t` with a robust mutex, both process-shared.
    Condition,
    /// A robust `pthread_mutex_t`, process-shared: what is posted is its release.
    Mutex,
    /// `semop`.
    SystemV,
    /// `semop` with `SEM_UNDO`.
    SystemVUndo,
    /// A word, and a wake of one sleeper.
    Futex,
}

/// One of them, in memory that forked processes share.
pub(crate) struct Other {
    means: Means,
    page: Page,
    /// System V's name of it.
    id: i32,
}

// Where it lies in the page, by words.
const SEMAPHORE: usize = 0;
const CONDITION: usize = 32;
const MUTEX: usize = 64;
/// What the condition is about, and the bare futex.
const COUNT: usize = 96;

impl Other {
    pub(crate) fn new(means: Means) -> Result<Self> {
        let mut other = Self { means, page: Page::new()?, id: -1 };
        match means {
            Means::Semaphore => {
                // SAFETY: room for one, in shared memory that outlives it.
                check(unsafe { libc::sem_init(other.semaphore(), 1, 0) })?;
            }
            Means::Condition | Means::Mutex => other.init_pthreads()?,
            Means::SystemV | Means::SystemVUndo => {
                // Of a namespace of its own it is gone with its last process, however that ends; as root only.
                // SAFETY: touches no memory.
                unsafe { libc::unshare(libc::CLONE_NEWIPC) };
                // SAFETY: as above.
                other.id = check(unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) })?;
            }
            Means::Futex => {}
        }
        Ok(other)
    }

    fn init_pthreads(&self) -> Result<()> {
        // SAFETY: attributes on the stack, initialised before use; the objects have room in shared memory that
        // outlives them.
        unsafe {
            let mut attributes = std::mem::zeroed::<libc::pthread_mutexattr_t>();
            done(libc::pthread_mutexattr_init(&raw mut attributes))?;
            done(libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED))?;
            done(libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST))?;
            done(libc::pthread_mutex_init(self.mutex(), &raw const attributes))?;
            let mut attributes = std::mem::zeroed::<libc::pthread_condattr_t>();
            done(libc::pthread_condattr_init(&raw mut attributes))?;
            done(libc::pthread_condattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED))?;
            done(libc::pthread_cond_init(self.condition(), &raw const attributes))
        }
    }

    fn semaphore(&self) -> *mut libc::sem_t {
        self.page.at(SEMAPHORE).cast()
    }

    fn condition(&self) -> *mut libc::pthread_cond_t {
        self.page.at(CONDITION).cast()
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.page.at(MUTEX).cast()
    }

    /// Locks the robust mutex, and mends it after a holder's death.
    fn lock(&self) -> Result<()> {
        // SAFETY: initialised in `new`.
        self.locked(unsafe { libc::pthread_mutex_lock(self.mutex()) })
    }

    fn locked(&self, errno: i32) -> Result<()> {
        match errno {
            // SAFETY: held by this thread, which was told that its holder died.
            libc::EOWNERDEAD => done(unsafe { libc::pthread_mutex_consistent(self.mutex()) }),
            errno => done(errno),
        }
    }

    fn unlock(&self) -> Result<()> {
        // SAFETY: held by this thread.
        done(unsafe { libc::pthread_mutex_unlock(self.mutex()) })
    }

    /// Waits for the condition, under the mutex.
    fn sleep_on_condition(&self) -> Result<()> {
        // SAFETY: both are initialised, and the mutex is held by this thread.
        self.locked(unsafe { libc::pthread_cond_wait(self.condition(), self.mutex()) })
    }

    fn semop(&self, by: i16, flags: libc::c_int) -> Result<()> {
        let undo = if self.means == Means::SystemVUndo { libc::SEM_UNDO } else { 0 };
        let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: (flags | undo) as i16 };
        // SAFETY: one operation, which the kernel copies.
        check(unsafe { libc::semop(self.id, &raw mut operation, 1) }).map(drop)
    }

    fn value(&self) -> Result<i32> {
        // SAFETY: reads a number and touches no memory.
        check(unsafe { libc::semctl(self.id, 0, libc::GETVAL) })
    }

    fn wait(&self) -> Result<()> {
        match self.means {
            // SAFETY: initialised in `new`.
            Means::Semaphore => check(unsafe { libc::sem_wait(self.semaphore()) }).map(drop),
            Means::Condition => {
                let count = self.page.word(COUNT);
                self.lock()?;
                while count.load(Relaxed) == 0 {
                    self.sleep_on_condition()?;
                }
                count.fetch_sub(1, Relaxed);
                self.unlock()
            }
            Means::Mutex => self.lock(),
            Means::SystemV | Means::SystemVUndo => self.semop(-1, 0),
            Means::Futex => {
                let word = self.page.futex(COUNT);
                while word.compare_exchange(1, 0, SeqCst, SeqCst).is_err() {
                    narrows::sys::futex_wait(word, 0, narrows::Deadline::Never);
                }
                Ok(())
            }
        }
    }

    fn post(&self) -> Result<()> {
        match self.means {
            // SAFETY: initialised in `new`.
            Means::Semaphore => check(unsafe { libc::sem_post(self.semaphore()) }).map(drop),
            Means::Condition => {
                self.lock()?;
                self.page.word(COUNT).fetch_add(1, Relaxed);
                self.unlock()?;
                // SAFETY: initialised in `new`.
                done(unsafe { libc::pthread_cond_signal(self.condition()) })
            }
            Means::Mutex => self.unlock(),
            Means::SystemV | Means::SystemVUndo => self.semop(1, 0),
            Means::Futex => {
                let word = self.page.futex(COUNT);
                word.store(1, SeqCst);
                // SAFETY: wakes who sleeps on the word, and reads nothing.
                unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
                Ok(())
            }
        }
    }

    /// Takes back what nobody took.
    fn clear(&self) -> Result<()> {
        match self.means {
            // SAFETY: initialised in `new`.
            Means::Semaphore => while unsafe { libc::sem_trywait(self.semaphore()) } == 0 {},
            Means::Condition | Means::Futex => self.page.word(COUNT).store(0, SeqCst),
            Means::Mutex => {}
            Means::SystemV | Means::SystemVUndo => {
                while self.value()? > 0 {
                    self.semop(-1, libc::IPC_NOWAIT)?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if self.id >= 0 {
            // SAFETY: touches no memory.
            unsafe { libc::semctl(self.id, 0, libc::IPC_RMID) };
        }
    }
}

impl Wait for Other {
    fn waiter(&self) -> Box<dyn Side + '_> {
        Box::new(Waiter(self))
    }

    fn poster(&self) -> Box<dyn Side + '_> {
        Box::new(Poster(self))
    }

    fn is_posted(&self) -> Result<bool> {
        Ok(match self.means {
            Means::Semaphore => {
                let mut value = 0;
                // SAFETY: initialised in `new`; writes to the number on the stack.
                check(unsafe { libc::sem_getvalue(self.semaphore(), &raw mut value) })?;
                value > 0
            }
            Means::Condition | Means::Futex => self.page.word(COUNT).load(Acquire) > 0,
            // Whoever had it is dead or let it go.
            Means::Mutex => true,
            Means::SystemV | Means::SystemVUndo => self.value()? > 0,
        })
    }

    fn wakes_by(&self) -> libc::c_long {
        match self.means {
            Means::SystemV | Means::SystemVUndo => libc::SYS_semop,
            _ => libc::SYS_futex,
        }
    }
}

struct Waiter<'a>(&'a Other);

impl Side for Waiter<'_> {
    fn prepare(&mut self) -> Result<()> {
        self.0.clear()
    }

    fn act(&mut self) -> Result<bool> {
        self.0.wait().map(|()| true)
    }

    fn leave(&mut self) {
        if self.0.means == Means::Mutex {
            self.0.unlock().ok();
        }
    }
}

struct Poster<'a>(&'a Other);

impl Side for Poster<'_> {
    fn prepare(&mut self) -> Result<()> {
        if self.0.means == Means::Mutex { self.0.lock() } else { Ok(()) }
    }

    fn act(&mut self) -> Result<bool> {
        self.0.post().map(|()| true)
    }
}

/// A call that gives -1 and sets `errno`.
fn check(result: i32) -> Result<i32> {
    match result {
        -1 => bail!(IoError::last_os_error()),
        result => Ok(result),
    }
}

/// A call that gives the error's number.
fn done(errno: i32) -> Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(anyhow!(IoError::from_raw_os_error(errno))),
    }
}
