package mysql

// fileWord is in every statement that has a server ask its client for a file:
// LOAD DATA and LOAD XML LOCAL INFILE.
const fileWord = "infile"

// files is what a client has said of files, without which a server that asks
// for one is lying.
type files struct {
	said    bool // in a statement, which may have prepared another
	looking bool // in the command under way, which did not come in one piece
	tail    [len(fileWord) - 1]byte
}

// mayLoad reports whether a command may be answered by a request for a file, as
// far as it has come.
func (f *files) mayLoad(command byte, text []byte, whole bool) bool {
	switch command {
	case comQuery, comStmtPrepare:
		if f.looking = !whole && !f.said; !f.looking {
			f.said = f.said || mentionsFile(text)
		}
		f.tail = [len(f.tail)]byte{}
	case comStmtExecute:
	default:
		return false
	}
	return f.said
}

// look takes a further piece of the command under way, which is the last one
// that s has noted.
func (f *files) look(s *session, b []byte) {
	if !f.looking {
		return
	}
	seam := append(f.tail[:len(f.tail):len(f.tail)], b[:min(len(b), len(f.tail))]...)
	if mentionsFile(seam) || mentionsFile(b) {
		f.said, f.looking = true, false
		s.mayLoad()
		return
	}
	if len(b) >= len(f.tail) {
		seam = b
	}
	copy(f.tail[:], seam[len(seam)-len(f.tail):])
}

// mayLoad lets the last command be answered by a request for a file. All of it
// has to be sent before a server can do so.
func (s *session) mayLoad() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.waiting); n > s.first {
		s.waiting[n-1].local = true
	}
}

// fileSteps has, for each last letter of as many as fileWord has, how much
// further the word can end.
var fileSteps = func() (steps [256]byte) {
	for c := range steps {
		steps[c] = byte(len(fileWord))
	}
	for i, c := range []byte(fileWord[:len(fileWord)-1]) {
		steps[c], steps[c&^0x20] = byte(len(fileWord)-1-i), byte(len(fileWord)-1-i)
	}
	return steps
}()

// mentionsFile reports whether sql has fileWord, in letters of any case.
func mentionsFile(sql []byte) bool {
	for end := len(fileWord) - 1; end < len(sql); end += int(fileSteps[sql[end]]) {
		at := 0
		for at < len(fileWord) && sql[end-at]|0x20 == fileWord[len(fileWord)-1-at] {
			at++
		}
		if at == len(fileWord) {
			return true
		}
	}
	return false
}
