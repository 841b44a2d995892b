package gateway

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Quick returns a connection whose reads and writes go to the kernel without
// telling the Go scheduler. They can't block, because sockets in Go are
// non-blocking, and so the telling is only cost: for every call of a process
// that was idle it wakes the runtime's monitor thread, a tenth of what a small
// query costs. Waiting is left to the runtime as always, deadlines and Close
// work as always.
//
// One goroutine at a time may read and one may write. Anything but a TCP or
// Unix socket is returned as it is.
func Quick(c net.Conn) net.Conn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return c
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return c
	}
	q := &quick{Conn: c, raw: raw}
	q.read, q.write = q.tryRead, q.tryWrite
	return q
}

type quick struct {
	net.Conn
	raw         syscall.RawConn
	read, write func(fd uintptr) bool // made once: a closure for each call would be an allocation

	in      []byte // of the Read under way
	inN     int
	inErrno syscall.Errno

	out      []byte // what the Write under way has left
	outErrno syscall.Errno
}

// NetConn returns the socket.
func (q *quick) NetConn() net.Conn { return q.Conn }

// CloseWrite closes the socket's sending side.
func (q *quick) CloseWrite() error { return closeWrite(q.Conn) }

func (q *quick) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q.in, q.inN, q.inErrno = p, 0, 0
	err := q.raw.Read(q.read)
	q.in = nil
	switch {
	case err != nil:
		return 0, err
	case q.inErrno != 0:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", q.inErrno)}
	case q.inN == 0:
		return 0, io.EOF
	}
	return q.inN, nil
}

// tryRead reads once and reports whether that is an answer.
func (q *quick) tryRead(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(q.in))), uintptr(len(q.in)))
		switch errno {
		case 0:
			q.inN = int(n)
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
			continue
		default:
			q.inErrno = errno
		}
		return true
	}
}

func (q *quick) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q.out, q.outErrno = p, 0
	err := q.raw.Write(q.write)
	n := len(p) - len(q.out)
	q.out = nil
	switch {
	case err != nil:
		return n, err
	case q.outErrno != 0:
		return n, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", q.outErrno)}
	case n < len(p):
		return n, io.ErrShortWrite
	}
	return n, nil
}

// tryWrite writes all it can and reports whether there is nothing to wait for.
func (q *quick) tryWrite(fd uintptr) bool {
	for len(q.out) > 0 {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(q.out))), uintptr(len(q.out)))
		switch errno {
		case 0:
			if n == 0 {
				return true // never seen; Write calls it a short write
			}
			q.out = q.out[n:]
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			q.outErrno = errno
			return true
		}
	}
	return true
}
