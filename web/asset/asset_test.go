package asset

import "testing"

func TestEveryAssetIsServedUnderItsHash(t *testing.T) {
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.Style, s.Script, s.Icon} {
		if _, ok := s.byPath[path]; !ok {
			t.Errorf("%s is not served", path)
		}
	}
}
