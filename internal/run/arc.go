package run

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hawser/hawser/internal/az"
)

// arc is Azure Arc's proof: whoever can read a file in the agent's directory
// is from this machine and trusted by its owner. Each challenge makes one key
// file, which serves once.
type arc struct {
	dir  *os.Root
	path string
	mu   sync.Mutex           // guards keys
	keys map[string]time.Time // by content: when it ends
	name map[string]string    // by content: the file
}

// Limits of challenges.
const (
	arcKeyLife = time.Minute // a client answers at once
	arcMaxKeys = 256         // open challenges of one app's processes
)

func newArc(dir string) (*arc, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the arc form needs the directory %s, where its clients read key files: make it, owned by you with mode 0750", dir)
	}
	if err != nil {
		return nil, err
	}
	return &arc{dir: root, path: dir, keys: map[string]time.Time{}, name: map[string]string{}}, nil
}

// passed lets a request through that shows the content of a key file, and
// challenges any other that would otherwise get a token.
func (a *arc) passed(w http.ResponseWriter, r *http.Request, m *imds) bool {
	if guard(r, m.hosts) != nil || r.Header.Get("Metadata") != "true" || strings.TrimSuffix(r.URL.Path, "/") != imdsTokenPath {
		return true // the handler refuses it, or it is no token
	}
	given := r.Header["Authorization"]
	if len(given) == 1 {
		if key, ok := strings.CutPrefix(given[0], "Basic "); ok && a.use(key) {
			return true
		}
		(&refusal{status: http.StatusForbidden, code: "forbidden", text: "The key is wrong or was used before. Ask again without it."}).write(w, m.form)
		return false
	}
	file, err := a.challenge()
	if err != nil {
		m.log.Error("cannot write a key file for the Arc challenge", "error", err)
		refuse(err, m.form, &request{}).write(w, m.form)
		return false
	}
	w.Header().Set("WWW-Authenticate", "Basic realm="+file)
	(&refusal{status: http.StatusUnauthorized, code: "unauthorized", text: "Read the key file and ask again with it."}).write(w, m.form)
	return false
}

// challenge writes a new key file and returns its path.
func (a *arc) challenge() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for key, ends := range a.keys {
		if now.After(ends) {
			a.drop(key)
		}
	}
	if len(a.keys) >= arcMaxKeys {
		return "", throttled(time.Second)
	}
	key, name := newSecret(), az.NewGUID()+".key"
	f, err := a.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(key)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = a.dir.Remove(name)
		return "", err
	}
	a.keys[key], a.name[key] = now.Add(arcKeyLife), name
	return filepath.Join(a.path, name), nil
}

// use takes a key in once. All keys are compared, so that time tells nothing.
func (a *arc) use(given string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := ""
	for key, ends := range a.keys {
		if subtle.ConstantTimeCompare([]byte(key), []byte(given)) == 1 && time.Now().Before(ends) {
			found = key
		}
	}
	if found == "" {
		return false
	}
	a.drop(found)
	return true
}

// drop forgets a key and removes its file; a.mu is held.
func (a *arc) drop(key string) {
	_ = a.dir.Remove(a.name[key])
	delete(a.keys, key)
	delete(a.name, key)
}

// Close removes the key files that were never used.
func (a *arc) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.keys {
		a.drop(key)
	}
	return a.dir.Close()
}
