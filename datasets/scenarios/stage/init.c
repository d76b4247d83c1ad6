// Plays the service manager of a recorded host: makes the host's namespaces, becomes its pid 1 and starts services in
// their cgroups when it is told to on standard input.
//
//   init HOSTNAME NETNS CGROUP OVERLAY     OVERLAY holds upper/, work/ and root/
//
// Requests are lines of fields separated by \x1f:  start ID CGROUP USER FOLDER LOG ENVIRONMENT ARGV0 ARGV1 …
// Answers are lines:  ready | started ID PID | exited ID STATUS.  PIDs are those of the new pid namespace.
// Everything in it ends with it, because it is pid 1 of its namespace.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

// The service manager's path: the tail of every edge from manager to service.
static const char MANAGER[] = "/usr/lib/systemd/systemd";
enum { CGROUPS = 9, CHILDREN = 256 };

static struct { pid_t pid; char id[64]; } children[CHILDREN];

static void die(const char *what) {
    fprintf(stderr, "init: cannot %s: %s\n", what, strerror(errno));
    exit(1);
}

static void join_path(char *out, size_t size, const char *directory, const char *name) {
    snprintf(out, size, "%s/%s", directory, name);
}

static void enter_cgroup(const char *relative) {
    char path[512];
    snprintf(path, sizeof path, "%s/cgroup.procs", relative);
    int fd = openat(CGROUPS, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1) die("join a cgroup");
    close(fd);
}

static void mount_root(const char *overlay, const char *cgroups) {
    char root[512], options[2048], path[600];
    join_path(root, sizeof root, overlay, "root");
    snprintf(options, sizeof options, "lowerdir=/,upperdir=%s/upper,workdir=%s/work", overlay, overlay);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("make mounts private");
    if (mount("overlay", root, "overlay", 0, options)) die("mount the overlay");
    join_path(path, sizeof path, root, "dev");
    if (mount("/dev", path, NULL, MS_BIND | MS_REC, NULL)) die("bind /dev");
    join_path(path, sizeof path, root, "proc");
    if (mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) die("mount /proc");
    join_path(path, sizeof path, root, "sys");
    if (mount("sysfs", path, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL)) die("mount /sys");
    join_path(path, sizeof path, root, "sys/fs/cgroup");
    if (mount(cgroups, path, NULL, MS_BIND, NULL)) die("bind the cgroups");
    for (const char *const *name = (const char *const[]){"tmp", "run", "dev/shm", NULL}; *name; name++) {
        join_path(path, sizeof path, root, *name);
        if (mount("tmpfs", path, "tmpfs", 0, **name == 'r' ? "mode=755" : "mode=1777")) die("mount a tmpfs");
    }
    if (chdir(root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) die("enter the root");
}

static void become_host(char **argv) {
    int netns = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (netns < 0 || setns(netns, CLONE_NEWNET)) die("enter the network namespace");
    int cgroups = open(argv[3], O_PATH | O_DIRECTORY);
    if (cgroups < 0 || dup3(cgroups, CGROUPS, 0) < 0) die("open the cgroup");
    if (cgroups != CGROUPS) close(cgroups);
    if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)) die("make namespaces");
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child > 0) {
        // Nothing but waiting: ending this one must end the host.
        close(0);
        int status = 0;
        waitpid(child, &status, 0);
        exit(WEXITSTATUS(status));
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    mount_root(argv[4], argv[3]);
    if (sethostname(argv[1], strlen(argv[1]))) die("set the host's name");
    enter_cgroup("init.scope");
    execl(MANAGER, MANAGER, "--system", NULL);
    die("become the manager");
}

static int split(char *line, char **fields, int most) {
    int count = 0;
    for (char *field = line; field && count < most - 1;) {
        fields[count++] = field;
        field = strchr(field, '\x1f');
        if (field) *field++ = 0;
    }
    fields[count] = NULL;
    return count;
}

static void set_environment(char *pairs) {
    clearenv();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("LANG", "C.UTF-8", 1);
    for (char *pair = strtok(pairs, ";"); pair; pair = strtok(NULL, ";")) putenv(pair);
}

