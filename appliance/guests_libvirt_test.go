//go:build unix

package appliance_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/guest"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/store"
)

// envNobody is set for the run of a test as nobody; it names the folder to work in.
const envNobody = "RIPARO_TEST_NOBODY"

// TestRealGuestsUnderLibvirt is the story of a guest between two libvirt daemons in
// session mode, which need no privileges and touch nothing of the host's. Such a
// daemon does not run as root, so root runs the test as nobody.
func TestRealGuestsUnderLibvirt(t *testing.T) {
	kit := needGuests(t)
	program, err := exec.LookPath("libvirtd")
	if err != nil {
		program = "/usr/sbin/libvirtd"
	}
	if _, err := os.Stat(program); err != nil && os.Getenv("CI") == "true" {
		t.Fatal("missing on this machine: libvirt-daemon-system")
	} else if err != nil {
		t.Skip("missing on this machine: libvirt-daemon-system")
	}
	if os.Getuid() == 0 {
		runAsNobody(t, kit)
		return
	}
	dir := os.Getenv(envNobody)
	if dir == "" { // an ordinary user: short, because libvirt puts sockets deep below it
		if dir, err = os.MkdirTemp("", "rl"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	th := &theater{T: t, kit: kit, primary: "milano", secondary: "torino"}
	th.listen()
	addresses := map[string]string{th.primary: session(t, program, filepath.Join(dir, "1")), th.secondary: session(t, program, filepath.Join(dir, "2"))}
	th.defineLibvirt(addresses[th.primary], dir)
	th.start(filepath.Join(dir, "data"))
	for _, site := range []string{th.primary, th.secondary} {
		if err := th.a.AddSite(t.Context(), "test", store.Site{Name: site, Kind: libvirt.Kind, Address: addresses[site]}); err != nil {
			t.Fatal(err)
		}
	}
	th.Cleanup(th.endGuests)
	th.story()
}

// session starts a libvirt daemon of the test's own and gives its address.
func session(t *testing.T, program, folder string) (address string) {
	t.Helper()
	environment := append(os.Environ(), "HOME="+folder)
	for name, sub := range map[string]string{"XDG_RUNTIME_DIR": "r", "XDG_CONFIG_HOME": "c", "XDG_CACHE_HOME": "h", "XDG_DATA_HOME": "d"} {
		path := filepath.Join(folder, sub)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		environment = append(environment, name+"="+path)
	}
	daemon := exec.Command(program)
	daemon.Env, daemon.Dir = environment, folder
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Signal(syscall.SIGTERM)
		daemon.Wait()
	})
	socket := filepath.Join(folder, "r", "libvirt", "libvirt-sock")
	listens(t, socket)
	return "qemu:///session?socket=" + socket
}

// listens waits until a daemon does: its socket is there a moment before.
func listens(t *testing.T, socket string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if link, err := net.Dial("unix", socket); err == nil {
			link.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvirtd does not listen on %s", socket)
		}
	}
}

// defineLibvirt makes the source: the counting guest with two qcow2 disks.
func (th *theater) defineLibvirt(address, dir string) {
	th.Helper()
	uri, err := url.Parse(address)
	if err != nil {
		th.Fatal(err)
	}
	client, err := rpc.ConnectToURI(uri)
	if err != nil {
		th.Fatal(err)
	}
	defer client.Disconnect()
	disks := ""
	for _, key := range []string{"vda", "vdb"} {
		path := filepath.Join(dir, "web01-"+key+".qcow2")
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, strconv.Itoa(diskBytes)).CombinedOutput(); err != nil {
			th.Fatalf("qemu-img: %v: %s", err, out)
		}
		disks += fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='%s'/><target dev='%s' bus='virtio'/></disk>`, path, key)
	}
	dom, err := client.DomainDefineXML(fmt.Sprintf(`<domain type='qemu'><name>web01</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>%s</kernel><initrd>%s</initrd><cmdline>%s</cmdline></os>
<features><acpi/></features><cpu mode='maximum'/><devices>%s
<interface type='user'><mac address='52:54:00:aa:bb:01'/><model type='virtio'/></interface>
<serial type='file'><source path='%s/web01.serial'/><target port='0'/></serial>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel><memballoon model='none'/></devices></domain>`,
		th.kit.Kernel, th.kit.Initrd, guest.Append(guest.Count, fmt.Sprintf("port=%d", th.port)), disks, dir))
	if err != nil {
		th.Fatal(err)
	}
	u := dom.UUID
	th.ref = hypervisor.Ref(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// runAsNobody runs the calling test again as an ordinary user, with copies of this
// program and of the guest where that user can read them.
func runAsNobody(t *testing.T, kit guest.Kit) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.Atoi(nobody.Uid)
	gid, gidErr := strconv.Atoi(nobody.Gid)
	dir, err := os.MkdirTemp("", "rl")
	if err = errors.Join(err, uidErr, gidErr); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The guest kit looks for what it made before in its cache folder.
	cache := filepath.Join(dir, "cache")
	if err := os.CopyFS(cache, os.DirFS(filepath.Dir(kit.Kernel))); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "test")
	if err := copyProgram(self, program); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	})
	if err != nil {
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=12m")
	again.Dir = dir
	again.Env = append(os.Environ(), envNobody+"="+dir, "HOME="+dir, "TMPDIR="+dir, "RIPARO_GUEST_CACHE="+cache)
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := again.CombinedOutput()
	t.Logf("as nobody: %s", out)
	if err != nil {
		t.Fatalf("as nobody: %v", err)
	}
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
