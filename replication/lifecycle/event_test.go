package lifecycle_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"riparo/replication/lifecycle"
)

// walks is the table once more, written as the ways a machine can go. The test
// holds the real table to it in both directions.
const walks = `
unprotected --enable asked--> enabling protection
enabling protection --initial replication started--> initial replication
enabling protection --enable aborted--> unprotected
enabling protection --disable asked--> disabling protection
initial replication --initial replication done--> finalizing protection
initial replication --tracking lost--> initial replication
initial replication --enable aborted--> unprotected
initial replication --disable asked--> disabling protection
finalizing protection --finalized--> protected
finalizing protection --enable aborted--> unprotected
finalizing protection --disable asked--> disabling protection
protected --tracking lost--> resynchronization required
protected --resynchronization started--> resynchronizing
protected --failover started--> failing over
protected --disable asked--> disabling protection
resynchronization required --tracking lost--> resynchronization required
resynchronization required --resynchronization started--> resynchronizing
resynchronization required --failover started--> failing over
resynchronization required --disable asked--> disabling protection
resynchronizing --resynchronization done--> protected
resynchronizing --resynchronization aborted--> resynchronization required
resynchronizing --tracking lost--> resynchronization required
resynchronizing --failover started--> failing over
resynchronizing --disable asked--> disabling protection
failing over --failed over--> commit pending
failing over --failover aborted--> protected
commit pending --change of recovery point started--> changing recovery point
commit pending --commit done--> committed
changing recovery point --recovery point changed--> commit pending
changing recovery point --change of recovery point aborted--> commit pending
committed --reverse replication started--> reverse replicating
committed --migration completed--> migrated
committed --disable asked--> disabling protection
reverse replicating --reverse replication done--> protected in reverse
reverse replicating --reverse replication aborted--> committed
reverse replicating --tracking lost--> reverse replicating
reverse replicating --disable asked--> disabling protection
protected in reverse --tracking lost--> reverse replicating
protected in reverse --resynchronization started--> reverse replicating
protected in reverse --failback started--> failing back
protected in reverse --disable asked--> disabling protection
failing back --failback done--> protected
failing back --failback aborted--> protected in reverse
migrated --disable asked--> disabling protection
disabling protection --disable asked--> disabling protection
disabling protection --disabled--> unprotected
`

// parse gives from -> event -> to.
func parse(t *testing.T, text string) map[string]map[string]string {
	t.Helper()
	table := map[string]map[string]string{}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		from, rest, ok1 := strings.Cut(strings.TrimSpace(line), " --")
		event, to, ok2 := strings.Cut(rest, "--> ")
		if !ok1 || !ok2 {
			t.Fatalf("the test's line %q does not parse", line)
		}
		if table[from] == nil {
			table[from] = map[string]string{}
		}
		table[from][event] = to
	}
	return table
}

func TestEveryEventInEveryState(t *testing.T) {
	want := parse(t, walks)
	pairs := 0
	for _, state := range lifecycle.States() {
		for _, event := range lifecycle.Events() {
			pairs++
			got, err := lifecycle.Next(state, event)
			to, listed := want[string(state)][string(event)]
			switch {
			case listed && (err != nil || got != lifecycle.State(to)):
				t.Errorf("%s in state %s: got %s, %v; want %s", event, state, got, err, to)
			case !listed && err == nil:
				t.Errorf("%s in state %s: got %s; want a refusal", event, state, got)
			case !listed && (got != state || !strings.Contains(err.Error(), string(state)) || !strings.Contains(err.Error(), string(event))):
				t.Errorf("%s in state %s: got %s and %q; want the state unchanged and an error that names both", event, state, got, err)
			}
		}
	}
	t.Logf("%d pairs of state and event", pairs)
}

func TestEveryStateAndEventIsListedAndUsed(t *testing.T) {
	table := parse(t, walks)
	var states, events, reached []string
	for from, row := range table {
		states = append(states, from)
		for event, to := range row {
			events = append(events, event)
			reached = append(reached, to)
		}
	}
	if got, want := texts(lifecycle.States()), unique(states); !slices.Equal(got, want) {
		t.Errorf("States: got %q, the table has %q", got, want)
	}
	if got, want := texts(lifecycle.Events()), unique(events); !slices.Equal(got, want) {
		t.Errorf("Events: got %q, the table has %q", got, want)
	}
	if got, want := texts(lifecycle.States()), unique(reached); !slices.Equal(got, want) {
		t.Errorf("states that can be reached: %q, all are %q", want, got)
	}
}

