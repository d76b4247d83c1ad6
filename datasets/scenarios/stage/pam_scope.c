// What pam_systemd does, without systemd: asks the host's pid 1 for a scope for this session, so that a person's processes
// are not sshd's.
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct pam_handle;
enum { SUCCESS = 0 };

int pam_sm_open_session(struct pam_handle *handle, int flags, int argc, const char **argv) {
    (void)handle, (void)flags, (void)argc, (void)argv;
    struct sockaddr_un manager = {.sun_family = AF_UNIX, .sun_path = "/run/session-manager"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[16];
    int length = snprintf(text, sizeof text, "%d", getpid());
    // The answer says that the move is done: what the session starts is in its scope.
    if (!connect(fd, (struct sockaddr *)&manager, sizeof manager) && write(fd, text, length) == length) {
        ssize_t answered = read(fd, text, 1);
        (void)answered;
    }
    close(fd);
    return SUCCESS;
}

int pam_sm_close_session(struct pam_handle *handle, int flags, int argc, const char **argv) {
    (void)handle, (void)flags, (void)argc, (void)argv;
    return SUCCESS;
}
