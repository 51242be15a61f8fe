//! What differs between processors: where a stopped process stands, and how it is stopped elsewhere.

use anyhow::Result;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// The address of the next instruction.
#[cfg(target_arch = "x86_64")]
pub(super) fn pc(pid: Pid) -> Result<u64> {
    Ok(ptrace::getregs(pid)?.rip)
}

/// The address of the next instruction.
#[cfg(target_arch = "aarch64")]
pub(super) fn pc(pid: Pid) -> Result<u64> {
    Ok(ptrace::getregs(pid)?.pc)
}

/// Makes the process stop in front of the instruction at `address`, every time. False: this machine cannot.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_breakpoint(pid: Pid, address: u64) -> bool {
    // Intel SDM volume 3, "Debug registers": DR0 is the address, bit 0 of DR7 switches it on, for executing.
    ptrace::write_user(pid, debug_register(0), address.cast_signed()).is_ok()
        && ptrace::write_user(pid, debug_register(7), 1).is_ok()
}

#[cfg(target_arch = "x86_64")]
fn debug_register(number: usize) -> ptrace::AddressType {
    (std::mem::offset_of!(libc::user, u_debugreg) + 8 * number) as ptrace::AddressType
}

/// Takes the breakpoint away.
#[cfg(target_arch = "x86_64")]
pub(super) fn clear_breakpoint(pid: Pid) {
    // A process that is gone has none.
    let _ = ptrace::write_user(pid, debug_register(7), 0);
}

/// Takes the breakpoint away.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn clear_breakpoint(_: Pid) {}

/// Makes the process stop in front of the instruction at `address`, every time. False: this machine cannot.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn set_breakpoint(_: Pid, _: u64) -> bool {
    false
}

/// Makes the system call in front of which the process stands fail: it is not made.
#[cfg(target_arch = "x86_64")]
pub(super) fn skip_call(pid: Pid) -> Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    Ok(ptrace::setregs(pid, registers)?)
}

/// What the system call behind which the process stands gave.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_result(pid: Pid, result: i64) -> Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rax = result.cast_unsigned();
    Ok(ptrace::setregs(pid, registers)?)
}

/// Makes the system call in front of which the process stands fail: it is not made.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn skip_call(_: Pid) -> Result<()> {
    anyhow::bail!("system calls cannot be failed on this processor")
}

/// What the system call behind which the process stands gave.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn set_result(_: Pid, _: i64) -> Result<()> {
    anyhow::bail!("system calls cannot be failed on this processor")
}
