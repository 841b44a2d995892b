package seal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// CredentialName is the systemd credential a plane looks for.
const CredentialName = "hawser-kek"

// maxKEKFile bounds what is read of a KEK file: 64 hex digits and white space.
const maxKEKFile = 256

// KEKFromFile reads a KEK from a file that nobody but its owner may read. With
// create, a file that is not there is made with a random key: written whole,
// flushed, and only then given its name, so that a crash leaves the key or no
// file. Of two makers at once, both end with the same key. Create only where
// nothing is wrapped yet: a new key opens no old data.
func KEKFromFile(path string, create bool) (*KEK, error) {
	k, err := readKEKFile(path, ownerOnly)
	if !create || !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := makeKEKFile(path); err != nil {
		return nil, fmt.Errorf("seal: making the key-encryption key file: %w", err)
	}
	return readKEKFile(path, ownerOnly)
}

// KEKFromCredential reads the systemd credential name from dir, which is
// $CREDENTIALS_DIRECTORY. systemd keeps others out by the directory and lets
// the service's user in by an ACL, whose mask looks like a group's right, so
// only a file that the world may read is refused.
func KEKFromCredential(dir, name string) (*KEK, error) {
	if dir == "" {
		return nil, errors.New("seal: no credentials directory: set LoadCredential= or LoadCredentialEncrypted= in the unit")
	}
	if name == "" || name != filepath.Base(name) || name == ".." || name == "." {
		return nil, fmt.Errorf("seal: %q is not the name of a credential", name)
	}
	return readKEKFile(filepath.Join(dir, name), notWorld)
}

func readKEKFile(path string, access func(fs.FileInfo) error) (*KEK, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat() // of the open file: nobody can swap it in between
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("seal: %s is not a regular file", path)
	}
	if err := access(info); err != nil {
		return nil, fmt.Errorf("seal: %s %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKEKFile+1))
	defer Wipe(b)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	k, err := parseKEKFile(b)
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, path)
	}
	return k, nil
}

// parseKEKFile takes what KEKFromEnv takes, or 32 raw bytes. Raw bytes that
// are all printable are not a random key but somebody's text, and refused.
func parseKEKFile(b []byte) (*KEK, error) {
	printable := func(r rune) bool { return r >= 0x20 && r < 0x7f || r == '\n' || r == '\r' || r == '\t' }
	if len(b) == KEKLen && strings.IndexFunc(string(b), func(r rune) bool { return !printable(r) }) >= 0 {
		return newKEK(b)
	}
	return KEKFromEnv(string(b))
}

func makeKEKFile(path string) error {
	k, err := NewKEK()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".kek-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	text := base64.StdEncoding.AppendEncode(nil, k.secret().material[:])
	defer Wipe(text)
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := publish(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// publish gives the finished file its name. A hard link fails when the name is
// taken, which is what decides between two makers; where the file system has
// no links, renaming does, and the plane's lock on its data keeps makers apart.
func publish(tmp, path string) error {
	err := os.Link(tmp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return os.Rename(tmp, path)
}
