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

// A command is a subcommand of irohub.
type command struct {
	name     string
	synopsis string // flags and arguments that follow the name
	short    string // one line for the list of commands
	text     string // the description for --help
	reloads  bool   // SIGHUP makes it read its files again, instead of ending it
	// setup declares flags. The action that it returns runs after they have been parsed.
	setup func(*pflag.FlagSet) action
}

// An action does a command's work. args are the arguments without the flags. ctx ends at SIGINT
// and SIGTERM, and at SIGHUP unless the command reloads. The action then returns soon.
type action func(ctx context.Context, args []string, std stdio) error

var commands = []command{hubCommand, subCommand, pubCommand, benchCommand, idCommand, versionCommand}

const about = `irohub passes events between processes by topic, over iroh or over TLS.

An event is a line of JSON: {"type":"message.sent","id":"conv-123","payload":…}.
Its topic is type:id, or only the type if it has no id. A subscription to T:* gets all
events of the type T, with or without an id. The topic direct:NODEID is the mailbox of
one node.

PEER is NODEID@HOST:PORT[,HOST:PORT]… or a ticket of iroh. A hub prints both when it
starts. Hub and spokes need the same --transport.

Flags may stand before, between and after the arguments, but not after --. Each flag can
also be set by an environment variable, for example --max-queue by IROHUB_MAX_QUEUE. The
command line has precedence.

Exit status: 0 if everything was done; 1 if the hub cannot be reached, refuses, or goes
away; 2 if the command line or the input is wrong.`

// usageTemplate is the part of --help after the description. flags calls flagUsages.
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

// flagUsages lists the flags of a command. It removes the text that pflag adds to each flag
// without a value.
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

// execute runs the command that the command line names, and returns it.
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
			return usagef("the command is missing")
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
		Args:              cobra.ArbitraryArgs, // the action checks them
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
			std.log.Warn("no command has a flag for this environment variable", "name", name)
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

// hangup sets up the handling of SIGHUP. If the signal is ignored, as under nohup, it stays so.
// For a command that reloads and does not run in a terminal, it arrives in std.hangup. In all
// other cases it ends the context, because it says that the terminal has been closed.
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
	context.AfterFunc(ctx, stop) // so that a second signal kills the process
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
		return usagef("there is no command %q; did you mean %q?", args[0], c.SuggestionsFor(args[0])[0])
	}
	return usagef("there is no command %q", args[0])
}

// flagError makes a usageError of pflag's error. It names flags as all other errors do.
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

// readEnvironment sets the flags that the command line has not set from environment variables.
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

// strayVariables returns the variables that begin with the prefix but belong to no flag.
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

// completeFlag registers what a shell offers as a flag's value: files if the value is a file, the
// possible values if the usage lists them, otherwise nothing.
func completeFlag(c *cobra.Command, f *pflag.Flag) {
	name, _ := pflag.UnquoteUsage(f)
	switch {
	case name == "FILE":
	case strings.Contains(name, "|"):
		var values []cobra.Completion
		for v := range strings.SplitSeq(name, "|") {
			if v != strings.ToUpper(v) { // a word in capitals is a placeholder
				values = append(values, v)
			}
		}
		c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	default:
		c.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
	}
}

// tidy returns the command line in the order flags, --, arguments. So flags may stand anywhere,
// and "-1" is an argument, for example a payload. It also accepts long names with a single dash,
// which earlier versions required.
func tidy(root *cobra.Command, args []string) []string {
	var before []string // the arguments before the command's name; the root's flags have no values
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

// arrange does what tidy says, for the arguments after the command's name.
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
				return options // without --, which pflag would take as the missing value
			}
			options = append(options, args[0])
			args = args[1:]
		}
	}
	return append(append(options, "--"), operands...)
}

// asOption returns a flag with the number of dashes that pflag wants, and reports whether the
// next argument is its value.
func asOption(flags *pflag.FlagSet, arg string) (option string, needsValue bool) {
	name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	long := flags.Lookup(name)
	switch {
	case strings.HasPrefix(arg, "--"):
	case long != nil && len(name) > 1:
		arg = "-" + arg
	default: // short flags; the first one with a value gets the rest of the argument
		for i := range len(name) {
			f := flags.ShorthandLookup(name[i : i+1])
			if f == nil && i == 0 {
				return "-" + arg, false // unknown; as a long flag, the error names all of it
			}
			if f == nil || f.NoOptDefVal == "" {
				return arg, f != nil && i == len(name)-1 && !hasValue
			}
		}
		return arg, false
	}
	return arg, long != nil && long.NoOptDefVal == "" && !hasValue
}

// unexpected returns an error if a command without arguments was given some.
func unexpected(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("unexpected argument %q", args[0])
}
