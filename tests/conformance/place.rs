//! The variants of transports under test, and a place for each test: names of its own, and what is left of them.

use std::any::Any;
use std::cell::Cell;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use narrows::channel::Transport;
use narrows::{Capability, Receiver, Scheme, Sender};

/// Long enough for everything that should happen; who reaches it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Long enough to have slept, short enough to wait for.
pub(crate) const SHORT: Duration = Duration::from_millis(50);

/// A row of the table of transports with options that change what it is.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) scheme: Scheme,
    pub(crate) options: &'static str,
}

const fn variant(name: &'static str, scheme: Scheme, options: &'static str) -> Variant {
    Variant { name, scheme, options }
}

pub(crate) const VARIANTS: &[Variant] = &[
    variant("shm", Scheme::Shm, ""),
    variant("shm-one", Scheme::Shm, "peers=one"),
    variant("shm-slots", Scheme::Shm, "peers=one,slot_bytes=256"),
    variant("shm-ack", Scheme::Shm, "ack=release"),
    variant("file", Scheme::File, ""),
    variant("memfd", Scheme::Memfd, ""),
    variant("unix", Scheme::Unix, "type=stream"),
    variant("unix-seqpacket", Scheme::Unix, "type=seqpacket"),
    variant("unix-dgram", Scheme::Unix, "type=dgram"),
    variant("unix-dgram-raw", Scheme::Unix, "type=dgram,wire=raw"),
    variant("unix-lines", Scheme::Unix, "wire=lines"),
    variant("fifo", Scheme::Fifo, ""),
    variant("fifo-many", Scheme::Fifo, "writers=many"),
    variant("fifo-lines", Scheme::Fifo, "wire=lines"),
];

impl Variant {
    /// Its row of the table.
    pub(crate) fn row(&self) -> &'static Transport {
        let row = Transport::ALL.iter().find(|row| row.scheme == self.scheme);
        row.unwrap_or_else(|| panic!("{}: is not in the table of transports", self.scheme))
    }

    pub(crate) fn has_option(&self, key: &str) -> bool {
        self.row().options.iter().any(|option| option.key == key)
    }

    pub(crate) fn has(&self, capability: Capability) -> bool {
        let address = self.address("name", "").parse().expect("an address");
        self.row().capabilities_of(&address).has(capability)
    }

    /// The address of this variant and name, with more options.
    fn address(&self, name: &str, options: &str) -> String {
        let parts = [&format!("{}:{name}", self.scheme), self.options, options];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
    }

    /// Whether it lies in a segment of ours.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.scheme, Scheme::Shm | Scheme::File | Scheme::Memfd)
    }

    /// Whether a line end ends a message.
    pub(crate) fn is_lines(&self) -> bool {
        self.options.contains("wire=lines")
    }
}

/// One run of a case: it hands out places.
pub(crate) struct Trial {
    pub(crate) variant: &'static Variant,
    prefix: String,
    folder: tempfile::TempDir,
    places: Cell<u32>,
}

impl Trial {
    pub(crate) fn new(variant: &'static Variant) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("nc-").tempdir().expect("a temporary folder");
        Self {
            variant,
            prefix: format!("narrows-test-{}-{number}-", std::process::id()),
            folder,
            places: Cell::new(0),
        }
    }

    /// A folder that goes away with the trial.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// A channel that nobody has used, with these options beside the variant's own.
    pub(crate) fn place(&self, options: &str) -> Place {
        let number = self.places.replace(self.places.get() + 1);
        let scheme = self.variant.scheme;
        let name = match scheme {
            Scheme::Shm | Scheme::Memfd => format!("{}{number}", self.prefix),
            _ => self.folder.path().join(number.to_string()).display().to_string(),
        };
        let address = self.variant.address(&name, options);
        // A memfd has no name: it is made here, and inherited by the peers.
        let memory = (scheme == Scheme::Memfd).then(|| {
            let receiver = Receiver::<[u8]>::open_by(&address, LONG).expect("a memfd");
            receiver.descriptor().map(|memory| memory.try_clone_to_owned().expect("dup")).expect("memory")
        });
        let bare = format!("{scheme}:{name}");
        Place { bare, address, memory, path: path_of(scheme, &name) }
    }

    /// What to look at when it is over.
    pub(crate) fn remains(&self) -> Remains {
        Remains { prefix: self.prefix.clone() }
    }
}

fn path_of(scheme: Scheme, name: &str) -> PathBuf {
    if scheme == Scheme::Shm { PathBuf::from("/dev/shm").join(name) } else { PathBuf::from(name) }
}

/// One channel of a trial.
pub(crate) struct Place {
    /// The address without options.
    pub(crate) bare: String,
    address: String,
    memory: Option<OwnedFd>,
    /// Where its file is.
    pub(crate) path: PathBuf,
}

impl Place {
    /// The address by which this process opens it.
    pub(crate) fn address(&self) -> String {
        self.memory.as_ref().map_or(self.address.clone(), |memory| format!("fd:{}", memory.as_raw_fd()))
    }

    /// The address by which a peer opens it: the memory is its standard output.
    pub(crate) fn peer_address(&self) -> String {
        if self.memory.is_some() { "fd:1".to_owned() } else { self.address.clone() }
    }

    /// What a peer inherits.
    pub(crate) fn memory(&self) -> Option<OwnedFd> {
        self.memory.as_ref().map(|memory| memory.as_fd().try_clone_to_owned().expect("dup"))
    }

    /// The address with other options.
    pub(crate) fn with(&self, options: &str) -> String {
        format!("{},{options}", self.bare)
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender::open_by(self.address(), LONG).expect("opens for sending")
    }

    pub(crate) fn receiver(&self) -> Receiver {
        Receiver::open_by(self.address(), LONG).expect("opens for receiving")
    }

    /// Both ends in this process; the receiver first, as sockets want it.
    pub(crate) fn pair(&self) -> (Sender, Receiver) {
        let receiver = self.receiver();
        (self.sender(), receiver)
    }
}

/// What a trial may have left in places that outlive it.
pub(crate) struct Remains {
    prefix: String,
}

impl Remains {
    fn list(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().contains(&self.prefix))
            .collect()
    }

    /// Nothing may be left; after a kill, nothing once the next opener has come and gone.
    pub(crate) fn check(&self, killed: bool) -> Result<(), String> {
        for path in self.list().iter().filter(|_| killed) {
            let address = format!("shm:{},create=never", path.file_name().unwrap_or_default().display());
            let mut receiver =
                Receiver::<[u8]>::open_by(&address, LONG).map_err(|error| error.to_string())?;
            while let Ok(Some(_)) = receiver.recv_by(SHORT) {}
        }
        let left = self.list();
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
    }

    pub(crate) fn clear(&self) {
        for path in self.list() {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked").to_owned()
}

/// Waits for a condition, with a bound.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
