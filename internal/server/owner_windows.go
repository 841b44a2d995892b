package server

import "io/fs"

// ownerOf knows no owner: rights there are not in the mode.
func ownerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }
