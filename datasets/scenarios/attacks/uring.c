// Sends a file without one network syscall: socket, connect and send go through io_uring.  uring ADDRESS PORT FILE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring;
static char *rings;
static struct io_uring_sqe *entries;
static struct io_uring_params about;

static int submit(uint8_t operation, int fd, uint64_t address, uint32_t length, uint64_t offset) {
    unsigned *tail = (unsigned *)(rings + about.sq_off.tail), mask = *(unsigned *)(rings + about.sq_off.ring_mask);
    unsigned at = *tail & mask;
    memset(&entries[at], 0, sizeof entries[at]);
    entries[at].opcode = operation, entries[at].fd = fd, entries[at].addr = address, entries[at].len = length, entries[at].off = offset;
    ((unsigned *)(rings + about.sq_off.array))[at] = at;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) return -1;
    unsigned *head = (unsigned *)(rings + about.cq_off.head);
    struct io_uring_cqe *done = (struct io_uring_cqe *)(rings + about.cq_off.cqes) + (*head & *(unsigned *)(rings + about.cq_off.ring_mask));
    int result = done->res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

int main(int argc, char **argv) {
    if (argc < 4 || (ring = syscall(SYS_io_uring_setup, 8, &about)) < 0) return 2;
    rings = mmap(NULL, about.cq_off.cqes + about.cq_entries * sizeof(struct io_uring_cqe) + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    entries = mmap(NULL, about.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    static char block[4096];
    for (int round = 0; round < 8; round++) {
        int file = submit(IORING_OP_OPENAT, AT_FDCWD, (uint64_t)argv[3], 0, 0);
        int length = submit(IORING_OP_READ, file, (uint64_t)block, sizeof block, 0);
        int fd = submit(IORING_OP_SOCKET, AF_INET, 0, 0, SOCK_STREAM);
        if (submit(IORING_OP_CONNECT, fd, (uint64_t)&to, 0, sizeof to)) return 1;
        submit(IORING_OP_SEND, fd, (uint64_t)block, length > 0 ? length : 0, 0);
        submit(IORING_OP_CLOSE, fd, 0, 0, 0);
        submit(IORING_OP_CLOSE, file, 0, 0, 0);
        usleep(300000);
    }
}
