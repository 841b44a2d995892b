package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// startPart measures what a person waits for.
func startPart(b *bench) error {
	if err := b.planeStarts(); err != nil {
		return err
	}
	return b.appStarts()
}

// turn starts a plane, waits for a first token, and stops it.
func (b *bench) turn(name string) (time.Duration, error) {
	began := time.Now()
	p, err := b.startPlane(name)
	if err != nil {
		return 0, err
	}
	_, err = p.adminToken(vaultResource)
	took := time.Since(began)
	p.client.Close()
	p.server.stop()
	return took, err
}

func (b *bench) planeStarts() error {
	rounds := 4 * b.rounds
	var first, again, bare []float64
	for i := range rounds {
		if i < b.rounds { // each makes an RSA key and directories
			d, err := b.turn("new" + strconv.Itoa(i))
			if err != nil {
				return err
			}
			first = append(first, float64(d.Microseconds()))
		}
		d, err := b.turn("new0")
		if err != nil {
			return err
		}
		again = append(again, float64(d.Microseconds()))
		if d, err = b.bareStart(); err != nil {
			return err
		}
		bare = append(bare, float64(d.Microseconds()))
	}
	o, l := median(again), median(bare)
	b.add(row{What: "plane start to first token, existing data", Ours: span(o), Limit: "bare net/http " + span(l), Ratio: o / l, Target: "≤ 1.5, ≤ 50 ms",
		Peer: "OpenBao 100–123 ms, not run here"}, o/l <= 1.5 && o <= 50_000)
	b.add(row{What: "first start ever, to first token", Ours: span(median(first)), Target: "≤ 500 ms"}, median(first) <= 500_000)
	return nil
}

func (b *bench) bareStart() (time.Duration, error) {
	began := time.Now()
	s, err := serve(b.floor, "bare")
	if err != nil {
		return 0, err
	}
	defer s.stop()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + s.ready)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return time.Since(began), err
}

// references is how many secrets the app's settings name.
const references = 20

func (b *bench) appStarts() error {
	p, err := b.startPlane("apps")
	if err != nil {
		return err
	}
	if _, _, err = p.makeVault(); err != nil {
		return err
	}
	set := []string{"app", "set", "web"}
	plain := []string{"env"}
	commands := [][]string{{"app", "create", "web"}, {"role", "assign", "Key Vault Secrets User", "--to", "web", "--scope", "kv1"}}
	for i := range references {
		name := secretName(i)
		commands = append(commands, []string{"secret", "set", "kv1", name, secretValue})
		set = append(set, fmt.Sprintf("S%d=@Microsoft.KeyVault(VaultName=kv1;SecretName=%s)", i, name))
		plain = append(plain, fmt.Sprintf("S%d=%s", i, secretValue))
	}
	if err := p.each(append(commands, set)...); err != nil {
		return err
	}
	if out, err := b.output(b.hawser, "run", "web", "--data", p.dir, "--", "printenv", "S19"); err != nil || out != secretValue {
		return fmt.Errorf("the reference did not reach the app: %q, %w", out, err)
	}
	run := []string{b.hawser, "run", "web", "--data", p.dir, "--", "/bin/echo", "here"}
	var ours, cpu, limit []float64
	for range 10 * b.rounds {
		d, used, err := firstWord(run)
		if err != nil {
			return err
		}
		ours, cpu = append(ours, float64(d.Microseconds())), append(cpu, float64(used.Microseconds()))
		if d, _, err = firstWord(append(plain, "/bin/echo", "here")); err != nil {
			return err
		}
		limit = append(limit, float64(d.Microseconds()))
	}
	o, l := median(ours), median(limit)
	b.add(row{What: fmt.Sprintf("hawser run, %d references, to the child's word", references), Ours: fmt.Sprintf("%s, %s CPU", span(o), span(median(cpu))), Limit: "env " + span(l), Ratio: o / l,
		Target: "≤ 8 ms, ≤ 5 ×", Peer: "envconsul 47 ms, vault-env 55 ms, not run here"}, o <= 8000 && o/l <= 5)
	return nil
}

// firstWord is the time from a program's start to the first byte it, or what
// it started, prints; and the processor time of all of it.
func firstWord(argv []string) (took, used time.Duration, err error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(os.TempDir())}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	r := bufio.NewReader(out)
	_, err = r.ReadByte()
	took = time.Since(began)
	if err != nil {
		return 0, 0, err
	}
	_, _ = io.Copy(io.Discard, r)
	err = cmd.Wait()
	return took, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
}
