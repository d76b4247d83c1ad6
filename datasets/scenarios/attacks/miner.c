// Load like a miner's: threads that compute, one connection to a pool, little else.  miner ADDRESS PORT SECONDS
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t best;
static time_t end;

static void *mine(void *argument) {
    uint64_t x = (uintptr_t)argument + 88172645463325252ull;
    while (time(NULL) < end) {
        for (int i = 0; i < 4000000; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; if (x > best) best = x; }
        usleep(15000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    prctl(PR_SET_NAME, "kworker/u8:3");
    setpriority(PRIO_PROCESS, 0, 10);
    end = time(NULL) + atoi(argv[3]);
    struct sockaddr_in pool = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &pool.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&pool, sizeof pool)) return 1;
    dprintf(fd, "{\"id\":1,\"method\":\"mining.subscribe\"}\n");
    pthread_t one;
    pthread_create(&one, NULL, mine, NULL);
    for (int share = 0; time(NULL) < end; share++) {
        usleep(900000);
        dprintf(fd, "{\"id\":%d,\"method\":\"mining.submit\",\"nonce\":\"%llx\"}\n", share, (unsigned long long)best);
    }
    pthread_join(one, NULL);
}
