package main

import (
	"github.com/spf13/cobra"

	"riparo/web"
)

func newMonitoring(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:     "monitoring",
		GroupID: groupAppliance,
		Short:   "Print the alert rules for Prometheus or the dashboard for Grafana",
	}
	for _, f := range []struct{ use, file, short string }{
		{"rules", "rules.yml", "Print the alert rules for Prometheus"}, {"dashboard", "dashboard.json", "Print the dashboard for Grafana"},
	} {
		c.AddCommand(&cobra.Command{Use: f.use, Short: f.short, Args: arguments(), RunE: func(*cobra.Command, []string) error {
			text, err := web.Monitoring(f.file)
			if err != nil {
				return err
			}
			_, err = t.out.Write(text)
			return err
		}})
	}
	return c
}
