/*
 * upgrader_shm.h - a guest's side of the upgrader's shared memory, for C99 and C++11 on Linux with gcc or clang.
 *
 *     #include "upgrader_shm.h"                                  // first, or compile with -D_GNU_SOURCE
 *
 *     UPGRADER_SCHEMA(4);                                        // the layout of our data; later ones read UPGRADER_SCHEMA(4,3)
 *
 *     struct upgrader_shm shm;
 *     if (upgrader_shm_attach(&shm) != 0) return 1;              // -ENOENT: not started by an upgrader that shares memory
 *     while (upgrader_shm_take(&shm, 4) == -EAGAIN) usleep(1000);// an older generation is still writing
 *     struct world *world = (struct world *)shm.data;
 *     if (shm.found == UPGRADER_SHM_FRESH) create(world);        // else it is what our predecessor left
 *     run(world);
 *     upgrader_shm_save(&shm, 0);                                // consistent, from here on untouched
 *
 * Every function returns 0 or a negated errno: -ENOENT no segment, -EPROTO the page is not sound, -ESTALE the lease is
 * void (a later generation has it: write no byte any more), -EAGAIN see above, -EBUSY a restore was not finished.
 * The page is documented in docs/bridge.md.
 */
#ifndef UPGRADER_SHM_H
#define UPGRADER_SHM_H

#if !defined(_GNU_SOURCE) && !defined(_DEFAULT_SOURCE) && !defined(_FEATURES_H)
#define _DEFAULT_SOURCE 1 /* usleep, shmat, clock_gettime under -std=c99 */
#endif

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the bridge page is little-endian"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define UPGRADER_SHM_PAGE_SIZE 4096
#define UPGRADER_SHM_VERSION 1
#define UPGRADER_SHM_MAGIC UINT64_C(0x314d485352475055)

/* States. */
#define UPGRADER_SHM_FRESH 1
#define UPGRADER_SHM_LIVE 2
#define UPGRADER_SHM_SAVED 3
#define UPGRADER_SHM_UNSAVED 4

/* Offsets on the page. */
#define UPGRADER_SHM_AT_MAGIC 0
#define UPGRADER_SHM_AT_VERSION 8
#define UPGRADER_SHM_AT_SIZE 16
#define UPGRADER_SHM_AT_WORD 24
#define UPGRADER_SHM_AT_BASE 32
#define UPGRADER_SHM_AT_SAVES 40
#define UPGRADER_SHM_AT_BEGUN 72
#define UPGRADER_SHM_AT_DONE 80
#define UPGRADER_SHM_AT_RECORDS 1024

/* Records, and offsets in them. */
#define UPGRADER_SHM_RECORDS 16
#define UPGRADER_SHM_RECORD_SIZE 64
#define UPGRADER_SHM_IN_GENERATION 0
#define UPGRADER_SHM_IN_PID 8
#define UPGRADER_SHM_IN_FOUND 16
#define UPGRADER_SHM_IN_TAKEN 24
#define UPGRADER_SHM_IN_SAVES 32
#define UPGRADER_SHM_IN_TIME 40
#define UPGRADER_SHM_IN_CHECKSUM 48
#define UPGRADER_SHM_IN_SCHEMA 56
#define UPGRADER_SHM_TAKEN_YES 1
#define UPGRADER_SHM_TAKEN_OVER 2

/* UPGRADER_SCHEMA(N) or UPGRADER_SCHEMA(N,M), digits only, at file scope: the schema that this program writes, then
 * those that it can also read. It lies in the program's file as text, where the upgrader looks for it. */
#define UPGRADER_SCHEMA(...) UPGRADER_SCHEMA_TEXT(#__VA_ARGS__)
#define UPGRADER_SCHEMA_TEXT(list) \
    __attribute__((used)) static const char upgrader_shm_schema[] = "upgrader-schema:" list ";"

