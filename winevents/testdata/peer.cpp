// Both sides of the protocol as unmodified peers have them, after the documents:
//
//     peer asked PIDFILE [STOP_MS [LINGER_MS [POLL_MS]]]   program B
//     peer ask PIDFILE                                     program A
//
// It says on stdout what happens, as the Go programs beside it do.
#include <windows.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

static std::string name(const char *signal, DWORD pid)
{
    return std::string("NFServer_") + signal + "_" + std::to_string(pid);
}

static void say(const std::string &line)
{
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
}

// Program A: 0 the predecessor has confirmed or is gone, -1 it has not in time.
static int killPredecessor(const std::string &pidFile)
{
    std::ifstream in(pidFile);
    std::string content;
    if (!(in >> content))
        return 0;
    DWORD pid = std::strtoul(content.c_str(), nullptr, 10);
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
    DWORD got = WaitForSingleObject(success, 15000);
    CloseHandle(success);
    return got == WAIT_OBJECT_0 ? 0 : -1;
}

// Program B.
struct Server {
    DWORD pid = GetCurrentProcessId();
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

    void watch(DWORD pollMs)
    {
        while (running) {
            check("Reload", [] { say("reload"); });
            check("Stop", [this] { stopping = true; });
            check("Quit", [this] { stopping = killing = true; });
            check("Kill", [this] { stopping = killing = true; });
            Sleep(pollMs);
        }
    }

    int confirm(DWORD lingerMs)
    {
        HANDLE success = CreateEventA(nullptr, FALSE, FALSE, name("KillSuccess", pid).c_str());
        if (success == nullptr)
            return -1;
        SetEvent(success);
        Sleep(50);
        CloseHandle(success);
        say("confirmed");
        Sleep(lingerMs);
        return 0;
    }

    int serve(const std::string &pidFile, DWORD stopMs, DWORD lingerMs, DWORD pollMs)
    {
        std::thread watcher([this, pollMs] { watch(pollMs); });
        std::ofstream(pidFile) << pid;
        say("ready " + std::to_string(pid));
        while (!stopping)
            Sleep(1);
        say(killing ? "stopping Kill" : "stopping Stop");
        Sleep(stopMs < 10000 ? stopMs : 10000);
        running = false;
        watcher.join();
        int failed = killing ? confirm(lingerMs) : 0;
        say("exit");
        return failed ? 1 : 0;
    }
};

static DWORD number(int argc, char **argv, int i, DWORD standard)
{
    return i < argc ? std::strtoul(argv[i], nullptr, 10) : standard;
}

int main(int argc, char **argv)
{
    std::string role = argc > 2 ? argv[1] : "";
    if (role == "ask") {
        int failed = killPredecessor(argv[2]);
        say(failed ? "result timeout" : "result confirmed");
        return failed ? 1 : 0;
    }
    if (role == "asked") {
        Server server;
        return server.serve(argv[2], number(argc, argv, 3, 200), number(argc, argv, 4, 10000), number(argc, argv, 5, 10));
    }
    std::fprintf(stderr, "usage: peer asked PIDFILE [STOP_MS [LINGER_MS [POLL_MS]]] | peer ask PIDFILE\n");
    return 2;
}
