package template

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"strings"
)

// guidSpace is the namespace of guid(). Source: documentation of the template
// function guid: a name-based GUID (RFC 4122, version 5) of the arguments,
// joined by dashes.
const guidSpace = "11fb06fb712d4ddd98c7e71bbd588830"

// GUID is guid(): the same for the same arguments, here and in Azure.
func GUID(parts ...string) string {
	space, _ := hex.DecodeString(guidSpace)                     // a constant
	sum := sha1.Sum(append(space, strings.Join(parts, "-")...)) // RFC 4122 asks for SHA-1; nothing relies on its strength
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x50, b[8]&0x3f|0x80
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// UniqueString is uniqueString(): 13 characters of a 64-bit hash of the
// arguments, joined by dashes; the same as Azure's, which tests compare.
func UniqueString(parts ...string) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	h := murmur64([]byte(strings.Join(parts, "-")))
	var out [13]byte
	for i := range out {
		out[i] = alphabet[h>>59]
		h <<= 5
	}
	return string(out[:])
}

// murmur64 is the hash behind uniqueString: two lanes of 32 bits, mixed as in
// MurmurHash3, over blocks of eight bytes.
func murmur64(b []byte) uint64 {
	const (
		c1, c2 = 0x239b961b, 0xab0e9789
		n1, n2 = 0x561ccd1b, 0x0bcaa747
	)
	lane1 := func(k uint32) uint32 { return bits.RotateLeft32(k*c1, 15) * c2 }
	lane2 := func(k uint32) uint32 { return bits.RotateLeft32(k*c2, 17) * c1 }
	var h1, h2 uint32
	size := uint32(len(b))
	for ; len(b) >= 8; b = b[8:] {
		h1 = (bits.RotateLeft32(h1^lane1(binary.LittleEndian.Uint32(b)), 19)+h2)*5 + n1
		h2 = (bits.RotateLeft32(h2^lane2(binary.LittleEndian.Uint32(b[4:])), 13)+h1)*5 + n2
	}
	if len(b) > 0 {
		var rest [8]byte
		copy(rest[:], b)
		h1 ^= lane1(binary.LittleEndian.Uint32(rest[:]))
		if len(b) > 4 {
			h2 ^= lane2(binary.LittleEndian.Uint32(rest[4:]))
		}
	}
	h1, h2 = h1^size, h2^size
	h1 += h2
	h2 += h1
	h1, h2 = finish(h1), finish(h2)
	h1 += h2
	h2 += h1
	return uint64(h2)<<32 | uint64(h1)
}

func finish(h uint32) uint32 {
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
