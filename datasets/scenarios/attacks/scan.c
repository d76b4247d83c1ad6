// A port scanner.  scan FIRST LAST ADDRESS…
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    for (int host = 3; host < argc; host++) {
        for (int port = atoi(argv[1]); port <= atoi(argv[2]); port++) {
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
            inet_pton(AF_INET, argv[host], &to.sin_addr);
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            connect(fd, (struct sockaddr *)&to, sizeof to);
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            int error = 1;
            socklen_t size = sizeof error;
            if (poll(&wait, 1, 20) > 0) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (!error) printf("%s:%d\n", argv[host], port);
            close(fd);
            if (port % 10 == 0) usleep(20000);
        }
    }
}
