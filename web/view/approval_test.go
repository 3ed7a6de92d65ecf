package view

import "testing"

// TestARequestAboutAnAccountIsToldInItalian: with what lets one doubt whose it is.
func TestARequestAboutAnAccountIsToldInItalian(t *testing.T) {
	w := catalog(t).Words("it", nil)
	for text, want := range map[string]string{
		"make carla an administrator (no own password yet)":                                                                   "rendere carla amministratore (non ha ancora una password sua)",
		"make carla an administrator (password reset on 2026-11-28 21:00 UTC by anna)":                                        "rendere carla amministratore (password reimpostata il 2026-11-28 21:00 UTC da anna)",
		"take the second factor from carla (password reset on 2026-11-28 21:00 UTC by token ci)":                              "togliere il secondo fattore a carla (password reimpostata il 2026-11-28 21:00 UTC da token ci)",
		"anna asks to make carla an administrator (no own password yet); another administrator has to approve it within 24 h": "anna chiede di rendere carla amministratore (non ha ancora una password sua); un altro amministratore lo deve approvare entro 24 h",
	} {
		if got := w.Said(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
