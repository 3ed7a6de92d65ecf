package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// asked is the result of a verb: what was asked of which machine, and the job that
// carries it out. The rest is known when the job was waited for.
type asked struct {
	Machine replication.MachineID `json:"machine"`
	Name    string                `json:"name"`
	Verb    lifecycle.Verb        `json:"verb"`
	Job     string                `json:"job,omitempty"` // empty: it was done at once
	State   store.JobState        `json:"state,omitempty"`
	Seconds float64               `json:"seconds,omitempty"`
	Steps   []store.Step          `json:"steps,omitempty"`
}

// ask asks for a verb on a machine that a person names.
func (t *terminal) ask(ctx context.Context, client *api.Client, word string, verb lifecycle.Verb, body api.VerbBody, w wait) error {
	m, err := machineNamed(ctx, client, word)
	if err != nil {
		return err
	}
	started, err := client.Ask(ctx, m.ID, verb, body)
	if err != nil {
		return refusal(err, m)
	}
	return t.asked(ctx, client, asked{Machine: m.ID, Name: m.Name, Verb: verb, Job: started.Job}, w)
}

// refusal tells with which flag, or after which look, a refused verb can be done.
func refusal(err error, m api.Machine) error {
	p := *replication.AsProblem(err)
	switch p.Code {
	case "confirm.missing":
		p.Action = fmt.Sprintf("repeat the machine's name: --confirm %s", m.Name)
	case "verb.refused":
		p.Action = fmt.Sprintf("%s `riparo machines show %s` tells what can be done now", p.Action, m.ID)
	default:
		return err
	}
	return &p
}

// asked prints what was asked, after its job has ended if that is waited for.
func (t *terminal) asked(ctx context.Context, client *api.Client, a asked, w wait) error {
	if a.Job != "" && w.on {
		job, err := t.follow(ctx, client, a.Job)
		if err != nil {
			return err
		}
		a.State, a.Seconds, a.Steps = job.State, seconds(job.Ended.Sub(job.Created)), job.Steps
	}
	return t.result(a, func(out io.Writer) {
		switch {
		case a.Job == "":
			fmt.Fprintf(out, "%s of %s: done\n", beginning(a.Verb), a.Name)
		case a.State == "":
			fmt.Fprintf(out, "%s of %s has begun: job %s\n", beginning(a.Verb), a.Name, a.Job)
			t.remark("`riparo jobs show %s --follow` shows how far it is.", a.Job)
		default:
			fmt.Fprintf(out, "%s of %s: done in %.1f s\n", beginning(a.Verb), a.Name, a.Seconds)
		}
	})
}

// beginning is a verb as a sentence begins with it: "Test failover".
func beginning(v lifecycle.Verb) string {
	words := lifecycle.Spoken(v)
	return strings.ToUpper(words[:1]) + words[1:]
}
