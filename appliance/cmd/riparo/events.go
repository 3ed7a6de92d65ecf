package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

func newEvents(t *terminal) *cobra.Command {
	var to connection
	var filter api.EventFilter
	var machine string
	var follow bool
	c := &cobra.Command{
		Use:     "events [--machine MACHINE] [--severity SEVERITY] [--limit N] [--follow]",
		GroupID: groupAround,
		Short:   "Print the event log, the newest last",
		Long: `Print the event log, the newest last. With --follow new events are printed as they happen,
until Ctrl-C; as JSON they are then one document on each line.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if follow && filter.Before != "" {
				return usagef(c, "--follow and --before do not go together")
			}
			return to.reach(func(client *api.Client) error {
				if machine != "" {
					m, err := machineNamed(c.Context(), client, machine)
					if err != nil {
						return err
					}
					filter.Machine = m.ID
				}
				events, err := client.Events(c.Context(), filter)
				if err != nil {
					return err
				}
				slices.Reverse(events)
				if follow {
					return t.followEvents(c.Context(), client, filter, events)
				}
				return t.result(map[string]any{"events": events}, func(w io.Writer) {
					for _, e := range events {
						printEvent(w, e)
					}
				})
			})
		},
	}
	to.add(c)
	c.Flags().StringVar(&machine, "machine", "", "only events of this machine")
	c.Flags().StringVar(&filter.Severity, "severity", "", "only events of this severity: info, warning, critical")
	c.Flags().IntVar(&filter.Limit, "limit", 50, "how many, at most 1000")
	c.Flags().StringVar(&filter.Before, "before", "", "only events older than this one")
	c.Flags().BoolVar(&follow, "follow", false, "go on with new events until Ctrl-C")
	return c
}

func printEvent(w io.Writer, e store.Event) {
	text := strings.TrimPrefix(e.Text, e.Name+": ") // the name stands before it
	fmt.Fprintf(w, "%s  %-8s  %-12s  %s\n", clock(e.Time), e.Severity, orDash(e.Name), text)
	if e.Action != "" {
		fmt.Fprintf(w, "%21s%s\n", "", "remedy: "+e.Action)
	}
}

// againAfter: a daemon that is started again is back within seconds.
const againAfter = 2 * time.Second

// followEvents prints the events there are and those that come. A connection that
// was lost is made again and misses nothing.
func (t *terminal) followEvents(ctx context.Context, client *api.Client, filter api.EventFilter, events []store.Event) error {
	tell := func(e store.Event) error {
		if !t.wantsJSON() {
			printEvent(t.out, e)
			return nil
		}
		return json.NewEncoder(t.out).Encode(e)
	}
	for _, e := range events {
		if err := tell(e); err != nil {
			return err
		}
	}
	after, err := newestEvent(ctx, client, events)
	if err != nil {
		return err
	}
	away := false
	for {
		err := client.Follow(ctx, after, func(n api.News) error {
			away = false
			if n.Event == nil {
				return nil
			}
			after = n.Event.ID
			if filter.Machine != "" && n.Event.Machine != string(filter.Machine) || filter.Severity != "" && n.Event.Severity != filter.Severity {
				return nil
			}
			return tell(*n.Event)
		})
		switch {
		case ctx.Err() != nil:
			return nil // it is how following ends
		case err != nil && replication.AsProblem(err).Code != "client.unreachable":
			return err
		}
		if !away { // said once, however long it lasts
			t.remark("%s; trying again", replication.AsProblem(err).Cause)
			away = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(againAfter):
		}
	}
}

// newestEvent is the ID after which following begins: of the last event printed,
// or of the newest there is when the filter let none through.
func newestEvent(ctx context.Context, client *api.Client, printed []store.Event) (string, error) {
	if len(printed) > 0 {
		return printed[len(printed)-1].ID, nil
	}
	newest, err := client.Events(ctx, api.EventFilter{Limit: 1})
	if err != nil || len(newest) == 0 {
		return "", err
	}
	return newest[0].ID, nil
}
