package main

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"irohub"
)

// recorded has the arguments and flags that a command was called with.
type recorded struct {
	args    []string
	key     string
	count   int
	quiet   bool
	timeout time.Duration
	verbose bool
}

// record runs a command line. Its command do only records how it was called.
func record(t *testing.T, args ...string) (got recorded, status int, said string) {
	t.Helper()
	all := commands
	defer func() { commands = all }()
	commands = []command{{name: "do", setup: func(flags *pflag.FlagSet) action {
		flags.StringVar(&got.key, "key", "", "the `FILE`")
		declare(flags, &got.count, "count", "n", "0", "a `NUMBER`", strconv.Atoi)
		flags.BoolVarP(&got.quiet, "quiet", "q", false, "nothing")
		durationVar(flags, &got.timeout, "timeout", time.Second, "a `TIME`")
		return func(_ context.Context, args []string, std stdio) error {
			got.args = args
			got.verbose = std.log.Enabled(t.Context(), -4)
			return nil
		}
	}}}
	var stdout, stderr bytes.Buffer
	status = run(t.Context(), args, nil, &stdout, &stderr)
	return got, status, stderr.String()
}

func TestFlags_StandAnywhereWithOneDashOrTwo(t *testing.T) {
	for _, test := range []struct {
		line string
		want recorded
	}{
		{"do", recorded{}},
		{"do a b", recorded{args: []string{"a", "b"}}},
		{"do --key k a", recorded{key: "k", args: []string{"a"}}},
		{"do a -key k b", recorded{key: "k", args: []string{"a", "b"}}},
		{"do a b -key=k", recorded{key: "k", args: []string{"a", "b"}}},
		{"do a --key= b", recorded{args: []string{"a", "b"}}},
		{"do -n 3 a", recorded{count: 3, args: []string{"a"}}},
		{"do a -n=3", recorded{count: 3, args: []string{"a"}}},
		{"do a -n3", recorded{count: 3, args: []string{"a"}}},
		{"do a -qn 3 b", recorded{count: 3, quiet: true, args: []string{"a", "b"}}},
		{"do a -count 3 -quiet b", recorded{count: 3, quiet: true, args: []string{"a", "b"}}},
		{"do -quiet=false a", recorded{args: []string{"a"}}},
		{"do a -1", recorded{args: []string{"a", "-1"}}}, // a payload
		{"do a - b", recorded{args: []string{"a", "-", "b"}}},
		{"do a -- -key -v", recorded{args: []string{"a", "-key", "-v"}}},
		{"do -key -quiet a", recorded{key: "-quiet", args: []string{"a"}}}, // -quiet is the value of -key
		{"-v do a", recorded{verbose: true, args: []string{"a"}}},
		{"--verbose do a", recorded{verbose: true, args: []string{"a"}}},
		{"do a -v", recorded{verbose: true, args: []string{"a"}}},
		{"do do help", recorded{args: []string{"do", "help"}}},
		{"do -timeout 1m", recorded{timeout: time.Minute}},
	} {
		if test.want.timeout == 0 {
			test.want.timeout = time.Second
		}
		got, status, said := record(t, strings.Fields(test.line)...)
		if len(got.args) == 0 {
			got.args = nil
		}
		if status != 0 || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: status %d, said %q\n got %+v\nwant %+v", test.line, status, said, got, test.want)
		}
	}
}

func TestFlags_FromTheEnvironment(t *testing.T) {
	t.Setenv("IROHUB_KEY", "k")
	t.Setenv("IROHUB_COUNT", "7")
	t.Setenv("IROHUB_QUIET", "true")
	t.Setenv("IROHUB_VERBOSE", "1")
	t.Setenv("IROHUB_TIMEOUT", "") // as if it were not set
	t.Setenv("IROHUB_HELP", "true")
	got, status, said := record(t, "do", "--count", "8", "-v=false")
	if want := (recorded{args: []string{}, key: "k", count: 8, quiet: true, timeout: time.Second}); status != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("status %d, said %q\n got %+v\nwant %+v", status, said, got, want)
	}
	if said != "" {
		t.Errorf("said %q", said)
	}
	t.Setenv("IROHUB_KEYS", "k")
	if _, status, said := record(t, "do"); status != 0 || strings.Count(said, "no command has a flag") != 1 || !strings.Contains(said, "name=IROHUB_KEYS") {
		t.Errorf("a variable that is misspelt: status %d, said %q", status, said)
	}
	t.Setenv("IROHUB_TIMEOUT", "0s")
	if _, status, said := record(t, "do"); status != statusInput || !strings.Contains(said, `IROHUB_TIMEOUT: "0s": a time above 0`) {
		t.Errorf("status %d, said %q", status, said)
	}
	if got, status, said := record(t, "do", "-timeout", "1m"); status != 0 || got.timeout != time.Minute {
		t.Errorf("the command line has no precedence: status %d, said %q", status, said)
	}
}

// Each limit and timeout of a hub is a flag, and the flag sets it.
func TestFlags_AllLimitsOfAHub(t *testing.T) {
	options := reflect.TypeFor[irohub.HubOptions]()
	for i := range options.NumField() {
		field := options.Field(i)
		if field.Type.Kind() == reflect.Func || field.Type.Kind() == reflect.Pointer { // policy, callbacks, the logger
			continue
		}
		name := kebab(field.Name)
		value := "65536"
		if field.Type == reflect.TypeFor[time.Duration]() {
			value = "65536ns"
		}
		var c hubConfig
		flags := pflag.NewFlagSet("hub", pflag.ContinueOnError)
		c.declare(flags)
		if err := flags.Parse([]string{"--" + name + "=" + value}); err != nil {
			t.Errorf("HubOptions.%s: %v", field.Name, err)
			continue
		}
		if err := c.access.load(); err != nil {
			t.Fatal(err)
		}
		if got := reflect.ValueOf(c.options(nil)).Field(i).Int(); got != 65536 {
			t.Errorf("--%s %s: HubOptions.%s is %d", name, value, field.Name, got)
		}
	}
}

