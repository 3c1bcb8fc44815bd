/*
 * A server whose connections outlive it: it echoes bytes, and when it is asked
 * to quit it parks its connections with whoever keeps them (sd_notify(3):
 * FDSTORE=1). The next one finds them behind its listening socket
 * (sd_listen_fds(3)). It needs no library.
 *
 *     cc -o park park.c
 *     upgrader --listen 8080 --strategy exclusive -- ./park
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST 1024
#define FIRST 3 /* SD_LISTEN_FDS_START */

static volatile sig_atomic_t asked;
static void quit(int sig) { (void)sig; asked = 1; }

/* Say state on NOTIFY_SOCKET, with a descriptor if fd is not -1. */
static int notify(const char *state, int fd)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof fd)]; } control = {{0}};
	struct iovec text = {.iov_base = (void *)state, .iov_len = strlen(state)};
	struct msghdr m = {.msg_name = &to, .msg_iov = &text, .msg_iovlen = 1};
	int s, sent;

	if (path == NULL || strlen(path) >= sizeof to.sun_path)
		return -1;
	strcpy(to.sun_path, path);
	m.msg_namelen = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	if (to.sun_path[0] == '@') /* a name in the abstract namespace */
		to.sun_path[0] = 0;
	if (fd >= 0) {
		struct cmsghdr *c;
		m.msg_control = &control;
		m.msg_controllen = sizeof control;
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	if ((s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
		return -1;
	sent = sendmsg(s, &m, MSG_NOSIGNAL);
	close(s);
	return sent < 0 ? -1 : 0;
}

/* Say what becomes of a connection, by a name that it keeps in every process. */
static void tell(const char *what, int fd, int with)
{
	unsigned long long cookie = 0;
	socklen_t size = sizeof cookie;
	char state[64];

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size);
	snprintf(state, sizeof state, "%s=1\nFDNAME=client-%llu", what, cookie);
	notify(state, with);
}

static struct pollfd open_[1 + MOST]; /* the listening socket comes first */
static nfds_t count;

static void add(int fd)
{
	if (count > MOST) {
		close(fd);
		return;
	}
	open_[count].fd = fd;
	open_[count++].events = POLLIN;
}

/* Echo what is there; 0 when the client has left. */
static int echo(int fd)
{
	char b[4096], *at = b;
	ssize_t n = read(fd, b, sizeof b), w;

	for (; n > 0; n -= w, at += w)
		if ((w = write(fd, at, n)) < 0)
			return 0;
	return n == 0 && at != b;
}

int main(void)
{
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
	struct sigaction act = {.sa_handler = quit};
	sigset_t term, none;
	nfds_t i;
	int n;

	if (fds == NULL || pid == NULL || atol(pid) != (long)getpid() || atoi(fds) < 1) {
		fputs("park: want a listening socket (LISTEN_FDS)\n", stderr);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGTERM, &act, NULL);
	sigemptyset(&none);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL); /* but while we wait: no TERM gets lost */
	for (n = 0; n < atoi(fds); n++)
		add(FIRST + n); /* the listening socket, and what the predecessor parked */
	notify("READY=1", -1);
	while (!asked) {
		if (ppoll(open_, count, NULL, &none) < 0)
			continue;
		for (i = count; i-- > 1;) {
			if (open_[i].revents == 0 || echo(open_[i].fd))
				continue;
			/* The other end is gone. What is parked would keep it half open. */
			tell("FDSTOREREMOVE", open_[i].fd, -1);
			close(open_[i].fd);
			open_[i] = open_[--count];
		}
		if (open_[0].revents != 0 && (n = accept(open_[0].fd, NULL, NULL)) >= 0)
			add(n);
	}
	for (i = 1; i < count; i++) /* what is in their queues stays there */
		tell("FDSTORE", open_[i].fd, open_[i].fd);
	return 0;
}
