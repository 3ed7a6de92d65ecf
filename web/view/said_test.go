package view

import (
	"testing"

	"riparo/replication/lifecycle"
)

func TestWhatTheDaemonSaysIsToldInItalian(t *testing.T) {
	w := catalog(t).Words("it", nil)
	for text, want := range map[string]string{
		"":                                       "",
		"idle":                                   "In attesa del prossimo ciclo",
		"reading changes of vda":                 "Lettura delle modifiche di vda",
		"copying vdb":                            "Copia di vdb",
		"try again in 30s":                       "riprovare tra 30s",
		"A test failover is not cleaned up yet.": "Di un failover di test non si è ancora fatta pulizia.",
		"No commit while the machine is in state “failing over”.": "Non è possibile (conferma) mentre la macchina è nello stato “Failover in corso”.",
		"the newest recovery point is older than 15m0s":           "L'ultimo punto di ripristino è più vecchio di 15 min",
		"something new": "something new",
	} {
		if got := w.Said(text); got != want {
			t.Errorf("Said(%q) = %q, want %q", text, got, want)
		}
	}
	if got := catalog(t).Words("en", nil).Said("older than 1h30m0s"); got != "older than 1 h 30 min" {
		t.Errorf("a duration in English: %q", got)
	}
}

// TestEveryReasonIsToldInItalian asks the lifecycle for every reason why a verb
// cannot be done, in every state.
func TestEveryReasonIsToldInItalian(t *testing.T) {
	w := catalog(t).Words("it", nil)
	for _, rules := range lifecycle.Scenarios() {
		for _, state := range lifecycle.States() {
			for _, verb := range lifecycle.Verbs() {
				for bits := range 16 {
					s := lifecycle.Situation{Scenario: rules.Scenario, Direction: lifecycle.Forward, State: state, Paused: bits&1 != 0, HasPoints: bits&2 != 0, Busy: bits&4 != 0}
					if bits&8 != 0 {
						s.Drill, s.Direction = lifecycle.DrillRunning, lifecycle.Reverse
					}
					why := lifecycle.Why(s, verb)
					if why != "" && w.Said(why) == why {
						t.Errorf("%s in %s: %q has no Italian", verb, state, why)
					}
				}
			}
		}
	}
}
