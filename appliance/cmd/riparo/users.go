package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/store"
	"riparo/web/api"
)

func newUsers(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			users, err := client.Users(c.Context())
			if err != nil {
				return err
			}
			return t.result(map[string]any{"users": users}, func(w io.Writer) { printUsers(w, users) })
		})
	}
	c := &cobra.Command{
		Use:     "users [list | add NAME … | role NAME ROLE | disable NAME | …]",
		GroupID: groupAround,
		Short:   "List, add and change accounts, and end their sessions",
		Long: `List, add and change the accounts of people, and end their sessions.

What would take the appliance from an administrator, or make another one, and taking
the second factor from anybody, is done when a second administrator approves it
(riparo approvals), as long as there are two.`,
		RunE: list,
	}
	to.add(c)
	change := func(use, short, said, kind string) *cobra.Command {
		return &cobra.Command{Use: use + " NAME", Short: short, Args: arguments("NAME"), RunE: func(c *cobra.Command, args []string) error {
			return changeUser(c.Context(), t, &to, args[0], said, api.UserChange{Kind: kind})
		}}
	}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the accounts", Args: arguments(), RunE: list},
		newAddUser(t, &to),
		&cobra.Command{Use: "role NAME ROLE", Short: "Give an account another role; it is signed out", Args: arguments("NAME", "ROLE"), RunE: func(c *cobra.Command, args []string) error {
			role := roleNamed(args[1])
			return changeUser(c.Context(), t, &to, args[0], "is "+string(role)+" now", api.UserChange{Kind: api.UserRole, Role: role})
		}},
		change("disable", "Close an account; it is signed out", "is closed", api.UserDisable),
		change("enable", "Open a closed account again", "is open again", api.UserEnable),
		newResetPassword(t, &to),
		change("reset-second-factor", "Take one-time codes and passkeys from an account that has lost them", "has no second factor any more", api.UserSecond),
		change("remove", "End an account; it is signed out", "is removed", api.UserRemove),
		newSessions(t, &to),
		newSecondRule(t, &to),
	)
	return c
}

func printUsers(w io.Writer, users []api.User) {
	var rows []table.Row
	for _, u := range users {
		var signs []string
		if u.Codes {
			signs = append(signs, "codes")
		}
		if u.Passkeys > 0 {
			signs = append(signs, "passkey")
		}
		state := "open"
		if u.Disabled {
			state = "closed"
		}
		rows = append(rows, table.Row{u.Name, u.Role, u.Source, state, strings.Join(signs, ", "), clock(u.LastLogin)})
	}
	tabulate(w, table.Row{"name", "role", "known to", "account", "second factor", "last sign-in"}, rows)
}

// roleNamed takes a role as people type it: recovery-operator.
func roleNamed(text string) store.Role { return store.Role(strings.ReplaceAll(text, "-", " ")) }

func changeUser(ctx context.Context, t *terminal, to *connection, name, said string, u api.UserChange) error {
	return to.reach(func(client *api.Client) error {
		if err := client.ChangeUser(ctx, name, u); err != nil {
			return err
		}
		return t.result(map[string]any{"user": name, "change": u.Kind, "done": true}, func(w io.Writer) { fmt.Fprintf(w, "%s %s.\n", name, said) })
	})
}

func newAddUser(t *terminal, to *connection) *cobra.Command {
	var role, file string
	c := &cobra.Command{
		Use:   "add NAME --role ROLE",
		Short: "Make an account with a first password",
		Args:  arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := required(c, "role"); err != nil {
				return err
			}
			password, err := t.firstPassword(c, file)
			if err != nil {
				return err
			}
			u := api.NewUser{Name: args[0], Password: password, Role: roleNamed(role)}
			return to.reach(func(client *api.Client) error {
				if err := client.AddUser(c.Context(), u); err != nil {
					return err
				}
				return t.result(map[string]any{"user": u.Name, "role": u.Role}, func(w io.Writer) {
					fmt.Fprintf(w, "%s may sign in as %s and has to choose another password then.\n", u.Name, u.Role)
				})
			})
		},
	}
	c.Flags().StringVar(&role, "role", "", "viewer, auditor, operator, recovery-operator or administrator")
	c.Flags().StringVar(&file, "password-file", "", passwordFileUsage)
	return c
}

func newResetPassword(t *terminal, to *connection) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "reset-password NAME",
		Short: "Give an account another first password",
		Args:  arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			password, err := t.firstPassword(c, file)
			if err != nil {
				return err
			}
			return changeUser(c.Context(), t, to, args[0], "has to choose another password with the next sign-in", api.UserChange{Kind: api.UserPassword, Password: password})
		},
	}
	c.Flags().StringVar(&file, "password-file", "", passwordFileUsage)
	return c
}

// firstPassword reads the first password of somebody else's account.
func (t *terminal) firstPassword(c *cobra.Command, file string) (string, error) {
	return t.secret(c, file, "password", "nothing was done", "First password: ", "Again: ")
}

const passwordFileUsage = `file that holds the password; "-" is standard input (default: ask for it)`

func newSessions(t *terminal, to *connection) *cobra.Command {
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			sessions, err := client.Sessions(c.Context())
			if err != nil {
				return err
			}
			return t.result(map[string]any{"sessions": sessions}, func(w io.Writer) {
				var rows []table.Row
				for _, s := range sessions {
					rows = append(rows, table.Row{s.User, s.ID, s.Address, clock(s.Began), clock(s.Used)})
				}
				tabulate(w, table.Row{"user", "session", "from", "began", "last used"}, rows)
			})
		})
	}
	c := &cobra.Command{Use: "sessions [end SESSION]", Short: "List the browsers that are signed in, or end one's session", RunE: list, Args: arguments()}
	c.AddCommand(&cobra.Command{Use: "end SESSION", Short: "End a session", Args: arguments("SESSION"), RunE: func(c *cobra.Command, args []string) error {
		return to.reach(func(client *api.Client) error {
			if err := client.EndSession(c.Context(), args[0]); err != nil {
				return err
			}
			return t.result(map[string]any{"session": args[0], "ended": true}, func(w io.Writer) { fmt.Fprintln(w, "The session is ended.") })
		})
	}})
	return c
}

func newSecondRule(t *terminal, to *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "require-second-factor [ROLE … | none]",
		Short: "Show or say which roles have to have a second factor",
		RunE: func(c *cobra.Command, args []string) error {
			return to.reach(func(client *api.Client) error {
				if len(args) > 0 {
					roles := []store.Role{}
					for _, a := range args {
						if a != "none" {
							roles = append(roles, roleNamed(a))
						}
					}
					if err := client.SaveSecondRule(c.Context(), roles); err != nil {
						return err
					}
				}
				rule, err := client.SecondRule(c.Context())
				if err != nil {
					return err
				}
				return t.result(rule, func(w io.Writer) {
					if len(rule.Roles) == 0 {
						fmt.Fprintln(w, "No role has to have a second factor.")
					}
					for _, role := range rule.Roles {
						fmt.Fprintln(w, role)
					}
				})
			})
		},
	}
}
