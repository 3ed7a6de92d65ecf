package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// answers is what the steps of the setup are answered with. What is left out stays as
// it is.
type answers struct {
	Appliance   *generalAnswer     `toml:"appliance,omitempty"`
	Network     *networkAnswer     `toml:"network,omitempty"`
	Certificate *certificateAnswer `toml:"certificate,omitempty"`
	Vault       *vaultAnswer       `toml:"vault,omitempty"`
	Sites       []siteAnswer       `toml:"site,omitempty"`
	Policies    []policyAnswer     `toml:"policy,omitempty"`
	Backup      *backupAnswer      `toml:"backup,omitempty"`
}

type generalAnswer struct {
	Name       string `toml:"name"`
	Zone       string `toml:"zone,omitempty" comment:"as in Europe/Rome; empty is UTC"`
	TimeServer string `toml:"time_server,omitempty"`
}

type networkAnswer struct {
	Proxy  string `toml:"proxy" comment:"system, none or custom"`
	URL    string `toml:"url,omitempty"`
	Bypass string `toml:"bypass,omitempty"`
}

type certificateAnswer struct {
	Certificate string `toml:"certificate" comment:"PEM files on this computer"`
	Key         string `toml:"key"`
	Name        string `toml:"name" comment:"the name that the console is reached under"`
}

type vaultAnswer struct {
	Folder string `toml:"folder" comment:"on the appliance"`
}

type siteAnswer struct {
	Name        string `toml:"name"`
	Kind        string `toml:"kind"`
	Address     string `toml:"address"`
	Fingerprint string `toml:"fingerprint,omitempty" comment:"of an SSH key that is not known yet, or of a TLS certificate that no authority vouches for"`
}

// policyAnswer leaves a policy as it is in what it leaves out, a lock above all; a new
// one is like the policy that Riparo comes with.
type policyAnswer struct {
	Name      string `toml:"name"`
	CopyEvery string `toml:"copy_every,omitempty"`
	AppEvery  string `toml:"app_every,omitempty"`
	RPO       string `toml:"rpo_threshold,omitempty"`
	Freeze    string `toml:"freeze_limit,omitempty"`
	Keep      string `toml:"keep,omitempty"`
	LockFor   string `toml:"lock_for,omitempty"`
	Bandwidth *int64 `toml:"bytes_per_second,omitempty" comment:"0: no limit"`
}

type backupAnswer struct {
	Folder         string `toml:"folder"`
	Every          string `toml:"every"`
	Keep           int    `toml:"keep"`
	PassphraseFile string `toml:"passphrase_file,omitempty" comment:"on this computer; left out, the passphrase stays"`
}

