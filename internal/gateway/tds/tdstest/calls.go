package tdstest

import (
	"context"
	"encoding/binary"
	"fmt"
)

// calls runs the procedure calls of an RPC.
func (x *Session) calls(ctx context.Context, w *writer, c *cursor) (fatal bool, err error) {
	all, err := parseRPC(c)
	if err != nil {
		return false, err
	}
	for i, k := range all {
		more := uint16(0)
		if i < len(all)-1 {
			more = doneMore
		}
		if fatal, err = x.call(ctx, w, k, more); fatal || err != nil {
			return fatal, err
		}
	}
	return false, nil
}

func (x *Session) call(ctx context.Context, w *writer, k call, more uint16) (fatal bool, err error) {
	text := func(i int) string {
		if i < len(k.params) {
			s, _ := k.params[i].Value.(string)
			return s
		}
		return ""
	}
	number := func(i int) int64 {
		if i < len(k.params) {
			n, _ := k.params[i].Value.(int64)
			return n
		}
		return 0
	}
	status, handle := doneInTranIf(x), int64(0)
	switch {
	case k.id == procExecuteSQL:
		fatal = x.run(ctx, w, text(0), rest(k.params, 2), tokenDoneInProc)
	case k.id == procPrepare || k.id == procPrepExec:
		x.handles++
		handle = x.handles
		x.prepared[handle] = text(2)
		if k.id == procPrepExec {
			fatal = x.run(ctx, w, text(2), rest(k.params, 3), tokenDoneInProc)
		}
	case k.id == procExecute && x.prepared[number(0)] != "":
		fatal = x.run(ctx, w, x.prepared[number(0)], rest(k.params, 1), tokenDoneInProc)
	case k.id == procUnprepare && x.prepared[number(0)] != "":
		delete(x.prepared, number(0))
	case k.id == procExecute || k.id == procUnprepare:
		_, _ = w.Write(encodeMessage(Message{Number: 8179, State: 4, Class: 16, Text: fmt.Sprintf("Could not find prepared statement with handle %d.", number(0))}, "tdstest"))
		status |= doneError
	case k.name != "":
		fatal = x.run(ctx, w, "EXEC "+k.name, k.params, tokenDoneInProc)
	default:
		return false, violation("RPC: procedure %d, which this peer does not know", k.id)
	}
	if fatal {
		return true, nil
	}
	_, _ = w.Write(binary.LittleEndian.AppendUint32([]byte{tokenReturnStatus}, 0))
	if handle != 0 {
		_, _ = w.Write(returnValue(k.params[0].Name, handle))
	}
	_, err = w.Write(encodeDone(tokenDoneProc, status|more, 0))
	return false, err
}

func rest(p []Param, n int) []Param {
	if len(p) < n {
		return nil
	}
	return p[n:]
}

// returnValue is an INT that a procedure gives back: [MS-TDS] 2.2.7.19.
func returnValue(name string, v int64) []byte {
	b := bVarchar([]byte{tokenReturnValue, 0, 0}, name)
	b = append(b, 1, 0, 0, 0, 0, 0, 0, 0x26, 4, 4)
	return binary.LittleEndian.AppendUint32(b, uint32(v))
}

func doneInTranIf(x *Session) uint16 {
	if x.Tran != 0 {
		return doneInTran
	}
	return 0
}

// transaction serves a transaction manager request: [MS-TDS] 2.2.6.9.
func (x *Session) transaction(w *writer, c *cursor) error {
	var tokens []byte
	before := binary.LittleEndian.AppendUint64(nil, x.Tran)
	switch kind := c.number(2); {
	case kind == 5 && x.Tran == 0:
		x.begun()
		tokens = encodeEnvBytes(8, binary.LittleEndian.AppendUint64(nil, x.Tran), nil)
	case (kind == 7 || kind == 8) && x.Tran != 0:
		x.Tran = 0
		tokens = encodeEnvBytes(byte(kind)+2, nil, before)
	case kind == 7 || kind == 8:
		tokens = encodeMessage(Message{Number: 3902, State: 1, Class: 16, Text: "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION."}, "tdstest")
		_, _ = w.Write(tokens)
		_, err := w.Write(encodeDone(tokenDone, doneError, 0))
		return err
	default:
		return violation("transaction request %d with transaction %d", kind, x.Tran)
	}
	_, _ = w.Write(tokens)
	_, err := w.Write(encodeDone(tokenDone, doneInTranIf(x), 0))
	return err
}

func (x *Session) begun() {
	x.trans++
	x.Tran = uint64(x.ID)<<32 | x.trans
}
