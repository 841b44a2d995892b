package run

import (
	"strconv"
	"testing"

	"github.com/hawser/hawser/client"
)

func TestFrontFlags(t *testing.T) {
	for name, c := range map[string]struct {
		f  Front
		ok bool
	}{
		"none":           {Front{}, true},
		"all":            {Front{Auth: true, Action: "401", Scope: "openid", Port: 8080, Upstream: "https://app.internal:443"}, true},
		"action alone":   {Front{Action: "401"}, false},
		"scope alone":    {Front{Scope: "openid"}, false},
		"port":           {Front{Port: 70000}, false},
		"address":        {Front{Upstream: "app:80"}, false},
		"without a port": {Front{Upstream: "https://app.internal"}, false},
	} {
		if err := c.f.check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrontPort(t *testing.T) {
	env := func(kv ...string) *client.Environment {
		e := &client.Environment{}
		for i := 0; i < len(kv); i += 2 {
			e.Variables = append(e.Variables, client.Variable{Name: kv[i], Value: kv[i+1]})
		}
		return e
	}
	for name, c := range map[string]struct {
		flag int
		env  *client.Environment
		want int
	}{
		"flag":         {8080, env("PORT", "1000"), 8080},
		"own setting":  {0, env("PORT", "1000", "WEBSITES_PORT", "2000"), 2000},
		"PORT":         {0, env("PORT", "1000"), 1000},
		"no number":    {0, env("PORT", "x"), 0},
		"no such port": {0, env("PORT", "70000"), 0},
	} {
		s := &session{Config: Config{Front: Front{Port: c.flag}}}
		got, err := s.frontPort(c.env)
		if err != nil || c.want != 0 && got != c.want || got < 1 || got > 65535 {
			t.Errorf("%s: %s, %v", name, strconv.Itoa(got), err)
		}
	}
	if Machine() == "" {
		t.Error("this machine has no name")
	}
}
