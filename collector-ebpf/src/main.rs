//! The Stockade kernel programs, one file a family. What each record means stands in `collector-common`.
//!
//! ```text
//! process  task_newtask · sched_process_exec · sched_process_exit   lineage at birth, exec records      ─► ctrl
//! syscall  sys_exit                                                 windows of 128 calls                ─► bulk (early: ctrl)
//! uring    io_uring_submit_req                                      operations as calls of the submitter
//! file     sys_exit of open · security_inode_unlink · _rename       first-seen directories, rates      ─► bulk (sensitive: ctrl)
//! owner    sock_create · sock_send_length · sock_recv_length        who uses which socket
//! flow     cgroup_skb · inet_sock_set_state · sock_release          traffic per socket                  ─► bulk (novel: ctrl)
//! sweep    iter/task · iter/task_file                               idle threads, sockets older than the agent
//! deny     connect4/6 · sendmsg4/6 · cgroup_skb/egress · LSM        deadlines, breaker, hits            ─► ctrl
//! ```

#![no_std]
#![no_main]

mod abi;
mod arch;
mod argument;
mod control;
mod deny;
mod empty;
mod file;
mod file_id;
mod flow;
mod maps;
mod offsets;
mod owner;
mod packet;
mod process;
mod rings;
mod scope;
mod stats;
mod sweep;
mod syscall;
mod task;
mod uring;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Never reached: the verifier refuses a program in which a panic could happen.
    loop {}
}

/// Helpers such as `bpf_probe_read_kernel` are offered to GPL-compatible programs only; the sources are Apache-2.0 or MIT as
/// all of Stockade, and MIT is GPL-compatible.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
