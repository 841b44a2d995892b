package mysql

import (
	"errors"
	"fmt"
	"time"
)

var errNotReset = errors.New("the backend cannot be reset")

// reset brings an idle connection back to what it was after login. The
// commands go one by one: servers need not take a second before they have
// answered the first.
func (b *backend) reset() error {
	if err := b.conn.SetDeadline(time.Now().Add(resetWait)); err != nil {
		return err
	}
	// MariaDB leaves an XA transaction that was prepared on a connection that it
	// resets, which then writes nothing more. There is an error here before.
	if _, err := b.simple(comQuery, "ROLLBACK AND NO CHAIN NO RELEASE"); err != nil {
		return err
	}
	status, err := b.simple(comResetConnection, "")
	if err != nil {
		return err
	}
	if b.db != "" {
		if !isASCII(b.db) { // its letters are in UTF-8, as at login
			if _, err := b.simple(comQuery, "SET NAMES utf8mb4"); err != nil {
				return err
			}
		}
		if _, err := b.simple(comInitDB, b.db); err != nil {
			return err
		}
	}
	if err := b.resetCharset(); err != nil {
		return err
	}
	if err := b.resetRoles(); err != nil {
		return err
	}
	b.status = status & (statusAutocommit | statusNoBackslash)
	return b.conn.SetDeadline(time.Time{})
}

// resetCharset sets the character set of the login; a reset of MySQL leaves the
// server's own. One that the server does not know cannot be had again: what
// MariaDB takes in its place is another one after a reset than after a login.
func (b *backend) resetCharset() error {
	if _, err := b.simple(comQuery, fmt.Sprintf("SET collation_connection = %d", b.charset)); err != nil {
		return err
	}
	_, err := b.simple(comQuery, "SET character_set_client = @@character_set_connection, character_set_results = @@character_set_connection")
	return err
}

// resetRoles sees to what the servers leave: roles, a database where the login
// had none, and statements that a server runs at each login.
func (b *backend) resetRoles() error {
	ask := "SELECT DATABASE(), NULL, @@GLOBAL.init_connect"
	switch {
	case isMaria(b.version):
		ask = "SELECT DATABASE(), CURRENT_ROLE(), @@GLOBAL.init_connect"
	case atLeast8(b.version):
		// A login has other roles than the default ones where all are activated.
		ask = "SELECT DATABASE(), NULLIF(@@GLOBAL.activate_all_roles_on_login, 0), @@GLOBAL.init_connect"
		if _, err := b.simple(comQuery, "SET ROLE DEFAULT"); err != nil {
			return err
		}
	}
	row, err := b.row(ask, 3)
	if err != nil {
		return err
	}
	if string(row[0]) != b.db || row[1] != nil || len(row[2]) != 0 {
		return errNotReset
	}
	return nil
}

// simple runs a command that is answered by OK or an error.
func (b *backend) simple(command byte, argument string) (status uint16, err error) {
	if _, err := b.conn.Write(appendPacket(nil, 0, append([]byte{command}, argument...))); err != nil {
		return 0, err
	}
	body, err := readPacket(b.conn, 1, maxLogin)
	switch {
	case err != nil:
		return 0, err
	case len(body) > 0 && body[0] == markError:
		return 0, parseError(body)
	case len(body) == 0 || body[0] != markOK:
		return 0, errNotReset
	}
	status, ok := okStatus(body)
	if !ok || status&statusMoreResults != 0 {
		return 0, errNotReset
	}
	return status, nil
}

// row runs a query whose answer is one row of so many columns; NULL is nil.
func (b *backend) row(query string, columns int) ([][]byte, error) {
	if _, err := b.conn.Write(appendPacket(nil, 0, append([]byte{comQuery}, query...))); err != nil {
		return nil, err
	}
	packets := 1 + columns + 2 // count, columns, row, end
	if b.flags&capDeprecateEOF == 0 {
		packets++ // one more end, after the columns
	}
	var out [][]byte
	for i := range packets {
		body, err := readPacket(b.conn, byte(i+1), maxLogin)
		if err != nil {
			return nil, err
		}
		if len(body) == 0 || body[0] == markError {
			return nil, errNotReset
		}
		if i == packets-2 {
			if out = splitRow(body); len(out) != columns {
				return nil, errNotReset
			}
		}
		if i == packets-1 && body[0] != markEOF {
			return nil, errNotReset
		}
	}
	return out, nil
}

// splitRow cuts a row of the text protocol.
func splitRow(body []byte) (out [][]byte) {
	f := fields{b: body}
	for len(f.b) > 0 {
		if f.b[0] == 0xfb {
			out, f.b = append(out, nil), f.b[1:]
			continue
		}
		v := f.bytes(f.lenenc())
		if f.bad {
			return nil
		}
		if v == nil {
			v = []byte{}
		}
		out = append(out, v)
	}
	return out
}
