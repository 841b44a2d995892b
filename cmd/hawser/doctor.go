package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

// finding is one line of the doctor's report.
type finding struct {
	Way    string `json:"way"`
	Check  string `json:"check"`
	Result string `json:"result"` // ok, missing, off
	Advice string `json:"advice,omitempty"`
}

func (a *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Test each way in which clients find the plane, and say what is missing", Args: cobra.NoArgs, Example: "  hawser doctor",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			found := examine(ctx, c)
			var rows [][]string
			broken := 0
			for _, f := range found {
				if f.Result == "missing" {
					broken++
				}
				rows = append(rows, []string{f.Result, f.Way, f.Check, f.Advice})
			}
			if err := a.show(found, []string{"RESULT", "WAY", "CHECK", "WHAT TO DO"}, rows); err != nil {
				return err
			}
			if broken > 0 {
				return fmt.Errorf("%d checks found something missing", broken)
			}
			return nil
		}),
	}
}

func examine(ctx context.Context, c *client.Client) []finding {
	p := c.Plane()
	var out []finding
	add := func(way, check string, err error, advice string) {
		f := finding{Way: way, Check: check, Result: "ok"}
		if err != nil {
			f.Result, f.Advice = "missing", advice
		}
		out = append(out, f)
	}
	var status map[string]any
	add("plane", "answers", c.Get(ctx, "/providers/Hawser.Status/status", &status), "start it: hawser up")
	roots, err := loadRoots(p.CAFile)
	add("plane", "CA file "+p.CAFile, err, "start the plane once with this data directory")
	login := "login." + p.Domain
	names := resolves(ctx, login)
	add("own names", login+" resolves", names, "run the plane with --hosts auto as a user who may write the hosts file, or install libnss-myhostname; hawser run works without")
	if names == nil {
		add("own names, alias tenant", "adfs discovery", fetch(ctx, roots, "", "https://"+hostOf(p.Authority)+"/adfs/.well-known/openid-configuration"), "check --listen and --domain of the plane")
		add("own names, tenant GUID", "v2.0 discovery", fetch(ctx, roots, "", "https://"+hostOf(p.Authority)+"/"+p.TenantID+"/v2.0/.well-known/openid-configuration"), "check --listen and --domain of the plane")
	} else {
		// The names are unknown here, so dial the listener as the proxy of hawser run does.
		add("hawser run (proxy)", "adfs discovery by way of the listener", fetch(ctx, roots, p.Listen, "https://"+hostOf(p.Authority)+"/adfs/.well-known/openid-configuration"), "check --listen of the plane")
	}
	for _, k := range serverKinds {
		if addr := p.Gateways[k.door]; addr != "" {
			add("gateway "+k.door, addr+" accepts "+k.what+" connections", dial(ctx, addr), "check the plane's log: the gateway does not listen")
		}
	}
	out = append(out, examineServers(ctx, c)...)
	if !p.AzureNames {
		out = append(out, finding{"Azure's names", "plane answers as them", "off", "hawser run --azure-names needs nothing; for a whole machine: hawser up --azure-names --listen 127.0.0.1:443"})
	} else {
		add("Azure's names", "login.microsoftonline.com leads here", leadsHere(ctx, "login.microsoftonline.com", p.Listen), "the hosts file does not name the plane: run hawser up with --hosts auto as root")
	}
	for _, v := range []string{"AZURE_CLIENT_SECRET", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"} {
		if os.Getenv(v) != "" {
			add("environment", v+" is not set", errors.New("set"), "unset it: SDKs that see it choose another way than the app's identity (hawser run removes it)")
		}
	}
	return out
}

// examineServers looks for servers that apps cannot reach: no door, or nothing
// behind it.
func examineServers(ctx context.Context, c *client.Client) (out []finding) {
	p := c.Plane()
	for _, k := range serverKinds {
		all, err := client.List[resource](ctx, c, "/subscriptions/"+p.SubscriptionID+"/providers/"+k.typ)
		if err != nil {
			continue // the caller may not read them, or the plane does not answer, which is said above
		}
		for _, r := range all {
			f := finding{Way: k.what + " server " + r.Name, Check: "has a gateway and a real server behind it", Result: "ok"}
			switch {
			case p.Gateways[k.door] == "":
				f.Result, f.Advice = "missing", "the plane runs without this gateway: hawser up --"+k.door+" ADDRESS"
			case r.Properties["hawser"] == nil:
				f.Result, f.Advice = "off", "nothing stands behind it: hawser attach "+r.Name+" "+k.schemes[0]+"://…"
			}
			out = append(out, f)
		}
	}
	return out
}

func hostOf(u string) string {
	req, err := http.NewRequest(http.MethodGet, u, nil)
	if err != nil {
		return u
	}
	return req.URL.Host
}

func loadRoots(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("no certificate in the file")
	}
	return pool, nil
}

func fetch(ctx context.Context, roots *x509.CertPool, dialTo, url string) error {
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer t.CloseIdleConnections()
	if dialTo != "" {
		t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, dialTo)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: t, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func dial(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// leadsHere checks that an Azure name resolves to where the plane listens.
func leadsHere(ctx context.Context, name, listen string) error {
	want, _, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	got, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	for _, g := range got {
		if ip := net.ParseIP(g); g != want && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("%s is %s", name, g)
		}
	}
	return nil
}
