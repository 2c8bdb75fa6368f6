package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Exit codes (DESIGN 3.1).
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// streams are the process's standard streams, so that a test can have its own.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// environment is a process environment in os.Environ's form.
type environment []string

// lookup finds a variable; the last one of a name wins.
func (e environment) lookup(name string) (string, bool) {
	for _, entry := range slices.Backward(e) {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

func (e environment) get(name string) string {
	v, _ := e.lookup(name)
	return v
}

// usageError is wrong usage or config: exit code 2.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// listed is the text of an error as printed made it, in another process.
type listed string

func (l listed) Error() string { return string(l) }

// printed is an error in one line, whatever lines an SDK put into it; but the
// problems of a config or data file, and those are one line each.
func printed(err error) string {
	var several listed
	text := strings.TrimSpace(err.Error())
	if errors.As(err, new(*config.Error)) || errors.As(err, new(datafile.Problems)) || errors.As(err, &several) {
		return text
	}
	return strings.Join(strings.Fields(text), " ")
}

// run is the program: it returns the exit code and leaves the process alone.
func run(ctx context.Context, args []string, s streams, env environment) int {
	root := rootCommand(s, env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if !errors.As(err, new(usageError)) && isCobraUsage(err) { // a flag's error has its hint already
		err = usagef("%w; see `sidecar --help`", err)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted before it was done")
	}
	for line := range strings.SplitSeq(printed(err), "\n") {
		fmt.Fprintf(s.err, "sidecar: %s\n", line)
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

// isCobraUsage recognises the errors that cobra makes for wrong words on the
// command line; it has no type for them.
func isCobraUsage(err error) bool {
	for _, p := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires at least", "required flag", "invalid argument"} {
		if strings.HasPrefix(err.Error(), p) && fault.CodeOf(err) == fault.Internal {
			return true
		}
	}
	return false
}

func rootCommand(s streams, env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "sidecar",
		Short: "Patchbay: which backend answers for this tenant, ready to use",
		Long: "Patchbay is a multi-tenant connector sidecar. One localhost call answers, for the tenant and\n" +
			"organization in a JWT, which backend is the default for a category, with its config and secrets.\n\n" +
			"Start with:  sidecar dev",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usagef("%w; see `%s --help`", err, c.CommandPath()) })
	root.PersistentFlags().String("config", "", "YAML config file (or PATCHBAY_CONFIG)")
	root.PersistentFlags().StringArray("set", nil, "a config key, over file and environment: --set probes.listen=:7413 (repeatable)")
	root.AddCommand(
		devCommand(s, env), serveCommand(s, env), adminCommand(s, env), migrateCommand(s, env),
		importCommand(s, env), exportCommand(s, env), resolveCommand(s, env), tokenCommand(s, env),
		kindsCommand(s, env), openAPICommand(s, env), checkCommand(s, env), healthcheckCommand(s, env), versionCommand(s),
	)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra's own takes a wrong shell for a call for help
			c.Args, c.RunE = cobra.NoArgs, func(c *cobra.Command, _ []string) error { return c.Help() }
		}
	}
	return root
}
