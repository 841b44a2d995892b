package mysql

import (
	"context"
	"strings"
	"time"
)

const (
	// maxStatement bounds a statement that the plane is asked about: the calls
	// that it answers are far shorter. A longer one is the server's alone.
	maxStatement = 8 << 10
	// statementWait bounds what the plane does for one.
	statementWait = 20 * time.Second
)

// consult asks the plane whether it has another statement in the place of an
// administrator's.
func (u *upstream) consult(packet []byte) []byte {
	command, sql := packet[headerSize], string(packet[headerSize+1:])
	if !concerns(sql) {
		return packet
	}
	ctx, cancel := context.WithTimeout(context.Background(), statementWait)
	defer cancel()
	instead, ok := u.ask(ctx, sql)
	if !ok || len(instead) >= maxFrame-1 {
		return packet
	}
	return appendPacket(nil, 0, append([]byte{command}, instead...))
}

// concerns reports whether a statement may be one for the plane, so that it is
// not asked about all the others.
func concerns(sql string) bool {
	sql = strings.ToLower(sql)
	has := func(word string) bool { return strings.Contains(sql, word) }
	return has("aaduser") || has("aad_auth") || has("flush") || has("drop") && has("user") || (has("grant") || has("revoke")) && has("_")
}
