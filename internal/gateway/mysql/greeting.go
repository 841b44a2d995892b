package mysql

import (
	"crypto/rand"
	"encoding/binary"
	"strings"
	"sync"
)

const (
	// neutral is the version for clients that may mean servers of several:
	// the last one of the oldest series whose capabilities are all offered.
	neutral = "5.7.44-hawser"
	// greetingCharset is utf8mb4_general_ci, which both servers know by this
	// number. It binds nobody: each client names its own.
	greetingCharset = 45
	scrambleSize    = 20

	native = "mysql_native_password"
	clear  = "mysql_clear_password"
)

// greeting is the body of Protocol::HandshakeV10.
func greeting(version string, id uint32) []byte {
	scramble := newScramble()
	b := append(make([]byte, 0, 128), 10)
	b = append(append(b, version...), 0)
	b = binary.LittleEndian.AppendUint32(b, id)
	b = append(append(b, scramble[:8]...), 0)
	b = binary.LittleEndian.AppendUint16(b, offered&0xffff)
	b = append(b, greetingCharset)
	b = binary.LittleEndian.AppendUint16(b, statusAutocommit)
	b = binary.LittleEndian.AppendUint16(b, offered>>16)
	b = append(b, scrambleSize+1)
	b = append(b, make([]byte, 10)...)
	b = append(append(b, scramble[8:]...), 0)
	return append(append(b, native...), 0)
}

// newScramble makes what clients would hash a password with, if they had one.
// It has no NUL, which some clients take for its end.
func newScramble() []byte {
	b := make([]byte, scrambleSize)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	for i := range b {
		b[i] = b[i]&0x7f | 0x01
	}
	return b
}

// versions are those that servers said at logins.
type versions struct {
	mu   sync.Mutex        // guards all below
	of   map[string]string // by server
	same string            // the one that all have; neutral when they differ
}

// told returns what the next client is greeted with.
func (v *versions) told() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.same == "" {
		return neutral
	}
	return v.same
}

// maxVersion bounds a server's version text; SERVER_VERSION_LENGTH of both
// servers is 60.
const maxVersion = 60

// learn notes a server's version.
func (v *versions) learn(server, version string) {
	if len(version) > maxVersion || strings.ContainsFunc(version, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of[server] == version {
		return
	}
	v.of[server] = version
	v.same = version
	for _, other := range v.of {
		if other != version {
			v.same = neutral
		}
	}
}

// isMaria reports whether a version is MariaDB's.
func isMaria(version string) bool { return strings.Contains(version, "MariaDB") }

// atLeast8 reports whether a version of MySQL is 8 or later.
func atLeast8(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	return len(major) > 1 || major >= "8"
}
