package appliance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"riparo/appliance/setup"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Setup tells how far the setup is and what is set.
func (a *Appliance) Setup(context.Context) (api.Setup, error) {
	s := api.Setup{Proxy: store.Proxy{Mode: store.ProxySystem}, Checks: checkNames(), Certificate: a.certificateShown()}
	err := a.store.View(func(tx *store.Tx) error {
		_, err1 := tx.Setting(store.SettingSetup, &s.Progress)
		_, err2 := tx.Setting(store.SettingGeneral, &s.General)
		_, err3 := tx.Setting(store.SettingProxy, &s.Proxy)
		var plan store.BackupPlan
		_, err4 := tx.Setting(store.SettingBackup, &plan)
		s.Backup = plan.Recipient != "" && plan.Every > 0
		return errors.Join(err1, err2, err3, err4)
	})
	if err != nil {
		return s, err
	}
	s.Vault.Folder, _, err = a.vaultFolder()
	s.Vault.InUse = !a.vault.Empty()
	_, keyErr := os.Stat(filepath.Join(a.config.Data, "pki", "master.key"))
	s.Vault.MasterKey = keyErr == nil
	return s, err
}

func (a *Appliance) certificateShown() api.Certificate {
	i := a.certificate.Info()
	return api.Certificate{Own: i.Own, Subject: i.Subject, Issuer: i.Issuer, Names: append([]string{}, i.Names...), Ends: i.Ends, Fingerprint: i.Fingerprint, Authority: i.Authority, AuthorityFingerprint: i.AuthorityFingerprint}
}

// StepDone notes that a step of the setup is done.
func (a *Appliance) StepDone(_ context.Context, actor, step string) error {
	return a.changeSetup(func(tx *store.Tx, p *store.SetupProgress) error {
		if p.Done == nil {
			p.Done = map[string]time.Time{}
		}
		if p.Done[step].IsZero() {
			p.Done[step] = time.Now().UTC()
		}
		if step != "finish" || !p.Finished.IsZero() {
			return nil
		}
		p.Finished = time.Now().UTC()
		return tx.AddEvent(store.Event{Severity: store.SeverityInfo, Code: "setup.finished", Text: "the setup was finished by " + actor, Args: map[string]string{"actor": actor}})
	})
}

func (a *Appliance) changeSetup(change func(*store.Tx, *store.SetupProgress) error) error {
	return a.store.Update(func(tx *store.Tx) error {
		var p store.SetupProgress
		if _, err := tx.Setting(store.SettingSetup, &p); err != nil {
			return err
		}
		if err := change(tx, &p); err != nil {
			return err
		}
		return tx.SetSetting(store.SettingSetup, p)
	})
}

func (a *Appliance) setSetting(name string, value any, code, actor, text string) error {
	return a.store.Update(func(tx *store.Tx) error {
		return errors.Join(tx.SetSetting(name, value), tx.AddEvent(store.Event{Severity: store.SeverityInfo, Code: code, Text: text + " by " + actor, Args: map[string]string{"actor": actor}}))
	})
}

func invalidSetting(cause, action string) error {
	return &replication.Problem{Code: "setting.invalid", Cause: cause, Effect: "nothing was changed", Action: action, Remedy: replication.Stop}
}

// maxName is for the name of the appliance: it begins subjects of mail and names of
// files.
const maxName = 63

// SaveGeneral keeps what the appliance is called, and its clock.
func (a *Appliance) SaveGeneral(_ context.Context, actor string, g store.General) error {
	g.Name, g.Zone, g.TimeServer = strings.TrimSpace(g.Name), strings.TrimSpace(g.Zone), strings.TrimSpace(g.TimeServer)
	if g.Name == "" || len(g.Name) > maxName || strings.ContainsFunc(g.Name, func(r rune) bool { return r < ' ' }) {
		return invalidSetting("the appliance needs a name of 1 to 63 characters", "give it the name of its place, for example")
	}
	if _, err := time.LoadLocation(g.Zone); err != nil || g.Zone == "Local" {
		return invalidSetting(fmt.Sprintf("there is no time zone %q", g.Zone), "give it as in Europe/Rome, or leave it empty for UTC")
	}
	return a.setSetting(store.SettingGeneral, g, "appliance.named", actor, "name and clock of the appliance were changed")
}

