package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/replication"
	"riparo/web/api"
)

// services are the sign-in services that there can be one of each.
var services = []string{"openid", "directory"}

func newSignIn(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			s, err := client.SignIn(c.Context())
			if err != nil {
				return err
			}
			return t.result(s, func(w io.Writer) { printSignIn(w, s) })
		})
	}
	c := &cobra.Command{
		Use:     "sign-in [list | set openid … | set directory … | test SERVICE | remove SERVICE]",
		GroupID: groupAround,
		Short:   "Show and change the services that people sign in with",
		Long: `Show and change the services that people sign in with beside accounts of the appliance:
one that speaks OpenID Connect, and an LDAP directory such as Active Directory. Secrets
are read from a file, or from standard input with -, and are never shown again.`,
		RunE: list,
	}
	to.add(c)
	set := &cobra.Command{Use: "set", Short: "Change a sign-in service; it is asked first"}
	set.AddCommand(newSetOpenID(t, &to), newSetDirectory(t, &to))
	c.AddCommand(&cobra.Command{Use: "list", Short: "Show the services, without their secrets", Args: arguments(), RunE: list}, set,
		newServiceVerb(t, &to, "test", "Ask a sign-in service that is kept", func(c *cobra.Command, client *api.Client, service string) (string, error) {
			return "answers", client.TestSignIn(c.Context(), service)
		}),
		newServiceVerb(t, &to, "remove", "Forget a sign-in service with its secret; its people cannot sign in any more", func(c *cobra.Command, client *api.Client, service string) (string, error) {
			if service == "openid" {
				return "is removed", client.SaveOpenID(c.Context(), api.OpenID{Scopes: []string{}, Roles: []api.RoleRule{}})
			}
			return "is removed", client.SaveDirectory(c.Context(), api.Directory{Roles: []api.RoleRule{}})
		}))
	return c
}

// newServiceVerb is a verb on one of the services.
func newServiceVerb(t *terminal, to *connection, verb, short string, do func(*cobra.Command, *api.Client, string) (string, error)) *cobra.Command {
	return &cobra.Command{Use: verb + " SERVICE", Short: short, Long: short + ".\nSERVICE is openid or directory.", Args: arguments("SERVICE"), ValidArgs: services,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(services, args[0]) {
				return usagef(c, "there is no sign-in service %q: want openid or directory", args[0])
			}
			return to.reach(func(client *api.Client) error {
				done, err := do(c, client, args[0])
				if err != nil {
					return err
				}
				return t.result(map[string]any{"service": args[0], "done": true}, func(w io.Writer) { fmt.Fprintf(w, "The sign-in service %s %s.\n", args[0], done) })
			})
		}}
}

// serviceFlags are those that both services have.
type serviceFlags struct {
	off        bool
	ca, secret string
	roles      []string
}

func (f *serviceFlags) add(c *cobra.Command, secret, whose string) {
	c.Flags().BoolVar(&f.off, "off", false, "keep the settings, and let nobody sign in by them")
	c.Flags().StringVar(&f.ca, "authority", "", "PEM file with the authority of the service, when it is not a public one")
	c.Flags().StringVar(&f.secret, secret+"-file", "", "file with the "+whose+", or - for standard input; left out, the one that is kept stays")
	c.Flags().StringArrayVar(&f.roles, "role", nil, "what gives which role, as in \"dr-admins = administrator\"; repeated, it replaces all rules")
}

// read gives the rules, the authority and the secret, where they were given.
func (f *serviceFlags) read(t *terminal, c *cobra.Command, what string, rules *[]api.RoleRule, ca *string) (secret string, err error) {
	if len(f.roles) > 0 {
		*rules = nil
	}
	for _, text := range f.roles {
		at := strings.LastIndex(text, "=") // a DN has the sign too
		if at < 0 {
			return "", usagef(c, "--role %q: want VALUE = ROLE", text)
		}
		*rules = append(*rules, api.RoleRule{Value: strings.TrimSpace(text[:at]), Role: roleNamed(strings.TrimSpace(text[at+1:]))})
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return "", &replication.Problem{Code: "ca.unread", Cause: fmt.Sprintf("the file of the authority cannot be read: %v", err), Effect: "nothing was changed", Action: "check its name", Remedy: replication.Stop, Err: err}
		}
		*ca = string(pem)
	}
	if f.secret == "" {
		return "", nil
	}
	return t.secret(c, f.secret, what, "nothing was changed")
}

// given puts a flag's value where it was given, and leaves what is kept otherwise.
func given(c *cobra.Command, flags map[string]*string) {
	for name, into := range flags {
		if f := c.Flags().Lookup(name); f.Changed {
			*into = f.Value.String()
		}
	}
}

