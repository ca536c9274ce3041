package layout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A wing is a part of the root package. Only files of the same wing may use a wing's
// declarations. All files may use those of the ground.
type wing string

const (
	hub    wing = "hub"
	spoke  wing = "spoke"
	ground wing = "ground"

	// A file above may use everything, and no other file may use it. Its methods are an
	// exception: each belongs to the wing of its receiver's type.
	above wing = "above"
)

// wings has every file of the root package.
var wings = map[string]wing{
	"hub.go":        hub,
	"accept.go":     hub,
	"reader.go":     hub,
	"router.go":     hub,
	"membership.go": hub,

	"spoke.go":       spoke,
	"dial.go":        spoke,
	"spokereader.go": spoke,
	"spokerouter.go": spoke,

	"transport.go": ground,
	"frame.go":     ground,
	"link.go":      ground,
	"outbox.go":    ground,
	"subscribe.go": ground,
	"doc.go":       ground,

	"invariants.go": above,
}

// Limits that keep the root package easy to survey.
const (
	maxEntries  = 38  // files and folders of the root
	maxExported = 34  // names of the root package
	maxGuide    = 100 // lines of doc.go
)

const root = "../.."

func TestWings(t *testing.T) {
	for _, c := range load(t).crossings() {
		t.Error(c)
	}
}

// A planted crossing is found, in each direction and for each kind of declaration.
func TestWings_PlantedCrossingsAreFound(t *testing.T) {
	for _, tc := range []struct{ file, text, want string }{
		{"router.go", "var _ *Spoke", "router.go (hub) uses Spoke of spoke.go (spoke)"},
		{"router.go", "func _(r *spokeRouter) string { return r.newID() }", "router.go (hub) uses newID of spokerouter.go (spoke)"},
		{"dial.go", "var _ HubOptions", "dial.go (spoke) uses HubOptions of hub.go (hub)"},
		{"link.go", "func _(h *Hub) { h.quit() }", "link.go (ground) uses quit of hub.go (hub)"},
		{"outbox.go", "var _ = spokeRouter{}.lastID", "outbox.go (ground) uses lastID of spokerouter.go (spoke)"},
		{"link.go", "func _(r *router) error { return r.invariants() }", "link.go (ground) uses invariants of invariants.go (hub)"},
		{"spokerouter.go", "var _ = queueHolds[run]", "spokerouter.go (spoke) uses queueHolds of invariants.go (above)"},
	} {
		p := load(t)
		p.plant(t, tc.file, tc.text)
		if found := p.crossings(); !slices.ContainsFunc(found, func(c string) bool { return strings.Contains(c, tc.want) }) {
			t.Errorf("%s with %q: %q, want %q", tc.file, tc.text, found, tc.want)
		}
	}
}

func TestFiles_HaveAWing(t *testing.T) {
	p := load(t)
	for name := range p.files {
		if wings[name] == "" {
			t.Errorf("%s is in no wing: list it", name)
		}
	}
	for name := range wings {
		if p.files[name] == nil {
			t.Errorf("%s is listed, and is not there", name)
		}
	}
}

func TestRoot_AtAGlance(t *testing.T) {
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("this needs git, and a clone: %v", err)
	}
	entries := make(map[string]bool)
	for name := range strings.Lines(string(out)) {
		first, _, _ := strings.Cut(strings.TrimSpace(name), "/")
		if _, err := os.Lstat(filepath.Join(root, first)); err == nil && !strings.HasPrefix(first, ".") {
			entries[first] = true
		}
	}
	if len(entries) > maxEntries {
		t.Errorf("%d entries, the limit is %d: %v", len(entries), maxEntries, slices.Sorted(maps.Keys(entries)))
	}
}

func TestRoot_ExportsFewNames(t *testing.T) {
	var names []string
	for _, name := range load(t).pkg.Scope().Names() {
		if token.IsExported(name) {
			names = append(names, name)
		}
	}
	if len(names) > maxExported {
		t.Errorf("%d exported names, the limit is %d: %v", len(names), maxExported, names)
	}
}

func TestGuide_IsShort(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n > maxGuide {
		t.Errorf("doc.go has %d lines, the limit is %d", n, maxGuide)
	}
}

// A source is the root package without its tests.
type source struct {
	set     *token.FileSet
	files   map[string]*ast.File // by name
	imports types.Importer
	info    *types.Info
	pkg     *types.Package
}

// listed is the output of go list for the root package or one of its imports.
type listed struct {
	ImportPath, Export string
	GoFiles            []string
}

var list = sync.OnceValues(func() (packages []listed, err error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,GoFiles,Export", ".")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var one listed
		if err := d.Decode(&one); err != nil {
			return nil, err
		}
		packages = append(packages, one)
	}
	return packages, nil
})

func load(t *testing.T) *source {
	t.Helper()
	packages, err := list()
	if err != nil {
		t.Fatal(err)
	}
	exports := make(map[string]string)
	for _, one := range packages {
		exports[one.ImportPath] = one.Export
	}
	p := &source{set: token.NewFileSet(), files: make(map[string]*ast.File)}
	p.imports = importer.ForCompiler(p.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, name := range packages[len(packages)-1].GoFiles { // the root package is last, after its imports
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		p.parse(t, name, text)
	}
	p.check(t)
	return p
}

func (p *source) parse(t *testing.T, name string, text []byte) {
	t.Helper()
	file, err := parser.ParseFile(p.set, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	p.files[name] = file
}

func (p *source) check(t *testing.T) {
	t.Helper()
	p.info = &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: p.imports}
	var err error
	if p.pkg, err = config.Check("irohub", p.set, slices.Collect(maps.Values(p.files)), p.info); err != nil {
		t.Fatal(err)
	}
}

// plant checks the package again, with text appended to a file.
func (p *source) plant(t *testing.T, name, more string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	p.parse(t, name, append(text, more...))
	p.check(t)
}

func (p *source) fileOf(pos token.Pos) string { return p.set.Position(pos).Filename }

// home returns the wing that an object belongs to.
func (p *source) home(o types.Object) wing {
	w := wings[p.fileOf(o.Pos())]
	if f, ok := o.(*types.Func); ok && w == above && f.Signature().Recv() != nil {
		recv := f.Signature().Recv().Type()
		if ptr, ok := recv.(*types.Pointer); ok {
			recv = ptr.Elem()
		}
		return wings[p.fileOf(recv.(*types.Named).Obj().Pos())]
	}
	return w
}

// crossings lists where a file uses a declaration of another wing: a type, function, constant,
// variable, method or field.
func (p *source) crossings() (found []string) {
	for id, o := range p.info.Uses {
		from, to := wings[p.fileOf(id.Pos())], p.home(o)
		if o.Pkg() != p.pkg || from == to || to == ground || from == above {
			continue
		}
		at := p.set.Position(id.Pos())
		found = append(found, fmt.Sprintf("%s (%s) uses %s of %s (%s), in line %d", at.Filename, from, o.Name(), p.fileOf(o.Pos()), to, at.Line))
	}
	slices.Sort(found)
	return found
}
