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
		// Requests for approval, as events and problems have them inside.
		"to unpin recovery point p7 of web01 needs a second administrator":                                               "serve un secondo amministratore per questo: liberare il punto di ripristino p7 di web01",
		"ugo asks to unpin recovery point p7 of web01; another administrator has to approve it within 24 h":              "ugo chiede di liberare il punto di ripristino p7 di web01; un altro amministratore lo deve approvare entro 24 h",
		"the room in the vault comes to an end: level slowed, 5 MiB of 9 MiB are free; nothing yet; replication goes on": "lo spazio del vault sta per finire: la replica è rallentata, 5 MiB liberi su 9; per ora nulla; la replica continua",
		// These are put together from two parts.
		"web01 has no recovery point":                                           "web01 non ha un punto di ripristino",
		"web01 has no recovery point that is whole; 2 are damaged in the vault": "web01 non ha un punto di ripristino integro; 2 sono danneggiati nel vault",
		"web01 has no application-consistent recovery point":                    "web01 non ha un punto di ripristino coerente con le applicazioni",
		"web01 has no recovery point from before the alarm":                     "web01 non ha un punto di ripristino precedente all'allarme",
		// What callers wrapped around a problem is not in its way.
		"replicate web01: the vault has no space left for disk m-1.vda": "replicate web01: nel vault non c'è più spazio per il disco m-1.vda",
		`web01 has no recovery point "p7"`:                              "web01 non ha il punto di ripristino p7",
		"the map of vda has format version 9; this program knows 2":     "the map of vda ha la versione di formato 9; questo programma conosce 2",
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
