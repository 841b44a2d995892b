//go:build !linux

package run

import (
	"crypto/sha256"
	"encoding/hex"
)

// Machine names whose loopback this process is on.
func Machine() string {
	sum := sha256.Sum256([]byte(hostName()))
	return hex.EncodeToString(sum[:16])
}
