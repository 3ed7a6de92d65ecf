package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"riparo/appliance/audit"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

func newAudit(t *terminal) *cobra.Command {
	var to connection
	limit := 50
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			lines, err := client.AuditLines(c.Context(), 0, limit)
			if err != nil {
				return err
			}
			slices.Reverse(lines)
			return t.result(map[string]any{"lines": lines}, func(w io.Writer) {
				for _, line := range lines {
					printAudit(w, line)
				}
			})
		})
	}
	c := &cobra.Command{
		Use:     "audit [list | verify | export FILE]",
		GroupID: groupAround,
		Short:   "Read, verify and export the record of who did what",
		RunE:    list,
	}
	to.add(c)
	c.Flags().IntVar(&limit, "limit", 50, "how many lines, at most 1000")
	newest := &cobra.Command{Use: "list", Short: "Print the newest lines, the newest last", Args: arguments(), RunE: list}
	newest.Flags().IntVar(&limit, "limit", 50, "how many lines, at most 1000")
	c.AddCommand(newest, newVerifyAudit(t, &to), &cobra.Command{
		Use:   "export FILE",
		Short: "Write the whole audit log as JSON lines into a new file; - is the standard output",
		Args:  arguments("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error { return exportAudit(c, t, client, args[0]) })
		},
	})
	return c
}

func printAudit(w io.Writer, l store.AuditLine) {
	detail := l.Detail
	if l.Before != "" || l.After != "" {
		detail = strings.TrimSpace(l.Before + " -> " + l.After)
	}
	if l.Of > 0 {
		detail = strings.TrimSpace(fmt.Sprintf("of %d %s", l.Of, detail))
	}
	fmt.Fprintf(w, "%s  %-6d %-8s %-20s %-15s %s %s\n", clock(l.Time), l.Sequence, l.Outcome, orDash(l.Actor), orDash(l.Address), strings.TrimSpace(l.Action+" "+l.Object), detail)
}

func exportAudit(c *cobra.Command, t *terminal, client *api.Client, name string) (err error) {
	if name == "-" {
		return client.ExportAudit(c.Context(), t.out)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return replication.Stopf("export.file", "choose a file that does not exist, in a folder that you may write to", "the export cannot be written: %w", err)
	}
	err = client.ExportAudit(c.Context(), f)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		os.Remove(name) // a part of a log must not be taken for the whole
		return err
	}
	return t.result(map[string]any{"file": name}, func(w io.Writer) { fmt.Fprintf(w, "the audit log is in %s\n", name) })
}

func newVerifyAudit(t *terminal, to *connection) *cobra.Command {
	var export string
	c := &cobra.Command{
		Use:   "verify [--export FILE]",
		Short: "Verify the chain of the audit log; exit 1 when a line was changed or is missing",
		Long: `Verify the chain of the audit log. With --export, every line of an export that was kept
elsewhere must also be the same line in the log: that finds a log which somebody with the key of the
appliance wrote anew, and an older state that was put back.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				verdict := auditVerdict{}
				var err error
				if verdict.AuditReport, err = client.VerifyAudit(c.Context()); err != nil {
					return err
				}
				if export != "" {
					if verdict.Export, err = compareExport(c, client, export); err != nil {
						return err
					}
				}
				return t.verdict(verdict)
			})
		},
	}
	c.Flags().StringVar(&export, "export", "", "an export that was kept elsewhere")
	return c
}

// auditVerdict is the result of a verification as JSON.
type auditVerdict struct {
	store.AuditReport
	Export *store.AuditReport `json:"export,omitempty"`
}

func compareExport(c *cobra.Command, client *api.Client, name string) (*store.AuditReport, error) {
	kept, err := os.ReadFile(name)
	if err != nil {
		return nil, replication.Stopf("export.file", "give the export that was kept", "the export cannot be read: %w", err)
	}
	var now bytes.Buffer
	if err := client.ExportAudit(c.Context(), &now); err != nil {
		return nil, err
	}
	r, err := audit.Compare(bytes.NewReader(kept), &now)
	if err != nil {
		return nil, replication.Stopf("export.unusable", "give an export as it was written", "%s: %w", name, err)
	}
	return &r, nil
}

// verdict prints what a verification found. Anything found is a failure.
func (t *terminal) verdict(v auditVerdict) error {
	findings := v.Findings
	if v.Export != nil {
		findings = append(slices.Clone(findings), v.Export.Findings...)
	}
	if err := t.result(v, func(w io.Writer) {
		for _, f := range findings {
			fmt.Fprintln(w, f)
		}
		if len(findings) == 0 {
			fmt.Fprintf(w, "the audit log is sound: %d lines, %d to %d\n", v.Lines, v.First, v.Last)
		}
	}); err != nil {
		return err
	}
	if len(findings) > 0 {
		return &saidError{reason: "the audit log is not as it was written"}
	}
	return nil
}
