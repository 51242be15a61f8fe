//! One error type: one variant per thing that a caller can *do* about it.

use std::sync::Arc;

/// Text inside an error. Handles keep their address as one of these, so that an error on a hot path
/// (`Full`, `TimedOut`) costs a reference count and no allocation.
pub type Text = Arc<str>;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: the resource, what was found, whose it is, and what to do.
///
/// `what` is always the resource as the user named it (an address, a path), so that the message can be
/// read without knowing which call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be understood, or an option of it has no meaning here. Correct the text.
    #[error("bad address '{address}': {problem}{}", remedy(.hint))]
    InvalidAddress {
        /// The address as given.
        address: Text,
        /// What is wrong with it.
        problem: Text,
        /// What to write instead.
        hint: Option<Text>,
    },
    /// Nothing of that name exists. Create it, or wait for whoever creates it.
    #[error("'{what}' does not exist{}", remedy(.hint))]
    NotFound {
        /// The resource.
        what: Text,
        /// What to do.
        hint: Option<Text>,
    },
    /// The kernel refused access. Ask the owner, or change the mode.
    #[error("no permission for '{what}'{}{}", owned(.owner), remedy(.hint))]
    Permission {
        /// The resource.
        what: Text,
        /// Who owns it and with which mode, where that could be found out.
        owner: Option<Text>,
        /// What to do.
        hint: Option<Text>,
    },
    /// Somebody else has the only place there is. Wait, or end the holder.
    #[error("'{what}' is busy{}{}", held(.holder), remedy(.hint))]
    Busy {
        /// The resource.
        what: Text,
        /// Who holds it, where that could be found out.
        holder: Option<Text>,
        /// What to do.
        hint: Option<Text>,
    },
    /// The object exists and is something else.
    #[error("'{what}' is {found}, not {expected}{}", remedy(.hint))]
    WrongKind {
        /// The resource.
        what: Text,
        /// What the caller asked for.
        expected: Text,
        /// What is there.
        found: Text,
        /// What to do.
        hint: Option<Text>,
    },
    /// The object exists with another setting. Leave the option out to take what exists.
    #[error(
        "'{what}' exists with {option}={theirs}, not {option}={ours}: leave {option} out to take what exists, or remove it first"
    )]
    Mismatch {
        /// The resource.
        what: Text,
        /// The option that differs.
        option: Text,
        /// The value of the object that exists.
        theirs: Text,
        /// The value that was asked for.
        ours: Text,
    },
    /// There is no room for the message at the moment. Wait, or give a deadline.
    #[error("'{what}' is full: nobody takes its messages as fast as they are sent")]
    Full {
        /// The channel.
        what: Text,
    },
    /// The message is larger than this transport can ever carry, or the range ends beyond the memory's end.
    #[error("{size} bytes are too many for '{what}': at most {limit} bytes{}", remedy(.hint))]
    TooLarge {
        /// The channel or the memory.
        what: Text,
        /// The size of the message in bytes, or where the range ends.
        size: u64,
        /// The largest size in bytes, or where the memory ends.
        limit: u64,
        /// What to do.
        hint: Option<Text>,
    },
    /// A supply of the system is exhausted: memory, descriptors, places.
    #[error("no room for '{what}' ({supply}){}", remedy(.hint))]
    NoSpace {
        /// The resource.
        what: Text,
        /// Which supply: "/dev/shm", "descriptors of this process", "participants".
        supply: Text,
        /// What to do.
        hint: Option<Text>,
    },
    /// The deadline passed first. Nothing was done: a message not sent, or none received.
    #[error("timed out {doing} '{what}'")]
    TimedOut {
        /// The resource.
        what: Text,
        /// "sending to", "receiving from", "opening".
        doing: &'static str,
    },
    /// The other side is gone and will not take this message.
    #[error("the other side of '{what}' is gone{}", deaths(*.died))]
    PeerGone {
        /// The resource.
        what: Text,
        /// How many peers died without closing.
        died: u64,
    },
    /// This participant was put out because it held everybody up.
    #[error("this process was evicted from '{what}': it did not keep up; open it again")]
    Evicted {
        /// The resource.
        what: Text,
    },
    /// The handle was made before a fork and belongs to the parent. Open it again in the child.
    #[error("'{what}' was opened before fork(): open it again in the child")]
    Forked {
        /// The resource.
        what: Text,
    },
    /// The bytes contradict the format: a broken peer, a truncated or a foreign file.
    #[error("'{what}' is corrupt: {problem}{}", remedy(.hint))]
    Corrupt {
        /// The resource.
        what: Text,
        /// What contradicts what.
        problem: Text,
        /// What to do.
        hint: Option<Text>,
    },
    /// This transport, kernel or mode cannot do that.
    #[error("'{what}' does not support {capability}{}", remedy(.hint))]
    Unsupported {
        /// The resource.
        what: Text,
        /// The capability that was asked for.
        capability: Text,
        /// What to use instead.
        hint: Option<Text>,
    },
    /// The kernel said something that no other variant covers.
    #[error("{call} failed for '{what}': {}", std::io::Error::from_raw_os_error(*.errno))]
    Os {
        /// The resource.
        what: Text,
        /// The system call.
        call: &'static str,
        /// Its errno.
        errno: i32,
    },
}

