package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"riparo/store"
	"riparo/web/api"
)

func newTokens(t *terminal) *cobra.Command {
	var to connection
	list := func(c *cobra.Command, _ []string) error {
		return to.reach(func(client *api.Client) error {
			tokens, err := client.Tokens(c.Context())
			if err != nil {
				return err
			}
			return t.result(map[string]any{"tokens": tokens}, func(w io.Writer) { printTokens(w, tokens) })
		})
	}
	c := &cobra.Command{
		Use:     "tokens [list | create NAME … | revoke TOKEN]",
		GroupID: groupAround,
		Short:   "List, create and revoke API tokens",
		RunE:    list,
	}
	to.add(c)
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the API tokens, without their secrets", Args: arguments(), RunE: list},
		newCreateToken(t, &to),
		&cobra.Command{
			Use:   "revoke TOKEN",
			Short: "End an API token, named by its name or ID",
			Args:  arguments("TOKEN"),
			RunE: func(c *cobra.Command, args []string) error {
				return to.reach(func(client *api.Client) error {
					tokens, err := client.Tokens(c.Context())
					if err != nil {
						return err
					}
					token, err := named("token", args[0], tokens,
						func(k api.Token) string { return k.ID },
						func(k api.Token) string { return k.Name },
						func(k api.Token) string { return fmt.Sprintf("%s (%s)", k.Name, k.ID) })
					if err != nil {
						return err
					}
					if err := client.RevokeToken(c.Context(), token.ID); err != nil {
						return err
					}
					return t.result(map[string]any{"revoked": token.ID}, func(w io.Writer) { fmt.Fprintf(w, "token %s (%s) is revoked\n", token.Name, token.ID) })
				})
			},
		},
	)
	return c
}

func printTokens(w io.Writer, tokens []api.Token) {
	var rows []table.Row
	for _, k := range tokens {
		expires := "never"
		if !k.Expires.IsZero() {
			expires = clock(k.Expires)
		}
		rows = append(rows, table.Row{k.Name, k.ID, k.Role, k.By, clock(k.Created), expires, clock(k.LastUsed)})
	}
	tabulate(w, table.Row{"token", "id", "role", "by", "created", "expires", "last used"}, rows)
}

func newCreateToken(t *terminal, to *connection) *cobra.Command {
	var role string
	var life time.Duration
	c := &cobra.Command{
		Use:   "create NAME --role ROLE [--life TIME]",
		Short: "Make an API token; its secret is shown once",
		Args:  arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := required(c, "role"); err != nil {
				return err
			}
			if life < 0 {
				return usagef(c, "--life %s: want a time above 0, or 0 for one that does not expire", life)
			}
			body := api.TokenBody{Name: args[0], Role: store.Role(strings.ReplaceAll(role, "-", " ")), Hours: life.Hours()}
			return to.reach(func(client *api.Client) error {
				made, err := client.CreateToken(c.Context(), body)
				if err != nil {
					return err
				}
				return t.result(made, func(w io.Writer) {
					fmt.Fprintln(w, made.Secret)
					t.remark("This is the secret of token %s (%s). It is not shown again.", made.Name, made.Role)
				})
			})
		},
	}
	c.Flags().StringVar(&role, "role", "", "viewer, auditor, operator, recovery-operator or administrator")
	c.Flags().DurationVar(&life, "life", 0, "how long it is good for, as in 720h; 0: it does not expire")
	return c
}
