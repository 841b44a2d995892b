package az

import "time"

// Clock is the one source of time, injected so that tests can move it.
type Clock func() time.Time

// Micros is a time as the store keeps it: microseconds since 1970 UTC. Zero
// means "none".
type Micros int64

// MicrosOf converts; the zero time becomes zero.
func MicrosOf(t time.Time) Micros {
	if t.IsZero() {
		return 0
	}
	return Micros(t.UnixMicro())
}

// Time converts back, in UTC; zero becomes the zero time.
func (m Micros) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(m)).UTC()
}
