// Package docs holds the documents to the code: what they name exists, what they show runs.
package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const root = "../.."

// Documents whose code spans name things of the code.
var naming = []string{"docs/architecture.md", "CONTRIBUTING.md"}

func TestDocuments_NameWhatExists(t *testing.T) {
	code := parseModule(t)
	for _, document := range naming {
		spans := codeSpans(readFile(t, document))
		if len(spans) == 0 {
			t.Errorf("%s names nothing", document)
		}
		for _, span := range spans {
			if why := code.lacks(t, span); why != "" {
				t.Errorf("%s names `%s`: %s", document, span, why)
			}
		}
	}
}

func TestArchitecture_ListsAllGoroutines(t *testing.T) {
	code := parseModule(t)
	var listed []string
	for _, row := range tableOf(t, "docs/architecture.md", "goroutine") {
		listed = append(listed, codeSpans(row[1])...)
	}
	compare(t, "functions that start goroutines", listed, slices.Collect(maps.Keys(code.starters)))
	if started := code.started; len(listed) != started {
		t.Errorf("the table has %d goroutines, and the code starts them in %d places", len(listed), started)
	}
}

func TestArchitecture_ListsAllChannels(t *testing.T) {
	code := parseModule(t)
	var fields, makers []string
	for _, row := range tableOf(t, "docs/architecture.md", "channel") {
		fields = append(fields, codeSpans(row[0])...)
		makers = append(makers, codeSpans(row[1])...)
	}
	// One that a function or a variable has, and one that a struct has one end of, may be listed.
	fields = slices.DeleteFunc(fields, func(name string) bool { return !strings.Contains(name, ".") || code.ends[name] })
	compare(t, "channels", fields, slices.Collect(maps.Keys(code.channels)))
	compare(t, "functions that make channels", makers, slices.Collect(maps.Keys(code.makers)))
}

// The README says how many names the root package exports.
func TestReadme_CountsExportedNames(t *testing.T) {
	exported := 0
	for name := range parseModule(t).names {
		if ast.IsExported(name) && !strings.Contains(name, ".") {
			exported++
		}
	}
	if says := fmt.Sprintf("exports %d names", exported); !strings.Contains(readFile(t, "README.md"), says) {
		t.Errorf("README.md does not say that the root package %s", says)
	}
}

// compare reports what stands in one list alone.
func compare(t *testing.T, what string, listed, there []string) {
	t.Helper()
	if len(there) == 0 {
		t.Fatalf("%s: none found in the code", what)
	}
	for _, name := range there {
		if !slices.Contains(listed, name) {
			t.Errorf("%s: `%s` is missing in the table", what, name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(there, name) {
			t.Errorf("%s: the table has `%s`, and the code has not", what, name)
		}
	}
}

// described are the packages whose goroutines and channels docs/architecture.md lists, by the
// prefix of their names: the root, and what stands in a package of its own but runs in it.
var described = map[string]bool{"": true, "logging.": true}

// What the code has. Names are Name or Type.Member; those of other packages than the
// root have the package's name before them.
type code struct {
	names    map[string]bool
	embeds   map[string][]string // struct type to the types that it embeds
	starters map[string]bool     // functions described that start goroutines
	started  int                 // in how many places
	makers   map[string]bool     // functions described that make channels
	channels map[string]bool     // struct fields described that are channels
	ends     map[string]bool     // and those that can only send, or only receive
}

// parseModule returns what the code has, for all tests to read.
func parseModule(t *testing.T) *code {
	t.Helper()
	c, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var parsed = sync.OnceValues(func() (*code, error) {
	c := &code{
		names: make(map[string]bool), embeds: make(map[string][]string),
		starters: make(map[string]bool), makers: make(map[string]bool), channels: make(map[string]bool),
		ends: make(map[string]bool),
	}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (name[0] == '.' || name == "testdata" || name == "node_modules"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		prefix := ""
		if filepath.Dir(path) != root {
			prefix = file.Name.Name + "."
		}
		c.add(file, prefix)
		return nil
	})
	return c, err
})

func (c *code) add(file *ast.File, prefix string) {
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			name := prefix + decl.Name.Name
			if decl.Recv != nil {
				name = prefix + typeName(decl.Recv.List[0].Type) + "." + decl.Name.Name
			}
			c.names[name] = true
			if described[prefix] && decl.Body != nil {
				c.inspect(name, decl.Body)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					c.names[prefix+spec.Name.Name] = true
					c.addType(prefix, spec)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						c.names[prefix+name.Name] = true
					}
				}
			}
		}
	}
}

func (c *code) addType(prefix string, spec *ast.TypeSpec) {
	var fields *ast.FieldList
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		fields = typ.Fields
	case *ast.InterfaceType:
		fields = typ.Methods
	default:
		return
	}
	owner := prefix + spec.Name.Name
	for _, field := range fields.List {
		if len(field.Names) == 0 {
			embedded := typeName(field.Type)
			c.embeds[owner] = append(c.embeds[owner], prefix+embedded)
			c.names[owner+"."+embedded] = true
		}
		for _, name := range field.Names {
			c.names[owner+"."+name.Name] = true
			if channel, ok := field.Type.(*ast.ChanType); ok && described[prefix] {
				if channel.Dir == ast.SEND|ast.RECV {
					c.channels[owner+"."+name.Name] = true
				} else {
					c.ends[owner+"."+name.Name] = true
				}
			}
		}
	}
}

