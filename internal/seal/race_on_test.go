//go:build race

package seal

// The race detector allocates on its own account.
const raceEnabled = true
