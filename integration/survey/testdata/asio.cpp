// A server in the manner of Boost.Asio's reactor: its listening socket is in
// an epoll set, edge-triggered, before it is bound.
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <string>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <unordered_map>

namespace {

[[noreturn]] void fail(const char *what) {
  std::perror(what);
  std::exit(1);
}

void watch(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLPRI | EPOLLET;
  event.data.fd = fd;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

struct connection {
  std::string in;
};

// Answers whole requests; false: the connection is over.
bool serve(int fd, connection &c, const std::string &body) {
  char buffer[4096];
  for (;;) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n == 0) return false;
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN;
    }
    c.in.append(buffer, static_cast<size_t>(n));
    for (size_t end; (end = c.in.find("\r\n\r\n")) != std::string::npos;) {
      bool last = c.in.substr(0, end).find("Connection: close") != std::string::npos;
      c.in.erase(0, end + 4);
      std::string out = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
                        (last ? "Connection: close\r\n" : "") + "\r\n" + body;
      if (write(fd, out.data(), out.size()) != static_cast<ssize_t>(out.size())) return false;
      if (last) return false;
    }
  }
}

} // namespace

int main(int, char **argv) {
  const char *generation = std::getenv("UPGRADER_GENERATION");
  const std::string body = std::string("gen=") + (generation ? generation : "0") + " pid=" + std::to_string(getpid()) + "\n";
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) fail("epoll_create1");
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0) fail("socket");
  watch(epoll, listener); // before bind: that is the point
  int one = 1;
  if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) fail("setsockopt");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[1])));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0) fail("bind");
  if (listen(listener, 128) != 0) fail("listen");

  std::unordered_map<int, connection> connections;
  for (;;) {
    epoll_event events[64];
    int n = epoll_wait(epoll, events, 64, -1);
    if (n < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        for (int c; (c = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
          connections[c] = {};
          watch(epoll, c);
        }
        continue;
      }
      if (!serve(fd, connections[fd], body)) {
        connections.erase(fd);
        close(fd);
      }
    }
  }
}
