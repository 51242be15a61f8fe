//! Passing descriptors to another process
//! ([unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), `SCM_RIGHTS`).

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Hands a descriptor to the process at the other end. One byte travels with it.
///
/// The receiver's descriptor is the *same* open file: position, flags and locks are shared. Segments reopen what
/// they are given.
///
/// # Errors
/// What [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html) says; `BrokenPipe` where the other end is
/// closed (no SIGPIPE is raised).
///
/// ```
/// use narrows::sys::{pass_descriptor, take_descriptor};
/// use std::{fs::File, io::Read, os::fd::AsFd, os::unix::net::UnixStream};
/// let (here, there) = UnixStream::pair()?;
/// pass_descriptor(&here, File::open("/proc/self/comm")?.as_fd())?;
///
/// let mut name = String::new();
/// File::from(take_descriptor(&there)?).read_to_string(&mut name)?;
/// assert!(!name.is_empty());
/// # std::io::Result::Ok(())
/// ```
pub fn pass_descriptor(socket: &UnixStream, descriptor: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let descriptors = [descriptor];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL))?;
    if sent == 1 { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// Takes a descriptor that [`pass_descriptor`], or any program with `SCM_RIGHTS` and one byte, has sent. It is
/// closed at exec.
///
/// # Errors
/// `UnexpectedEof` where the other end is closed, `InvalidData` where a byte came without a descriptor,
/// `WouldBlock` where the socket does not block or has a read timeout.
///
/// ```
/// use narrows::sys::{pass_descriptor, take_descriptor};
/// use std::{os::fd::AsFd, os::unix::net::UnixStream};
/// let (here, there) = UnixStream::pair()?;
/// let region = narrows::Region::create("memfd:passed", 4096)?;
/// pass_descriptor(&here, region.as_fd())?;
/// assert_eq!(narrows::Region::from_descriptor(take_descriptor(&there)?)?.len(), 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn take_descriptor(socket: &UnixStream) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let message = retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match (descriptor, message.bytes) {
        (Some(descriptor), _) => Ok(descriptor),
        (None, 0) => Err(ErrorKind::UnexpectedEof.into()),
        (None, _) => Err(Error::new(ErrorKind::InvalidData, "a byte came without a descriptor")),
    }
}
