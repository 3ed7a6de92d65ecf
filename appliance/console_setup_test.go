package appliance_test

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp/kb"

	"riparo/replication"
	"riparo/store"
	"riparo/web/browsertest"
)

// setUp goes through the guided setup, each of its steps, leaves it once in the middle
// and finds it again under Settings where it was left.
func (v *visitor) setUp() {
	v.Helper()
	folder := filepath.Join(v.Browser.T.TempDir(), "vault of anna")
	v.step("appliance", func() {
		v.replace("#name", "Riparo Milano")
		v.replace("#zone", "Europe/Rome")
	})
	v.step("network", func() { v.mode("none") })
	v.step("certificate", func() {})
	v.step("roles", func() {})
	v.arrive("vault")
	v.replace("#folder", folder)
	v.leave(`#ask button[value="stay"]`)
	v.Until("what the disk takes", `location.pathname === "/setup/vault" && document.querySelectorAll("#ask .facts-box dd").length >= 4`)
	v.look("setup vault measured")
	v.leave(`#ask button[value="next"]`)
	v.arrive("site")
	v.leave(`#ask button[value="later"]`) // while the appliance begins again
	v.Until("to have left the setup", `location.pathname === "/"`)
	v.beganAgain()
	v.look("overview before the setup is done")
	v.Visit("/settings/appliance")
	v.leave(`main a[href^="/setup/"]`)
	v.Until("the setup again", `document.querySelector(".wizard .rail")`)
	v.leave(`.wizard .rail a[href="/setup/site"]`)
	v.step("site", func() { v.site(v.th.primary, "1") })
	v.step("target", func() { v.site(v.th.secondary, "0") })
	v.step("policy", func() { v.replace("#copy_frequency", "5s") })
	v.arrive("checks")
	v.leave(`#ask button[value="all"]`)
	v.Until("every check to have a result", `document.querySelectorAll("#ask .checks li").length > 5 && !document.querySelector("#ask .checks li.mute")`)
	v.look("setup checks done")
	v.leave(`#ask button[value="next"]`)
	v.step("finish", func() {})
	v.Until("the overview", `location.pathname === "/"`)
	v.look("start")
	v.setUpIsKept(folder)
}

// step fills in a step of the setup and goes on.
func (v *visitor) step(name string, fill func()) {
	v.Helper()
	v.arrive(name)
	fill()
	v.leave(`#ask button[value="next"]`)
	v.Until("to leave the step "+name, fmt.Sprintf(`location.pathname !== %q`, "/setup/"+name))
}

// arrive waits for a step of the setup and judges it.
func (v *visitor) arrive(name string) {
	v.Helper()
	v.Until("the step "+name, fmt.Sprintf(`location.pathname === %q && document.readyState === "complete" && document.querySelector("#ask footer")`, "/setup/"+name))
	v.look("setup " + name)
}

// beganAgain waits until the appliance is there again, which moved its vault.
func (v *visitor) beganAgain() {
	v.Helper()
	select {
	case v.th.a = <-v.again:
	case <-time.After(browsertest.Patience):
		v.Fatal("the appliance did not begin again after its vault was moved")
	}
}

// mode chooses how the appliance reaches what is outside: by its label, or with the
// arrow keys, as in any group of radio buttons.
func (v *visitor) mode(value string) {
	v.Helper()
	wanted := fmt.Sprintf(`#ask input[name="mode"][value=%q]`, value)
	if !v.keyboard {
		v.Click(wanted)
	} else {
		v.focus(`#ask input[name="mode"]:checked`)
	}
	chosen := fmt.Sprintf("document.querySelector(%q).checked", wanted)
	for range 3 {
		if v.JS(chosen) == "true" {
			return
		}
		v.Press(kb.ArrowDown)
	}
	v.Fatalf("%s cannot be chosen", wanted)
}

func (v *visitor) site(name, machines string) {
	v.Helper()
	v.fill("#ask #name", name)
	v.choose("#ask #kind", "lab")
	v.fill("#ask #address", machines)
}

// setUpIsKept looks at what the appliance has of all that.
func (v *visitor) setUpIsKept(folder string) {
	v.Helper()
	s, err := v.th.a.Setup(v.Browser.T.Context())
	if err != nil {
		v.Fatal(err)
	}
	if s.General.Name != "Riparo Milano" || s.General.Zone != "Europe/Rome" || s.Proxy.Mode != store.ProxyNone {
		v.Errorf("after the setup: %+v, proxy %+v", s.General, s.Proxy)
	}
	if s.Vault.Folder != folder {
		v.Errorf("the vault is in %q, want %q", s.Vault.Folder, folder)
	}
	if len(s.Progress.Done) != 10 || s.Progress.Finished.IsZero() || len(s.Progress.Checks) != len(s.Checks) {
		v.Errorf("done %v, finished %v, %d of %d checks", s.Progress.Done, s.Progress.Finished, len(s.Progress.Checks), len(s.Checks))
	}
	var policy store.Policy
	err = v.th.a.Rooms().Store.View(func(tx *store.Tx) (err error) {
		policy, err = tx.Policies().Get("default")
		return err
	})
	if err != nil || policy.CopyFrequency != replication.MinCopyFrequency {
		v.Errorf("the policy is %+v (%v)", policy, err)
	}
}
