package libvirt

import (
	"context"
	"errors"
	"testing"

	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qga"
)

// lateGuest freezes when an earlier process is gone: until then its agent, which does one
// thing at a time, answers nobody.
type lateGuest struct {
	busy, frozen bool
	asked        int
}

func (g *lateGuest) Execute(_ context.Context, command string, _, result any) error {
	g.asked++
	switch command {
	case "guest-fsfreeze-thaw":
		g.frozen = false
	case "guest-fsfreeze-status":
		*result.(*string) = map[bool]string{true: "frozen", false: "thawed"}[g.frozen]
	}
	return nil
}

// TestAFreezeThatLandsLateIsThawed: that an agent does not answer says nothing about a
// freeze. It is asked again until it has answered, and then no more.
func TestAFreezeThatLandsLateIsThawed(t *testing.T) {
	g := &lateGuest{busy: true}
	m := &fleece.Machine{Name: "web01", Scratch: fleece.Folder(t.TempDir()), Agent: func(context.Context) (qga.Executor, func(), error) {
		if g.busy {
			return nil, nil, errors.New("the guest agent does not answer")
		}
		return g, func() {}, nil
	}}
	h, p := &Host{}, &seat{}
	look := func() {
		t.Helper()
		if err := h.settleLeft(t.Context(), m, p, (*fleece.Machine).Thaw); err != nil {
			t.Fatal(err)
		}
	}
	look()
	g.busy, g.frozen = false, true
	look()
	if g.frozen {
		t.Error("a guest that froze after the first look stays frozen")
	}
	asked := g.asked
	look()
	if g.asked != asked {
		t.Error("an agent that has answered is asked again before each point")
	}
}
