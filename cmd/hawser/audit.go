package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hawser/hawser/client"
)

type auditRecord struct {
	Seq         int64  `json:"seq"`
	At          string `json:"at"`
	Plane       string `json:"plane"`
	Kind        string `json:"kind"`
	Who         string `json:"who"`
	Name        string `json:"name"`
	Action      string `json:"action"`
	Where       string `json:"where"`
	Outcome     string `json:"outcome"`
	Assignment  string `json:"assignment"`
	Role        string `json:"role"`
	Reason      string `json:"reason"`
	Correlation string `json:"correlation"`
}

func (a *cli) auditCommand() *cobra.Command {
	var follow, verify bool
	var last int64
	cmd := &cobra.Command{
		Use: "audit", Short: "Read the audit log, or verify its chain", Args: cobra.NoArgs,
		Example: "  hawser audit --follow\n  hawser audit --verify",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if verify {
				return a.auditVerify(ctx, c)
			}
			return a.auditRead(ctx, c, last, follow)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new records")
	cmd.Flags().BoolVar(&verify, "verify", false, "check every record's place in the chain")
	cmd.Flags().Int64Var(&last, "last", 0, "only this many of the newest records (0: all)")
	return cmd
}

func (a *cli) auditVerify(ctx context.Context, c *client.Client) error {
	var v struct {
		Records int64  `json:"records"`
		Last    string `json:"last"`
		Fault   string `json:"fault,omitempty"`
	}
	if err := c.Do(ctx, "POST", "/providers/Hawser.Audit/verify", nil, &v); err != nil {
		return err
	}
	result := "the chain is whole"
	if v.Fault != "" {
		result = v.Fault
	}
	if err := a.fields(v, "records", fmt.Sprint(v.Records), "newest", v.Last, "result", result); err != nil {
		return err
	}
	if v.Fault != "" {
		return fmt.Errorf("the audit log was tampered with or damaged: %s", v.Fault)
	}
	return nil
}

// auditRead prints records as they come: the log may be long.
func (a *cli) auditRead(ctx context.Context, c *client.Client, last int64, follow bool) error {
	after := int64(0)
	if last > 0 {
		after = -last
	}
	printed := 0
	for {
		var page struct {
			Value []json.RawMessage `json:"value"`
			Next  int64             `json:"next"`
			More  bool              `json:"more"`
		}
		if err := c.Do(ctx, "GET", fmt.Sprintf("/providers/Hawser.Audit/records?after=%d", after), nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Value {
			if err := a.printRecord(raw, &printed); err != nil {
				return err
			}
		}
		after = page.Next
		if page.More {
			continue
		}
		if !follow {
			if a.output == "json" {
				a.closeArray(printed)
			}
			return nil
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *cli) closeArray(printed int) {
	if printed == 0 {
		fmt.Print("[")
	}
	fmt.Println("]")
}

func (a *cli) printRecord(raw json.RawMessage, printed *int) error {
	defer func() { *printed++ }()
	if a.output == "json" {
		sep := ",\n"
		if *printed == 0 {
			sep = "["
		}
		_, err := fmt.Fprintf(os.Stdout, "%s%s", sep, raw)
		return err
	}
	var r auditRecord
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	who := r.Name
	if who == "" {
		who = r.Who
	}
	why := r.Role
	if r.Outcome != "allowed" {
		why = r.Reason
	}
	row := clean([]string{r.At, r.Outcome, who, r.Action, r.Where, why})
	if a.output == "tsv" {
		fmt.Printf("%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Seq, row[0], row[1], row[2], row[3], row[4], row[5])
		return nil
	}
	fmt.Printf("%s  %-7s  %-20s  %s  %s  (%s)\n", row[0], row[1], row[2], row[3], row[4], row[5])
	return nil
}
