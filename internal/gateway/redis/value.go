package redis

import (
	"bytes"
	"strconv"
)

// maxDepth bounds values within values in what the gateway reads as a whole:
// CLUSTER SHARDS has five.
const maxDepth = 8

// value is a reply of a few kinds, decoded.
type value struct {
	kind byte // as on the wire
	null bool
	text []byte  // of a line or string
	list []value // of an aggregate; keys and values of a map in turn
}

// parseValue decodes the value at the start of b, which must be there whole.
func parseValue(b []byte, depth int) (v value, n int, err error) {
	if len(b) == 0 || depth == 0 {
		return v, 0, errReply
	}
	v.kind = b[0]
	switch v.kind {
	case '+', '-', ':', ',', '(', '#', '_':
		end := bytes.IndexByte(b, '\n')
		if end < 2 || b[end-1] != '\r' {
			return v, 0, errReply
		}
		v.text = b[1 : end-1]
		return v, end + 1, nil
	}
	size, at, err := number(b, 1)
	if err != nil || at == 0 || size < -1 {
		return v, 0, errReply
	}
	if size == -1 {
		v.null = true
		return v, at, nil
	}
	switch v.kind {
	case '$', '=', '!':
		if size > int64(len(b)-at-2) || b[at+int(size)] != '\r' || b[at+int(size)+1] != '\n' {
			return v, 0, errReply
		}
		v.text = b[at : at+int(size)]
		return v, at + int(size) + 2, nil
	case '%':
		size *= 2
	case '*', '~', '>':
	default:
		return v, 0, errReply
	}
	for range size {
		item, m, err := parseValue(b[at:], depth-1)
		if err != nil {
			return v, 0, err
		}
		v.list, at = append(v.list, item), at+m
	}
	return v, at, nil
}

// appendTo writes the value as it was read, changed parts and all.
func (v value) appendTo(out []byte) []byte {
	out = append(out, v.kind)
	switch v.kind {
	case '+', '-', ':', ',', '(', '#', '_':
		out = append(out, v.text...)
		return append(out, "\r\n"...)
	}
	if v.null {
		return append(out, "-1\r\n"...)
	}
	n := len(v.list)
	switch v.kind {
	case '$', '=', '!':
		out = strconv.AppendInt(out, int64(len(v.text)), 10)
		out = append(out, "\r\n"...)
		out = append(out, v.text...)
		return append(out, "\r\n"...)
	case '%':
		n /= 2
	}
	out = strconv.AppendInt(out, int64(n), 10)
	out = append(out, "\r\n"...)
	for _, item := range v.list {
		out = item.appendTo(out)
	}
	return out
}
