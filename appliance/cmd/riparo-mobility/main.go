package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
)

// version is set by build.sh.
var version = "unversioned"

const usage = `usage:
  riparo-mobility inventory [--json]   what this machine has, and how its changes could be tracked
  riparo-mobility version [--json]
`

// errUsage is a command line that cannot be understood. It ends with status 2.
var errUsage = errors.New("wrong usage")

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program without the process around it. Its exit status is 0 when it is
// done, 1 when it failed, 2 for wrong usage.
func run(args []string, stdout, stderr io.Writer) int {
	err := dispatch(args, stdout, stderr)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "riparo-mobility: %v\n%s", err, usage)
		return 2
	}
	fmt.Fprintf(stderr, "riparo-mobility: %v\n", err)
	return 1
}

func dispatch(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: a command is missing", errUsage)
	}
	verb := args[0]
	switch verb {
	case "inventory", "version":
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return nil
	default:
		return fmt.Errorf("%w: there is no command %q", errUsage, verb)
	}
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "print one JSON document")
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %v", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: one argument too many: %q", errUsage, flags.Arg(0))
	}
	if verb == "version" {
		v := map[string]string{"version": version, "go": runtime.Version(), "system": runtime.GOOS + "/" + runtime.GOARCH}
		return print(stdout, *asJSON, v, func(w io.Writer) {
			fmt.Fprintf(w, "riparo-mobility %s (%s, %s)\n", version, v["system"], v["go"])
		})
	}
	found, err := takeInventory("/")
	if err != nil {
		return fmt.Errorf("take the inventory of this machine: %w", err)
	}
	return print(stdout, *asJSON, found, found.print)
}

func print(w io.Writer, asJSON bool, v any, people func(io.Writer)) error {
	if !asJSON {
		people(w)
		return nil
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