// SaveProxy keeps how the appliance reaches web services outside.
func (a *Appliance) SaveProxy(_ context.Context, actor string, p store.Proxy) error {
	p.URL, p.Bypass = strings.TrimSpace(p.URL), strings.TrimSpace(p.Bypass)
	switch p.Mode {
	case store.ProxyNone, store.ProxySystem:
		p.URL, p.Bypass = "", ""
	case store.ProxyCustom:
		u, err := url.Parse(p.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			return invalidSetting(fmt.Sprintf("%q is not the address of a proxy", p.URL), "give it as http://HOST:PORT")
		}
		if _, secret := u.User.Password(); secret {
			return invalidSetting("the address of the proxy holds a password", "let the proxy know this appliance by its address: a password would stand in the state file")
		}
	default:
		return invalidSetting(fmt.Sprintf("there is no proxy mode %q", p.Mode), "choose none, system or custom")
	}
	return a.setSetting(store.SettingProxy, p, "proxy.saved", actor, "the proxy was changed")
}

// InstallCertificate takes a certificate that a person brings, into use at once.
func (a *Appliance) InstallCertificate(_ context.Context, actor string, c api.NewCertificate) error {
	var names []string
	if c.Name != "" {
		names = append(names, c.Name)
	}
	if err := a.certificate.Install(c.Certificate, c.Key, names); err != nil {
		return err
	}
	return a.tellCertificate(actor)
}

// RenewCertificate issues one by the appliance's own authority.
func (a *Appliance) RenewCertificate(_ context.Context, actor string) error {
	if err := a.certificate.Renew(); err != nil {
		return err
	}
	return a.tellCertificate(actor)
}

func (a *Appliance) tellCertificate(actor string) error {
	print := a.certificate.Info().Fingerprint
	return a.store.Update(func(tx *store.Tx) error {
		return tx.AddEvent(store.Event{Severity: store.SeverityWarning, Code: "certificate.changed", Text: fmt.Sprintf("the certificate of the console was changed by %s; its fingerprint is %s", actor, print),
			Args: map[string]string{"actor": actor, "fingerprint": print}})
	})
}

// ProbeFolder measures a folder for the vault.
func (a *Appliance) ProbeFolder(ctx context.Context, folder string) (api.Probe, error) {
	p, err := setup.ProbeFolder(ctx, strings.TrimSpace(folder))
	if err != nil {
		return api.Probe{}, err
	}
	kept := store.Probed{Folder: p.Folder, WriteSpeed: p.WriteSpeed, Sync: p.Sync, Free: p.Free, Total: p.Total, Time: p.Taken}
	err = a.changeSetup(func(_ *store.Tx, s *store.SetupProgress) error { s.Probe = &kept; return nil })
	return api.Probe{Folder: p.Folder, WriteSpeed: p.WriteSpeed, Sync: p.Sync, SyncSeconds: p.Sync.Seconds(), FreeBytes: p.Free, TotalBytes: p.Total}, err
}

// MoveVault uses another folder for the vault, as long as the one there is holds
// nothing.
func (a *Appliance) MoveVault(ctx context.Context, actor, folder string) error {
	folder = filepath.Clean(strings.TrimSpace(folder))
	now, place, err := a.vaultFolder()
	if err != nil || now == folder {
		return err
	}
	if !a.vault.Empty() {
		return &replication.Problem{Code: "vault.in-use", Cause: "the vault holds recovery points and cannot move", Effect: "nothing was changed",
			Action: "stop the daemon, move the folder, and start it with --vault", Remedy: replication.Stop}
	}
	if _, err := a.ProbeFolder(ctx, folder); err != nil {
		return err
	}
	place.Path, place.Used = folder, false
	if err := a.setSetting(store.SettingVault, place, "vault.moved", actor, "the vault was put into "+folder); err != nil {
		return err
	}
	a.restartLater()
	return nil
}
