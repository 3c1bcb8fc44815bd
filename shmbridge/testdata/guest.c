/* A server that keeps a counter in the segment's first 8 bytes, and does what it is told: guestRole in C and C++. */
#include "upgrader_shm.h"

#include <stdio.h>

UPGRADER_SCHEMA(4,3);

static void answer(int err) {
    switch (err) {
    case 0: puts("ok"); break;
    case -ESTALE: puts("void"); break;
    case -EAGAIN: puts("busy"); break;
    case -EBUSY: puts("restoring"); break;
    default: printf("error %d\n", err);
    }
}

int main(void) {
    static const char *const states[] = {"", "fresh", "live", "saved", "unsaved"};
    struct upgrader_shm shm;
    char line[128];
    int err = upgrader_shm_attach(&shm);
    if (err != 0) {
        printf("failed: %d\n", err);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("attached %s\n", states[shm.found]);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char word[16] = "";
        unsigned long long n = 0;
        if (sscanf(line, "%15s %llu", word, &n) < 1) continue;
        if (strcmp(word, "take") == 0) {
            answer(upgrader_shm_take(&shm, n));
        } else if (strcmp(word, "wait") == 0) {
            while ((err = upgrader_shm_take(&shm, n)) == -EAGAIN) {
                struct timespec ms = {0, 1000000};
                (void)nanosleep(&ms, NULL);
            }
            answer(err);
        } else if (strcmp(word, "save") == 0) {
            answer(upgrader_shm_save(&shm, n));
        } else if (strcmp(word, "resume") == 0) {
            answer(upgrader_shm_resume(&shm));
        } else if (strcmp(word, "valid") == 0) {
            answer(upgrader_shm_valid(&shm));
        } else if (strcmp(word, "release") == 0) {
            answer(upgrader_shm_release(&shm));
        } else if (strcmp(word, "add") == 0) {
            uint64_t *sum = (uint64_t *)shm.data;
            *sum += n;
            printf("%llu\n", (unsigned long long)*sum);
        }
    }
    upgrader_shm_detach(&shm);
    return 0;
}
