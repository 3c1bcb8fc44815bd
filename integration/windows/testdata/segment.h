// The shared memory of the test's servers: a counter that one writer at a time
// increments. Whoever finds another value than its own last one counts it.
//
// Six little-endian numbers of 8 bytes: magic, counter, saved (0 or 1), saved by
// (process id), the counter then, and how often a foreign increment was found.
#pragma once
#include <windows.h>

#include <cstdint>
#include <string>

struct Segment {
    enum { Magic, Counter, Saved, SavedBy, SavedCounter, Foreign, Words };
    static constexpr uint64_t magic = 0x30304d4853474e55; // "UNGSHM00"
    volatile uint64_t *words = nullptr;
    uint64_t last = 0;

    // open opens or creates it; no name: there is none.
    bool open(const std::string &name, const std::string &file)
    {
        if (name.empty())
            return true;
        HANDLE backing = INVALID_HANDLE_VALUE;
        if (!file.empty())
            backing = CreateFileA(file.c_str(), GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, nullptr, OPEN_ALWAYS, 0, nullptr);
        HANDLE mapping = CreateFileMappingA(backing, nullptr, PAGE_READWRITE, 0, 4096, name.c_str());
        if (mapping == nullptr)
            return false;
        words = static_cast<volatile uint64_t *>(MapViewOfFile(mapping, FILE_MAP_ALL_ACCESS, 0, 0, 4096));
        if (words == nullptr)
            return false;
        words[Magic] = magic;
        words[Saved] = 0;
        last = words[Counter];
        return true;
    }

    void write()
    {
        if (words == nullptr)
            return;
        if (words[Counter] != last)
            words[Foreign] = words[Foreign] + 1;
        last = words[Counter] + 1;
        words[Counter] = last;
    }

    void save(DWORD pid)
    {
        if (words == nullptr)
            return;
        words[SavedCounter] = words[Counter];
        words[SavedBy] = pid;
        words[Saved] = 1;
    }
};
