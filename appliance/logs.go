package appliance

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"riparo/store"
	"riparo/store/logs"
)

// OpenLog opens the log of an appliance: JSON lines in DATA/logs, rotated. Close it
// after the appliance.
func OpenLog(data string, level slog.Level) (*logs.Log, error) {
	return logs.Open(logs.Options{Dir: LogFolder(data), Level: level})
}

// LogFolder is where the log of an appliance is kept.
func LogFolder(data string) string { return filepath.Join(data, "logs") }

// part is the log of a part of the appliance. Its lines say which: that is how a
// job is followed across parts.
func (a *Appliance) part(component string) *slog.Logger {
	return a.log.With(logs.KeyComponent, component)
}

// components are the parts that events come from, by the first word of their code.
var components = map[string]string{
	"rpo": "protection", "replication": "protection", "protection": "protection", "tracking": "protection", "app-consistency": "protection", "disk": "protection",
	"failover": "recovery", "drill": "recovery", "boot": "recovery", "ownership": "recovery", "machine": "recovery",
	"job": "jobs", "site": "discovery", "policy": "appliance",
	"login": "identity", "user": "identity", "token": "identity", "setup": "identity", "password": "identity",
}

// runStory writes what happens, as the event log has it, into the log too: there it
// stands among what the parts did at the same time.
func (a *Appliance) runStory(ctx context.Context) error {
	nudge, changed, cancel := a.store.Subscribe()
	defer cancel()
	for came := true; ; {
		if came {
			if err := a.tell(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-nudge:
			came = hasEvents(changed())
		}
	}
}

// hasEvents reports whether events are among what changed. While a machine is replicated
// its progress changes many times a second, and looking for events is no part of that.
func hasEvents(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return name == "event" || name == store.Everything })
}

// tell logs the events that came since the last time.
func (a *Appliance) tell() error {
	for {
		var events []store.Event
		err := a.store.View(func(tx *store.Tx) (err error) {
			events, err = tx.Events().Page(a.told, store.MaxPage, false)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range events {
			a.tellEvent(e)
			a.told = e.ID
		}
		if len(events) < store.MaxPage {
			return nil
		}
	}
}

func (a *Appliance) tellEvent(e store.Event) {
	first, _, _ := strings.Cut(e.Code, ".")
	component := components[first]
	if component == "" {
		component = "appliance"
	}
	attrs := []any{logs.KeyComponent, component, "event", e.Code}
	for _, pair := range [][2]string{{logs.KeyMachine, e.Machine}, {logs.KeyName, e.Name}, {logs.KeyJob, e.Job}, {"action", e.Action}} {
		if pair[1] != "" {
			attrs = append(attrs, pair[0], pair[1])
		}
	}
	level := slog.LevelInfo
	switch e.Severity {
	case store.SeverityWarning:
		level = slog.LevelWarn
	case store.SeverityCritical:
		level = slog.LevelError
	}
	a.log.Log(context.Background(), level, e.Text, attrs...)
}

// newestEvent is the one after which the story goes on: what is older was told by
// the daemon that ran then.
func (a *Appliance) newestEvent() error {
	return a.store.View(func(tx *store.Tx) error {
		page, err := tx.Events().Page("", 1, true)
		if len(page) > 0 {
			a.told = page[0].ID
		}
		return err
	})
}

// secrets are those that are in files, not in the store.
func (a *Appliance) secrets() []string { return FileSecrets(a.config.Data) }

// FileSecrets are the secrets in the files of a data folder: the setup token and
// what keys there are. They are looked for where they must not be.
func FileSecrets(data string) []string {
	var secrets []string
	names, _ := filepath.Glob(filepath.Join(data, "pki", "*.key")) // the pattern is a good one
	for _, name := range append(names, filepath.Join(data, "setup-token")) {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it is not there, or nobody can read it, us included
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if !strings.HasPrefix(line, "-----") { // the frame of a key is none
				secrets = append(secrets, strings.TrimSpace(line))
			}
		}
	}
	return secrets
}
