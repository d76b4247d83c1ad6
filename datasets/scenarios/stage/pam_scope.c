// What pam_systemd does, without systemd: a session gets a scope of its own, so that a person's processes are not sshd's.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct pam_handle;
enum { SUCCESS = 0 };

int pam_sm_open_session(struct pam_handle *handle, int flags, int argc, const char **argv) {
    (void)handle, (void)flags, (void)argc, (void)argv;
    char path[256];
    snprintf(path, sizeof path, "/sys/fs/cgroup/user.slice/session-%d.scope", getpid());
    mkdir(path, 0755);
    snprintf(path + 0, sizeof path, "/sys/fs/cgroup/user.slice/session-%d.scope/cgroup.procs", getpid());
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return SUCCESS;
    ssize_t written = write(fd, "0", 1);
    (void)written;
    close(fd);
    return SUCCESS;
}

int pam_sm_close_session(struct pam_handle *handle, int flags, int argc, const char **argv) {
    (void)handle, (void)flags, (void)argc, (void)argv;
    return SUCCESS;
}
