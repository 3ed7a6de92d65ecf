package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/web/api"
)

// connection says which appliance a verb talks to, as whom, and how it is known.
// Flags come before the environment.
type connection struct {
	url, token, ca string
}

// Where a connection is found when no flag says it.
const (
	envURL   = "RIPARO_URL"
	envToken = "RIPARO_TOKEN"
	envCA    = "RIPARO_CA"
)

// add gives the flags to a verb and to the verbs below it.
func (n *connection) add(c *cobra.Command) {
	n.addPlace(c)
	c.PersistentFlags().StringVar(&n.token, "token", "", "API token (better: "+envToken+", which other users of this computer do not see)")
}

// addPlace gives those that say where the appliance is, not who asks.
func (n *connection) addPlace(c *cobra.Command) {
	c.PersistentFlags().StringVar(&n.url, "url", "", "address of the appliance, https://HOST:PORT (or "+envURL+")")
	c.PersistentFlags().StringVar(&n.ca, "ca", "", "how it is known: a PEM file, or its certificate's SHA-256 fingerprint (or "+envCA+"); default: the authorities of this computer")
}

// reach opens a client, hands it to work and lets go of it.
func (n *connection) reach(work func(*api.Client) error) error {
	token := cmp.Or(n.token, os.Getenv(envToken))
	if token == "" && cmp.Or(n.url, os.Getenv(envURL)) != "" {
		return &replication.Problem{Code: "client.token", Cause: "no API token was given", Effect: "nothing was asked of the appliance",
			Action: "give one with " + envToken + " or --token; `riparo claim`, `riparo tokens create` and the console's Settings make them", Remedy: replication.Stop}
	}
	return n.reachAs(token, work)
}

// reachAs is reach with another token, or none.
func (n *connection) reachAs(token string, work func(*api.Client) error) error {
	address := cmp.Or(n.url, os.Getenv(envURL))
	if address == "" {
		return &replication.Problem{Code: "client.url", Cause: "it was not said where the appliance is", Effect: "nothing was asked of it",
			Action: "give its address, https://HOST:PORT, with --url or " + envURL + "; the daemon prints it when it starts", Remedy: replication.Stop}
	}
	trust, err := trustIn(cmp.Or(n.ca, os.Getenv(envCA)))
	if err != nil {
		return err
	}
	client, err := api.New(address, token, trust)
	if err != nil {
		return err
	}
	defer client.Close()
	return completed(work(client))
}

// trustIn gives what a client takes: a fingerprint as it is, or what a file holds.
func trustIn(ca string) (string, error) {
	if ca == "" || isFingerprint(ca) {
		return ca, nil
	}
	refused := &replication.Problem{Code: "client.trust", Effect: "nothing was asked of the appliance", Remedy: replication.Stop,
		Action: "give a file with PEM certificates or the fingerprint that the daemon printed, 64 hexadecimal digits (--ca or " + envCA + ")"}
	text, err := os.ReadFile(ca)
	if err != nil {
		refused.Cause, refused.Err = fmt.Sprintf("%q is no SHA-256 fingerprint, and no file that can be read: %v", ca, err), err
		return "", refused
	}
	if !strings.Contains(string(text), "-----BEGIN CERTIFICATE-----") {
		refused.Cause = fmt.Sprintf("the file %s holds no certificate", ca)
		return "", refused
	}
	return string(text), nil
}

func isFingerprint(text string) bool {
	sum, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	return err == nil && len(sum) == sha256.Size
}

// completed adds to a problem of the API what only the command line knows: which
// flag or verb mends it.
func completed(err error) error {
	if _, ok := errors.AsType[*replication.Problem](err); !ok {
		return err
	}
	p := *replication.AsProblem(err)
	switch p.Code {
	case "api.anonymous", "token.refused":
		p.Action = "give a good token with " + envToken + " or --token; `riparo tokens create` and the console's Settings make them"
	case "access.denied":
		p.Action = "use a token of a role that may do this, or ask an administrator to do it"
	case "setup.token":
		p.Action += "; an appliance that has an administrator cannot be claimed again"
	case "request.invalid":
		// Fields of a request are flags here.
		p.Cause = strings.NewReplacer("validation failed; ", "", "body.", "", "query.", "", "path.", "").Replace(p.Cause)
		p.Action = cmp.Or(p.Action, "correct that and give the command again")
	case "internal":
		p.Effect = cmp.Or(p.Effect, "it is not known whether it was done")
		p.Action = cmp.Or(p.Action, "see the log of the daemon, in the folder logs of its data folder")
	}
	if p.Remedy == replication.Stop { // refused, before anything was begun
		p.Effect = cmp.Or(p.Effect, "nothing was done")
	}
	return &p
}

// wait is the flag of verbs that a job carries out.
type wait struct{ on bool }

func (w *wait) add(c *cobra.Command) {
	c.Flags().BoolVar(&w.on, "wait", false, "wait for the end of the job; exit status 1 when it did not succeed")
}

// required judges that flags have values.
func required(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := c.Flag(name); f.Value.String() == "" {
			return usagef(c, "--%s %s is missing", name, strings.ToUpper(cmp.Or(placeholderOf(c, name), "VALUE")))
		}
	}
	return nil
}

// placeholderOf is what Use calls the value of a flag.
func placeholderOf(c *cobra.Command, flag string) string {
	_, after, _ := strings.Cut(c.Use, "--"+flag+" ")
	value, _, _ := strings.Cut(after, " ")
	return strings.Trim(value, "[]")
}

// named finds what a person means: an ID, else a name, else a name in other
// letters. What does not decide is an error that lists who could be meant.
func named[T any](kind, word string, all []T, id, name, describe func(T) string) (found T, err error) {
	for _, means := range []func(T) bool{
		func(v T) bool { return id(v) == word },
		func(v T) bool { return name(v) == word },
		func(v T) bool { return strings.EqualFold(name(v), word) },
	} {
		var hits []T
		for _, v := range all {
			if means(v) {
				hits = append(hits, v)
			}
		}
		switch {
		case len(hits) == 1:
			return hits[0], nil
		case len(hits) > 1:
			return found, &replication.Problem{Code: "name.ambiguous", Cause: fmt.Sprintf("%q could mean each of %d: %s", word, len(hits), listed(hits, describe)),
				Effect: "nothing was done", Action: "name it by its ID", Remedy: replication.Stop}
		}
	}
	there := "there is none yet"
	if len(all) > 0 {
		there = "there are " + listed(all, describe)
	}
	return found, &replication.Problem{Code: "name.unknown", Cause: fmt.Sprintf("there is no %s %q", kind, word), Effect: "nothing was done",
		Action: "check the name; " + there, Remedy: replication.Stop}
}

// maxListed is enough to see what names are like.
const maxListed = 20

func listed[T any](all []T, describe func(T) string) string {
	var words []string
	for i, v := range all {
		if i == maxListed {
			words = append(words, "…")
			break
		}
		words = append(words, describe(v))
	}
	return strings.Join(words, ", ")
}

// machineNamed finds a protected machine by ID or name.
func machineNamed(ctx context.Context, client *api.Client, word string) (api.Machine, error) {
	all, err := client.Machines(ctx)
	if err != nil {
		return api.Machine{}, err
	}
	return named("protected machine", word, all,
		func(m api.Machine) string { return string(m.ID) },
		func(m api.Machine) string { return m.Name },
		func(m api.Machine) string { return fmt.Sprintf("%s (%s, of %s)", m.Name, m.ID, m.Source.Site) })
}
