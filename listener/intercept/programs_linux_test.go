package intercept

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// startProgram starts a program of another language as the guest.
func startProgram(t *testing.T, o guestOptions, args ...string) *guest {
	t.Helper()
	o.Role, o.Args = "", args
	return start(t, o)
}

// cServer is a program in C: bind through a duplicate, fork, accept in the child.
const cServer = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0), other = dup(fd);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
	inet_pton(AF_INET, argv[1], &a.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(other, (struct sockaddr *)&a, sizeof a)) { perror("bind"); return 1; }
	if (listen(fd, 5)) { perror("listen"); return 1; }
	struct sockaddr_in got; socklen_t n = sizeof got;
	getsockname(fd, (struct sockaddr *)&got, &n);
	if (memcmp(&got, &a, sizeof a)) { puts("other name"); return 1; }
	if (fork() == 0) {
		char b[64]; int c = accept(other, 0, 0); ssize_t r = read(c, b, sizeof b);
		if (r > 0 && write(c, b, r) != r) return 1;
		return 0;
	}
	puts("ready"); fflush(stdout);
	int status; wait(&status);
	while (getchar() != EOF) ;
	return status != 0;
}
`

func TestC(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler (cc)")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "server.c"), filepath.Join(dir, "server")
	if err := os.WriteFile(source, []byte(cServer), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-o", program, source).CombinedOutput(); err != nil {
		t.Skipf("cc: %v\n%s", err, out)
	}
	eachMode(t, func(t *testing.T, o guestOptions, h *lanes) {
		addr := free(t, "")
		host, port, _ := strings.Cut(addr, ":")
		g := startProgram(t, o, program, host, port)
		g.expect("ready")
		if bind, listen := g.event("bind"), g.event("listen"); bind.Outcome != Injected || bind.Err != nil || listen.Outcome != Listened {
			t.Errorf("%+v, %+v", bind, listen)
		}
		dial(t, "tcp4", addr, "from C")
		g.finish()
	})
}

// pythonServer registers its socket with epoll before it binds, as some
// event loops do, and echoes one line.
const pythonServer = `
import select, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setblocking(False)
e = select.epoll()
e.register(s, select.EPOLLIN)
s.bind((host, port))
s.listen(5)
e.modify(s, select.EPOLLIN | select.EPOLLPRI)
print("ready", flush=True)
while True:
    got = [x for x in e.poll() if x[1] & select.EPOLLIN]
    if got: break
assert got[0][0] == s.fileno(), got
c, _ = s.accept()
c.setblocking(True)
c.sendall(c.recv(64))
sys.stdin.read()
`

func TestPython(t *testing.T) {
	// The system's own first: others may be scripts that look for one, slowly.
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		if python, err = exec.LookPath("python3"); err != nil {
			t.Skip("no python3")
		}
	}
	if err := exec.Command(python, "-c", "import select; select.epoll").Run(); err != nil {
		t.Skipf("python3: %v", err)
	}
	o, _ := needLook(t)
	addr := free(t, "")
	host, port, _ := strings.Cut(addr, ":")
	g := startProgram(t, o, python, "-c", pythonServer, host, port)
	g.expect("ready")
	if e := g.event("bind"); e.Outcome != Injected || e.Rewatched != 1 || e.Err != nil {
		t.Errorf("%+v", e)
	}
	dial(t, "tcp4", addr, "from python")
	g.finish()
}
