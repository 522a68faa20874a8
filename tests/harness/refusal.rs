//! A kernel that refuses some system calls, as a container's seccomp profile makes it. Only for the started program and
//! its children: nothing is changed on the machine.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The program that `command` starts gets `errno` from the system call `number`; all others work.
pub fn refuse_call(command: &mut Command, number: libc::c_long, errno: i32) {
    let number = u32::try_from(number).unwrap();
    let jump = |code: u32, k, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        // The number lies first in what a filter sees (`struct seccomp_data`).
        jump(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1),
        jump(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        jump(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        let on: libc::c_ulong = 1;
        let off: libc::c_ulong = 0;
        // SAFETY: a plain system call without pointers. Who gives up new privileges may filter without being root.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, off, off, off) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        // SAFETY: `program` and the filter behind it live until the call returns, and the kernel only reads them.
        if unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only makes system calls: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(install) };
}
