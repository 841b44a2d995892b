package server

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/hawser/hawser/internal/az"
)

// systemRoots are the files in which systems keep the roots they trust: Debian
// and Alpine, Fedora, openSUSE, older Red Hat, macOS and the BSDs. The first
// that is there is used.
var systemRoots = [...]string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/cert.pem",
}

// maxRoots bounds what is read of a file of roots; Mozilla's set is 0.2 MB.
const maxRoots = 8 << 20

// writeCAFiles keeps the two files in step that clients are pointed at: caFile
// with the given certificates (NODE_EXTRA_CA_CERTS adds it to its own), and
// bundleFile with the system's roots before them, for the variables that
// replace the whole set (SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE).
//
// rootsFile is the system's file, or "" to find it. full is false when there is
// none (Windows): the bundle then holds the plane's certificates only, and the
// caller must say so.
func writeCAFiles(caFile, bundleFile, rootsFile string, certs ...[]byte) (full bool, err error) {
	var own []byte
	for _, der := range certs {
		own = append(own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	roots, err := readRoots(rootsFile)
	if err != nil {
		return false, caFileError(err)
	}
	if err := writeIfChanged(caFile, own); err != nil {
		return false, caFileError(err)
	}
	if err := writeIfChanged(bundleFile, append(roots, own...)); err != nil {
		return false, caFileError(err)
	}
	return len(roots) > 0, nil
}

func caFileError(err error) error {
	return az.Errorf(az.Unavailable, "", "the files with the certificate authority could not be written; look at the data directory's rights and space").Because(err)
}

// readRoots returns the system's roots without comments, and without roots of
// planes: an old plane's root must not stay trusted by way of the environment.
func readRoots(path string) ([]byte, error) {
	if path == "" {
		for _, p := range systemRoots {
			if _, err := os.Stat(p); err == nil {
				path = p
				break
			}
		}
	}
	if path == "" {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxRoots {
		return nil, errors.New(path + " is too large for a file of root certificates")
	}
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(rest))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out, nil
		}
		if block.Type == "CERTIFICATE" && !bytes.Contains(block.Bytes, []byte(caMark)) {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
}

// writeIfChanged puts data at path in one step, for everybody to read; a file
// that holds it already is not touched.
func writeIfChanged(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".ca-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be flushed there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
