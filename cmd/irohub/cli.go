package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// A command is what stands behind one word of the command line.
type command struct {
	name     string
	synopsis string // what follows the name
	short    string // one line for the list of commands
	text     string // what --help says of it
	reloads  bool   // SIGHUP is for it, and does not end it
	// setup declares flags, and returns what does the work once they are read.
	setup func(*pflag.FlagSet) action
}

// An action is given the arguments besides the flags. It ends when ctx does, which
// stands for SIGINT, SIGTERM and, unless its command reloads, SIGHUP.
type action func(ctx context.Context, args []string, std stdio) error

var commands = []command{hubCommand, subCommand, pubCommand, benchCommand, idCommand, versionCommand}

const about = `irohub passes events between processes by topic, over iroh or over TLS.

An event is a line of JSON: {"type":"message.sent","id":"conv-123","payload":…}.
Its topic is type:id, or the type alone where there is no id. The topic T:* stands
for all of the type T, and direct:NODEID is the mailbox of one node.

PEER is NODEID@HOST:PORT[,HOST:PORT]… or a ticket of iroh's; a hub prints them at its
start. Both sides take the same --transport.

Flags stand anywhere behind the command's name; behind -- there are none. Each may be
given by the environment too, --max-queue by IROHUB_MAX_QUEUE for instance, for every
command that has the flag; the command line has precedence.

Exit status: 0 all done; 1 it failed: the hub cannot be reached, refuses, or went
away; 2 the command line or the input is wrong.`

// usageTemplate is what --help says below the text; flags is flagUsages.
const usageTemplate = `Usage: {{.UseLine}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- end}}

Flags:
{{flags .}}
{{- if .HasAvailableSubCommands}}

irohub COMMAND --help explains a command.
{{- end}}
`

func init() {
	cobra.AddTemplateFunc("flags", flagUsages)
	cobra.EnableCommandSorting = false
}

// flagUsages lists the flags of a command, without what pflag writes behind each that takes no
// value.
func flagUsages(c *cobra.Command) string {
	text := c.Flags().FlagUsagesWrapped(100)
	const needless = "[=true|false]"
	return strings.TrimRight(strings.ReplaceAll(text, needless, strings.Repeat(" ", len(needless))), "\n")
}

// A program is one run of irohub.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	said           *sink // in front of stderr
	verbose        bool
}

// execute does what the command line says, and returns the command that it called.
func (p *program) execute(ctx context.Context, args []string) (*cobra.Command, error) {
	root := p.root()
	root.SetArgs(tidy(root, args))
	return root.ExecuteContextC(ctx)
}

// root makes the tree of commands.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "irohub COMMAND [flags]",
		Short:         "Pass events between processes by topic",
		Long:          about,
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprint(p.said, c.UsageString())
			return usagef("a command is needed")
		},
	}
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.SetUsageTemplate(usageTemplate)
	root.PersistentFlags().BoolVarP(&p.verbose, "verbose", "v", false, "log details too")
	for _, cmd := range commands {
		root.AddCommand(p.command(&cmd))
	}
	return root
}

func (p *program) command(cmd *command) *cobra.Command {
	c := &cobra.Command{
		Use:               strings.TrimSpace(cmd.name + " " + cmd.synopsis),
		Short:             cmd.short,
		Long:              cmd.text,
		Args:              cobra.ArbitraryArgs, // the action looks at them
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().SortFlags = false
	work := cmd.setup(c.Flags())
	c.Flags().VisitAll(func(f *pflag.Flag) { completeFlag(c, f) })
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := readEnvironment(c.Flags()); err != nil {
			return err
		}
		std := stdio{in: p.stdin, out: p.stdout, log: p.logger()}
		for _, name := range strayVariables(c.Root(), os.Environ()) {
			std.log.Warn("this variable stands for no flag of any command", "name", name)
		}
		if !p.verbose && isTerminal(p.stderr) {
			std.screen = p.stderr
		}
		ctx, stop := p.hangup(c.Context(), cmd, &std)
		defer stop()
		return work(ctx, args, std)
	}
	return c
}

func (p *program) logger() *slog.Logger {
	level := slog.LevelInfo
	if p.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(p.said, &slog.HandlerOptions{Level: level}))
}

// hangup says what SIGHUP does: it is the end of the terminal that the program was started
// from, and else, to a command that reloads, the word to do so. Who ignores it, as nohup does,
// has it ignored.
func (p *program) hangup(ctx context.Context, cmd *command, std *stdio) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	if cmd.reloads && !isTerminal(p.stdin) && !isTerminal(p.stderr) {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGHUP)
		std.hangup = c
		return ctx, func() { signal.Stop(c) }
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // so that a second one kills
	return ctx, stop
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if c.SuggestionsMinimumDistance = 2; len(c.SuggestionsFor(args[0])) > 0 {
		return usagef("there is no command %q; is %q meant?", args[0], c.SuggestionsFor(args[0])[0])
	}
	return usagef("there is no command %q", args[0])
}