func newSetup(t *terminal) *cobra.Command {
	var to connection
	var file string
	var export, checks bool
	c := &cobra.Command{
		Use:     "setup [--answers FILE] [--export] [--check]",
		GroupID: groupAppliance,
		Short:   "Set an appliance up from an answer file, write one, or run the checks",
		Long: `Set an appliance up as the guided setup of the console does, from a file of answers in
TOML ("-" is standard input). What the file leaves out stays as it is; given again, it
changes nothing. With --export the settings there are become such a file. With --check the
prerequisite checks are run; exit status 1 when one is bad. Without a flag it tells how far
the setup is.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			if export && (file != "" || checks) {
				return usagef(c, "--export stands alone: it only reads")
			}
			return to.reach(func(client *api.Client) error {
				if export {
					return t.exportAnswers(c.Context(), client)
				}
				if file != "" {
					if err := t.applyAnswers(c, client, file); err != nil {
						return err
					}
				}
				if checks {
					return t.runChecks(c.Context(), client)
				}
				return t.showSetup(c.Context(), client)
			})
		},
	}
	to.add(c)
	c.Flags().StringVar(&file, "answers", "", `file of answers in TOML; "-" is standard input`)
	c.Flags().BoolVar(&export, "export", false, "print the settings as a file of answers")
	c.Flags().BoolVar(&checks, "check", false, "run the prerequisite checks")
	return c
}

func (t *terminal) showSetup(ctx context.Context, client *api.Client) error {
	s, err := client.Settings(ctx)
	if err != nil {
		return err
	}
	return t.result(s, func(w io.Writer) {
		for _, step := range api.SetupSteps {
			state := "open"
			if done := s.Progress.Done[step]; !done.IsZero() {
				state = "done " + clock(done)
			}
			fmt.Fprintf(w, "%-12s %s\n", step, state)
		}
	})
}

func (t *terminal) runChecks(ctx context.Context, client *api.Client) error {
	s, err := client.Settings(ctx)
	if err != nil {
		return err
	}
	var all []store.Checked
	bad := 0
	for _, id := range s.Checks {
		one, err := client.Check(ctx, id)
		if err != nil {
			return err
		}
		if all = append(all, one); one.Outcome == store.CheckBad {
			bad++
		}
	}
	err = t.result(map[string]any{"checks": all}, func(w io.Writer) {
		for _, c := range all {
			fmt.Fprintf(w, "%-12s %-5s %s\n", c.ID, c.Outcome, c.Cause)
			if c.Action != "" {
				fmt.Fprintf(w, "%-18s → %s\n", "", c.Action)
			}
		}
	})
	if err == nil && bad > 0 {
		err = &saidError{fmt.Sprintf("%d checks are bad", bad)}
	}
	return err
}

func (t *terminal) exportAnswers(ctx context.Context, client *api.Client) error {
	s, err := client.Settings(ctx)
	if err != nil {
		return err
	}
	a := answers{Appliance: &generalAnswer{s.General.Name, s.General.Zone, s.General.TimeServer}, Network: &networkAnswer{s.Proxy.Mode, s.Proxy.URL, s.Proxy.Bypass}, Vault: &vaultAnswer{s.Vault.Folder}}
	sites, err := client.Sites(ctx)
	if err != nil {
		return err
	}
	for _, site := range sites {
		a.Sites = append(a.Sites, siteAnswer{Name: site.Name, Kind: site.Kind, Address: site.Address, Fingerprint: site.Fingerprint})
	}
	policies, err := client.Policies(ctx)
	if err != nil {
		return err
	}
	for _, p := range policies {
		a.Policies = append(a.Policies, policyAnswer{p.Name, p.CopyFrequency.String(), p.AppConsistentFrequency.String(), p.RPOThreshold.String(), p.FreezeLimit.String(), p.Retention.String(), p.LockFor.String(), &p.BytesPerSecond})
	}
	b, err := client.Backups(ctx)
	if err != nil {
		return err
	}
	if b.Sealed {
		a.Backup = &backupAnswer{Folder: b.Plan.Folder, Every: (time.Duration(b.Plan.EverySeconds) * time.Second).String(), Keep: b.Plan.Keep}
	}
	text, err := toml.Marshal(a)
	if err != nil {
		return err
	}
	_, err = t.out.Write(text)
	return err
}

func answersProblem(cause string, err error) error {
	return &replication.Problem{Code: "setup.answers", Cause: cause, Effect: "the steps before it are done, it and those after are not", Action: "correct the file and give the command again: what is done is not done twice", Remedy: replication.Stop, Err: err}
}

func (t *terminal) applyAnswers(c *cobra.Command, client *api.Client, file string) error {
	in := c.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return answersProblem(fmt.Sprintf("the answers cannot be read: %v", err), err)
		}
		defer f.Close()
		in = f
	}
	var a answers
	if err := toml.NewDecoder(in).DisallowUnknownFields().Decode(&a); err != nil {
		if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			return answersProblem("the answers have a field that is not known:\n"+strict.String(), err)
		}
		return answersProblem(fmt.Sprintf("the answers cannot be read: %v", err), err)
	}
	for _, step := range []struct {
		name string
		do   func(context.Context, *api.Client) error
	}{{"appliance", a.appliance}, {"network", a.network}, {"certificate", a.certificate}, {"roles", nil}, {"site", a.sites}, {"target", nil}, {"policy", a.policies},
		{"", func(ctx context.Context, client *api.Client) error { return a.backup(t, c, client) }}, {"vault", a.vault}} {
		if step.do != nil {
			if err := step.do(c.Context(), client); err != nil {
				return err
			}
		}
		if step.name != "" && step.name != "vault" {
			if err := client.StepDone(c.Context(), step.name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a answers) appliance(ctx context.Context, client *api.Client) error {
	if a.Appliance == nil {
		return nil
	}
	return client.SaveGeneral(ctx, store.General{Name: a.Appliance.Name, Zone: a.Appliance.Zone, TimeServer: a.Appliance.TimeServer})
}

func (a answers) network(ctx context.Context, client *api.Client) error {
	if a.Network == nil {
		return nil
	}
	return client.SaveProxy(ctx, store.Proxy{Mode: a.Network.Proxy, URL: a.Network.URL, Bypass: a.Network.Bypass})
}

func (a answers) certificate(ctx context.Context, client *api.Client) error {
	if a.Certificate == nil {
		return nil
	}
	cert, err := os.ReadFile(a.Certificate.Certificate)
	if err != nil {
		return answersProblem(fmt.Sprintf("the certificate cannot be read: %v", err), err)
	}
	key, err := os.ReadFile(a.Certificate.Key)
	if err != nil {
		return answersProblem(fmt.Sprintf("the key of the certificate cannot be read: %v", err), err)
	}
	return client.InstallCertificate(ctx, api.NewCertificate{Certificate: string(cert), Key: string(key), Name: a.Certificate.Name})
}

// vault comes last: when it moves, the appliance begins again.
func (a answers) vault(ctx context.Context, client *api.Client) error {
	for _, step := range []string{"vault", "checks", "finish"} {
		if err := client.StepDone(ctx, step); err != nil {
			return err
		}
	}
	if a.Vault == nil {
		return nil
	}
	return client.MoveVault(ctx, a.Vault.Folder)
}

func (a answers) sites(ctx context.Context, client *api.Client) error {
	known, err := client.Sites(ctx)
	if err != nil {
		return err
	}
	there := map[string]store.Site{}
	for _, s := range known {
		there[s.Name] = s
	}
	for _, s := range a.Sites {
		if old, exists := there[s.Name]; exists {
			if old.Kind != s.Kind || old.Address != cmp.Or(s.Address, old.Address) {
				return answersProblem(fmt.Sprintf("there is a site %s already, of another kind or at another address", s.Name), nil)
			}
			continue
		}
		if err := client.AddSite(ctx, api.SiteBody{Name: s.Name, Kind: s.Kind, Address: s.Address, Fingerprint: s.Fingerprint}); err != nil {
			return err
		}
	}
	return nil
}

func (a answers) policies(ctx context.Context, client *api.Client) error {
	for _, p := range a.Policies {
		out, err := policyToChange(ctx, client, p.Name)
		if err != nil {
			return err
		}
		for _, field := range []struct {
			name, text string
			into       *time.Duration
		}{{"copy_every", p.CopyEvery, &out.CopyFrequency}, {"app_every", p.AppEvery, &out.AppConsistentFrequency}, {"rpo_threshold", p.RPO, &out.RPOThreshold},
			{"freeze_limit", p.Freeze, &out.FreezeLimit}, {"lock_for", p.LockFor, &out.LockFor}} {
			if field.text == "" {
				continue
			}
			if *field.into, err = replication.ParseDuration(field.text); err != nil {
				return answersProblem(fmt.Sprintf("policy %s: %s: %v", p.Name, field.name, err), err)
			}
		}
		if p.Keep != "" {
			if out.Retention, err = replication.ParseRetention(p.Keep); err != nil {
				return answersProblem(fmt.Sprintf("policy %s: %v", p.Name, err), err)
			}
		}
		if p.Bandwidth != nil {
			out.BytesPerSecond = *p.Bandwidth
		}
		if err := client.SavePolicy(ctx, out); err != nil {
			return err
		}
	}
	return nil
}

func (a answers) backup(t *terminal, c *cobra.Command, client *api.Client) error {
	if a.Backup == nil {
		return nil
	}
	every, err := time.ParseDuration(a.Backup.Every)
	if err != nil {
		return answersProblem(fmt.Sprintf("backup: %v", err), err)
	}
	plan := api.BackupPlan{Folder: a.Backup.Folder, EverySeconds: int64(every.Seconds()), Keep: a.Backup.Keep}
	if a.Backup.PassphraseFile != "" {
		if plan.Passphrase, err = t.secret(c, a.Backup.PassphraseFile, "passphrase", "the backup is not set up"); err != nil {
			return err
		}
	}
	return client.SaveBackupPlan(c.Context(), plan)
}
