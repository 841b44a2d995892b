package run

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peersKnown says whether the process behind a connection can be found.
const peersKnown = true

// maxDepth bounds the walk through parents: process trees are far flatter.
const maxDepth = 256

var (
	errNoSocket = errors.New("the kernel knows no socket at the other end")
	errNotOurs  = errors.New("the process at the other end is not one of the app's")
)

// PeerProcess finds the process at the other end of a TCP connection from
// this machine, in this network namespace. If several processes hold the
// socket it returns one of them. Finding processes of other users takes the
// right to look into them.
func PeerProcess(c net.Conn) (pid int, err error) {
	inode, err := peerInode(c)
	if err != nil {
		return 0, err
	}
	for _, pid := range allProcesses() {
		if holds(pid, inode) {
			return pid, nil
		}
	}
	return 0, errors.New("no process that may be looked into holds the other end")
}

// IsDescendant reports whether process pid is process of, or was started by
// it or by one of its descendants, orphans of dead parents aside.
func IsDescendant(pid, of int) bool {
	for range maxDepth {
		if pid == of {
			return pid > 0
		}
		if pid <= 1 {
			return false
		}
		pid = parentOf(pid)
	}
	return false
}

// find looks for the connection's other end among the app's processes, the
// one that was found last first. Two processes of the app may both hold the
// socket: either will do.
func (t *tree) find(c net.Conn) (int, error) {
	t.mu.Lock()
	root, born, recent := t.pid, t.born, t.recent
	t.mu.Unlock()
	self := os.Getpid()
	if !t.shared {
		root = self
	} else if root <= 0 || bornAt(root) != born { // it has ended
		return 0, errNotOurs
	}
	if u, ok := c.(*net.UnixConn); ok {
		return findUnix(u, root, self)
	}
	inode, err := peerInode(c)
	if err != nil {
		return 0, err
	}
	if recent > 0 && IsDescendant(recent, root) && recent != self && holds(recent, inode) {
		return recent, nil
	}
	found := searchTree(root, self, inode)
	for try := 1; found == 0 && try < searches; try++ {
		time.Sleep(searchPause)
		found = searchTree(root, self, inode)
	}
	if found == 0 {
		return 0, errNotOurs
	}
	t.mu.Lock()
	t.recent = found
	t.mu.Unlock()
	return found, nil
}

// findUnix is find for a Unix socket, of which the kernel keeps who connected.
func findUnix(c *net.UnixConn, root, self int) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if asked != nil {
		return 0, asked
	}
	if pid := int(who.Pid); pid != self && IsDescendant(pid, root) && opener(raw) {
		return pid, nil
	}
	return 0, errNotOurs
}

// opener reports whether the process that opened a Unix connection still
// lives, so that its number is not another's. Kernels before 6.5 cannot say.
func opener(raw syscall.RawConn) bool {
	lives := false
	err := raw.Control(func(fd uintptr) {
		pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if err != nil {
			lives = errors.Is(err, unix.ENOPROTOOPT)
			return
		}
		defer func() { _ = unix.Close(pidfd) }()
		err = unix.PidfdSendSignal(pidfd, 0, nil, 0)
		lives = err == nil || errors.Is(err, unix.EPERM)
	})
	return err == nil && lives
}

// A process whose parent ends during the walk moves to another parent and can
// be missed, so a search that found nothing is made again.
const (
	searches    = 3
	searchPause = 5 * time.Millisecond
)

// searchTree finds a process at or below root, but for self, that holds the
// socket; 0 if there is none.
func searchTree(root, self int, inode uint64) (found int) {
	walk(root, func(pid int) bool {
		if pid != self && holds(pid, inode) {
			found = pid
		}
		return found == 0
	})
	return found
}

// walk visits a process and its descendants until f returns false. The tree
// may change meanwhile.
func walk(root int, f func(pid int) bool) {
	if root <= 0 {
		return
	}
	todo, seen := []int{root}, map[int]bool{root: true}
	for len(todo) > 0 {
		pid := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !f(pid) {
			return
		}
		for _, c := range childrenOf(pid) {
			if !seen[c] {
				seen[c] = true
				todo = append(todo, c)
			}
		}
	}
}

// childrenOf lists a process's children; each thread has its own list.
func childrenOf(pid int) []int {
	base := "/proc/" + strconv.Itoa(pid) + "/task"
	d, err := os.Open(base)
	if err != nil {
		return nil
	}
	defer d.Close()
	threads, _ := d.Readdirnames(-1)
	var list []int
	missing := false
	for _, t := range threads {
		b, err := os.ReadFile(base + "/" + t + "/children")
		missing = missing || errors.Is(err, os.ErrNotExist) && t == strconv.Itoa(pid)
		for _, f := range bytes.Fields(b) {
			if n, err := strconv.Atoi(string(f)); err == nil {
				list = append(list, n)
			}
		}
	}
	if missing { // a kernel without CONFIG_PROC_CHILDREN
		for _, p := range allProcesses() {
			if parentOf(p) == pid {
				list = append(list, p)
			}
		}
	}
	return list
}

