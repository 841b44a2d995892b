//go:build unix

package run

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the app: called as `BINARY app VERB …` it does what
// the verb says. The app's environment has none of the test's own variables,
// so the arguments carry everything.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "app" {
		os.Exit(app(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "supervise" {
		os.Exit(superviseMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func app(verb string, args []string) int {
	switch verb {
	case "env":
		_ = json.NewEncoder(os.Stdout).Encode(os.Environ())
	case "exit":
		n, _ := strconv.Atoi(args[0])
		return n
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "token":
		return appToken(args)
	case "nested": // a grandchild asks
		c := exec.Command(os.Args[0], append([]string{"app", "token"}, args...)...)
		c.Stdout = os.Stdout
		if c.Run() != nil {
			return 1
		}
	case "orphan": // the child ends, its child asks later
		c := exec.Command(os.Args[0], append([]string{"app", "orphaned"}, args...)...)
		c.Stdout = os.Stdout
		if c.Start() != nil {
			return 1
		}
		time.Sleep(20 * time.Millisecond)
	case "orphaned":
		for os.Getppid() != 1 && !strings.Contains(parentName(), "supervise") {
			time.Sleep(5 * time.Millisecond)
		}
		return appToken(args)
	case "serve":
		return appServe(args)
	case "get":
		return appGet(args)
	}
	return 0
}

func parentName() string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", os.Getppid()))
	return string(b)
}

// appToken asks for a token as an SDK does and prints status and body.
func appToken(args []string) int {
	req, _ := http.NewRequest(http.MethodGet, os.Getenv("IDENTITY_ENDPOINT")+"?api-version=2019-08-01&resource="+args[0], nil)
	req.Header.Set("X-IDENTITY-HEADER", os.Getenv("IDENTITY_HEADER"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	fmt.Printf("%d %s\n", resp.StatusCode, b)
	return 0
}

// appServe prints a line per event: its start with the value of a setting,
// and each signal. SIGTERM ends it, unless it is told to be stubborn.
func appServe(args []string) int {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGCONT)
	if len(args) > 0 && os.Getenv("FAIL") != "" {
		fmt.Println("failing")
		return 3
	}
	fmt.Println("start", os.Getpid(), os.Getenv("A"), os.Getenv("B"))
	for sig := range c {
		fmt.Println("signal", sig.(syscall.Signal))
		if sig == syscall.SIGTERM && !(len(args) > 0 && args[0] == "stubborn") {
			return 7
		}
	}
	return 0
}

// appGet fetches addresses through whatever proxy and CA the environment
// names.
func appGet(args []string) int {
	for _, u := range args {
		resp, err := http.Get(u)
		if err != nil {
			fmt.Println("error", err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Println(resp.StatusCode, strings.TrimSpace(string(b)))
	}
	return 0
}
