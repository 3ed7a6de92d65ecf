package vault

import "testing"

func TestASpareIsHandedToOneAtATimeAndOnlyAFewAreKept(t *testing.T) {
	made := 0
	s := newSpares(2, func() *int { made++; n := made; return &n })
	one, two, three := s.get(), s.get(), s.get()
	for _, n := range []*int{one, two, three} {
		s.put(n)
	}
	got := map[*int]bool{s.get(): true, s.get(): true}
	if len(got) != 2 || !got[one] || !got[two] {
		t.Errorf("after three were given back, two that came out are %v, want the first two, each once", got)
	}
	if fresh := s.get(); fresh == three || made != 4 {
		t.Errorf("a third one was kept, or none was made: %d were made, want 4", made)
	}
}
