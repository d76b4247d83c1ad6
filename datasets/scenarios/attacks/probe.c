// Asks the kernel what it lets an ordinary user do, as one does before choosing an exploit: namespaces, bpf, perf, keys,
// userfaultfd, io_uring, modules, netlink, and what protects it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result) { printf("%s %ld\n", what, result); fflush(stdout); usleep(150000); }

static void show(const char *path) {
    char text[200];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    printf("%s %.*s\n", path, length > 0 ? (int)length : 0, text);
    close(fd);
}

int main(void) {
    const char *const about[] = {"/proc/version", "/proc/sys/kernel/kptr_restrict", "/proc/sys/kernel/unprivileged_bpf_disabled",
                                 "/proc/sys/kernel/perf_event_paranoid", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/vm/unprivileged_userfaultfd",
                                 "/sys/kernel/security/lsm", "/proc/self/status", "/proc/kallsyms", "/proc/modules"};
    for (unsigned i = 0; i < sizeof about / sizeof *about; i++) show(about[i]);
    const int spaces[] = {CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNS};
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (!child) _exit(unshare(spaces[i]) ? 1 : 0);
        int status;
        waitpid(child, &status, 0);
        say("unshare", WEXITSTATUS(status));
    }
    union bpf_attr map;
    memset(&map, 0, sizeof map);
    map.map_type = BPF_MAP_TYPE_ARRAY, map.key_size = 4, map.value_size = 8, map.max_entries = 1;
    say("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_PAGE_FAULTS};
    say("perf", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 1, 0, 0));
    say("add_key", syscall(SYS_add_key, "user", "probe", "x", 1, -3));
    say("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
    char ring[256] = "";
    say("io_uring", syscall(SYS_io_uring_setup, 2, ring));
    say("netlink", socket(AF_NETLINK, SOCK_RAW, 12));
    say("packet", socket(AF_PACKET, SOCK_RAW, 0));
    say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    say("alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    say("finit_module", syscall(SYS_finit_module, 0, "", 0));
    say("dumpable", prctl(PR_SET_DUMPABLE, 1));
    say("memfd_secret", syscall(SYS_memfd_secret, 0));
    puts("probed");
}
