// Writes into another process: ptrace to stop it, process_vm_writev and PTRACE_POKEDATA to change its stack, and lets it
// go on. What is written is what was there, so that the victim lives.  inject NAME
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t find(const char *name) {
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        char path[300], exe[256] = "";
        snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
        if (atoi(entry->d_name) > 1 && readlink(path, exe, sizeof exe - 1) > 0 && strstr(exe, name)) return atoi(entry->d_name);
    }
    return 0;
}

int main(int argc, char **argv) {
    pid_t victim = argc > 1 ? find(argv[1]) : 0;
    if (!victim) return 2;
    for (int round = 0; round < 6; round++) {
        if (ptrace(PTRACE_ATTACH, victim, 0, 0)) { perror("attach"); return 1; }
        waitpid(victim, NULL, __WALL);
        struct user_regs_struct registers;
        ptrace(PTRACE_GETREGS, victim, 0, &registers);
        char kept[256];
        struct iovec mine = {kept, sizeof kept}, theirs = {(void *)registers.rsp, sizeof kept};
        if (process_vm_readv(victim, &mine, 1, &theirs, 1, 0) > 0) process_vm_writev(victim, &mine, 1, &theirs, 1, 0);
        long word = ptrace(PTRACE_PEEKDATA, victim, (void *)registers.rip, 0);
        ptrace(PTRACE_POKEDATA, victim, (void *)registers.rip, (void *)word);
        ptrace(PTRACE_SETREGS, victim, 0, &registers);
        ptrace(PTRACE_DETACH, victim, 0, 0);
        puts("written");
        fflush(stdout);
        usleep(400000);
    }
}
