package appliance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"riparo/appliance/setup"
	"riparo/replication"
	"riparo/replication/vfs"
	"riparo/store"
)

// check is one look at what the appliance needs. It returns nil when all is well, a
// *mild when it works but not well, and any other error when it does not.
type check struct {
	name string
	run  func(a *Appliance, ctx context.Context, c *store.Checked) error
}

// mild is what works and could be better.
type mild struct{ *replication.Problem }

func (m *mild) Unwrap() error { return m.Problem }

func mildly(cause, action string) error {
	return &mild{&replication.Problem{Cause: cause, Action: action}}
}

func badly(cause, action string) error { return &replication.Problem{Cause: cause, Action: action} }

// checks are all of them, in the order in which they are shown.
var checks = []check{
	{"data", (*Appliance).checkData},
	{"vault", (*Appliance).checkVault},
	{"clock", (*Appliance).checkClock},
	{"name", (*Appliance).checkName},
	{"certificate", (*Appliance).checkCertificate},
	{"proxy", (*Appliance).checkProxy},
	{"sites", (*Appliance).checkSites},
	{"tools", (*Appliance).checkTools},
	{"backup", (*Appliance).checkBackup},
	{"mail", (*Appliance).checkMail},
}

func checkNames() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// checkTime bounds one check.
const checkTime = 45 * time.Second

// Check runs one of the prerequisite checks and keeps what it found.
func (a *Appliance) Check(ctx context.Context, id string) (store.Checked, error) {
	for _, c := range checks {
		if c.name != id {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		defer cancel()
		out := store.Checked{ID: id, Outcome: store.CheckGood, Args: map[string]string{}, Time: time.Now()}
		if err := c.run(a, ctx, &out); err != nil {
			p := replication.AsProblem(err)
			out.Outcome, out.Cause, out.Action = store.CheckBad, p.Cause, p.Action
			if _, only := errors.AsType[*mild](err); only {
				out.Outcome = store.CheckWarn
			}
		}
		out.Took = time.Since(out.Time)
		return out, a.changeSetup(func(_ *store.Tx, p *store.SetupProgress) error {
			if p.Checks == nil {
				p.Checks = map[string]store.Checked{}
			}
			p.Checks[id] = out
			return nil
		})
	}
	return store.Checked{}, fmt.Errorf("check %q: %w", id, store.ErrNotFound)
}

// Marks of what a good place has.
const (
	dataFree  = 2 << 30  // for state, cache and logs
	slowWrite = 50 << 20 // bytes a second
	slowSync  = 20 * time.Millisecond
	vaultFree = 20 << 30
	skewWarn  = time.Second
	skewBad   = 30 * time.Second // certificates and tokens begin to fail
)

func (a *Appliance) checkData(_ context.Context, c *store.Checked) error {
	f, err := os.CreateTemp(a.config.Data, ".check-*")
	if err == nil {
		_, err = f.WriteString("riparo")
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		return badly(fmt.Sprintf("the data folder cannot be written: %v", err), "see that its disk is not full or mounted read-only")
	}
	if info, err := os.Stat(a.config.Data); err == nil && modesTell && info.Mode().Perm()&0o077 != 0 {
		return mildly(fmt.Sprintf("other users of this computer may look into %s", a.config.Data), "take that right away: chmod 700 "+a.config.Data)
	}
	space, err := vfs.OS().Space(a.config.Data)
	if err != nil {
		return nil // not every file system tells
	}
	c.Args["free_bytes"] = strconv.FormatInt(space.Free, 10)
	if space.Free < dataFree {
		return mildly(fmt.Sprintf("the disk of the data folder has only %d MiB free", space.Free>>20), "make room: state and logs grow to some gigabytes")
	}
	return nil
}

func (a *Appliance) checkVault(ctx context.Context, c *store.Checked) error {
	folder, _, err := a.vaultFolder()
	if err != nil {
		return err
	}
	p, err := a.ProbeFolder(ctx, folder)
	if err != nil {
		return err
	}
	c.Args["write_rate"], c.Args["sync_seconds"], c.Args["free_bytes"] = strconv.FormatInt(int64(p.WriteSpeed), 10), strconv.FormatFloat(p.Sync.Seconds(), 'f', 4, 64), strconv.FormatInt(p.FreeBytes, 10)
	switch {
	case p.WriteSpeed < slowWrite:
		return mildly(fmt.Sprintf("the vault's disk takes only %.0f MB/s", p.WriteSpeed/1e6), "a faster disk keeps recovery points younger when much changes")
	case p.Sync > slowSync:
		return mildly(fmt.Sprintf("a small write to the vault is durable only after %d ms", p.Sync.Milliseconds()), "a disk with a protected cache, or an SSD, keeps recovery points younger")
	case p.TotalBytes > 0 && p.FreeBytes < vaultFree:
		return mildly(fmt.Sprintf("the vault's disk has only %d GiB free", p.FreeBytes>>30), "make room, or put the vault on a larger disk")
	}
	return nil
}

func (a *Appliance) checkClock(ctx context.Context, c *store.Checked) error {
	if server := a.general().TimeServer; server != "" {
		skew, _, err := setup.Skew(ctx, server)
		if err != nil {
			return &mild{replication.AsProblem(err)}
		}
		c.Args["skew_seconds"], c.Args["server"] = strconv.FormatFloat(skew.Seconds(), 'f', 3, 64), server
		switch off := max(skew, -skew); {
		case off >= skewBad:
			return badly(fmt.Sprintf("the clock is %s off", off.Round(time.Second)), "let the operating system keep it by a time server (chrony, systemd-timesyncd, Windows Time)")
		case off >= skewWarn:
			return mildly(fmt.Sprintf("the clock is %s off", off.Round(100*time.Millisecond)), "let the operating system keep it by a time server (chrony, systemd-timesyncd, Windows Time)")
		}
		return nil
	}
	if synchronized, known := kernelClock(); known && !synchronized {
		return mildly("the operating system does not keep the clock by a time server", "switch on chrony, systemd-timesyncd or Windows Time, or name a time server to compare with")
	} else if known {
		return nil
	}
	return mildly("whether the clock is right is not known", "name a time server to compare with")
}

func (a *Appliance) checkName(ctx context.Context, c *store.Checked) error {
	host, err := os.Hostname()
	if err != nil {
		return mildly("this computer has no name", "give it one, so that people find the console")
	}
	c.Args["name"] = host
	if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
		return mildly(fmt.Sprintf("the name %s cannot be looked up here", host), "enter it into the DNS, or into the hosts file")
	}
	return nil
}

