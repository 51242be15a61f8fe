//! One living receiver a name, and no file left behind that hinders the next.
//!
//! A socket's file outlives its receiver when that is killed. Whether somebody lives behind it is a fact that the
//! kernel tells ([`socket::is_bound`]); between that look and the removal, nobody else may put a living socket
//! there: the directory is locked for these few calls. A receiver that closes removes its file while it still
//! listens, when nobody takes it for dead.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SocketAddrUnix, SocketType};

use super::{Socket, refuse_other_kinds};
use crate::address::Address;
use crate::channel::place::{self, FileId};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::sys::poll::Pause;
use crate::sys::process::ProcessMark;
use crate::sys::{file, socket};

/// How the abstract name begins of a socket that connects only to learn whom the name belongs to.
pub(super) const QUESTION: &[u8] = b"narrows-who-";

/// Looks at a name that changes hands all the time, before it counts as taken.
const ATTEMPTS: usize = 100;

/// The longest wait for others that replace a socket in the same directory.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// A socket that has a name, and listens where it is one for connections.
pub(super) struct Bound {
    socket: OwnedFd,
    file: Option<(PathBuf, FileId)>,
    pub(super) mark: ProcessMark,
}

impl Bound {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let Some((path, id)) = &self.file else { return };
        if !self.mark.is_forked() && FileId::at(path) == Some(*id) {
            rustix::fs::unlink(path).ok();
        }
    }
}

/// Takes the name.
pub(super) fn bind(address: &Address, socket: &Socket, deadline: Deadline) -> Result<Bound> {
    let what = address.text();
    let mode = place::mode(address)?;
    if socket.is_abstract && mode.is_some() {
        let hint = "everybody in the network namespace may connect to it; use a path to keep others out";
        return Err(address.invalid("an abstract name has no mode", Some(hint)));
    }
    let backlog = match address.number("backlog")? {
        Some(0) => return Err(address.invalid("backlog=0 lets nobody connect", Some("give at least 1"))),
        Some(_) if socket.kind == SocketType::DGRAM => {
            let hint = "net.unix.max_dgram_qlen says how many datagrams may wait";
            return Err(address.invalid("backlog has no meaning for datagrams", Some(hint)));
        }
        backlog => backlog.map_or(128, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX)),
    };
    let fail = |call| {
        let what = what.clone();
        move |errno| Error::from_errno(&what, call, errno)
    };
    let mark = ProcessMark::take().map_err(fail("madvise"))?;
    let mut lock = None;
    for _ in 0..ATTEMPTS {
        let new = socket::new(socket.kind).map_err(fail("socket"))?;
        // The file is born with no more permissions than these.
        rustix::fs::fchmod(&new, mode.unwrap_or(place::MODE)).map_err(fail("fchmod"))?;
        match rustix::net::bind(&new, &socket.name) {
            Ok(()) => {
                let mode = mode.unwrap_or(place::MODE);
                let file = if socket.is_abstract { None } else { Some(named(address, mode)?) };
                let bound = Bound { socket: new, file, mark };
                if socket.kind != SocketType::DGRAM {
                    rustix::net::listen(&bound.socket, backlog).map_err(fail("listen"))?;
                }
                return Ok(bound);
            }
            Err(Errno::ADDRINUSE) if socket.is_abstract => return Err(busy(address, socket)),
            Err(Errno::ADDRINUSE) => lock = make_way(address, socket, lock, deadline)?,
            Err(errno) => return Err(unbound(&what, address.path(), errno)),
        }
    }
    Err(busy(address, socket))
}

/// Gives the new file its permissions, which the umask had cut, and remembers which it is.
fn named(address: &Address, mode: Mode) -> Result<(PathBuf, FileId)> {
    let path = address.path().to_owned();
    let fail = |call| move |errno| Error::from_errno(&address.text(), call, errno);
    file::set_mode(&path, mode).map_err(fail("chmod"))?;
    let id = FileId::of(&rustix::fs::lstat(&path).map_err(fail("lstat"))?);
    Ok((path, id))
}

/// Removes what a dead receiver left. The first call only takes the lock, so that the look that counts happens
/// under it.
fn make_way(
    address: &Address,
    socket: &Socket,
    lock: Option<OwnedFd>,
    deadline: Deadline,
) -> Result<Option<OwnedFd>> {
    let (what, path) = (address.text(), address.path());
    refuse_other_kinds(address)?;
    match socket::is_bound(&socket.name) {
        Ok(true) => Err(busy(address, socket)),
        Ok(false) => match lock {
            None => lock_directory(&what, path, deadline).map(Some),
            Some(lock) => match rustix::fs::unlink(path) {
                Ok(()) | Err(Errno::NOENT) => Ok(Some(lock)),
                Err(_) => {
                    Err(place::refused(&what, path, "its receiver is dead: its owner may remove the file"))
                }
            },
        },
        Err(Errno::NOENT) => Ok(lock),
        Err(Errno::ACCESS) => Err(place::refused(&what, path, "it is somebody else's: choose another path")),
        Err(errno) => Err(Error::from_errno(&what, "connect", errno)),
    }
}

fn lock_directory(what: &Text, path: &Path, deadline: Deadline) -> Result<OwnedFd> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = retry_on_intr(|| rustix::fs::open(parent, flags, Mode::empty())).map_err(|_| {
        place::refused(what, parent, "a socket left behind is replaced only in a readable directory")
    })?;
    let until = match deadline {
        Deadline::Now => Deadline::Now,
        deadline => Deadline::from(deadline.remaining_within(LOCK_WAIT)),
    };
    let mut pause = Pause::new();
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Error::from_errno(what, "flock", errno)),
        }
        if !pause.sleep(until) {
            let hint = "another process has its directory locked: try again".into();
            return Err(Error::Busy { what: what.clone(), holder: None, hint: Some(hint) });
        }
    }
}

/// The name is taken: asks who has it, by a connection that the holder knows for a question. A datagram socket knows no
/// connections, and a socket of another type takes none: then `/proc` may know.
fn busy(address: &Address, socket: &Socket) -> Error {
    let ask = |question: OwnedFd| {
        let mut name = QUESTION.to_vec();
        name.extend_from_slice(
            format!("{}-{:?}", std::process::id(), std::thread::current().id()).as_bytes(),
        );
        rustix::net::bind(&question, &SocketAddrUnix::new_abstract_name(&name).ok()?).ok()?;
        rustix::net::connect(&question, &socket.name).ok()?;
        socket::peer_pid(&question)
    };
    let name = if socket.is_abstract { address.name() } else { address.path().as_os_str() };
    // An abstract name is another one for another type.
    let kind = socket.is_abstract.then_some(socket.kind);
    let asked = socket::new(socket.kind).ok().filter(|_| socket.kind != SocketType::DGRAM).and_then(ask);
    let holder = asked.or_else(|| place::socket_holder(name, kind)).map(place::process);
    let hint = "one receiver has the name: end it, or choose another".into();
    Error::Busy { what: address.text(), holder, hint: Some(hint) }
}

fn unbound(what: &Text, path: &Path, errno: Errno) -> Error {
    let parent = path.parent().unwrap_or(Path::new("/"));
    match errno {
        Errno::NOENT | Errno::NOTDIR => {
            place::no_directory(what, path).unwrap_or_else(|| Error::from_errno(what, "bind", errno))
        }
        Errno::ACCESS | Errno::PERM => place::refused(what, parent, "nothing may be made in that directory"),
        errno => Error::from_errno(what, "bind", errno),
    }
}
