package docs

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// These tests run the README's programs and commands as a reader does. They replace only the
// command's path, the port and TICKET.

// A block is a fenced code block of the README.
type block struct{ kind, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks returns the README's blocks that have a kind, in their order.
func blocks(t *testing.T) (list []block) {
	t.Helper()
	for _, match := range fence.FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		if match[1] != "" {
			list = append(list, block{match[1], match[2]})
		}
	}
	return list
}

// The blocks of the README, in their order. The output of a program follows the program. Whoever
// adds a block to the README also adds a step to these tests.
const (
	makeModule   = iota // sh: a module beside the clone
	firstProgram        // go: hub and spoke in one
	firstOutput         // text
	startHub            // sh: make, then the hub
	hubOutput           // text
	subscribe           // sh
	publish             // sh
	subscribed          // text
	fetchLibrary        // sh
	goSpoke             // go
	goOutput            // text
	pythonSpoke         // python
	pythonOutput        // text
	installJS           // sh; run by clients/js/test/package.test.mjs
	jsSpoke             // js
	jsOutput            // text
	hubProgram          // go
	webSocketHub        // go: lines of an example in websocket/
	countOfBlocks
)

var kinds = []string{"sh", "go", "text", "sh", "text", "sh", "sh", "text", "sh", "go", "text", "python", "text", "sh", "js", "text", "go", "go"}

// readme returns the README's blocks, after checking their kinds.
func readme(t *testing.T) []block {
	t.Helper()
	list := blocks(t)
	var found []string
	for _, b := range list {
		found = append(found, b.kind)
	}
	if len(kinds) != countOfBlocks || !slices.Equal(found, kinds) {
		t.Fatalf("README.md has blocks of the kinds %q, want %q", found, kinds)
	}
	return list
}

// within returns the commands of a block behind the one that enters the folder.
func within(t *testing.T, folder string, b block) string {
	t.Helper()
	commands, ok := strings.CutPrefix(b.text, "cd "+folder+"\n")
	if !ok {
		t.Fatalf("a block of the README does not begin with cd %s:\n%s", folder, b.text)
	}
	return commands
}

// beside makes a folder with a link to the clone, runs the README's commands that make a module
// in it, and returns the module's folder.
func beside(t *testing.T, list []block) (hello string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(absolute(t, root), filepath.Join(dir, "irohub")); err != nil {
		t.Fatal(err)
	}
	sh(t, dir, list[makeModule].text)
	hello = filepath.Join(dir, "hello")
	// With the native library in the module, nothing is downloaded.
	if err := os.Symlink(filepath.Join(absolute(t, root), ".native"), filepath.Join(hello, ".native")); err != nil {
		t.Fatal(err)
	}
	return hello
}

// The first example needs only Go.
func TestReadme_FirstExample(t *testing.T) {
	list := readme(t)
	hello := beside(t, list)
	write(t, filepath.Join(hello, "main.go"), list[firstProgram].text)
	if got, want := sh(t, hello, "go run ."), list[firstOutput].text; got != want {
		t.Errorf("the first example prints %q, want %q", got, want)
	}
}

