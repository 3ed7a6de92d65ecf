package planted

import (
	"strings"
	"testing"
)

const source = `package p

import "fmt"

// f adds.
func f(a int, more ...int) (sum int) {
	for _, m := range more {
		a += m
	}
	return a
}

type t struct{}

func (x *t) print(s string) { fmt.Println(s) }
`

func TestABugIsATwinBehindASwitch(t *testing.T) {
	got, err := plant("p.go", source, []Bug{
		{Name: "subtracts", File: "p.go", Code: "a += m", Bug: "a -= m"},
		{Name: "forgets", File: "p.go", Code: "return a\n", Bug: "return 0\n"},
		{Name: "sorts", File: "p.go", Code: "fmt.Println(s)", Bug: "fmt.Println(slices.Sorted([]string{s}))"},
	}, []int{4, 5, 6})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"import \"slices\"",
		"switch plantedSwitch {\ncase 4:\nreturn fPlanted4(a, more...)\ncase 5:\nreturn fPlanted5(a, more...)\n}",
		"func fPlanted4(a int, more ...int) (sum int) {\n\tfor _, m := range more {\n\t\ta -= m\n",
		"case 6:\nx.printPlanted6(s)\nreturn\n}",
		"func (x *t) printPlanted6(s string) { fmt.Println(slices.Sorted",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}

func TestABugWithoutAPlaceIsRefused(t *testing.T) {
	for _, code := range []string{"nowhere", "a", `import "fmt"`} {
		if _, err := plant("p.go", source, []Bug{{Name: "x", File: "p.go", Code: code, Bug: "y"}}, []int{1}); err == nil {
			t.Errorf("a bug in the place of %q was planted", code)
		}
	}
}

// double is what the test below plants a bug in.
func double(n int) int { return n + n }

func TestADoubleIsTwice(t *testing.T) {
	for seed := 1; seed < 20; seed++ {
		if got := double(seed); got != 2*seed {
			t.Fatalf("seed %d: %d, want %d", seed, got, 2*seed)
		}
	}
}

// TestFindTellsTheSeed plants a bug that the third seed meets.
func TestFindTellsTheSeed(t *testing.T) {
	root, dir := moduleRoot(t), t.TempDir()
	// In two parts, so that the place does not occur here too.
	const place = "{ return n " + "+ n }"
	bugs := []Bug{
		{Name: "wrong from three on", File: "planted_test.go", Code: place, Bug: "{ return n + n + n/3 }"},
		{Name: "harmless", File: "planted_test.go", Code: place, Bug: "{ return 2 * n }"},
	}
	if err := build(t.Context(), root, dir, "replication/planted", dir+"/x.test", bugs); err != nil {
		t.Fatal(err)
	}
	if seed, _, said, ok := look(t.Context(), dir, dir+"/x.test", 1, "TestADoubleIsTwice"); !ok || seed != 3 {
		t.Errorf("found %v by seed %d, want seed 3: %s", ok, seed, said)
	}
	if _, _, said, ok := look(t.Context(), dir, dir+"/x.test", 2, "TestADoubleIsTwice"); ok {
		t.Errorf("a harmless change was found: %s", said)
	}
	if _, _, said, ok := look(t.Context(), dir, dir+"/x.test", 1, "TestThatIsMissing"); ok {
		t.Errorf("a test that is missing found a bug: %s", said)
	}
}