// flagError names a flag in the same way everywhere.
func flagError(err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usagef("--%s: %q: %w", bad.GetFlag().Name, bad.GetValue(), bad.Unwrap())
	}
	return usageError{err}
}

const environmentPrefix = "IROHUB_"

func environmentName(flag string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readEnvironment sets the flags that the command line has not set.
func readEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := environmentName(f.Name)
		value := os.Getenv(name)
		if f.Changed || f.Name == "help" || value == "" || err != nil {
			return
		}
		if bad := flags.Set(f.Name, value); bad != nil {
			if in, ok := errors.AsType[*pflag.InvalidValueError](bad); ok {
				bad = in.Unwrap()
			}
			err = usagef("%s: %q: %w", name, value, bad)
		}
	})
	return err
}

// strayVariables are those of an environment that look like a flag and are none.
func strayVariables(root *cobra.Command, environ []string) (stray []string) {
	known := make(map[string]bool)
	note := func(f *pflag.Flag) { known[environmentName(f.Name)] = true }
	root.PersistentFlags().VisitAll(note)
	for _, c := range root.Commands() {
		c.Flags().VisitAll(note)
	}
	for _, variable := range environ {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, environmentPrefix) && !known[name] {
			stray = append(stray, name)
		}
	}
	return stray
}

// completeFlag says what a shell offers behind a flag: files where it names one, the values
// where its usage lists them, and else nothing.
func completeFlag(c *cobra.Command, f *pflag.Flag) {
	name, _ := pflag.UnquoteUsage(f)
	switch {
	case name == "FILE":
	case strings.Contains(name, "|"):
		var values []cobra.Completion
		for v := range strings.SplitSeq(name, "|") {
			if v != strings.ToUpper(v) { // else it stands for something
				values = append(values, v)
			}
		}
		c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	default:
		c.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
	}
}

// tidy returns a command line in the order flags, --, arguments. So flags may stand anywhere,
// but "-1" is a payload; and a flag's long name may have a single dash, as it once had to.
func tidy(root *cobra.Command, args []string) []string {
	var before []string // the command's name; the root's flags have no values
	for i, arg := range args {
		if arg == "-help" {
			arg = "--help"
		}
		if strings.HasPrefix(arg, "-") {
			before = append(before, arg)
			continue
		}
		for _, c := range root.Commands() {
			if c.Name() == arg {
				c.InitDefaultHelpFlag()
				flags := pflag.NewFlagSet(arg, pflag.ContinueOnError)
				flags.AddFlagSet(c.Flags())
				flags.AddFlagSet(root.PersistentFlags())
				return append(append(before, arg), arrange(flags, args[i+1:])...)
			}
		}
		return append(before, args[i:]...)
	}
	return before
}

// arrange is tidy for the arguments behind the command's name.
func arrange(flags *pflag.FlagSet, args []string) []string {
	var options, operands []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			operands = append(operands, args...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' || '0' <= arg[1] && arg[1] <= '9' {
			operands = append(operands, arg)
			continue
		}
		option, needsValue := asOption(flags, arg)
		options = append(options, option)
		if needsValue {
			if len(args) == 0 {
				return options // or else it would be -- that it takes
			}
			options = append(options, args[0])
			args = args[1:]
		}
	}
	return append(append(options, "--"), operands...)
}

// asOption returns an argument that is a flag with the dashes that it should have, and says
// whether its value is the next argument.
func asOption(flags *pflag.FlagSet, arg string) (option string, needsValue bool) {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	long := flags.Lookup(name)
	switch {
	case strings.HasPrefix(arg, "--"):
	case long != nil && len(name) > 1:
		arg = "-" + arg
	default: // short ones, of which the first that takes a value takes the rest
		for i := range len(name) {
			f := flags.ShorthandLookup(name[i : i+1])
			if f == nil && i == 0 {
				return "-" + arg, false // unknown, and the error names all of it
			}
			if f == nil || f.NoOptDefVal == "" {
				return arg, f != nil && i == len(name)-1 && !hasValue
			}
		}
		return arg, false
	}
	return arg, long != nil && long.NoOptDefVal == "" && !hasValue
}

// unexpected is the error of a command that takes no arguments.
func unexpected(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("unexpected argument %q", args[0])
}