// The default of each flag for a limit or timeout is the one in the comment of the HubOptions field.
func TestFlags_HaveTheDefaultsOfHubOptions(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../hub.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var options *ast.StructType
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.TypeSpec); ok && spec.Name.Name == "HubOptions" {
			options = spec.Type.(*ast.StructType)
		}
		return options == nil
	})
	var c hubConfig
	flags := pflag.NewFlagSet("hub", pflag.ContinueOnError)
	c.declare(flags)
	standard := regexp.MustCompile(`\b0: ([\d,]+(?: MiB| s)?|no limit)\b`)
	compared := 0
	for _, field := range options.Fields.List {
		flag := flags.Lookup(kebab(field.Names[0].Name))
		if _, policy := field.Type.(*ast.FuncType); policy || flag == nil { // TestFlags_AllLimitsOfAHub says which have a flag
			continue
		}
		match := standard.FindStringSubmatch(field.Doc.Text() + field.Comment.Text())
		if match == nil {
			t.Errorf("the comment of HubOptions.%s has no default", field.Names[0].Name)
			continue
		}
		want := strings.NewReplacer(",", "", " ", "", "no limit", "0").Replace(match[1])
		if flag.DefValue != want {
			t.Errorf("the default of --%s is %s, and HubOptions.%s has %s", flag.Name, flag.DefValue, field.Names[0].Name, want)
		}
		compared++
	}
	if compared < 11 {
		t.Errorf("only %d defaults were compared", compared)
	}
}

// kebab turns MaxSpokesPerNode into max-spokes-per-node.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// completions returns what a shell offers after a command line.
func completions(t *testing.T, args ...string) []string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), append([]string{"__complete"}, args...), nil, &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	return strings.Split(strings.TrimSpace(stdout.String()), "\n")
}

func TestCompletion(t *testing.T) {
	const files, noFiles = ":0", ":4"
	for line, want := range map[string][]string{
		"hub --transport":  {"iroh", "tls", noFiles},
		"hub --relays":     {"none", "n0", noFiles},
		"hub --key":        {files},
		"hub --allow-file": {files},
		"hub --max-frame":  {noFiles},
		"sub":              {noFiles},
		"pub peer":         {noFiles},
	} {
		args := strings.Fields(line)
		if got := completions(t, append(args, "")...); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	var names []string
	for _, line := range completions(t, "") {
		name, _, _ := strings.Cut(line, "\t")
		names = append(names, name)
	}
	for _, cmd := range commands {
		if !slices.Contains(names, cmd.name) {
			t.Errorf("%s is not among %q", cmd.name, names)
		}
	}
	if got := completions(t, "hub", "--max-sp"); len(got) != 3 || !strings.HasPrefix(got[0], "--max-spokes\t") {
		t.Errorf("--max-sp: %q", got)
	}
}

func TestVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), []string{"version"}, nil, &stdout, &stderr); status != 0 || stderr.Len() > 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	for _, line := range []string{"irohub    " + release, "commit    ", "protocol  " + irohub.ALPN, "iroh      "} {
		if !strings.Contains("\n"+stdout.String(), "\n"+line) {
			t.Errorf("no line %q:\n%s", line, &stdout)
		}
	}
	for _, test := range []struct {
		settings []debug.BuildSetting
		want     string
	}{
		{nil, "unknown: built with -buildvcs=false, or outside its repository"},
		{[]debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "false"}}, "abc of 2026-01-02T03:04:05Z"},
		{[]debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "abc"}}, "abc, with changes"},
	} {
		if got := commit(&debug.BuildInfo{Settings: test.settings}, true); got != test.want {
			t.Errorf("%v: %q, want %q", test.settings, got, test.want)
		}
	}
}

// The flags and variables in docs/operations.md exist.
func TestOperations_NamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, cmd := range commands {
		flags := pflag.NewFlagSet(cmd.name, pflag.ContinueOnError)
		cmd.setup(flags)
		flags.VisitAll(func(f *pflag.Flag) {
			known["--"+f.Name], known[environmentName(f.Name)] = true, true
		})
	}
	known["--help"] = true
	names := regexp.MustCompile(`(?:\s|\x60)(--[a-z-]+)|(IROHUB_[A-Z_]+)`).FindAllStringSubmatch(string(text), -1)
	for _, name := range names {
		if name := name[1] + name[2]; !known[name] {
			t.Errorf("there is no %s", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("%d names", len(names))
	}
}

// Arranging arguments a second time changes nothing.
func FuzzArrange(f *testing.F) {
	for _, line := range []string{"", "a -key k b", "-qn 3 a", "-1 -- -v", "--key", "-n=3 -count", "-é a", "- -- --"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		flags := pflag.NewFlagSet("do", pflag.ContinueOnError)
		flags.String("key", "", "")
		flags.IntP("count", "n", 0, "")
		flags.BoolP("quiet", "q", false, "")
		args := strings.Split(line, " ")
		once := arrange(flags, slices.Clone(args))
		if twice := arrange(flags, slices.Clone(once)); !slices.Equal(once, twice) {
			t.Errorf("%q became %q, and then %q", args, once, twice)
		}
	})
}
