package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

func newJobs(t *terminal) *cobra.Command {
	var to connection
	list, addList := listJobs(t, &to)
	c := &cobra.Command{
		Use:     "jobs [list | show JOB | cancel JOB | restart JOB | answer JOB TEXT]",
		GroupID: groupAround,
		Short:   "List jobs, show or follow one, cancel, restart, answer",
		RunE:    list,
	}
	to.add(c)
	addList(c)
	sub, addSub := listJobs(t, &to)
	all := &cobra.Command{Use: "list [--state STATE] [--machine MACHINE] [--limit N]", Short: "List jobs, the newest first", Args: arguments(), RunE: sub}
	addSub(all)
	c.AddCommand(
		all,
		newShowJob(t, &to),
		newJobVerb(t, &to, "cancel JOB", "Cancel a job: what it did is taken back", []string{"JOB"}, "is being canceled",
			func(ctx context.Context, client *api.Client, args []string) error {
				return client.CancelJob(ctx, args[0])
			}),
		newJobVerb(t, &to, "restart JOB", "Go on with a failed job at the step that failed", []string{"JOB"}, "goes on",
			func(ctx context.Context, client *api.Client, args []string) error {
				return client.RestartJob(ctx, args[0])
			}),
		newJobVerb(t, &to, "answer JOB TEXT", "Answer what a job asks", []string{"JOB", "TEXT"}, "has its answer",
			func(ctx context.Context, client *api.Client, args []string) error {
				return client.AnswerJob(ctx, args[0], args[1])
			}),
	)
	return c
}

// listJobs is the list, which stands under its own word and under the group's.
func listJobs(t *terminal, to *connection) (list func(*cobra.Command, []string) error, flags func(*cobra.Command)) {
	var filter api.JobFilter
	var machine string
	list = func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			if machine != "" {
				m, err := machineNamed(c.Context(), client, machine)
				if err != nil {
					return err
				}
				filter.Machine = m.ID
			}
			jobs, err := client.Jobs(c.Context(), filter)
			if err != nil {
				return err
			}
			return t.result(map[string]any{"jobs": jobs}, func(w io.Writer) { printJobs(w, jobs) })
		})
	}
	flags = func(c *cobra.Command) {
		c.Flags().StringVar(&filter.State, "state", "", `only jobs in this state: "unfinished", "in progress", "waiting for input", "waiting to retry", "succeeded", "failed", "canceled"`)
		c.Flags().StringVar(&machine, "machine", "", "only jobs of this machine")
		c.Flags().IntVar(&filter.Limit, "limit", 50, "how many, at most 1000")
		c.Flags().StringVar(&filter.Before, "before", "", "only jobs older than this one")
	}
	return list, flags
}

func printJobs(w io.Writer, jobs []store.Job) {
	if len(jobs) == 0 {
		fmt.Fprintln(w, "There is no such job.")
		return
	}
	var rows []table.Row
	for _, j := range jobs {
		rows = append(rows, table.Row{j.ID, j.Kind, j.Name, j.State, stepsOf(j), clock(j.Created), tookOf(j), j.Actor})
	}
	tabulate(w, table.Row{"job", "what", "machine", "state", "steps", "begun", "took", "by"}, rows)
}

func stepsOf(j store.Job) string {
	done := 0
	for _, s := range j.Steps {
		if s.State == store.Succeeded || s.State == store.Skipped {
			done++
		}
	}
	return fmt.Sprintf("%d/%d", done, len(j.Steps))
}

func tookOf(j store.Job) string {
	if j.Ended.IsZero() {
		return "-"
	}
	return ageOf(j.Ended.Sub(j.Created))
}

func newShowJob(t *terminal, to *connection) *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use:   "show JOB [--follow]",
		Short: "Show one job with its steps and their evidence",
		Long: `Show one job with its steps and their evidence. With --follow its steps are told as they
go until it ends; the exit status is 1 when it did not succeed.`,
		Args: arguments("JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				job, err := client.Job(c.Context(), args[0])
				if err == nil && follow {
					job, err = t.follow(c.Context(), client, args[0])
				}
				if err != nil {
					return aboutJob(err, args[0])
				}
				return t.result(job, func(w io.Writer) { printJob(w, job) })
			})
		},
	}
	c.Flags().BoolVar(&follow, "follow", false, "tell its progress until it ends")
	return c
}

func printJob(w io.Writer, j store.Job) {
	rows := []table.Row{{"job", j.ID}, {"what", titleOf(j)}, {"state", j.State}, {"begun", clock(j.Created) + " by " + orDash(j.Actor)}}
	if !j.Ended.IsZero() {
		rows = append(rows, table.Row{"ended", clock(j.Ended) + ", after " + tookOf(j)})
	}
	if j.Question != "" && j.State == store.WaitingForInput {
		rows = append(rows, table.Row{"asks", j.Question})
	}
	if j.State == store.WaitingToRetry && j.Attempt > 0 {
		rows = append(rows, table.Row{"next try", fmt.Sprintf("%s, after %d", clock(j.NextTry), j.Attempt)})
	}
	printFields(w, rows)
	for i, s := range j.Steps {
		state := string(s.State)
		switch {
		case s.State.Ended():
			state = endOf(s)
		case s.State == store.InProgress:
			state += ", " + howFar(s)
		}
		fmt.Fprintf(w, "\n%d. %s: %s\n", i+1, s.Name, state)
		for _, f := range s.Evidence {
			fmt.Fprintf(w, "   %s: %s\n", f.Name, f.Value)
		}
	}
	if e := j.Error; e != nil {
		fmt.Fprintf(w, "\ncause: %s\n", e.Cause)
		if e.Effect != "" {
			fmt.Fprintf(w, "effect: %s\n", e.Effect)
		}
		if e.Action != "" {
			fmt.Fprintf(w, "remedy: %s\n", e.Action)
		}
	}
}

// newJobVerb is something to do with a job. Waited for, it is the job's end that
// counts; of a cancel that is that the job was canceled.
func newJobVerb(t *terminal, to *connection, use, short string, names []string, done string, do func(context.Context, *api.Client, []string) error) *cobra.Command {
	var w wait
	c := &cobra.Command{
		Use:   use + " [--wait]",
		Short: short,
		Args:  arguments(names...),
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				if err := do(c.Context(), client, args); err != nil {
					return aboutJob(err, args[0])
				}
				job, err := client.Job(c.Context(), args[0])
				if err == nil && w.on {
					job, err = t.follow(c.Context(), client, args[0])
					if c.Name() == "cancel" && job.State == store.Canceled {
						err = nil
					}
				}
				if err != nil {
					return err
				}
				return t.result(job, func(out io.Writer) {
					what := done
					if w.on {
						what = fmt.Sprintf("is %s after %s", job.State, tookOf(job))
					}
					fmt.Fprintf(out, "job %s (%s) %s\n", job.ID, titleOf(job), what)
				})
			})
		},
	}
	w.add(c)
	return c
}

// aboutJob tells where to look when a job is not there, or not in a state to do
// something with.
func aboutJob(err error, id string) error {
	p := *replication.AsProblem(err)
	switch {
	case errors.Is(err, store.ErrNotFound):
		p.Cause, p.Effect, p.Action = fmt.Sprintf("there is no job %q", id), "nothing was done", "`riparo jobs` lists them"
	case p.Action == "":
		p.Action = fmt.Sprintf("`riparo jobs show %s` tells how it stands", id)
	default:
		return err
	}
	return &p
}