// A hub, and a spoke of each kind, which gets the events that another one publishes.
func TestReadme_Conversation(t *testing.T) {
	list := readme(t)
	needNative(t)
	c := conversation{t: t, command: buildCommand(t)}

	made, start, ok := strings.Cut(within(t, "irohub", list[startHub]), "\n")
	if !ok || !strings.HasPrefix(made, "make ") {
		t.Fatalf("the hub's block begins with %q, want a make command", made)
	}
	hub := c.start(root, start)
	ready := members(t, hub.line(t))
	if shown := members(t, list[hubOutput].text); !slices.Equal(slices.Sorted(maps.Keys(ready)), slices.Sorted(maps.Keys(shown))) {
		t.Errorf("the hub prints %v, want %v", ready, shown)
	}
	c.ticket, _ = ready["ticket"].(string)
	c.publish = within(t, "irohub", list[publish])

	t.Run("command", func(t *testing.T) {
		p := c.start(root, within(t, "irohub", list[subscribe]))
		p.waitFor(t, "msg=subscribed")
		c.say(t)
		from := regexp.MustCompile(`"from":"[0-9a-f]{64}"`)
		if got, want := from.ReplaceAllString(p.line(t), `"from":"…"`)+"\n", list[subscribed].text; got != want {
			t.Errorf("it prints %q, want %q", got, want)
		}
	})
	t.Run("go", func(t *testing.T) {
		hello := beside(t, list)
		sh(t, hello, within(t, "hello", list[fetchLibrary]))
		write(t, filepath.Join(hello, "main.go"), list[goSpoke].text)
		sh(t, hello, "go build -o listen .")
		c.listens(t, hello, "./listen TICKET", list[goOutput].text)
	})
	t.Run("python", func(t *testing.T) {
		python := filepath.Join(absolute(t, root), "clients", "python")
		need(t, filepath.Join(python, ".venv", "bin", "python"), "make interop")
		t.Setenv("PYTHONPATH", python)
		dir := t.TempDir()
		write(t, filepath.Join(dir, "listen.py"), list[pythonSpoke].text)
		c.listens(t, dir, python+"/.venv/bin/python listen.py TICKET", list[pythonOutput].text)
	})
	t.Run("javascript", func(t *testing.T) {
		js := filepath.Join(absolute(t, root), "clients", "js")
		need(t, filepath.Join(js, "node_modules", "@number0", "iroh"), "make interop")
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "node_modules"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(js, filepath.Join(dir, "node_modules", "irohub")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "listen.mjs"), list[jsSpoke].text)
		c.listens(t, dir, "node listen.mjs TICKET", list[jsOutput].text)
	})
}

// The hub in an application prints its ticket, applies its policy, and ends when it is interrupted.
func TestReadme_HubInAnApplication(t *testing.T) {
	list := readme(t)
	needNative(t)
	hello := beside(t, list)
	write(t, filepath.Join(hello, "main.go"), strings.ReplaceAll(list[hubProgram].text, anyPort, freePort))
	sh(t, hello, "go build -o hub .")

	c := conversation{t: t, command: buildCommand(t)}
	hub := c.start(hello, "./hub")
	c.ticket = hub.line(t)
	sub := c.start(root, "bin/irohub sub TICKET 'chat:*'")
	sub.waitFor(t, "msg=subscribed")
	if out, err := c.run(`bin/irohub pub TICKET chat:1 '"hi"'`); err != nil {
		t.Errorf("a chat's event is refused: %v\n%s", err, out)
	}
	if line := sub.line(t); !strings.Contains(line, `"payload":"hi"`) {
		t.Errorf("the hub forwards %s", line)
	}
	if out, err := c.run(`bin/irohub pub TICKET other '"hi"'`); err == nil || !strings.Contains(out, "this hub is for chats") {
		t.Errorf("an event that the policy forbids: %v\n%s", err, out)
	}
	if err := hub.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if line := hub.line(t); line != "irohub: hub closed" {
		t.Errorf("at its end the hub prints %q", line)
	}
}

// The lines for a hub over WebSocket are part of an example of its module, which is compiled.
func TestReadme_WebSocketHub(t *testing.T) {
	example := readFile(t, "websocket/example_test.go")
	for line := range strings.Lines(readme(t)[webSocketHub].text) {
		if !strings.Contains(example, "\t"+line) {
			t.Errorf("websocket/example_test.go lacks the line %q", line)
		}
	}
}

// Commands in blocks without a kind are not run, because they take long or need things that only
// the reader has. But their targets and subcommands exist.
func TestReadme_NamesTargetsAndSubcommands(t *testing.T) {
	makefile := readFile(t, "Makefile")
	command := buildCommand(t)
	checked := 0
	for _, match := range fence.FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		if match[1] != "" && match[1] != "sh" {
			continue
		}
		for line := range strings.Lines(match[2]) {
			words := strings.Fields(line)
			switch words[0] {
			case "make":
				for _, target := range words[1:] {
					if target == "#" {
						break
					}
					checked++
					if !strings.Contains(makefile, "\n"+target+":") {
						t.Errorf("there is no target %s for make", target)
					}
				}
			case "bin/irohub":
				checked++
				help, err := exec.Command(command, words[1], "-h").CombinedOutput()
				if err != nil {
					t.Errorf("irohub %s -h: %v", words[1], err)
				}
				for _, word := range words[2:] {
					if word == "#" {
						break
					}
					if strings.HasPrefix(word, "-") && !strings.Contains(string(help), word) {
						t.Errorf("irohub %s knows no %s", words[1], word)
					}
				}
			}
		}
	}
	if checked < 8 {
		t.Errorf("only %d commands were found", checked)
	}
}

