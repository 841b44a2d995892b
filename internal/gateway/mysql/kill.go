package mysql

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// maxKill bounds a command that may be KILL: with every word there is, a
// number and some white space.
const maxKill = 128

// mayKill is a cheap test for KILL.
func mayKill(sql []byte) bool {
	for i, c := range sql {
		switch c {
		case ' ', '\t', '\n', '\r':
		case 'k', 'K':
			return len(sql)-i > 5 && strings.EqualFold(string(sql[i:i+4]), "kill")
		default:
			return false
		}
	}
	return false
}

// kill puts the backend's thread id in the place of the one that a client was
// told, in a KILL or COM_PROCESS_KILL for a session of the same principal. A
// thread of somebody else's session is refused, though the server might allow
// it: the members of a group share a user there. That is a courtesy between
// them and no fence: SQL has more ways to say KILL than are looked at.
func (s *session) kill(packet []byte) ([]byte, *refusal) {
	if packet[headerSize] == comProcessKill {
		if len(packet) < headerSize+5 {
			return packet, nil // malformed, as the server will say
		}
		// A server takes the first four bytes, whatever follows.
		thread, because := s.threadOf(uint64(binary.LittleEndian.Uint32(packet[headerSize+1:])))
		if because != nil {
			return nil, because
		}
		return appendPacket(nil, 0, binary.LittleEndian.AppendUint32([]byte{comProcessKill}, uint32(thread))), nil
	}
	words := strings.Fields(strings.TrimRight(string(packet[headerSize+1:]), "; \t\r\n"))
	last := len(words) - 1
	id, err := strconv.ParseUint(words[last], 10, 64)
	if err != nil || last > 1 && strings.EqualFold(words[last-1], "ID") { // an expression, a user, or a query's id
		return packet, nil
	}
	thread, because := s.threadOf(id)
	if because != nil {
		return nil, because
	}
	words[last] = strconv.FormatUint(thread, 10)
	return appendPacket(nil, 0, append([]byte{comQuery}, strings.Join(words, " ")...)), nil
}

// threadOf returns the id by which the server knows a session. One that is no
// session's stays as it is: the server knows whose it is.
func (s *session) threadOf(id uint64) (uint64, *refusal) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	for told, other := range s.g.sessions {
		if !other.b.server.Equal(s.b.server) || uint64(told) != id && uint64(other.b.id) != id {
			continue
		}
		if other.who != s.who {
			return 0, &refusal{errno: erNotOwner, state: "HY000", message: fmt.Sprintf("You are not owner of thread %d", id)}
		}
		return uint64(other.b.id), nil
	}
	return id, nil
}

// refused words a command that is not served.
func refused(command byte) *refusal {
	if command == comChangeUser {
		return &refusal{errno: erDenied, state: "42000", message: "a session cannot become that of another user here: connect again"}
	}
	return &refusal{errno: erUnknownCommand, state: "08S01", message: fmt.Sprintf("command %#02x is not served by this gateway", command)}
}

// signal is a statement that makes a server say the refusal. Its text is ours,
// without quotes, and no longer than the 128 characters that MySQL takes.
func (r *refusal) signal() string {
	return fmt.Sprintf("SIGNAL SQLSTATE '%s' SET MYSQL_ERRNO = %d, MESSAGE_TEXT = '%s'", r.state, r.errno, r.message)
}

// continued notes the number of a further frame of a long command.
func (s *session) continued(seq byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upSeq = seq
}
