package tdstest

import (
	"encoding/binary"
	"iter"
	"math"
)

// Type is the type of a column.
type Type int

// Types of columns. A Go value of nil is NULL in all.
const (
	NVarChar         Type = iota // string, up to 4,000 characters
	NVarCharMax                  // string
	BigInt                       // int64 or int
	Int                          // int64 or int
	Bit                          // bool
	Float                        // float64
	VarBinary                    // []byte, up to 8,000
	UniqueIdentifier             // [16]byte, in SQL Server's order
)

// Column is a column of a result set.
type Column struct {
	Name string
	Type Type
}

// Set is one result set, or without columns one count of rows.
type Set struct {
	Columns  []Column
	Rows     iter.Seq[[]any] // nil for none
	Affected int64           // without columns; -1 for no count
}

// Message is an INFO or ERROR token.
type Message struct {
	Number int32
	State  byte
	Class  byte // above 10 an error, from 20 on the end of the connection
	Text   string
}

// Result is what a statement gives.
type Result struct {
	Sets     []Set
	Infos    []Message
	Err      *Message // after the sets
	Database string   // the session's from now on; "" for no change
	Wait     func()   // called before anything is sent; it should end with the request's context
}

// Rows makes a sequence of rows of what is at hand.
func Rows(rows ...[]any) iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for _, r := range rows {
			if !yield(r) {
				return
			}
		}
	}
}

// Status bits of DONE: [MS-TDS] 2.2.7.6.
const (
	doneMore      = 0x01
	doneError     = 0x02
	doneInTran    = 0x04
	doneCount     = 0x10
	doneAttention = 0x20
	doneFatal     = 0x100
)

const (
	tokenReturnStatus = 0x79
	tokenColumns      = 0x81
	tokenError        = 0xaa
	tokenInfo         = 0xab
	tokenReturnValue  = 0xac
	tokenLoginAck     = 0xad
	tokenFeatureAck   = 0xae
	tokenRow          = 0xd1
	tokenEnvChange    = 0xe3
	tokenDone         = 0xfd
	tokenDoneProc     = 0xfe
	tokenDoneInProc   = 0xff
)

var collation = []byte{0x09, 0x04, 0xd0, 0x00, 0x34} // SQL_Latin1_General_CP1_CI_AS

func bVarchar(b []byte, s string) []byte {
	u := toUTF16(s)
	return append(append(b, byte(len(u)/2)), u...)
}

func usVarchar(b []byte, s string) []byte {
	u := toUTF16(s)
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(u)/2)), u...)
}

// withLength puts a token's 2-byte length before its body.
func withLength(token byte, body []byte) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{token}, uint16(len(body))), body...)
}

func encodeMessage(m Message, server string) []byte {
	token := byte(tokenInfo)
	if m.Class > 10 {
		token = tokenError
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(m.Number))
	b = append(b, m.State, m.Class)
	b = usVarchar(b, m.Text)
	b = bVarchar(b, server)
	b = bVarchar(b, "")
	return withLength(token, binary.LittleEndian.AppendUint32(b, 1))
}

func encodeDone(token byte, status uint16, count int64) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{token}, status)
	b = binary.LittleEndian.AppendUint16(b, 0xc1)
	return binary.LittleEndian.AppendUint64(b, uint64(count))
}

// encodeEnv is an ENVCHANGE of two texts: 1 database, 2 language, 4 packet size.
func encodeEnv(kind byte, now, before string) []byte {
	return withLength(tokenEnvChange, bVarchar(bVarchar([]byte{kind}, now), before))
}

// encodeEnvBytes is an ENVCHANGE of two byte strings: 7 collation, 8 to 10
// transactions, 18 reset.
func encodeEnvBytes(kind byte, now, before []byte) []byte {
	b := append([]byte{kind, byte(len(now))}, now...)
	return withLength(tokenEnvChange, append(append(b, byte(len(before))), before...))
}

func encodeLoginAck(version uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{1}, version)
	b = bVarchar(b, "Microsoft SQL Server")
	return withLength(tokenLoginAck, append(b, 16, 0, 0x10, 0x2a))
}

func encodeColumns(cols []Column) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{tokenColumns}, uint16(len(cols)))
	for _, c := range cols {
		b = append(b, 0, 0, 0, 0, 1, 0) // user type; flags: may be NULL
		b = append(b, typeInfo(c.Type)...)
		b = bVarchar(b, c.Name)
	}
	return b
}

func typeInfo(t Type) []byte {
	switch t {
	case NVarChar:
		return append([]byte{0xe7, 0x40, 0x1f}, collation...)
	case NVarCharMax:
		return append([]byte{0xe7, 0xff, 0xff}, collation...)
	case BigInt:
		return []byte{0x26, 8}
	case Int:
		return []byte{0x26, 4}
	case Bit:
		return []byte{0x68, 1}
	case Float:
		return []byte{0x6d, 8}
	case VarBinary:
		return []byte{0xa5, 0x40, 0x1f}
	case UniqueIdentifier:
		return []byte{0x24, 16}
	}
	panic("tdstest: no such type")
}

func encodeRow(b []byte, cols []Column, row []any) []byte {
	b = append(b, tokenRow)
	for i, c := range cols {
		b = encodeValue(b, c.Type, row[i])
	}
	return b
}

func encodeValue(b []byte, t Type, v any) []byte {
	le := binary.LittleEndian
	if v == nil {
		switch t {
		case NVarChar, VarBinary:
			return append(b, 0xff, 0xff)
		case NVarCharMax:
			return le.AppendUint64(b, math.MaxUint64)
		}
		return append(b, 0)
	}
	switch t {
	case NVarChar:
		u := toUTF16(v.(string))
		return append(le.AppendUint16(b, uint16(len(u))), u...)
	case NVarCharMax:
		u := toUTF16(v.(string))
		b = le.AppendUint64(b, uint64(len(u)))
		if len(u) > 0 {
			b = append(le.AppendUint32(b, uint32(len(u))), u...)
		}
		return le.AppendUint32(b, 0)
	case BigInt:
		return le.AppendUint64(append(b, 8), uint64(integer(v)))
	case Int:
		return le.AppendUint32(append(b, 4), uint32(integer(v)))
	case Bit:
		if v.(bool) {
			return append(b, 1, 1)
		}
		return append(b, 1, 0)
	case Float:
		return le.AppendUint64(append(b, 8), math.Float64bits(v.(float64)))
	case VarBinary:
		raw := v.([]byte)
		return append(le.AppendUint16(b, uint16(len(raw))), raw...)
	case UniqueIdentifier:
		raw := v.([16]byte)
		return append(append(b, 16), raw[:]...)
	}
	panic("tdstest: no such type")
}

func integer(v any) int64 {
	if n, ok := v.(int); ok {
		return int64(n)
	}
	return v.(int64)
}
