//go:build !unix

package seal

import "io/fs"

// Modes mean nothing here: the directory's access list guards the file.
func ownerOnly(fs.FileInfo) error { return nil }

func notWorld(fs.FileInfo) error { return nil }

// A directory cannot be flushed here; the file itself was.
func syncDir(string) error { return nil }
