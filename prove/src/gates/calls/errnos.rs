//! What each system call can fail with, by its man page, where it can in what is done here.

use libc::c_long;
use nix::errno::Errno::{self, *};

use crate::tracer::Call;

/// A call's name, and what it can fail with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failures {
    pub(super) name: &'static str,
    pub(super) errnos: &'static [Errno],
}

const fn failing(name: &'static str, errnos: &'static [Errno]) -> Failures {
    Failures { name, errnos }
}

/// Commands of futex(2), without their flags.
const FUTEX_COMMAND: u64 = 0x7f;
const FUTEX_WAKE: u64 = 1;

/// `None`: not in the table.
pub(super) fn of(call: &Call) -> Option<Failures> {
    let second = call.arguments[1] as i32;
    Some(match call.number as c_long {
        libc::SYS_futex if call.arguments[1] & FUTEX_COMMAND == FUTEX_WAKE => failing("futex", &[]),
        libc::SYS_futex => failing("futex", &[EINTR, EAGAIN, ETIMEDOUT, ENOMEM]),
        libc::SYS_openat => {
            failing("openat", &[ENOENT, EACCES, EPERM, EMFILE, ENFILE, ENOMEM, ENOSPC, EINTR, EOPNOTSUPP])
        }
        libc::SYS_read => failing("read", &[EINTR, EIO]),
        libc::SYS_fstat => failing("fstat", &[ENOMEM]),
        libc::SYS_newfstatat => failing("fstatat", &[ENOENT, EACCES, ENOMEM]),
        libc::SYS_statx => failing("statx", &[ENOENT, EACCES, ENOMEM, ENOSYS]),
        libc::SYS_fstatfs => failing("fstatfs", &[EINTR, EIO, ENOMEM, ENOSYS]),
        libc::SYS_mmap => failing("mmap", &[ENOMEM, EAGAIN, ENFILE, EPERM, ENODEV]),
        libc::SYS_madvise => match second {
            libc::MADV_REMOVE => failing("madvise", &[EINTR, EOPNOTSUPP, EPERM, ENOMEM]),
            libc::MADV_POPULATE_WRITE => failing("madvise", &[EINTR, EINVAL, ENOMEM, EFAULT]),
            _ => failing("madvise", &[EINVAL, ENOMEM, EAGAIN]),
        },
        libc::SYS_ftruncate => failing("ftruncate", &[EINTR, EFBIG, EIO, EPERM]),
        libc::SYS_fallocate => {
            failing("fallocate", &[EINTR, ENOSPC, EFBIG, EIO, ENOMEM, EDQUOT, EOPNOTSUPP, EPERM, ENOSYS])
        }
        libc::SYS_fcntl => match second {
            libc::F_OFD_SETLK => failing("fcntl", &[EINTR, EAGAIN, EACCES, ENOLCK, ENOMEM]),
            libc::F_OFD_GETLK => failing("fcntl", &[EINTR, ENOLCK]),
            libc::F_DUPFD_CLOEXEC => failing("fcntl", &[EMFILE]),
            _ => failing("fcntl", &[]),
        },
        libc::SYS_linkat => {
            failing("linkat", &[EEXIST, ENOSPC, ENOENT, EACCES, EPERM, ENOMEM, EDQUOT, EROFS, EIO])
        }
        libc::SYS_renameat2 => failing("renameat2", &[EEXIST, ENOSPC, EACCES, ENOMEM, EINVAL]),
        libc::SYS_unlinkat => failing("unlinkat", &[ENOENT, EACCES, EPERM, EBUSY, EROFS, ENOMEM, EIO]),
        libc::SYS_fchmod => failing("fchmod", &[EPERM, EROFS, EIO, ENOMEM]),
        libc::SYS_membarrier => failing("membarrier", &[ENOSYS, EPERM, EINVAL]),
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => failing("nanosleep", &[EINTR]),
        libc::SYS_getrandom => failing("getrandom", &[EINTR, ENOSYS]),
        libc::SYS_sched_getaffinity => failing("sched_getaffinity", &[EINVAL, EPERM]),
        libc::SYS_prlimit64 => failing("prlimit64", &[]),
        // A descriptor is closed whatever close(2) says, and nobody asks.
        libc::SYS_close
        | libc::SYS_munmap
        | libc::SYS_brk
        | libc::SYS_lseek
        | libc::SYS_getpid
        | libc::SYS_gettid
        | libc::SYS_getuid
        | libc::SYS_sched_yield
        | libc::SYS_clock_gettime
        | libc::SYS_rt_sigprocmask => failing("", &[]),
        _ => return None,
    })
}