func TestUnknownStatesAreRefused(t *testing.T) {
	if got, err := lifecycle.Next("flying", lifecycle.Finalized); err == nil || got != "flying" {
		t.Errorf("got %q, %v; want a refusal", got, err)
	}
	if got, err := lifecycle.NextDrill("flying", lifecycle.DrillAsked); err == nil || got != "flying" {
		t.Errorf("drill: got %q, %v; want a refusal", got, err)
	}
}

func TestDeltaCyclesRunWhenProtectedInEitherDirection(t *testing.T) {
	for _, state := range lifecycle.States() {
		want := state == lifecycle.Protected || state == lifecycle.ProtectedReverse
		if got := lifecycle.Replicates(state); got != want {
			t.Errorf("Replicates(%s) = %t, want %t", state, got, want)
		}
	}
}

// The whole life of a machine, and the ways back from every unfinished step.
func TestAMachineGoesOverAndComesBack(t *testing.T) {
	for _, life := range []string{
		"unprotected: enable asked, initial replication started, initial replication done, finalized, failover started, failed over, commit done, reverse replication started, reverse replication done, failback started, failback done = protected",
		"protected: failover started, failed over, change of recovery point started, recovery point changed, commit done = committed",
		"protected: failover started, failover aborted, tracking lost, resynchronization started, resynchronization done = protected",
		"resynchronizing: failover started, failed over, commit done = committed",
		"committed: migration completed, disable asked, disabled = unprotected",
		"protected in reverse: tracking lost, reverse replication done, failback started, failback aborted = protected in reverse",
	} {
		from, rest, _ := strings.Cut(life, ": ")
		events, want, _ := strings.Cut(rest, " = ")
		state := lifecycle.State(from)
		var err error
		for event := range strings.SplitSeq(events, ", ") {
			if state, err = lifecycle.Next(state, lifecycle.Event(event)); err != nil {
				t.Fatalf("%s: %v", life, err)
			}
		}
		if string(state) != want {
			t.Errorf("%s: got %s", life, state)
		}
	}
}

const drillWalks = `
none --test failover asked--> starting test failover
starting test failover --test machine booted--> test failover running
starting test failover --test failover failed--> test failover failed
starting test failover --cleanup started--> cleaning up test failover
test failover running --test failover failed--> test failover failed
test failover running --cleanup started--> cleaning up test failover
test failover failed --test machine booted--> test failover running
test failover failed --test failover failed--> test failover failed
test failover failed --cleanup started--> cleaning up test failover
cleaning up test failover --cleanup done--> none
cleaning up test failover --cleanup started--> cleaning up test failover
cleaning up test failover --test failover failed--> test failover failed
`

func TestEveryDrillEventInEveryDrillState(t *testing.T) {
	want := parse(t, drillWalks)
	name := func(d lifecycle.Drill) string {
		if d == lifecycle.NoDrill {
			return "none"
		}
		return string(d)
	}
	for _, drill := range lifecycle.Drills() {
		for _, event := range lifecycle.DrillEvents() {
			got, err := lifecycle.NextDrill(drill, event)
			to, listed := want[name(drill)][string(event)]
			switch {
			case listed && (err != nil || name(got) != to):
				t.Errorf("%s in %s: got %s, %v; want %s", event, name(drill), name(got), err, to)
			case !listed && (err == nil || got != drill || !strings.Contains(err.Error(), string(event))):
				t.Errorf("%s in %s: got %s, %v; want a refusal that names both", event, name(drill), name(got), err)
			}
		}
	}
	if got := len(lifecycle.Drills()); got != len(want) {
		t.Errorf("%d drill states, the table has %d", got, len(want))
	}
}

func texts[S ~string](list []S) []string {
	set := map[string]bool{}
	for _, s := range list {
		set[string(s)] = true
	}
	if len(set) != len(list) {
		panic(fmt.Sprintf("listed twice: %q", list))
	}
	return slices.Sorted(maps.Keys(set))
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
