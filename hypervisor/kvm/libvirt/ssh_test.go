//go:build linux

package libvirt_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/replication"
)

// sshServer is an SSH server as a hypervisor's host has one: it runs commands and
// connects to unix sockets.
type sshServer struct {
	t        *testing.T
	config   *ssh.ServerConfig
	listener net.Listener
	serving  sync.WaitGroup
}

// newSSHServer starts one that lets one key in, and returns the address for a libvirt
// daemon behind it.
func newSSHServer(t *testing.T, folder, socket string) (s *sshServer, address string) {
	t.Helper()
	key := func(name string) ssh.Signer {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(private, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return signer
	}
	host, user := key("host"), key("user")
	key("stranger")
	s = &sshServer{t: t, config: &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
		if string(offered.Marshal()) != string(user.PublicKey().Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}}
	s.config.AddHostKey(host)
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	known := knownhosts.Line([]string{s.listener.Addr().String()}, host.PublicKey())
	if err := os.WriteFile(filepath.Join(folder, "known_hosts"), []byte(known+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.serving.Go(s.accept)
	t.Cleanup(func() { s.listener.Close(); s.serving.Wait() })
	return s, fmt.Sprintf("qemu+ssh://riparo@%s/session?socket=%s&keyfile=%s/user&known_hosts=%s/known_hosts", s.listener.Addr(), socket, folder, folder)
}

func (s *sshServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.serving.Go(func() {
			_, channels, requests, err := ssh.NewServerConn(conn, s.config)
			if err != nil {
				conn.Close()
				return
			}
			go ssh.DiscardRequests(requests)
			for channel := range channels {
				s.serving.Go(func() { s.serve(channel) })
			}
		})
	}
}

func (s *sshServer) serve(open ssh.NewChannel) {
	switch open.ChannelType() {
	case "direct-streamlocal@openssh.com":
		var to struct {
			Path string
			Host string
			Port uint32
		}
		if err := ssh.Unmarshal(open.ExtraData(), &to); err != nil {
			open.Reject(ssh.ConnectionFailed, err.Error())
			return
		}
		conn, err := net.Dial("unix", to.Path)
		if err != nil {
			open.Reject(ssh.ConnectionFailed, err.Error())
			return
		}
		channel, requests, err := open.Accept()
		if err != nil {
			conn.Close()
			return
		}
		go ssh.DiscardRequests(requests)
		s.serving.Go(func() { io.Copy(channel, conn); channel.Close() })
		io.Copy(conn, channel)
		conn.Close()
	case "session":
		channel, requests, err := open.Accept()
		if err != nil {
			return
		}
		for request := range requests {
			var run struct{ Command string }
			if request.Type != "exec" || ssh.Unmarshal(request.Payload, &run) != nil {
				request.Reply(false, nil)
				continue
			}
			request.Reply(true, nil)
			command := exec.Command("sh", "-c", run.Command)
			command.Stdin, command.Stdout, command.Stderr = channel, channel, channel.Stderr()
			status := uint32(0)
			if err := command.Run(); err != nil {
				status = 1
			}
			channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			channel.Close()
		}
	default:
		open.Reject(ssh.UnknownChannelType, open.ChannelType())
	}
}

// TestAHostBehindSSHIsProtected captures a running machine through SSH: libvirt's
// protocol, the scratch files and QEMU's NBD server.
func TestAHostBehindSSHIsProtected(t *testing.T) {
	s := newSession(t)
	m := s.source(t, "web01")
	_, address := newSSHServer(t, s.folder, s.socket)
	h, err := libvirt.Open(t.Context(), address, libvirt.Options{Folder: filepath.Join(s.folder, "far"), DomainType: "qemu", ScratchReserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := t.Context()
	if err := h.Start(ctx, m.Ref(), hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	m.Write(t, m.Ref())
	held := map[string]replication.PointID{}
	disks := map[string]replication.Source{}
	request := func(point replication.PointID) hypervisor.PointRequest {
		return hypervisor.PointRequest{Ref: m.Ref(), Point: point, Disks: []string{"vda", "vdb"}, Since: held}
	}
	take := func(point replication.PointID, raw, qcow2 hypervisor.CaptureMode) {
		t.Helper()
		c, err := h.BeginPoint(ctx, request(point))
		if err != nil {
			t.Fatal(err)
		}
		m.Write(t, m.Ref())
		for _, d := range c.Disks() {
			if want := map[string]hypervisor.CaptureMode{"vda": raw, "vdb": qcow2}[d.Key()]; d.Mode() != want {
				t.Errorf("point %s: disk %s is %s (%s), want %s", point, d.Key(), d.Mode(), d.Reason(), want)
			}
			path := filepath.Join(s.folder, "copy-"+d.Key())
			if err := bringForward(ctx, d, path); err != nil {
				t.Fatal(err)
			}
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			disks[d.Key()], held[d.Key()] = plain{file, d.Size()}, point
		}
		if err := c.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m.Judge(ctx, disks); err != nil {
			t.Errorf("point %s: %v", point, err)
		}
	}
	take("1", hypervisor.Full, hypervisor.Full)
	take("2", hypervisor.Delta, hypervisor.Delta)

	// While it is off, points wait for it: they go on by themselves when it is started.
	if _, err := h.Stop(ctx, m.Ref(), 0); err != nil {
		t.Fatal(err)
	}
	_, err = h.BeginPoint(ctx, request("3"))
	if p := replication.AsProblem(err); err == nil || p.Code != "libvirt.far" || p.Remedy != replication.Retry || !errors.Is(err, hypervisor.ErrNotRunning) {
		t.Errorf("a point of another host's stopped machine: %v", err)
	}
	if p := replication.AsProblem(h.ReadsStopped()); p == nil || p.Code != "libvirt.far" || p.Remedy != replication.Stop {
		t.Errorf("whether it reads stopped machines: %v", p)
	}
	if err := s.host(t).ReadsStopped(); err != nil {
		t.Errorf("whether this host reads stopped machines: %v", err)
	}
	if err := h.Start(ctx, m.Ref(), hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	m.Write(t, m.Ref())
	take("4", hypervisor.Unknown, hypervisor.Delta) // the bitmaps of raw disks end with QEMU
	if said, err := h.Console(ctx, m.Ref(), 100); err != nil || !strings.Contains(string(said), "hello") {
		t.Errorf("console: %q, %v", said, err)
	}

	made, err := h.Create(ctx, hypervisor.Spec{Name: "made", Owner: "m-1/test", CPUs: 1, MemoryMiB: 32, Disks: []hypervisor.DiskSpec{{Key: "vda", Size: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.OpenDisk(ctx, made.Ref, "vda", hypervisor.ReadOnly); !errors.Is(err, hypervisor.ErrNotRunning) {
		t.Errorf("a disk of another host's stopped machine was opened: %v", err)
	}
	if err := h.Remove(ctx, made.Ref); err != nil {
		t.Error(err)
	}
}

// TestAddressesAndRefusalsAreExplained: whoever set up the site has to know what to do.
func TestAddressesAndRefusalsAreExplained(t *testing.T) {
	for _, address := range []string{"", "qemu:///", "xen:///system", "qemu+carrier://host/system", "qemu+ssh:///system", "http://host/system", "qemu:///system\x00"} {
		_, err := libvirt.Open(t.Context(), address, libvirt.Options{})
		if p := replication.AsProblem(err); err == nil || p.Code != "libvirt.address" || p.Remedy != replication.Stop || p.Action == "" {
			t.Errorf("address %q: %v", address, err)
		}
	}
	folder := t.TempDir()
	_, address := newSSHServer(t, folder, folder+"/nobody-listens")
	for from, want := range map[string]struct {
		to     string
		code   string
		remedy replication.Remedy
	}{
		"":                            {"", "libvirt.unreachable", replication.Retry},
		"keyfile=" + folder + "/user": {"keyfile=" + folder + "/stranger", "libvirt.refused", replication.Stop},
	} {
		h, err := libvirt.Open(t.Context(), strings.Replace(address, from, want.to, 1), libvirt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Discover(t.Context())
		if p := replication.AsProblem(err); err == nil || p.Code != want.code || p.Remedy != want.remedy || p.Action == "" {
			t.Errorf("%s: %+v", want.code, err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	h, err := libvirt.Open(t.Context(), "qemu:///session?socket="+folder+"/none", libvirt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.Discover(t.Context()); replication.AsProblem(err).Code != "libvirt.unreachable" {
		t.Errorf("a daemon that is not there: %v", err)
	}
	far, err := libvirt.Open(t.Context(), "qemu+tls://127.0.0.1:1/system?pkipath="+folder, libvirt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := far.Discover(t.Context()); replication.AsProblem(err).Action == "" {
		t.Errorf("a TLS host without certificates: %v", err)
	}
}
