//go:build linux

package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"riparo/hypervisor/kvm/guest"
)

// The tests run against a libvirt daemon of their own, in session mode: it needs no
// privileges and touches nothing of the host's. A session daemon does not run as root,
// so root runs the tests once more as nobody.

const (
	envFolder = "RIPARO_TEST_FOLDER" // where everything of the tests lies; set for nobody
	envKernel = "RIPARO_TEST_KERNEL"
	envInitrd = "RIPARO_TEST_INITRD"
)

func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(envFolder) != "" {
		os.Exit(m.Run())
	}
	code, err := runAsNobody()
	if err != nil {
		fmt.Fprintln(os.Stderr, "run the tests as nobody:", err)
		code = 1
	}
	os.Exit(code)
}

// runAsNobody copies this program and the guest where nobody can read them.
func runAsNobody() (int, error) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return 0, err
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		return 0, err
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		return 0, err
	}
	// Short: libvirt puts sockets deep below it.
	folder, err := os.MkdirTemp("/tmp", "rv")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	environment := append(os.Environ(), envFolder+"="+folder, "HOME="+folder, "TMPDIR="+folder)
	copies := map[string]string{self: "test"}
	if len(guest.Missing()) == 0 {
		kit, err := guest.Build(context.Background())
		if err != nil {
			return 0, err
		}
		copies[kit.Kernel], copies[kit.Initrd] = "kernel", "initrd"
		environment = append(environment, envKernel+"="+folder+"/kernel", envInitrd+"="+folder+"/initrd")
	}
	for from, to := range copies {
		if err := copyFile(from, filepath.Join(folder, to)); err != nil {
			return 0, err
		}
	}
	if err := os.Chown(folder, uid, gid); err != nil {
		return 0, err
	}
	var arguments []string
	for _, a := range os.Args[1:] {
		// Files that the go command asked for belong to root.
		if !strings.HasPrefix(a, "-test.testlogfile") && !strings.HasPrefix(a, "-test.gocoverdir") && !strings.HasPrefix(a, "-test.coverprofile") {
			arguments = append(arguments, a)
		}
	}
	command := exec.Command(filepath.Join(folder, "test"), arguments...)
	command.Dir, command.Env, command.Stdout, command.Stderr = folder, environment, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	err = command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func copyFile(from, to string) error {
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

// need skips a test that runs machines, with the reason, where it cannot run; in CI a
// missing program is a failure.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs machines under libvirt: left out of the short run")
	}
	var missing []string
	for _, program := range append(programs, "libvirtd", "qemu-system-x86_64", "qemu-img") {
		if _, err := exec.LookPath(program); err != nil && !exists("/usr/sbin/"+program) {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 && os.Getenv("CI") == "true" {
		t.Fatalf("missing on this machine: %v", missing)
	}
	if len(missing) > 0 {
		t.Skipf("missing on this machine: %v", missing)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// daemon is a libvirt daemon in session mode.
type daemon struct {
	folder    string
	socket    string
	arguments []string
	process   *exec.Cmd
}

// daemons counts them, for short names.
var daemons int

// startDaemon starts a daemon whose machines end with the test.
func startDaemon(t *testing.T, arguments ...string) *daemon {
	t.Helper()
	need(t)
	folder, err := "", error(nil)
	if base := os.Getenv(envFolder); base != "" {
		daemons++
		folder = filepath.Join(base, strconv.Itoa(daemons))
		err = os.Mkdir(folder, 0o700)
	} else {
		folder, err = os.MkdirTemp("/tmp", "rv")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	d := &daemon{folder: folder, socket: filepath.Join(folder, "r", "libvirt", "libvirt-sock"), arguments: arguments}
	d.start(t)
	t.Cleanup(func() { d.stop(t) })
	return d
}

func (d *daemon) start(t *testing.T) {
	t.Helper()
	environment := append(os.Environ(), "HOME="+d.folder)
	for name, sub := range map[string]string{"XDG_RUNTIME_DIR": "r", "XDG_CONFIG_HOME": "c", "XDG_CACHE_HOME": "h", "XDG_DATA_HOME": "d"} {
		path := filepath.Join(d.folder, sub)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		environment = append(environment, name+"="+path)
	}
	program, err := exec.LookPath("libvirtd")
	if err != nil {
		program = "/usr/sbin/libvirtd"
	}
	log, err := os.Create(filepath.Join(d.folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.process = exec.Command(program, d.arguments...)
	d.process.Env, d.process.Stdout, d.process.Stderr, d.process.Dir = environment, log, log, d.folder
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	// The socket is there a moment before the daemon listens on it.
	for {
		if link, err := net.Dial("unix", d.socket); err == nil {
			link.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			said, _ := os.ReadFile(filepath.Join(d.folder, "log"))
			t.Fatalf("libvirtd does not listen: %s", said)
		}
	}
}

// stop ends the daemon; machines of it go on running.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	d.process.Wait()
	os.Remove(d.socket)
	if t.Failed() {
		d.tell(t)
	}
}

// toldBytes is how much of the end of a log is told.
const toldBytes = 4000

// tell prints what the daemon and the QEMU of each machine said last. The folder is gone
// after the test, and with it the only trace of a QEMU that died.
func (d *daemon) tell(t *testing.T) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(d.folder, "h", "libvirt", "qemu", "log", "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, log := range append(logs, filepath.Join(d.folder, "log")) {
		said, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s: … %s", log, said[max(0, len(said)-toldBytes):])
	}
}

func (d *daemon) uri() string { return "qemu:///session?socket=" + d.socket }