// members parses a line of JSON.
func members(t *testing.T, line string) (object map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &object); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return object
}

// A conversation runs the README's commands with one hub.
type conversation struct {
	t       *testing.T
	command string // replaces bin/irohub
	ticket  string // replaces TICKET
	publish string // the README's command that publishes an event
}

// The README's port may be in use on this machine.
const anyPort, freePort = "127.0.0.1:4433", "127.0.0.1:0"

func (c *conversation) replace(line string) string {
	return strings.NewReplacer("bin/irohub", c.command, "TICKET", c.ticket, anyPort, freePort).Replace(line)
}

// run runs a command until it ends.
func (c *conversation) run(line string) (output string, err error) {
	cmd := exec.CommandContext(c.t.Context(), "sh", "-c", c.replace(line))
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// say publishes an event with the README's command.
func (c *conversation) say(t *testing.T) {
	t.Helper()
	if out, err := c.run(c.publish); err != nil {
		t.Fatalf("publishing: %v\n%s", err, out)
	}
}

// listens starts a spoke, publishes an event once the spoke listens, and checks its output.
func (c *conversation) listens(t *testing.T, dir, line, want string) {
	t.Helper()
	p := c.start(dir, line)
	got := p.line(t) + "\n"
	c.say(t)
	if got += p.line(t) + "\n"; got != want {
		t.Errorf("it prints %q, want %q", got, want)
	}
}

// A process is a command that runs until its test ends.
type process struct {
	cmd         *exec.Cmd
	out, stderr *bufio.Scanner
}

// start starts a command. It ends with the conversation's test.
func (c *conversation) start(dir, line string) *process {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "sh", "-c", "exec "+c.replace(line))
	cmd.Dir = dir
	stdout, err1 := cmd.StdoutPipe()
	stderr, err2 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		cmd.Process.Kill() // if it has not ended
		cmd.Wait()
	})
	return &process{cmd: cmd, out: bufio.NewScanner(stdout), stderr: bufio.NewScanner(stderr)}
}

// line returns the next line of standard output.
func (p *process) line(t *testing.T) string {
	t.Helper()
	if !p.out.Scan() {
		for p.stderr.Scan() {
			t.Log(p.stderr.Text())
		}
		t.Fatal("it has ended")
	}
	return p.out.Text()
}

// waitFor waits until a line of standard error contains the words.
func (p *process) waitFor(t *testing.T, words string) {
	t.Helper()
	for p.stderr.Scan() {
		if strings.Contains(p.stderr.Text(), words) {
			return
		}
	}
	t.Fatalf("it has ended without saying %q", words)
}

// buildCommand builds the command, once for all tests.
func buildCommand(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(built, "irohub")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	// The command's dependencies may have to be downloaded.
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "cmd/irohub", "-o", path, ".")
	build.Dir = root
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the command: %v\n%s", err, out)
	}
	return path
}

var built string // the folder of the built command

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "irohub")
	if err != nil {
		panic(err)
	}
	built = dir
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// sh runs commands of the README and returns their output. They cannot download modules, and do
// not depend on the environment's settings for modules.
func sh(t *testing.T, dir, commands string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off", "GOTOOLCHAIN=local")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, &stderr)
	}
	return string(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// needNative skips a test if iroh's native library or a C compiler is missing.
func needNative(t *testing.T) {
	t.Helper()
	need(t, filepath.Join(absolute(t, root), ".native"), "make native")
	cc := strings.Fields(sh(t, root, "go env CC"))
	if path, err := exec.LookPath(cc[0]); err == nil {
		need(t, path, "")
	} else {
		need(t, cc[0], "a C compiler: "+err.Error())
	}
}

// need skips a test if a file is missing. In continuous integration, the test fails instead.
func need(t *testing.T, file, how string) {
	t.Helper()
	if _, err := os.Stat(file); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s; to get it: %s", file, how)
	}
	t.Skipf("missing: %s; to get it: %s", file, how)
}