static void become_service(char **field) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    int null = open("/dev/null", O_RDONLY), log = open(field[5], O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (log < 0) die("open a log");
    dup2(null, 0), dup2(log, 1), dup2(log, 2);
    struct passwd *user = getpwnam(field[3]);
    if (!user) die("find a user");
    if (initgroups(user->pw_name, user->pw_gid) || setgid(user->pw_gid)) die("become a group");
    umask(022);
    enter_cgroup(field[2]);
    if (setuid(user->pw_uid)) die("become a user");
    if (chdir(field[4])) die("change the folder");
    set_environment(field[6]);
    setenv("HOME", user->pw_dir, 1);
    setenv("USER", user->pw_name, 1);
    syscall(SYS_close_range, 3, ~0U, 0);
    execvp(field[7], field + 7);
    die(field[7]);
}

static void start(char **field, int fields) {
    if (fields < 8) { printf("exited %s 125\n", fields > 1 ? field[1] : "?"); return; }
    int slot = 0;
    while (slot < CHILDREN && children[slot].pid) slot++;
    pid_t pid = slot < CHILDREN ? fork() : -1;
    if (pid == 0) become_service(field);
    if (pid < 0) { printf("exited %s 126\n", field[1]); return; }
    children[slot].pid = pid;
    snprintf(children[slot].id, sizeof children[slot].id, "%s", field[1]);
    printf("started %s %d\n", field[1], pid);
}

static void reap(void) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (int slot = 0; slot < CHILDREN; slot++) {
            if (children[slot].pid != pid) continue;
            printf("exited %s %d\n", children[slot].id, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
            children[slot].pid = 0;
        }
    }
}

static int listen_for_sessions(void) {
    struct sockaddr_un here = {.sun_family = AF_UNIX, .sun_path = "/run/session-manager"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 16)) die("listen for sessions");
    return fd;
}

// Moves a session that asks (pam_scope.c) into a scope of its own.
static void open_session(int listener) {
    char pid[16] = "", path[96];
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ssize_t length = read(fd, pid, sizeof pid - 1);
    if (length > 0 && atoi(pid) > 1) {
        snprintf(path, sizeof path, "user.slice/session-%d.scope", atoi(pid));
        mkdirat(CGROUPS, path, 0755);
        snprintf(path, sizeof path, "user.slice/session-%d.scope/cgroup.procs", atoi(pid));
        int procs = openat(CGROUPS, path, O_WRONLY | O_CLOEXEC);
        if (procs < 0 || write(procs, pid, length) != length || write(fd, "y", 1) != 1) fprintf(stderr, "init: session %s stays\n", pid);
        close(procs);
    }
    close(fd);
}

static void manage(void) {
    static char buffer[65536];
    size_t filled = 0;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    int signals = signalfd(-1, &child, SFD_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    int sessions = listen_for_sessions();
    struct pollfd wait[3] = {{.fd = 0, .events = POLLIN}, {.fd = signals, .events = POLLIN}, {.fd = sessions, .events = POLLIN}};
    for (;;) {
        if (poll(wait, 3, -1) < 0) continue;
        if (wait[2].revents) open_session(sessions);
        if (wait[1].revents) {
            struct signalfd_siginfo info;
            if (read(signals, &info, sizeof info) > 0) reap();
        }
        if (!wait[0].revents) continue;
        ssize_t got = read(0, buffer + filled, sizeof buffer - filled - 1);
        if (got <= 0) exit(0);
        filled += got;
        buffer[filled] = 0;
        char *line = buffer, *end;
        for (; (end = strchr(line, '\n')); line = end + 1) {
            *end = 0;
            char *fields[64];
            int count = split(line, fields, 64);
            start(fields, count);
        }
        filled -= line - buffer;
        memmove(buffer, line, filled);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--system")) manage();
    if (argc != 5) { fprintf(stderr, "usage: init HOSTNAME NETNS CGROUP OVERLAY\n"); return 2; }
    become_host(argv);
}
