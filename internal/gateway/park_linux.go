package gateway

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// parker waits for many idle sessions in one goroutine. The runtime's own
// poller needs a goroutine for each direction of each session, 4 to 16 KiB of
// stack each; a parked session costs one map entry.
type parker struct {
	poll *os.File // an epoll instance, itself watched by the runtime's poller
	raw  syscall.RawConn
	done chan struct{}

	mu      sync.Mutex // guards all below
	next    uint64
	waiting map[uint64]parked
}

type parked struct {
	wake func()
	fds  [2]int
}

func newParker() (*parker, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os.File hands it to the runtime's poller
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	k := &parker{poll: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), waiting: map[uint64]parked{}}
	if k.raw, err = k.poll.SyscallConn(); err != nil {
		k.poll.Close()
		return nil, err
	}
	go k.loop() // ends with close
	return k, nil
}

// close ends the loop; nobody may be parked any more.
func (k *parker) close() {
	if k == nil {
		return
	}
	k.poll.Close()
	<-k.done
}

// add waits for either socket to have something to read, or to be closed by
// its peer, and then calls wake once, unless remove was first.
func (k *parker) add(wake func(), a, b net.Conn) (uint64, error) {
	fa, err := fdOf(a)
	if err != nil {
		return 0, err
	}
	fb, err := fdOf(b)
	if err != nil {
		return 0, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next++
	id := k.next
	k.waiting[id] = parked{wake, [2]int{fa, fb}}
	for i, fd := range [2]int{fa, fb} {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
		if err := k.ctl(unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			if i == 1 {
				_ = k.ctl(unix.EPOLL_CTL_DEL, fa, nil)
			}
			delete(k.waiting, id)
			return 0, os.NewSyscallError("epoll_ctl", err)
		}
	}
	return id, nil
}

// remove takes a waiter out and reports whether it was still there: if not,
// its wake has been or is being called.
func (k *parker) remove(id uint64) bool {
	_, ok := k.take(id)
	return ok
}

func (k *parker) take(id uint64) (parked, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.waiting[id]
	if !ok {
		return p, false
	}
	delete(k.waiting, id)
	for _, fd := range p.fds {
		_ = k.ctl(unix.EPOLL_CTL_DEL, fd, nil)
	}
	return p, true
}

func (k *parker) ctl(op, fd int, ev *unix.EpollEvent) error {
	var err error
	cerr := k.raw.Control(func(poll uintptr) { err = unix.EpollCtl(int(poll), op, fd, ev) })
	return errors.Join(cerr, err)
}

func (k *parker) loop() {
	defer close(k.done)
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := k.raw.Read(func(poll uintptr) bool {
			var werr error
			for {
				if n, werr = unix.EpollWait(int(poll), events, 0); werr != unix.EINTR {
					break
				}
			}
			return n != 0 // 0: let the runtime wait; -1: leave
		})
		if err != nil || n < 0 {
			return
		}
		for _, ev := range events[:n] {
			if p, ok := k.take(uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32); ok {
				p.wake()
			}
		}
	}
}

// fdOf returns the descriptor under c. It stays valid while the caller keeps c
// open, which a parked session does.
func fdOf(c net.Conn) (int, error) {
	sc, ok := Bottom(c).(syscall.Conn)
	if !ok {
		return 0, errors.New("not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	if err := raw.Control(func(f uintptr) { fd = int(f) }); err != nil {
		return 0, err
	}
	return fd, nil
}