// inspect notes what a function's body starts and makes: by a go statement, or by
// WaitGroup.Go.
func (c *code) inspect(name string, body *ast.BlockStmt) {
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			c.starters[name] = true
			c.started++
		case *ast.CallExpr:
			switch called := node.Fun.(type) {
			case *ast.SelectorExpr:
				if called.Sel.Name == "Go" {
					c.starters[name] = true
					c.started++
				}
			case *ast.Ident:
				if called.Name == "make" {
					if _, ok := node.Args[0].(*ast.ChanType); ok {
						c.makers[name] = true
					}
				}
			}
		}
		return true
	})
}

// typeName is a type's name without a pointer, a package and type arguments.
func typeName(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return typeName(expr.X)
	case *ast.IndexExpr:
		return typeName(expr.X)
	case *ast.SelectorExpr:
		return expr.Sel.Name
	case *ast.Ident:
		return expr.Name
	}
	return ""
}

// has says whether there is such a name, promoted ones included.
func (c *code) has(name string) bool {
	if c.names[name] {
		return true
	}
	i := strings.LastIndex(name, ".")
	return i > 0 && slices.ContainsFunc(c.embeds[name[:i]], func(embedded string) bool { return c.has(embedded + name[i:]) })
}

var (
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*$`)
	fileName   = regexp.MustCompile(`^[A-Za-z_.][\w.-]*\.(go|md|json|mod|txt)$`)
)

// lacks says why a code span names nothing; empty: it does.
func (c *code) lacks(t *testing.T, span string) string {
	command, argument, _ := strings.Cut(span, " ")
	switch {
	case command == "make" && argument != "":
		for word := range strings.FieldsSeq(argument) {
			if !strings.Contains(word, "=") && !strings.Contains(readFile(t, "Makefile"), "\n"+word+":") {
				return "no such target"
			}
		}
	case command == "go" || command == "kill" || command == "git":
		for word := range strings.FieldsSeq(argument) {
			if path, ok := strings.CutPrefix(word, "./"); ok && !exists(strings.TrimSuffix(path, "...")) {
				return "no such folder: " + word
			}
		}
	case strings.Contains(span, "/") || fileName.MatchString(span):
		if matches, err := filepath.Glob(filepath.Join(root, span)); err != nil || len(matches) == 0 {
			return "no such file"
		}
	case identifier.MatchString(span):
		if !c.has(span) {
			return "no such name"
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(filepath.Join(root, path))
	return err == nil
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fenced = regexp.MustCompile("(?ms)^```.*?^```")
	span   = regexp.MustCompile("`([^`\n]+)`")
)

// codeSpans returns what stands in `backticks`, but for fenced blocks.
func codeSpans(text string) (spans []string) {
	for _, match := range span.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		spans = append(spans, match[1])
	}
	return spans
}

// tableOf returns the rows of a document's table whose first column has this title.
func tableOf(t *testing.T, document, title string) (rows [][]string) {
	t.Helper()
	in := false
	for line := range strings.Lines(readFile(t, document)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		first := strings.TrimSpace(cells[0])
		switch {
		case !strings.HasPrefix(line, "|"):
			in = false
		case first == title:
			in = true
		case in && !strings.HasPrefix(first, "---"):
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table of %ss", document, title)
	}
	return rows
}

var (
	benchmarking = regexp.MustCompile(`go test[^\n` + "`" + `]* -bench ('[^']*'|\S+)([^\n#` + "`" + `]*)`)
	benchmark    = regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`)
)

// Benchmarks that a document names are in the packages that it names them with.
func TestDocuments_NameBenchmarksThatExist(t *testing.T) {
	found := 0
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, filepath.Join(root, "README.md")) {
		document = strings.TrimPrefix(document, root+"/")
		for _, match := range benchmarking.FindAllStringSubmatch(readFile(t, document), -1) {
			found++
			first, _, _ := strings.Cut(strings.Trim(match[1], "'"), "/")
			wanted := regexp.MustCompile("^(" + first + ")")
			for word := range strings.FieldsSeq(match[2]) {
				if !strings.HasPrefix(word, ".") {
					continue // a flag
				}
				there := false
				files, _ := filepath.Glob(filepath.Join(root, word, "*_test.go"))
				for _, file := range files {
					for _, b := range benchmark.FindAllStringSubmatch(readFile(t, strings.TrimPrefix(file, root)), -1) {
						there = there || wanted.MatchString(b[1])
					}
				}
				if !there {
					t.Errorf("%s: no benchmark for %q in %s", document, match[0], word)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands were found", found)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)

// Links to files of the repository lead somewhere, in every document.
func TestDocuments_LinkToWhatExists(t *testing.T) {
	documents := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (name[0] == '.' || name == "node_modules"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".md"):
			return nil
		}
		documents++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range link.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), match[1])); err != nil {
				t.Errorf("%s has a link to %s, which is not there", path, match[1])
			}
		}
		return nil
	})
	if err != nil || documents < 4 {
		t.Fatalf("%d documents: %v", documents, err)
	}
}
