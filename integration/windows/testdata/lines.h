// What the test's servers serve: lines of clients that stay. A client says
// "NAME N", its name being a small number and N counted from 1, and hears
// "N PID", or "N wrong ..." if that is not the line that has to come next, or
// if it comes from another connection than the PROXY header of the first one
// told. What is known of a client lies in the shared memory, where the next
// process finds it: two numbers behind those of segment.h, the last N and what
// came of the id in the header.
#pragma once
#include <winsock2.h>
#include <windows.h>

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "segment.h"

struct Lines {
    enum { Clients = 200, Last = 8, Id = Last + Clients };
    Segment &segment;
    bool introduced; // each connection begins with a PROXY header, version 2
    SOCKET listener = INVALID_SOCKET;
    std::atomic<bool> over{false};
    std::mutex mutex;
    std::set<SOCKET> open;

    Lines(Segment &segment, bool introduced) : segment(segment), introduced(introduced) {}

    void begin(SOCKET s)
    {
        listener = s;
        std::thread([this] { accept(); }).detach();
    }

    // end stops serving. leave keeps the connections and the port as they are, with nobody behind them.
    void end(bool leave)
    {
        over = true;
        if (leave)
            return;
        std::lock_guard<std::mutex> lock(mutex);
        closesocket(listener);
        for (SOCKET s : open)
            shutdown(s, SD_BOTH);
    }

    void accept()
    {
        for (;;) {
            SOCKET s = ::accept(listener, nullptr, nullptr);
            if (s == INVALID_SOCKET)
                return;
            std::lock_guard<std::mutex> lock(mutex);
            open.insert(s);
            std::thread([this, s] {
                talk(s);
                std::lock_guard<std::mutex> lock(mutex);
                if (!over) {
                    open.erase(s);
                    closesocket(s);
                }
            }).detach();
        }
    }

    static bool exactly(SOCKET s, unsigned char *into, int n)
    {
        for (int got; n > 0; into += got, n -= got)
            if ((got = recv(s, reinterpret_cast<char *>(into), n, 0)) <= 0)
                return false;
        return true;
    }

    // introduction reads a PROXY header, and gives a number made of its UNIQUE_ID; 0: there is none.
    static uint64_t introduction(SOCKET s)
    {
        static const unsigned char signature[] = {13, 10, 13, 10, 0, 13, 10, 'Q', 'U', 'I', 'T', 10};
        unsigned char header[16], rest[4096];
        if (!exactly(s, header, 16) || memcmp(header, signature, 12) != 0 || header[12] != 0x21)
            return 0;
        int length = header[14] << 8 | header[15], at = header[13] == 0x21 ? 36 : 12;
        if (length > int(sizeof rest) || !exactly(s, rest, length))
            return 0;
        while (at + 3 <= length) {
            int size = rest[at + 1] << 8 | rest[at + 2];
            if (rest[at] == 0x05) {
                uint64_t id = 14695981039346656037u; // FNV
                for (int i = at + 3; i < at + 3 + size && i < length; i++)
                    id = (id ^ rest[i]) * 1099511628211u;
                return id;
            }
            at += 3 + size;
        }
        return 0;
    }

    void talk(SOCKET s)
    {
        uint64_t id = 1;
        if (introduced && (id = introduction(s)) == 0)
            return;
        std::string line;
        char buffer[256];
        for (int got; (got = recv(s, buffer, sizeof buffer, 0)) > 0;) {
            for (int i = 0; i < got; i++) {
                if (buffer[i] != '\n') {
                    line += buffer[i];
                    continue;
                }
                if (over) // nobody serves any more
                    return;
                std::string said = answer(line, id);
                line.clear();
                if (send(s, said.data(), int(said.size()), 0) != int(said.size()))
                    return;
            }
        }
    }

    std::string answer(const std::string &line, uint64_t id)
    {
        unsigned long name = 0, n = 0;
        if (std::sscanf(line.c_str(), "%lu %lu", &name, &n) != 2 || name >= Clients)
            return "what?\n";
        volatile uint64_t &last = segment.words[Last + name], &known = segment.words[Id + name];
        if (n != last + 1)
            return std::to_string(n) + " wrong: " + std::to_string(last) + " was the last one\n";
        if (known != 0 && known != id)
            return std::to_string(n) + " wrong: of another client\n";
        last = n;
        known = id;
        return std::to_string(n) + " " + std::to_string(GetCurrentProcessId()) + "\n";
    }
};
