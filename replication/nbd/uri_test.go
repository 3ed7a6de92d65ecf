package nbd

import (
	"strings"
	"testing"

	"riparo/replication"
)

func TestAddressesAreReadAsTheURIDocumentWritesThem(t *testing.T) {
	for text, want := range map[string]Address{
		"nbd://example.com":                               {"tcp", "example.com:10809", "", false},
		"nbd://example.com/":                              {"tcp", "example.com:10809", "", false},
		"nbd://example.com:1234/disk":                     {"tcp", "example.com:1234", "disk", false},
		"nbd+tcp://127.0.0.1/a/b":                         {"tcp", "127.0.0.1:10809", "a/b", false},
		"nbds://[::1]:5/a%20disk":                         {"tcp", "[::1]:5", "a disk", true},
		"nbd://[::1]/":                                    {"tcp", "[::1]:10809", "", false},
		"nbd+unix:///web01.vda?socket=/run/riparo/x.sock": {"unix", "/run/riparo/x.sock", "web01.vda", false},
		"nbd+unix:///?socket=/run/x":                      {"unix", "/run/x", "", false},
		"nbd+unix://?socket=x":                            {"unix", "x", "", false},
		"nbds+unix:///d?socket=/a%26b+c":                  {"unix", "/a&b c", "d", true},
		"nbd:////absolute":                                {},
		"":                                                {},
		"/dev/sda":                                        {},
		"http://example.com/":                             {},
		"nbd:///disk":                                     {},
		"nbd+unix:///disk":                                {},
		"nbd+unix:///disk?socket=":                        {},
		"nbd+unix://host/disk?socket=/x":                  {},
		"nbd://example.com/%zz":                           {},
		"nbd://example.com/" + strings.Repeat("x", 5000):  {},
		"nbd://example.com:port/":                         {},
	} {
		got, err := ParseURI(text)
		if (err == nil) != (want != Address{}) || got != want {
			t.Errorf("%.60s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	_, err := Dial(t.Context(), "http://example.com", Options{})
	if p := replication.AsProblem(err); p == nil || p.Code != "nbd.address" {
		t.Errorf("dialing what is no address: got %v, want the problem nbd.address", err)
	}
}

func TestURIsAreThoseThatOthersWrite(t *testing.T) {
	for want, got := range map[string]string{
		"nbd+unix:///web01.vda?socket=/run/riparo/x.sock": URI("unix", "/run/riparo/x.sock", "web01.vda"),
		"nbd://127.0.0.1:10809/web01.vda":                 URI("tcp", "127.0.0.1:10809", "web01.vda"),
		"nbd://[::1]:10809/":                              URI("tcp", "[::1]:10809", ""),
		"nbd+unix:///a%20b/c?socket=/x%20y%3Fz":           URI("unix", "/x y?z", "a b/c"),
		"nbds://example.com:1/d":                          Address{"tcp", "example.com:1", "d", true}.String(),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("nbd://example.com:1234/disk")
	f.Add("nbds+unix:///d?socket=/a%26b+c")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseURI(text)
		if err != nil {
			return
		}
		if b, err := ParseURI(a.String()); err != nil || a != b {
			t.Errorf("%q: %+v becomes %q, which is %+v, %v", text, a, a.String(), b, err)
		}
	})
}