struct upgrader_shm {
    void *data;          /* the segment */
    size_t size;         /* its bytes */
    int found;           /* what this generation found: UPGRADER_SHM_FRESH, _SAVED or _UNSAVED */
    int sysv;            /* how it is unmapped */
    uint64_t generation; /* as the page counts */
    char *page;          /* the bridge page */
};

static inline uint64_t upgrader_shm_load(const struct upgrader_shm *s, size_t at) {
    return __atomic_load_n((const uint64_t *)(const void *)(s->page + at), __ATOMIC_SEQ_CST);
}

static inline void upgrader_shm_store(struct upgrader_shm *s, size_t at, uint64_t v) {
    __atomic_store_n((uint64_t *)(void *)(s->page + at), v, __ATOMIC_SEQ_CST);
}

static inline void upgrader_shm_or(struct upgrader_shm *s, size_t at, uint64_t bits) {
    (void)__atomic_fetch_or((uint64_t *)(void *)(s->page + at), bits, __ATOMIC_SEQ_CST);
}

static inline void upgrader_shm_add(struct upgrader_shm *s, size_t at, uint64_t n) {
    (void)__atomic_fetch_add((uint64_t *)(void *)(s->page + at), n, __ATOMIC_SEQ_CST);
}

static inline int upgrader_shm_swap(struct upgrader_shm *s, uint64_t from, uint64_t to) {
    return __atomic_compare_exchange_n((uint64_t *)(void *)(s->page + UPGRADER_SHM_AT_WORD), &from, to, 0,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static inline uint64_t upgrader_shm_word(uint64_t generation, uint64_t state) { return generation << 32 | state; }

static inline size_t upgrader_shm_record(uint64_t generation) {
    return UPGRADER_SHM_AT_RECORDS + (size_t)(generation % UPGRADER_SHM_RECORDS) * UPGRADER_SHM_RECORD_SIZE;
}

/* The page, and of a file the data, on the disk. */
static inline int upgrader_shm_sync_page(struct upgrader_shm *s) {
    return msync(s->page, UPGRADER_SHM_PAGE_SIZE, MS_SYNC) == 0 ? 0 : -errno;
}

/* A number out of the environment, or -1. */
static inline int64_t upgrader_shm_number(const char *text) {
    char *end = NULL;
    long long n;
    if (text == NULL || *text < '0' || *text > '9') return -1;
    errno = 0;
    n = strtoll(text, &end, 10);
    return errno != 0 || *end != '\0' ? -1 : (int64_t)n;
}

static inline void *upgrader_shm_map(int fd, size_t size) {
    struct stat st;
    if (fstat(fd, &st) != 0) return MAP_FAILED;
    if ((uint64_t)st.st_size < (uint64_t)size) {
        errno = EPROTO;
        return MAP_FAILED;
    }
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static inline void upgrader_shm_detach(struct upgrader_shm *s) {
    if (s->data != NULL && s->sysv) (void)shmdt(s->data);
    if (s->data != NULL && !s->sysv) (void)munmap(s->data, s->size);
    if (s->page != NULL) (void)munmap(s->page, UPGRADER_SHM_PAGE_SIZE);
    memset(s, 0, sizeof *s);
}

/* Maps the segment that the environment names. The descriptors stay open. */
static inline int upgrader_shm_attach(struct upgrader_shm *s) {
    const char *state = getenv("UPGRADER_SHM_STATE"), *path = getenv("UPGRADER_SHM_PATH"), *id;
    int64_t bridge = upgrader_shm_number(getenv("UPGRADER_BRIDGE_FD"));
    int64_t fd = upgrader_shm_number(getenv("UPGRADER_SHM_FD"));
    int64_t size = upgrader_shm_number(getenv("UPGRADER_SHM_SIZE"));
    int64_t generation = upgrader_shm_number(getenv("UPGRADER_GENERATION"));
    void *p;
    int err;
    memset(s, 0, sizeof *s);
    if (bridge < 0 || size <= 0 || generation <= 0 || state == NULL) return -ENOENT;
    s->found = strcmp(state, "fresh") == 0 ? UPGRADER_SHM_FRESH
             : strcmp(state, "saved") == 0 ? UPGRADER_SHM_SAVED : UPGRADER_SHM_UNSAVED;
    p = upgrader_shm_map((int)bridge, UPGRADER_SHM_PAGE_SIZE);
    if (p == MAP_FAILED) return -errno;
    s->page = (char *)p;
    s->size = (size_t)size;
    s->generation = upgrader_shm_load(s, UPGRADER_SHM_AT_BASE) + (uint64_t)generation;
    if (upgrader_shm_load(s, UPGRADER_SHM_AT_MAGIC) != UPGRADER_SHM_MAGIC ||
        upgrader_shm_load(s, UPGRADER_SHM_AT_VERSION) != UPGRADER_SHM_VERSION ||
        upgrader_shm_load(s, UPGRADER_SHM_AT_SIZE) != (uint64_t)size || s->generation > UINT32_MAX) {
        upgrader_shm_detach(s);
        return -EPROTO;
    }
    if (fd >= 0) {
        p = upgrader_shm_map((int)fd, s->size);
    } else {
        id = path == NULL ? NULL : strstr(path, ",id=");
        fd = id == NULL ? -1 : upgrader_shm_number(id + 4);
        s->sysv = 1;
        errno = ENOENT;
        p = fd < 0 ? MAP_FAILED : shmat((int)fd, NULL, 0); /* (void *)-1 either way */
    }
    if (p == MAP_FAILED) {
        err = -errno;
        upgrader_shm_detach(s);
        return err;
    }
    s->data = p;
    return 0;
}

/* 0 while this generation has the lease. */
static inline int upgrader_shm_valid(const struct upgrader_shm *s) {
    uint64_t w = upgrader_shm_load(s, UPGRADER_SHM_AT_WORD);
    if (w != upgrader_shm_word(s->generation, UPGRADER_SHM_LIVE) && w != upgrader_shm_word(s->generation, UPGRADER_SHM_SAVED))
        return -ESTALE;
    return upgrader_shm_load(s, upgrader_shm_record(s->generation) + UPGRADER_SHM_IN_TAKEN) & UPGRADER_SHM_TAKEN_OVER ? -ESTALE : 0;
}

/* Takes the lease, as the only process of its generation, which writes bytes of this schema (0: not told). */
static inline int upgrader_shm_take(struct upgrader_shm *s, uint64_t schema) {
    size_t at = upgrader_shm_record(s->generation);
    for (;;) {
        uint64_t w = upgrader_shm_load(s, UPGRADER_SHM_AT_WORD), generation = w >> 32, state = w & 0xffffffff;
        size_t was = upgrader_shm_record(generation);
        uint64_t taken = upgrader_shm_load(s, was + UPGRADER_SHM_IN_TAKEN);
        uint64_t old = upgrader_shm_load(s, was + UPGRADER_SHM_IN_SCHEMA);
        if (state < UPGRADER_SHM_FRESH || state > UPGRADER_SHM_UNSAVED) return -EPROTO;
        if (generation > s->generation) return -ESTALE;
        if (upgrader_shm_load(s, UPGRADER_SHM_AT_BEGUN) != upgrader_shm_load(s, UPGRADER_SHM_AT_DONE)) return -EBUSY;
        if (generation < s->generation && state == UPGRADER_SHM_LIVE) return -EAGAIN;
        if (generation == s->generation && (taken & UPGRADER_SHM_TAKEN_OVER)) return -ESTALE;
        if (generation == s->generation && state == UPGRADER_SHM_LIVE) break;
        if (generation < s->generation || state != UPGRADER_SHM_SAVED || !(taken & UPGRADER_SHM_TAKEN_YES)) {
            upgrader_shm_store(s, at + UPGRADER_SHM_IN_GENERATION, s->generation);
            upgrader_shm_store(s, at + UPGRADER_SHM_IN_FOUND, state);
            upgrader_shm_store(s, at + UPGRADER_SHM_IN_TAKEN, 0);
            upgrader_shm_store(s, at + UPGRADER_SHM_IN_SAVES, 0);
            upgrader_shm_store(s, at + UPGRADER_SHM_IN_TIME, 0);
            upgrader_shm_store(s, at + UPGRADER_SHM_IN_CHECKSUM, 0);
            upgrader_shm_store(s, at + UPGRADER_SHM_IN_SCHEMA, old);
        }
        if (upgrader_shm_swap(s, w, upgrader_shm_word(s->generation, UPGRADER_SHM_LIVE))) break;
    }
    upgrader_shm_store(s, at + UPGRADER_SHM_IN_PID, (uint64_t)getpid());
    if (schema != 0) upgrader_shm_store(s, at + UPGRADER_SHM_IN_SCHEMA, schema);
    upgrader_shm_or(s, at + UPGRADER_SHM_IN_TAKEN, UPGRADER_SHM_TAKEN_YES);
    return upgrader_shm_valid(s) != 0 ? -ESTALE : upgrader_shm_sync_page(s);
}

/* Says that the bytes are consistent, with a checksum of the server's own (0: none). Nobody writes them any more, until
 * upgrader_shm_resume. */
static inline int upgrader_shm_save(struct upgrader_shm *s, uint64_t checksum) {
    size_t at = upgrader_shm_record(s->generation);
    uint64_t live = upgrader_shm_word(s->generation, UPGRADER_SHM_LIVE);
    uint64_t saved = upgrader_shm_word(s->generation, UPGRADER_SHM_SAVED);
    struct timespec now;
    if (upgrader_shm_valid(s) != 0) return -ESTALE;
    if (!s->sysv && msync(s->data, s->size, MS_SYNC) != 0) return -errno;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -errno;
    upgrader_shm_store(s, at + UPGRADER_SHM_IN_TIME, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    upgrader_shm_store(s, at + UPGRADER_SHM_IN_CHECKSUM, checksum);
    upgrader_shm_add(s, at + UPGRADER_SHM_IN_SAVES, 1);
    if (!upgrader_shm_swap(s, live, saved) && upgrader_shm_load(s, UPGRADER_SHM_AT_WORD) != saved) return -ESTALE;
    upgrader_shm_add(s, UPGRADER_SHM_AT_SAVES, 1);
    return upgrader_shm_sync_page(s);
}

/* Lets this generation write again after it saved. */
static inline int upgrader_shm_resume(struct upgrader_shm *s) {
    uint64_t live = upgrader_shm_word(s->generation, UPGRADER_SHM_LIVE);
    if (upgrader_shm_valid(s) != 0) return -ESTALE;
    if (!upgrader_shm_swap(s, upgrader_shm_word(s->generation, UPGRADER_SHM_SAVED), live) &&
        upgrader_shm_load(s, UPGRADER_SHM_AT_WORD) != live)
        return -ESTALE;
    return upgrader_shm_sync_page(s);
}

/* Gives the lease up: what was saved stays saved, anything else becomes unsaved. */
static inline int upgrader_shm_release(struct upgrader_shm *s) {
    if (upgrader_shm_valid(s) != 0) return -ESTALE;
    upgrader_shm_or(s, upgrader_shm_record(s->generation) + UPGRADER_SHM_IN_TAKEN, UPGRADER_SHM_TAKEN_OVER);
    (void)upgrader_shm_swap(s, upgrader_shm_word(s->generation, UPGRADER_SHM_LIVE),
                            upgrader_shm_word(s->generation, UPGRADER_SHM_UNSAVED));
    return upgrader_shm_sync_page(s);
}

#ifdef __cplusplus
}
#endif

#endif /* UPGRADER_SHM_H */
