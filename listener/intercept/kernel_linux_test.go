package intercept

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseNotification(t *testing.T) {
	b := make([]byte, notifSize+16) // as a later kernel's
	binary.NativeEndian.PutUint64(b, 7)
	binary.NativeEndian.PutUint32(b[8:], 42)
	binary.NativeEndian.PutUint32(b[16:], 49)
	binary.NativeEndian.PutUint32(b[20:], unix.AUDIT_ARCH_X86_64)
	for i := range 6 {
		binary.NativeEndian.PutUint64(b[32+8*i:], uint64(100+i))
	}
	n, err := parseNotification(b)
	want := notification{id: 7, tid: 42, nr: 49, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{100, 101, 102, 103, 104, 105}}
	if err != nil || n != want {
		t.Errorf("got %+v, %v; want %+v", n, err, want)
	}
	if _, err := parseNotification(b[:notifSize-1]); err == nil {
		t.Error("a short one was taken")
	}
	if got := (notification{args: [6]uint64{0xffffffff}}).fd(); got != -1 {
		t.Errorf("descriptor %d, want -1", got)
	}
}

func FuzzNotification(f *testing.F) {
	f.Add(make([]byte, notifSize))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseNotification(b); (err == nil) != (len(b) >= notifSize) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	})
}

func TestParseFdinfo(t *testing.T) {
	in := "pos:\t0\nflags:\t02004002\nmnt_id:\t17\n" +
		"tfd:        3 events:       19 data:        300000003  pos:0 ino:77d8 sdev:9\n" +
		"tfd:       12 events: 80000001 data: ffffffffffffffff\n" + // before Linux 4.13
		"tfd: nonsense\n"
	got, err := parseFdinfo([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := fdinfo{flags: unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_RDWR, targets: []target{
		{fd: 3, events: 0x19, data: 0x300000003, inode: 0x77d8},
		{fd: 12, events: 0x80000001, data: 0xffffffffffffffff},
	}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, in := range []string{"", "pos: 0\n", "flags: 9\n"} {
		if _, err := parseFdinfo([]byte(in)); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

func FuzzFdinfo(f *testing.F) {
	f.Add([]byte("flags:\t02004002\ntfd: 3 events: 19 data: 3 pos:0 ino:77d8 sdev:9\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := parseFdinfo(b)
		if err == nil && info.flags < 0 {
			t.Errorf("flags %d", info.flags)
		}
		for _, w := range info.targets {
			if w.fd < 0 {
				t.Errorf("descriptor %d", w.fd)
			}
		}
	})
}

func TestParseProc(t *testing.T) {
	if n, ok := parseTgid([]byte("Name:\tx\nTgid:\t123\nNgid:\t0\n")); n != 123 || !ok {
		t.Errorf("Tgid %d, %v", n, ok)
	}
	if n, ok := parseTgid([]byte("Name:\tTgid\n")); ok {
		t.Errorf("Tgid %d of nothing", n)
	}
	for in, want := range map[string]uint64{"socket:[55]": 55, "socket:[]": 0, "pipe:[5]": 0, "socket:[5": 0, "/socket:[5]": 0} {
		if n, ok := parseSocketLink(in); n != want || ok != (want != 0) {
			t.Errorf("%s: %d, %v", in, n, ok)
		}
	}
	for in, want := range map[string]kind{
		"TCP\x00": {afInet, unix.SOCK_STREAM, unix.IPPROTO_TCP}, "TCPv6\x00": {afInet6, unix.SOCK_STREAM, unix.IPPROTO_TCP},
		"MPTCPv6": {afInet6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, "UDP": {afInet, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		"UDP-Lite": {}, "UNIX": {}, "": {}, "v6": {},
	} {
		if k, ok := kindNamed(in); k != want || ok != (want != kind{}) {
			t.Errorf("%q: %+v, %v", in, k, ok)
		}
	}
}

// emulate runs a filter on one call, as the kernel would.
func emulate(t *testing.T, filter []unix.SockFilter, arch uint32, nr int32, args ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.NativeEndian.PutUint32(data[0:], uint32(nr))
	binary.NativeEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.NativeEndian.PutUint64(data[16+8*i:], a)
	}
	var a uint32
	for pc := 0; pc < len(filter); pc++ {
		switch f := filter[pc]; f.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.NativeEndian.Uint32(data[f.K:])
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == f.K {
				pc += int(f.Jt)
			} else {
				pc += int(f.Jf)
			}
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			if a&f.K != 0 {
				pc += int(f.Jt)
			} else {
				pc += int(f.Jf)
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= f.K
		case unix.BPF_RET | unix.BPF_K:
			return f.K
		default:
			t.Fatalf("line %d: code %#x", pc, f.Code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

func TestFilter(t *testing.T) {
	arch := nativeArch()
	if arch == 0 {
		t.Skip("no takeover on this architecture")
	}
	const high = 1 << 32 // the kernel looks at an int only
	tests := []struct {
		name          string
		arch          uint32
		nr            int32
		args          []uint64
		plain, learns bool // notified?
	}{
		{"bind", arch, unix.SYS_BIND, nil, true, true},
		{"listen", arch, unix.SYS_LISTEN, nil, true, true},
		{"seccomp filter", arch, unix.SYS_SECCOMP, []uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC}, false, false},
		{"seccomp listener", arch, unix.SYS_SECCOMP, []uint64{unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER}, true, true},
		{"accept4", arch, unix.SYS_ACCEPT4, nil, false, false},
		{"x32 bind", arch, unix.SYS_BIND | 0x40000000, nil, false, false},
		{"i386", 0x40000003, unix.SYS_BIND, nil, false, false},
		{"nodelay", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.IPPROTO_TCP, unix.TCP_NODELAY}, false, false},
		{"reuseaddr", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_REUSEADDR}, false, false},
		{"reuseport", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_REUSEPORT}, false, true},
		{"reuseport, high bits", arch, unix.SYS_SETSOCKOPT, []uint64{3, high | unix.SOL_SOCKET, high | unix.SO_REUSEPORT}, false, true},
		{"v6only", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}, false, true},
		{"v6only of another level", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.IPPROTO_IP, unix.IPV6_V6ONLY}, false, false},
		{"cbpf", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF}, true, true},
		{"ebpf", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF}, true, true},
		{"detach", arch, unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for learn, want := range map[bool]bool{false: tt.plain, true: tt.learns} {
				filter, _ := Filter(FilterOptions{Learn: learn})
				got := emulate(t, filter, tt.arch, tt.nr, tt.args...)
				if (got == unix.SECCOMP_RET_USER_NOTIF) != want || (!want && got != unix.SECCOMP_RET_ALLOW) {
					t.Errorf("learn %v: %#x, notified should be %v", learn, got, want)
				}
			}
		})
	}
}

func TestLearnedIsBounded(t *testing.T) {
	var l learned
	for i := range uint64(2 * learnedMax) {
		l.set(i, func(s *setting) { s.reusePort = 1 })
	}
	if len(l.by) != learnedMax || len(l.order) != learnedMax {
		t.Errorf("%d kept, in an order of %d; want %d", len(l.by), len(l.order), learnedMax)
	}
	if got := l.get(0); got != (setting{-1, -1}) {
		t.Errorf("the oldest is still there: %+v", got)
	}
	if got := l.get(2*learnedMax - 1); got != (setting{-1, 1}) {
		t.Errorf("the newest is %+v", got)
	}
}

func TestProbe(t *testing.T) {
	if err := Supported(); err != nil {
		t.Skipf("seccomp user notification: %v", err)
	}
	g := startGuest(t, guestOptions{}, "hello")
	g.expect("hello")
	pid := g.cmd.Process.Pid
	t.Logf("%+v", Capable(pid))
	for _, c := range Probe(pid) {
		t.Logf("%v %s: %s (%v)", c.OK, c.Name, c.Consequence, c.Err)
		if c.Consequence == "" || !strings.HasSuffix(c.Consequence, ".") || (c.Err == nil) != c.OK {
			t.Errorf("%+v", c)
		}
	}
	if len(Probe(0)) == 0 || Capable(-1) != (Capability{}) {
		t.Error("a process that is not there can be looked at")
	}
	g.finish()
}
