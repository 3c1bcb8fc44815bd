// Both sides of the protocol as unmodified peers have them, after the documents:
//
//     peer asked PIDFILE [OPTION=VALUE...]   program B
//     peer ask PIDFILE [OPTION=VALUE...]     program A
//     peer serve PIDFILE [OPTION=VALUE...]   program A, which is program B from then on
//     peer squat PIDFILE                     a stranger that sets the confirmation of program B, and lives on
//
// OPTIONs: stop, linger, poll, hold, late, limit, wait (milliseconds), mode (good,
// ignore, silent, crash, wrong, unmarked), prefix (of the events' names),
// segment (the name of the shared memory), file (what backs it), port (of
// 127.0.0.1) and ends (close: the port and the connections are closed when it
// stops; leave: they are kept through the lingering), lines (1: lines of
// clients are answered on the port, see lines.h, 2: with a PROXY header before
// them; a segment is needed for that).
//
// It says on stdout what happens, as the Go programs beside it do.
#include <winsock2.h>
#include <windows.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "lines.h"
#include "segment.h"

static std::map<std::string, std::string> options = {
    {"stop", "200"}, {"linger", "10000"}, {"poll", "10"}, {"hold", "50"}, {"late", "0"}, {"limit", "10000"}, {"wait", "15000"},
    {"mode", "good"}, {"prefix", ""}, {"segment", ""}, {"file", ""}, {"port", "0"}, {"ends", "leave"}, {"lines", "0"},
};

// idOf is the process that a pid file names; 0: none.
static DWORD idOf(const std::string &pidFile)
{
    std::ifstream in(pidFile);
    std::string content;
    return in >> content ? std::strtoul(content.c_str(), nullptr, 10) : 0;
}

static DWORD number(const char *option) { return std::strtoul(options[option].c_str(), nullptr, 10); }

static std::string name(const char *signal, DWORD pid)
{
    return options["prefix"] + "NFServer_" + signal + "_" + std::to_string(pid);
}

static void say(const std::string &line)
{
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
}

// Program A: 0 the predecessor has confirmed or is gone, -1 it has not in time.
static int killPredecessor(const std::string &pidFile)
{
    DWORD pid = idOf(pidFile);
    if (pid == 0)
        return 0;
    HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, pid);
    if (process == nullptr)
        return 0;
    CloseHandle(process);

    HANDLE kill = CreateEventA(nullptr, FALSE, FALSE, name("Kill", pid).c_str());
    if (kill == nullptr)
        return 0;
    SetEvent(kill);
    Sleep(50);
    CloseHandle(kill);

    HANDLE success = CreateEventA(nullptr, FALSE, FALSE, name("KillSuccess", pid).c_str());
    if (success == nullptr)
        return 0;
    DWORD got = WaitForSingleObject(success, number("wait"));
    CloseHandle(success);
    return got == WAIT_OBJECT_0 ? 0 : -1;
}

static int squat(const std::string &pidFile)
{
    HANDLE success = CreateEventA(nullptr, FALSE, FALSE, name("KillSuccess", idOf(pidFile)).c_str());
    if (success == nullptr || !SetEvent(success))
        return 1;
    say("squatting");
    Sleep(INFINITE);
    return 0;
}

// bindPort takes a port of 127.0.0.1.
static SOCKET bindPort(int port)
{
    WSADATA data;
    WSAStartup(MAKEWORD(2, 2), &data);
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(s, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0 || listen(s, SOMAXCONN) != 0)
        return INVALID_SOCKET;
    return s;
}

// Program B.
struct Server {
    DWORD pid = GetCurrentProcessId();
    std::string mode = options["mode"];
    Segment segment;
    Lines lines{segment, options["lines"] == "2"};
    std::atomic<bool> stopping{false}, killing{false}, running{true};

    void check(const char *signal, const std::function<void()> &callback)
    {
        HANDLE event = OpenEventA(EVENT_ALL_ACCESS, FALSE, name(signal, pid).c_str());
        if (event == nullptr)
            return;
        if (WaitForSingleObject(event, 0) == WAIT_OBJECT_0) {
            callback();
            ResetEvent(event);
        }
        CloseHandle(event);
    }

    void watch()
    {
        while (running) {
            if (mode != "ignore") {
                check("Reload", [] { say("reload"); });
                check("Stop", [this] { stopping = true; });
                check("Quit", [this] { stopping = killing = true; });
                check("Kill", [this] { stopping = killing = true; });
            }
            Sleep(number("poll"));
        }
    }

    int confirm()
    {
        HANDLE success = CreateEventA(nullptr, FALSE, FALSE, name("KillSuccess", mode == "wrong" ? pid + 4 : pid).c_str());
        if (success == nullptr)
            return -1;
        SetEvent(success);
        if (mode == "crash")
            end();
        Sleep(number("hold"));
        CloseHandle(success);
        say("confirmed");
        Sleep(number("linger"));
        return 0;
    }

    // end is a crash.
    void end() { TerminateProcess(GetCurrentProcess(), 3); }

    int serve(const std::string &pidFile)
    {
        if (!segment.open(options["segment"], options["file"]))
            return 1;
        if (number("port") != 0) {
            SOCKET s = bindPort(number("port"));
            if (s == INVALID_SOCKET)
                return 1;
            if (number("lines") != 0)
                lines.begin(s);
            else
                lines.listener = s;
        }
        std::thread watcher([this] { watch(); });
        std::ofstream(pidFile) << pid;
        say("ready " + std::to_string(pid));
        while (!stopping) {
            segment.write();
            Sleep(1);
        }
        say(killing ? "stopping Kill" : "stopping Stop");
        if (mode == "silent")
            end();
        for (DWORD began = GetTickCount(), stop = std::min(number("stop"), number("limit")); GetTickCount() - began < stop; Sleep(1))
            segment.write();
        lines.end(options["ends"] == "leave");
        Sleep(number("late"));
        if (mode != "unmarked")
            segment.save(pid);
        running = false;
        watcher.join();
        int failed = killing ? confirm() : 0;
        say("exit");
        return failed ? 1 : 0;
    }
};

int main(int argc, char **argv)
{
    std::string role = argc > 2 ? argv[1] : "";
    bool known = true;
    for (int i = 3; i < argc; i++) {
        std::string option = argv[i];
        size_t is = option.find('=');
        known = known && is != std::string::npos && options.count(option.substr(0, is));
        if (known)
            options[option.substr(0, is)] = option.substr(is + 1);
    }
    if (!known || (role != "ask" && role != "asked" && role != "serve" && role != "squat")) {
        std::fprintf(stderr, "usage: peer ask|asked|serve|squat PIDFILE [OPTION=VALUE...]\n");
        return 2;
    }
    if (role == "squat")
        return squat(argv[2]);
    if (role != "asked") {
        int failed = killPredecessor(argv[2]);
        say(failed ? "result timeout" : "result confirmed");
        if (failed || role == "ask")
            return failed ? 1 : 0;
    }
    Server server;
    return server.serve(argv[2]);
}
