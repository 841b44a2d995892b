package tdstest

import (
	"encoding/binary"
	"math"
	"strings"
)

// Param is a parameter of a statement.
type Param struct {
	Name  string // with @; "" when given by place
	Out   bool
	Value any // int64, bool, float64, string, []byte or nil
}

// call is one procedure call of an RPC message.
type call struct {
	id     uint16 // 0 when called by name
	name   string
	params []Param
}

// Procedures that have numbers: [MS-TDS] 2.2.6.6.
const (
	procExecuteSQL = 10
	procPrepare    = 11
	procExecute    = 12
	procPrepExec   = 13
	procUnprepare  = 15
)

var procNames = map[string]uint16{"sp_executesql": procExecuteSQL, "sp_prepare": procPrepare, "sp_execute": procExecute,
	"sp_prepexec": procPrepExec, "sp_unprepare": procUnprepare}

// cursor reads little-endian fields; the first field beyond the end spoils it.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.b, c.bad = nil, true
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) number(n int) uint64 {
	var v [8]byte
	copy(v[:], c.take(n))
	return binary.LittleEndian.Uint64(v[:])
}

// allHeaders reads ALL_HEADERS and returns the transaction descriptor:
// [MS-TDS] 2.2.5.3.
func (c *cursor) allHeaders() (tran uint64, err error) {
	total := int(uint32(c.number(4)))
	h := cursor{b: c.take(total - 4)}
	found := false
	for len(h.b) > 0 {
		size, kind := int(uint32(h.number(4))), h.number(2)
		data := cursor{b: h.take(size - 6)}
		if kind == 2 {
			tran, found = data.number(8), true
			if outstanding := data.number(4); outstanding != 1 {
				return 0, violation("ALL_HEADERS: %d outstanding requests", outstanding)
			}
		}
		if data.bad {
			h.bad = true
		}
	}
	if c.bad || h.bad || !found {
		return 0, violation("ALL_HEADERS is malformed or has no transaction descriptor")
	}
	return tran, nil
}

// parseRPC reads the calls of an RPC message behind its ALL_HEADERS.
func parseRPC(c *cursor) ([]call, error) {
	var all []call
	for {
		k := call{}
		if n := int(c.number(2)); n == 0xffff {
			k.id = uint16(c.number(2))
		} else {
			name, err := fromUTF16(c.take(2 * n))
			if err != nil || n == 0 {
				return nil, violation("RPC: a procedure without a name")
			}
			k.name, k.id = name, procNames[strings.ToLower(name)]
		}
		c.number(2) // option flags
		for len(c.b) > 0 && c.b[0] != 0xff && c.b[0] != 0x80 && c.b[0] != 0xfe {
			p, err := parseParam(c)
			if err != nil {
				return nil, err
			}
			k.params = append(k.params, p)
		}
		if c.bad {
			return nil, violation("RPC is cut short")
		}
		all = append(all, k)
		if len(c.b) == 0 {
			return all, nil
		}
		c.take(1) // the flag between two calls
	}
}

func parseParam(c *cursor) (Param, error) {
	var p Param
	name, err := fromUTF16(c.take(2 * int(c.number(1))))
	if err != nil {
		return p, err
	}
	p.Name = name
	p.Out = c.number(1)&1 != 0
	p.Value, err = parseTyped(c)
	if err == nil && c.bad {
		err = violation("RPC: parameter %q is cut short", name)
	}
	return p, err
}

// parseTyped reads TYPE_INFO and a value of it.
func parseTyped(c *cursor) (any, error) {
	switch t := byte(c.number(1)); t {
	case 0x1f:
		return nil, nil
	case 0x30, 0x32, 0x34, 0x38, 0x7f:
		n := map[byte]int{0x30: 1, 0x32: 1, 0x34: 2, 0x38: 4, 0x7f: 8}[t]
		return signed(c.take(n)), nil
	case 0x26, 0x68, 0x6d, 0x6e, 0x6f, 0x24:
		c.number(1)
		raw := c.take(int(c.number(1)))
		return shortValue(t, raw), nil
	case 0x6a, 0x6c:
		c.take(3)
		return bytesOrNil(c.take(int(c.number(1)))), nil
	case 0x28:
		return bytesOrNil(c.take(int(c.number(1)))), nil
	case 0x29, 0x2a, 0x2b:
		c.take(1)
		return bytesOrNil(c.take(int(c.number(1)))), nil
	case 0xa5, 0xad:
		raw, null := longValue(c, int(c.number(2)))
		if null {
			return nil, nil
		}
		return raw, nil
	case 0xa7, 0xaf, 0xe7, 0xef:
		size := int(c.number(2))
		c.take(5)
		raw, null := longValue(c, size)
		switch {
		case null:
			return nil, nil
		case t == 0xa7 || t == 0xaf:
			return string(raw), nil
		}
		return fromUTF16(raw)
	case 0x22, 0x23, 0x63:
		c.take(4)
		if t != 0x22 {
			c.take(5)
		}
		n := uint32(c.number(4))
		if n == math.MaxUint32 {
			return nil, nil
		}
		raw := c.take(int(n))
		switch t {
		case 0x63:
			return fromUTF16(raw)
		case 0x23:
			return string(raw), nil
		}
		return raw, nil
	default:
		return nil, violation("RPC: a parameter of type %#x, which this peer does not know", t)
	}
}

func shortValue(t byte, raw []byte) any {
	switch {
	case len(raw) == 0:
		return nil
	case t == 0x68:
		return raw[0] != 0
	case t == 0x6d && len(raw) == 8:
		return math.Float64frombits(binary.LittleEndian.Uint64(raw))
	case t == 0x26:
		return signed(raw)
	}
	return raw
}

func signed(raw []byte) int64 {
	var v [8]byte
	copy(v[:], raw)
	n := int64(binary.LittleEndian.Uint64(v[:]))
	shift := 64 - 8*len(raw)
	if len(raw) == 1 || shift == 64 {
		return n
	}
	return n << shift >> shift
}

func bytesOrNil(raw []byte) any {
	if len(raw) == 0 {
		return nil
	}
	return raw
}

// longValue reads a value with a 2-byte length, or one in chunks where size
// says "max".
func longValue(c *cursor, size int) (raw []byte, null bool) {
	if size != 0xffff {
		n := int(c.number(2))
		if n == 0xffff {
			return nil, true
		}
		return c.take(n), false
	}
	total := c.number(8)
	if total == math.MaxUint64 {
		return nil, true
	}
	for {
		n := int(uint32(c.number(4)))
		if n == 0 || c.bad {
			return raw, false
		}
		raw = append(raw, c.take(n)...)
	}
}