// allProcesses lists every process, youngest ids last.
func allProcesses() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var list []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// parentOf reads the parent from /proc/PID/stat; the program's name before it
// may hold anything, so the last parenthesis counts.
func parentOf(pid int) int {
	n, _ := strconv.Atoi(statOf(pid, 4))
	return n
}

// bornAt reads when a process was started, 0 for none: with its id that is
// its alone.
func bornAt(pid int) uint64 {
	n, _ := strconv.ParseUint(statOf(pid, 22), 10, 64)
	return n
}

// statOf reads a field of /proc/PID/stat, counted as in proc(5); "" for none.
func statOf(pid, field int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // from the third on
	if len(f) <= field-3 {
		return ""
	}
	return string(f[field-3])
}

// holds reports whether the process has the socket open.
func holds(pid int, inode uint64) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	var buf [64]byte
	for {
		names, err := d.Readdirnames(256)
		for _, n := range names {
			l, err := unix.Readlinkat(int(d.Fd()), n, buf[:])
			if err == nil && string(buf[:l]) == want {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

// peerInode finds the socket at the other end: by one netlink question, or
// where that is not allowed in the kernel's table of sockets.
func peerInode(c net.Conn) (uint64, error) {
	there, ok1 := addrPort(c.RemoteAddr())
	here, ok2 := addrPort(c.LocalAddr())
	if !ok1 || !ok2 {
		return 0, errors.New("not a TCP connection")
	}
	if answer, err := diag(there, here); err == nil {
		if inode := inodeOf(answer); inode != 0 {
			return inode, nil
		}
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode, err := tableInode(table, there, here); err == nil {
			return inode, nil
		}
	}
	return 0, errNoSocket
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), true
}

// Sizes of struct inet_diag_req_v2 and inet_diag_msg with the netlink header.
// Source: linux/inet_diag.h.
const (
	diagRequest = unix.NLMSG_HDRLEN + 56
	diagUser    = unix.NLMSG_HDRLEN + 64
	diagInode   = unix.NLMSG_HDRLEN + 68
	byFamily    = 20 // SOCK_DIAG_BY_FAMILY
)

// diag asks the kernel for exactly one socket, and returns its answer.
func diag(src, dst netip.AddrPort) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	timeout := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, err
	}
	if err := unix.Sendto(fd, diagQuestion(src, dst), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buf := make([]byte, 1024)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return nil, err
	}
	if n < diagInode+4 || binary.NativeEndian.Uint16(buf[4:]) != byFamily {
		return nil, errNoSocket
	}
	return buf[:n], nil
}

func inodeOf(answer []byte) uint64 { return uint64(binary.NativeEndian.Uint32(answer[diagInode:])) }

func diagQuestion(src, dst netip.AddrPort) []byte {
	b := make([]byte, diagRequest)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], diagRequest)
	ne.PutUint16(b[4:], byFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	q := b[unix.NLMSG_HDRLEN:]
	q[0] = unix.AF_INET6
	if src.Addr().Is4() {
		q[0] = unix.AF_INET
	}
	q[1] = unix.IPPROTO_TCP
	ne.PutUint32(q[4:], 0xffffffff) // every state
	binary.BigEndian.PutUint16(q[8:], src.Port())
	binary.BigEndian.PutUint16(q[10:], dst.Port())
	copy(q[12:28], src.Addr().AsSlice())
	copy(q[28:44], dst.Addr().AsSlice())
	ne.PutUint32(q[48:], 0xffffffff) // no cookie
	ne.PutUint32(q[52:], 0xffffffff)
	return b
}

// tableInode finds the socket in /proc/net/tcp or tcp6.
func tableInode(table string, src, dst netip.AddrPort) (uint64, error) {
	f, err := os.Open(table)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return 0, err
	}
	v6 := strings.HasSuffix(table, "6")
	return searchTable(string(b), tableAddr(src, v6), tableAddr(dst, v6))
}

func searchTable(text, src, dst string) (uint64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 9 && f[1] == src && f[2] == dst && f[9] != "0" {
			return strconv.ParseUint(f[9], 10, 64)
		}
	}
	return 0, errNoSocket
}

// tableAddr writes an address as the kernel's table does: words in the
// machine's byte order, in hexadecimal.
func tableAddr(ap netip.AddrPort, v6 bool) string {
	raw := ap.Addr().AsSlice()
	if v6 {
		a := ap.Addr().As16()
		raw = a[:]
	}
	out := make([]byte, 0, 16)
	for i := 0; i+4 <= len(raw); i += 4 {
		out = binary.BigEndian.AppendUint32(out, binary.NativeEndian.Uint32(raw[i:]))
	}
	return strings.ToUpper(hex.EncodeToString(out)) + fmt.Sprintf(":%04X", ap.Port())
}
