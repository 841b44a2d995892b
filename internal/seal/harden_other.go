//go:build !linux

package seal

// HardenProcess does nothing here: see the operating system's own settings for
// crash dumps.
func HardenProcess() error { return nil }

// HideProcess does nothing here, for the same reason.
func HideProcess() error { return nil }
