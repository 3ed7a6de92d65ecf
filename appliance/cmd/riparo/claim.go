package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"riparo/replication"
	"riparo/web/api"
)

func newClaim(t *terminal) *cobra.Command {
	var to connection
	var body api.SetupBody
	var passwordFile string
	c := &cobra.Command{
		Use:     "claim --token TOKEN --name NAME [--password-file FILE]",
		GroupID: groupAppliance,
		Short:   "Make the first administrator of a fresh appliance, and an API token",
		Long: `Make the first administrator of a fresh appliance. TOKEN is the one-time setup token that
the daemon prints at its start and keeps in the file setup-token of its data folder. The
password is asked for, or read from FILE ("-" is standard input).

Prints an API token of an administrator as the settings that all other verbs take from
the environment.`,
		Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := required(c, "token", "name"); err != nil {
				return err
			}
			if body.Password, err = t.password(c, passwordFile); err != nil {
				return err
			}
			return to.reachAs("", func(client *api.Client) error {
				claimed, err := client.Setup(c.Context(), body)
				if err != nil {
					return err
				}
				return t.result(claimed, func(w io.Writer) { t.printClaim(w, claimed, to) })
			})
		},
	}
	to.addPlace(c)
	c.Flags().StringVar(&body.SetupToken, "token", "", "the one-time setup token")
	c.Flags().StringVar(&body.Name, "name", "", "name of the administrator")
	c.Flags().StringVar(&passwordFile, "password-file", "", `file that holds the password; "-" is standard input (default: ask for it)`)
	c.Flags().StringVar(&body.TokenName, "token-name", "command line", "name of the API token that is made; empty: none is")
	return c
}

// printClaim prints the settings in a form that a shell takes.
func (t *terminal) printClaim(w io.Writer, claimed api.Claimed, to connection) {
	t.remark("%s is the administrator of %s.", claimed.User, cmp.Or(to.url, os.Getenv(envURL)))
	if claimed.Token == nil {
		return
	}
	t.remark("The API token “%s” is not shown again. For the other verbs:", claimed.Token.Name)
	for _, s := range []struct{ name, value string }{
		{envURL, cmp.Or(to.url, os.Getenv(envURL))}, {envCA, cmp.Or(to.ca, os.Getenv(envCA))}, {envToken, claimed.Token.Secret},
	} {
		if s.value != "" {
			fmt.Fprintf(w, "export %s='%s'\n", s.name, strings.ReplaceAll(s.value, "'", `'\''`))
		}
	}
}

// maxPassword is what the appliance takes, and a mistaken file is not read whole.
const maxPassword = 1024

// password reads a new password from a file, or twice from a person.
func (t *terminal) password(c *cobra.Command, file string) (string, error) {
	return t.secret(c, file, "password", "the appliance was not claimed", "Password: ", "Again: ")
}

// secret reads a password or passphrase from a file, or from a person: once, or as
// often as there are prompts, and then always the same.
func (t *terminal) secret(c *cobra.Command, file, what, effect string, prompts ...string) (string, error) {
	refused := func(cause, action string, err error) error {
		return &replication.Problem{Code: "password.unread", Cause: cause, Effect: effect, Action: action, Remedy: replication.Stop, Err: err}
	}
	if file != "" {
		in := c.InOrStdin()
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return "", refused(fmt.Sprintf("the %s file cannot be read: %v", what, err), "check its name and who may read it", err)
			}
			defer f.Close()
			in = f
		}
		text, err := io.ReadAll(io.LimitReader(in, maxPassword+2))
		if err != nil {
			return "", refused(fmt.Sprintf("the %s cannot be read from %s: %v", what, file, err), "check the file", err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	input := int(os.Stdin.Fd())
	if !term.IsTerminal(input) {
		return "", usagef(c, "want --%s-file FILE: there is no terminal to ask for the %s on", what, what)
	}
	if len(prompts) == 0 {
		prompts = []string{strings.ToUpper(what[:1]) + what[1:] + ": "}
	}
	var typed []string
	for _, prompt := range prompts {
		fmt.Fprint(t.err, prompt)
		text, err := term.ReadPassword(input)
		fmt.Fprintln(t.err)
		if err != nil {
			return "", refused(fmt.Sprintf("the %s cannot be read: %v", what, err), "give it with --"+what+"-file", err)
		}
		typed = append(typed, string(text))
	}
	if typed[0] != typed[len(typed)-1] {
		return "", refused(fmt.Sprintf("the two %ss differ", what), "type the same one twice", nil)
	}
	return typed[0], nil
}
