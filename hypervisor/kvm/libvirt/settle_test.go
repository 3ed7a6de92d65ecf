//go:build linux

package libvirt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/guest"
	"riparo/hypervisor/kvm/kvmtest"
	"riparo/hypervisor/kvm/qmp"
	"riparo/replication"
)

// TestWhatADeadProgramLeftInADomainIsEnded kills the capturing program at the instant, with
// a window that has no room, and while the guest is frozen. The next look at the host ends
// all of it, by libvirt's own means; a domain that a person suspended stays so.
func TestWhatADeadProgramLeftInADomainIsEnded(t *testing.T) {
	th := newTheater(t)
	images := map[string]string{}
	for _, key := range []string{"vda", "vdb"} {
		images[key] = filepath.Join(th.folder, "source-"+key)
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", images[key], "96M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	th.ref = th.boot("web01", guest.Append(guest.Count), map[string]string{"vda": "qcow2", "vdb": "qcow2"}, images)
	th.await(th.ref, "SERVING")
	th.take(replication.CrashConsistent, hypervisor.Full)

	th.dieAtTheInstant(true)
	th.awaitState(rpc.DomainPaused, rpc.DomainPausedIoerror)
	th.settle()
	th.awaitState(rpc.DomainRunning, rpc.DomainPausedReason(rpc.DomainRunningUnpaused))
	th.expectNoWindow()
	th.goesOn()

	th.dieAtTheInstant(false)
	if err := th.client.DomainSuspend(th.domain(t, th.ref)); err != nil {
		t.Fatal(err)
	}
	th.settle()
	th.awaitState(rpc.DomainPaused, rpc.DomainPausedUser)
	th.expectNoWindow()
	if err := th.client.DomainResume(th.domain(t, th.ref)); err != nil {
		t.Fatal(err)
	}
	th.goesOn()

	mark := filepath.Join(th.folder, "riparo", "scratch", string(th.ref), "frozen")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mark), 0o700), os.WriteFile(mark, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	th.agent("guest-fsfreeze-freeze")
	if status := th.agent("guest-fsfreeze-status"); !strings.Contains(status, "frozen") {
		t.Fatalf("the guest does not freeze: %s", status)
	}
	th.settle()
	if status := th.agent("guest-fsfreeze-status"); !strings.Contains(status, "thawed") {
		t.Errorf("a guest that a dead program froze: %s", status)
	}
	th.expectNoWindow()
	th.goesOn()

	instant, _, _ := th.take(replication.AppConsistent, hypervisor.Delta)
	if instant.Consistency != replication.AppConsistent {
		t.Errorf("the point after it is %s: %v", instant.Consistency, instant.Warnings)
	}
	th.expectNoWindow()
}

// settle looks at the host as the next process would.
func (th *theater) settle() {
	th.t.Helper()
	if err := th.h.Close(); err != nil {
		th.t.Fatal(err)
	}
	th.h = th.host(th.t)
	if err := th.h.Settle(th.t.Context()); err != nil {
		th.t.Fatalf("settle: %v", err)
	}
}

// dieAtTheInstant captures as another program that is killed then.
func (th *theater) dieAtTheInstant(full bool) {
	th.t.Helper()
	folder := filepath.Join(th.folder, "riparo", "scratch", string(th.ref))
	m := fleece.Machine{
		Name: "web01", Scratch: fleece.Folder(folder), Socket: filepath.Join(folder, "nbd"),
		Connect: func(context.Context) (fleece.Monitor, func(), error) {
			return &kvmtest.Dying{Monitor: client{th}, Full: full}, func() {}, nil
		},
	}
	for i, key := range []string{"vda", "vdb"} {
		m.Disks = append(m.Disks, fleece.Disk{Key: key, Device: fmt.Sprintf("/machine/peripheral/virtio-disk%d/virtio-backend", i)})
	}
	th.points++
	point := replication.PointID(fmt.Sprintf("20261123T1000%02d.000Z-lv", th.points))
	_, err := fleece.Begin(th.t.Context(), m, hypervisor.PointRequest{Point: point, Disks: []string{"vda", "vdb"}, Since: th.held})
	if !errors.Is(err, kvmtest.ErrDied) {
		th.t.Fatalf("the capture that dies: %v", err)
	}
}

// client is a monitor of the domain over the test's own connection.
type client struct{ th *theater }

func (c client) Execute(_ context.Context, command string, arguments, result any) error {
	question := map[string]any{"execute": command}
	if arguments != nil {
		question["arguments"] = arguments
	}
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	answer, err := c.th.client.QEMUDomainMonitorCommand(c.th.domain(c.th.t, c.th.ref), string(line), 0)
	if err != nil {
		return err
	}
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *qmp.Error      `json:"error"`
	}
	if err := json.Unmarshal([]byte(answer), &reply); err != nil {
		return err
	}
	if reply.Error != nil {
		return reply.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(reply.Return, result)
}

func (th *theater) awaitState(want rpc.DomainState, why rpc.DomainPausedReason) {
	th.t.Helper()
	ctx, cancel := context.WithTimeout(th.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		state, reason, err := th.client.DomainGetState(th.domain(th.t, th.ref), 0)
		if err != nil {
			th.t.Fatal(err)
		}
		if rpc.DomainState(state) == want && reason == int32(why) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			th.t.Fatalf("the domain is in state %d for reason %d, want %d for %d", state, reason, want, why)
		}
	}
}

func (th *theater) goesOn() {
	th.t.Helper()
	th.await(th.ref, fmt.Sprintf(" C %d", th.count(th.ref)+2))
}

// expectNoWindow looks for what captures put into the domain, bitmaps not included.
func (th *theater) expectNoWindow() {
	th.t.Helper()
	for _, command := range []string{"query-jobs", "query-block-exports", "query-blockstats"} {
		var reply json.RawMessage
		if err := (client{th}).Execute(th.t.Context(), command, nil, &reply); err != nil {
			th.t.Fatal(err)
		}
		if strings.Contains(string(reply), "riparo-") {
			th.t.Errorf("%s still names something of ours: %s", command, reply)
		}
	}
	if left, err := filepath.Glob(filepath.Join(th.folder, "riparo", "scratch", "*", "*")); err != nil || len(left) > 0 {
		th.t.Errorf("something is left in the scratch folder: %v, %v", left, err)
	}
}

// agent gives a command to the guest agent.
func (th *theater) agent(command string) string {
	th.t.Helper()
	answer, err := th.client.QEMUDomainAgentCommand(th.domain(th.t, th.ref), fmt.Sprintf(`{"execute":%q}`, command), 30, 0)
	if err != nil || len(answer) == 0 {
		th.t.Fatalf("%s: %v %v", command, answer, err)
	}
	return answer[0]
}
