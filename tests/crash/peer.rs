//! Real processes: this executable again, in a role.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What a peer does, given its arguments.
pub(crate) type Role = fn(&[&str]);

/// Names the role and its arguments to a peer, a line each.
pub(crate) const PART: &str = "NARROWS_CRASH_PART";
/// Whatever is waited for takes at most so long.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// In a peer, plays its role; by itself, does nothing.
#[test]
fn role() {
    let Ok(part) = std::env::var(PART) else { return };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let lines: Vec<&str> = part.lines().collect();
    let (_, role) = super::ROLES.iter().find(|(name, _)| *name == lines[0]).expect("a known role");
    role(&lines[1..]);
}

/// A process in a role, killed and reaped when dropped.
pub(crate) struct Peer {
    child: Child,
    role: String,
}

impl Peer {
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Self {
        Self::wrapped(&[], role, arguments)
    }

    /// Starts a peer through another program, which runs what stands behind its own arguments.
    pub(crate) fn wrapped(wrapper: &[&str], role: &str, arguments: &[&str]) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = match wrapper {
            [] => Command::new(this),
            [program, options @ ..] => {
                let mut command = Command::new(program);
                command.args(options).arg(this);
                command
            }
        };
        let part: Vec<&str> = std::iter::once(role).chain(arguments.iter().copied()).collect();
        command.args(["--exact", "peer::role", "--nocapture", "--test-threads=1"]);
        command.env(PART, part.join("\n")).stdin(Stdio::null()).stdout(Stdio::null());
        Self { child: command.spawn().unwrap(), role: role.to_owned() }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits until it came to its own end, which is a good one.
    #[track_caller]
    pub(crate) fn ends(mut self) {
        let status = self.wait();
        assert!(status.success(), "a {} failed: {status}", self.role);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let what = format!("a {} to end", self.role);
        soon(&what, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

/// Starts a peer that gets the ledger's address, its board, the channel's address, and two numbers.
pub(crate) fn start(role: &str, scene: &Scene, board: u64, address: &str, numbers: [u64; 2]) -> Peer {
    let numbers = numbers.map(|number| number.to_string());
    Peer::start(role, &[&scene.shm("ledger"), &board.to_string(), address, &numbers[0], &numbers[1]])
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits for a condition, and gives how long that took; fails after [`BOUND`], naming it.
#[track_caller]
pub(crate) fn soon(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    for round in 0.. {
        if is_so() {
            break;
        }
        assert!(start.elapsed() < BOUND, "waited {BOUND:?} for {what}");
        if round > 100 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    start.elapsed()
}

/// Whether a thread sleeps in the kernel, by what `/proc` says.
pub(crate) fn is_asleep(pid: u64, tid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

/// A line for whoever reads the run, past the harness, which swallows what passing tests print.
pub(crate) fn report(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

/// A figure from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

/// Names for one test's objects; what bears them is removed at the end, also of a failed test.
pub(crate) struct Scene(String);

impl Scene {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("narrows-crash-{}-{count}", std::process::id()))
    }

    /// The address of a part of the scene.
    pub(crate) fn shm(&self, part: &str) -> String {
        format!("shm:{}.{part}", self.0)
    }

    /// The parts that are in `/dev/shm` now.
    pub(crate) fn left(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir("/dev/shm").unwrap().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_prefix(&format!("{}.", self.0)).map(str::to_owned)
            })
            .collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for part in self.left() {
            std::fs::remove_file(format!("/dev/shm/{}.{part}", self.0)).ok();
        }
    }
}

/// Random numbers that a seed repeats.
pub(crate) struct Random(u64);

impl Random {
    /// From `NARROWS_CRASH_SEED`, or the clock; printed, so that a failed run can be repeated.
    pub(crate) fn of(test: &str) -> Self {
        let seed = setting("NARROWS_CRASH_SEED").unwrap_or_else(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            since.as_nanos() as u64 % 1_000_000_007
        });
        println!("{test}: NARROWS_CRASH_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Lets a moment pass: what happens next happens anywhere in the others' work.
    pub(crate) fn moment(&mut self, at_most_us: u64) {
        std::thread::sleep(Duration::from_micros(self.below(at_most_us)));
    }
}
