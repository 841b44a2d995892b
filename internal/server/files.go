package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/hawser/hawser/client"
	"github.com/hawser/hawser/internal/az"
)

// writeFileAtomic replaces a file whole: readers see the old or the new one.
func writeFileAtomic(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".hawser-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // fails after the rename: as it should
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// planeFile tells commands on this machine where the plane is; it holds no
// secret.
func writePlaneFile(dir string, p client.Plane) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(filepath.Join(dir, "plane.json"), append(b, '\n'), 0o600)
}

// Marks of the block that --hosts auto keeps. The data directory is named so
// that two planes on one machine keep a block each.
func hostsMarks(dir string) (begin, end string) {
	return "# hawser begin " + dir, "# hawser end " + dir
}

// keepHosts replaces the plane's block of a hosts file. With no names the
// block is taken out. What stands outside it is left as it is.
func keepHosts(path, dir, address string, names []string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := hostsMarks(dir)
	text := cutBlock(string(b), begin, end)
	if len(names) > 0 {
		sort.Strings(names)
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += begin + "\n"
		for _, n := range names {
			text += address + " " + n + "\n"
		}
		text += end + "\n"
	}
	if text == string(b) {
		return nil
	}
	// In place and not by rename: containers mount this file, and a mount
	// point cannot be replaced.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	return errors.Join(err, f.Truncate(int64(len(text))), f.Close())
}

func cutBlock(text, begin, end string) string {
	i := strings.Index(text, begin+"\n")
	if i < 0 {
		return text
	}
	body := text[i+len(begin)+1:]
	j := strings.Index(body, end+"\n")
	if k := strings.Index(body, "# hawser begin "); j >= 0 && (k < 0 || j < k) {
		return text[:i] + body[j+len(end)+1:]
	}
	// Somebody removed the end: what looks like our lines is ours, the rest is not.
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") || len(strings.Fields(line)) != 2 {
			break
		}
		body = body[len(line):]
	}
	return text[:i] + body
}

// suffixes are the values of suffixes{…} in plane.json: with the port where a
// URL needs one.
func suffixes(n az.Names) map[string]string {
	out := map[string]string{}
	for key, s := range map[string]az.Surface{"vault": az.SurfaceVault, "blob": az.SurfaceBlob, "documents": az.SurfaceDocuments, "sites": az.SurfaceSites} {
		out[key] = n.HostPort(n.Suffix(s))
	}
	for key, s := range map[string]az.Surface{"postgres": az.SurfacePostgres, "mysql": az.SurfaceMySQL, "sql": az.SurfaceSQL, "redis": az.SurfaceRedis} {
		out[key] = n.Suffix(s)
	}
	return out
}

// systemHosts is checked by tests through keepHosts on another file.
func describeHostsFailure(err error) string {
	return fmt.Sprintf("the plane's names are not in the hosts file (%v); name them in DNS, install libnss-myhostname, or use hawser run, whose proxy knows them", err)
}