fn remedy(hint: &Option<Text>) -> String {
    hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default()
}

fn owned(owner: &Option<Text>) -> String {
    owner.as_ref().map(|owner| format!(" (owner {owner})")).unwrap_or_default()
}

fn held(holder: &Option<Text>) -> String {
    holder.as_ref().map(|holder| format!(" (held by {holder})")).unwrap_or_default()
}

fn deaths(died: u64) -> String {
    match died {
        0 => String::new(),
        1 => ": one of them died".into(),
        n => format!(": {n} of them died"),
    }
}

impl Error {
    /// Turns a kernel's errno into the variant that a caller can act on.
    ///
    /// ENOENT is `NotFound`; EACCES and EPERM are `Permission`; EMFILE, ENFILE, ENOMEM, ENOSPC and
    /// EDQUOT are `NoSpace`; EPIPE, ECONNRESET and ECONNREFUSED are `PeerGone`; all others `Os`.
    pub fn from_errno(what: &Text, call: &'static str, errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        let what = what.clone();
        let no_space = |supply: &str, hint: &str| Self::NoSpace {
            what: what.clone(),
            supply: supply.into(),
            hint: Some(hint.into()),
        };
        match errno {
            Errno::NOENT => Self::NotFound { what, hint: None },
            Errno::ACCESS | Errno::PERM => Self::Permission { what, owner: None, hint: None },
            Errno::MFILE => no_space("descriptors of this process", "close some, or raise `ulimit -n`"),
            Errno::NFILE => no_space("descriptors of this machine", "raise the sysctl fs.file-max"),
            Errno::NOMEM => no_space("memory (or address space)", "free some, or raise `ulimit -v`"),
            Errno::NOSPC | Errno::DQUOT => no_space("space of the file system", "free some: see `df -h`"),
            Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED => Self::PeerGone { what, died: 0 },
            errno => Self::Os { what, call, errno: errno.raw_os_error() },
        }
    }

    /// The same, from what the standard library reports.
    pub fn from_io(what: &Text, call: &'static str, error: &std::io::Error) -> Self {
        match rustix::io::Errno::from_io_error(error) {
            Some(errno) => Self::from_errno(what, call, errno),
            None => Self::Os { what: what.clone(), call, errno: rustix::io::Errno::IO.raw_os_error() },
        }
    }

    /// Whether trying the same call again later may succeed without anyone changing a setting.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::TimedOut { .. } | Self::Busy { .. } | Self::NoSpace { .. })
    }
}
