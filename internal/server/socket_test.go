package server

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hawser/hawser/client"
)

// A data directory may lie deeper than a socket's path can say.
func TestDeepDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Start(context.Background(), Config{Data: dir, Listen: "127.0.0.1:0", PG: "off", MySQL: "off", TDS: "off", Redis: "off", Hosts: "off", IMDS: "off"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Open(client.Options{Data: dir, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var status map[string]any
	if err := c.Get(context.Background(), "/providers/Hawser.Status/status", &status); err != nil || status["readiness"] != "ready" {
		t.Errorf("%v %v", status["readiness"], err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(s.socket)); !os.IsNotExist(err) {
		t.Errorf("the socket's directory stayed: %v", err)
	}
}
