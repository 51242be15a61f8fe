//! Unix sockets ([unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html)). All that are made here close at
//! exec and never block; none raises SIGPIPE.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, Result, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// A socket without a name.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn new(kind: SocketType) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// A socket connected to whoever has `name`.
///
/// # Errors
/// ENOENT (no such path), ECONNREFUSED (nobody listens there), EAGAIN (its queue is full), EPROTOTYPE (it is of
/// another type), EACCES, EPERM (a datagram socket that is itself connected to another).
pub(crate) fn connect(name: &SocketAddrUnix, kind: SocketType) -> Result<OwnedFd> {
    let socket = new(kind)?;
    retry_on_intr(|| rustix::net::connect(&socket, name))?;
    Ok(socket)
}

/// Whether a living process has `name` bound, found out without it noticing: a datagram socket does not learn who
/// connects to it, a socket that accepts connections refuses one as the wrong type, a file left behind as nobody's.
///
/// # Errors
/// ENOENT where the path does not exist, EACCES.
pub(crate) fn is_bound(name: &SocketAddrUnix) -> Result<bool> {
    match connect(name, SocketType::DGRAM) {
        Ok(_) | Err(Errno::PROTOTYPE | Errno::PERM) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The next connection and the abstract name that its peer gave itself; EAGAIN where there is none.
///
/// # Errors
/// EAGAIN, EMFILE, ENFILE, ENOMEM.
pub(crate) fn accept(listener: impl AsFd) -> Result<(OwnedFd, Option<Vec<u8>>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        match rustix::net::acceptfrom_with(&listener, flags) {
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(errno) => return Err(errno),
            Ok((socket, peer)) => {
                let peer = peer.and_then(|peer| SocketAddrUnix::try_from(peer).ok());
                return Ok((socket, peer.and_then(|peer| peer.abstract_name().map(<[u8]>::to_vec))));
            }
        }
    }
}

/// The process at the other end, as it was when it connected or began to listen
/// ([SO_PEERCRED](https://man7.org/linux/man-pages/man7/unix.7.html)); `None` in another PID namespace.
pub(crate) fn peer_pid(socket: impl AsFd) -> Option<u32> {
    // A pid of 0, which rustix's type cannot hold, is what the kernel gives for a process of another namespace.
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let socket = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    // SAFETY: the kernel writes at most `len` bytes, all of them integers, to a `ucred` that lives across the call.
    let result = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut len)
    };
    (result == 0 && peer.pid > 0).then_some(peer.pid as u32)
}

/// Sends what fits at this moment; all or nothing where packets are sent.
///
/// # Errors
/// EAGAIN where nothing fits, EMSGSIZE; EPIPE, ECONNRESET or ECONNREFUSED where the peer is gone, and ENOTCONN from a
/// datagram socket that has told so.
pub(crate) fn send(socket: impl AsFd, parts: &[IoSlice<'_>]) -> Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| rustix::net::sendmsg(&socket, parts, &mut SendAncillaryBuffer::default(), flags))
}

/// Receives what is there; 0 at the end.
///
/// # Errors
/// EAGAIN where nothing is there, ECONNRESET.
pub(crate) fn recv(socket: impl AsFd, into: &mut [u8]) -> Result<usize> {
    retry_on_intr(|| rustix::net::recv(&socket, &mut *into, RecvFlags::DONTWAIT)).map(|(_, len)| len)
}

/// Receives one packet and gives its real length, also where it was cut to fit; 0 at a connection's end.
///
/// # Errors
/// As [`recv`].
pub(crate) fn recv_packet(socket: impl AsFd, into: &mut [u8]) -> Result<usize> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    retry_on_intr(|| rustix::net::recv(&socket, &mut *into, flags)).map(|(_, len)| len)
}

/// How many bytes of the kernel's memory the socket's unread packets may take.
///
/// # Errors
/// EBADF.
pub(crate) fn send_buffer(socket: impl AsFd) -> Result<usize> {
    rustix::net::sockopt::socket_send_buffer_size(socket)
}

/// Gives the socket more room for what is unread (the kernel doubles the value, up to what it allows).
///
/// # Errors
/// EBADF.
pub(crate) fn grow_send_buffer(socket: impl AsFd) -> Result<()> {
    let now = send_buffer(&socket)?;
    rustix::net::sockopt::set_socket_send_buffer_size(socket, now)
}