func newSetOpenID(t *terminal, to *connection) *cobra.Command {
	var f serviceFlags
	var scopes []string
	c := &cobra.Command{
		Use:   "openid [--issuer URL] [--client-id ID] [--address URL] [--secret-file FILE] [--role RULE …]",
		Short: "Let people sign in by OpenID Connect",
		Long: `Let people sign in by OpenID Connect. What is not given stays as it is. The service is
asked for its description first; what cannot work is not kept. To change who it makes an
administrator takes a second administrator (riparo approvals).`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				s, err := client.SignIn(c.Context())
				if err != nil {
					return err
				}
				o := s.OpenID
				o.Enabled = !f.off
				given(c, map[string]*string{"issuer": &o.Issuer, "client-id": &o.ClientID, "address": &o.Address, "label": &o.Label, "name-claim": &o.NameClaim, "role-claim": &o.RoleClaim})
				if len(scopes) > 0 {
					o.Scopes = scopes
				}
				if o.NameClaim == "" {
					o.NameClaim, o.RoleClaim = "preferred_username", "groups"
				}
				if o.Secret, err = f.read(t, c, "secret", &o.Roles, &o.CA); err != nil {
					return err
				}
				if err := client.SaveOpenID(c.Context(), o); err != nil {
					return err
				}
				return t.result(o, func(w io.Writer) { printSignIn(w, api.SignIn{OpenID: o, Directory: s.Directory}) })
			})
		},
	}
	for name, usage := range map[string]string{"issuer": "address of the service, https://…", "client-id": "what the service calls this appliance", "address": "of this appliance as browsers know it, https://…",
		"label": "what the button says", "name-claim": "claim with the name of the account", "role-claim": "claim that the rules are about"} {
		c.Flags().String(name, "", usage)
	}
	c.Flags().StringSliceVar(&scopes, "scopes", nil, "scopes beside openid")
	f.add(c, "secret", "secret of this appliance at the service")
	return c
}

func newSetDirectory(t *terminal, to *connection) *cobra.Command {
	var f serviceFlags
	var startTLS bool
	c := &cobra.Command{
		Use:   "directory [--server URL] [--bind-dn DN] [--password-file FILE] [--base-dn DN] [--role RULE …]",
		Short: "Let people sign in with an LDAP directory",
		Long: `Let people sign in with an account of an LDAP directory. What is not given stays as it
is. The directory is asked first; what cannot work is not kept. To change who it makes an
administrator takes a second administrator (riparo approvals).`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			return to.reach(func(client *api.Client) error {
				s, err := client.SignIn(c.Context())
				if err != nil {
					return err
				}
				d := s.Directory
				d.Enabled = !f.off
				given(c, map[string]*string{"server": &d.URL, "bind-dn": &d.BindDN, "base-dn": &d.BaseDN, "filter": &d.Filter, "name-attribute": &d.NameAttribute, "group-base-dn": &d.GroupBaseDN, "group-filter": &d.GroupFilter})
				if c.Flags().Changed("start-tls") {
					d.StartTLS = startTLS
				}
				if d.Password, err = f.read(t, c, "password", &d.Roles, &d.CA); err != nil {
					return err
				}
				if err := client.SaveDirectory(c.Context(), d); err != nil {
					return err
				}
				return t.result(d, func(w io.Writer) { printSignIn(w, api.SignIn{OpenID: s.OpenID, Directory: d}) })
			})
		},
	}
	for name, usage := range map[string]string{"server": "ldaps://HOST, or ldap://HOST with --start-tls", "bind-dn": "the account that reads the directory", "base-dn": "below which people are",
		"filter": "finds a person; {name} is what was typed", "name-attribute": "holds the name of the account", "group-base-dn": "below which groups are", "group-filter": "finds the groups of a person; {dn} is the person"} {
		c.Flags().String(name, "", usage)
	}
	c.Flags().BoolVar(&startTLS, "start-tls", false, "turn the connection to TLS before anything is sent")
	f.add(c, "password", "password of the account that reads")
	return c
}

func printSignIn(w io.Writer, s api.SignIn) {
	state := func(on bool, address string) string {
		switch {
		case address == "":
			return "not set"
		case on:
			return "on"
		}
		return "off"
	}
	rules := func(list []api.RoleRule) string {
		var lines []string
		for _, r := range list {
			lines = append(lines, r.Value+" = "+string(r.Role))
		}
		return orDash(strings.Join(lines, "\n"))
	}
	tabulate(w, table.Row{"service", "state", "address", "gives roles by"}, []table.Row{
		{"openid", state(s.OpenID.Enabled, s.OpenID.Issuer), orDash(s.OpenID.Issuer), rules(s.OpenID.Roles)},
		{"directory", state(s.Directory.Enabled, s.Directory.URL), orDash(s.Directory.URL), rules(s.Directory.Roles)}})
}