func (a *Appliance) checkCertificate(_ context.Context, c *store.Checked) error {
	i := a.certificate.Info()
	c.Args["end_time"] = i.Ends.UTC().Format(time.RFC3339)
	switch left := time.Until(i.Ends); {
	case left <= 0:
		return badly("the certificate of the console has expired", "install a new one, or issue one by the appliance's own authority")
	case left < 30*24*time.Hour:
		return mildly("the certificate of the console ends within a month", "install a new one, or issue one by the appliance's own authority")
	}
	return nil
}

func (a *Appliance) checkProxy(ctx context.Context, c *store.Checked) error {
	p := store.Proxy{Mode: store.ProxySystem}
	err := a.store.View(func(tx *store.Tx) error {
		_, err := tx.Setting(store.SettingProxy, &p)
		return err
	})
	c.Args["mode"] = p.Mode
	if err != nil || p.Mode != store.ProxyCustom {
		return err
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return err
	}
	ports := map[string]string{"http": "80", "https": "443", "socks5": "1080"}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ports[u.Scheme])))
	if err != nil {
		return badly(fmt.Sprintf("the proxy does not answer: %v", err), "check its address, and that it can be reached from here")
	}
	return conn.Close()
}

func (a *Appliance) checkSites(ctx context.Context, c *store.Checked) error {
	var sites []store.Site
	err := a.store.View(func(tx *store.Tx) error {
		for s, err := range tx.Sites().All() {
			if err != nil {
				return err
			}
			sites = append(sites, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.Args["count"] = strconv.Itoa(len(sites))
	for _, s := range sites {
		provider, err := a.sites.Provider(s.Name)
		if err == nil {
			_, err = provider.Discover(ctx)
		}
		if err != nil {
			p := replication.AsProblem(err)
			return badly(fmt.Sprintf("site %s: %s", s.Name, p.Cause), p.Action)
		}
	}
	if len(sites) < 2 {
		return mildly("fewer than two sites are known", "add the site to protect and the one that takes over")
	}
	return nil
}

func (a *Appliance) checkTools(_ context.Context, c *store.Checked) error {
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		return mildly("qemu-img is not installed here", "install it (qemu-utils) to export recovery points as VHDX, VMDK or QCOW2; nothing else needs it")
	}
	c.Args["path"] = filepath.Clean(path)
	return nil
}

func (a *Appliance) checkBackup(context.Context, *store.Checked) error {
	plan, state, err := a.keeper.Plan()
	switch {
	case err != nil:
		return err
	case plan.Recipient == "" || plan.Every == 0:
		return mildly("the appliance does not back up its own state", "choose a folder, a passphrase and how often under Settings, Backup: without it nobody opens the vault when this computer is lost")
	case state.Problem != nil:
		return badly("the last backup of the appliance failed: "+state.Problem.Cause, state.Problem.Action)
	}
	return nil
}

func (a *Appliance) checkMail(ctx context.Context, c *store.Checked) error {
	s, err := a.notifier.Settings()
	if err != nil {
		return err
	}
	c.Args["count"] = strconv.Itoa(len(s.Mail.Recipients) + len(s.Hooks))
	if len(s.Mail.Recipients)+len(s.Hooks) == 0 {
		return mildly("nobody is told when something goes wrong", "name somebody under Settings, Notifications")
	}
	if s.Mail.Host == "" {
		return nil
	}
	return a.notifier.Greet(ctx)
}
