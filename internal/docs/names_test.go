// Package docs tests the documents: the names in them exist in the code, and the README's examples
// run.
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

// naming are the documents whose code spans are checked against the code.
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
	// The table may also list channels that are not fields, and fields that hold one end of a
	// channel.
	fields = slices.DeleteFunc(fields, func(name string) bool { return !strings.Contains(name, ".") || code.ends[name] })
	compare(t, "channels", fields, slices.Collect(maps.Keys(code.channels)))
	compare(t, "functions that make channels", makers, slices.Collect(maps.Keys(code.makers)))
}

// The number of exported names in the README is right.
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

// compare reports names that are in only one of the lists.
func compare(t *testing.T, what string, listed, there []string) {
	t.Helper()
	if len(there) == 0 {
		t.Fatalf("%s: the code has none", what)
	}
	for _, name := range there {
		if !slices.Contains(listed, name) {
			t.Errorf("%s: `%s` is not in the table", what, name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(there, name) {
			t.Errorf("%s: `%s` is in the table and not in the code", what, name)
		}
	}
}

// described has the prefixes of the packages whose goroutines and channels docs/architecture.md
// lists: the root, and logging, whose goroutine belongs to a Hub or a Spoke.
var described = map[string]bool{"": true, "logging.": true}

// code has the names that the module declares. A name is Name or Type.Member. Outside the root
// package, it has the package's name as a prefix. starters and the fields below it are about the
// described packages only.
type code struct {
	names    map[string]bool
	embeds   map[string][]string // from a struct type to the types that it embeds
	starters map[string]bool     // functions that start goroutines
	started  int                 // number of places that start goroutines
	makers   map[string]bool     // functions that make channels
	channels map[string]bool     // struct fields that are channels for both directions
	ends     map[string]bool     // struct fields that are channels for one direction
}

// parseModule returns the module's code. All tests share it and only read it.
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

// inspect finds the goroutines that a function starts, by a go statement or WaitGroup.Go, and the
// channels that it makes.
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

// typeName returns a type's name without pointer, package and type arguments.
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

// has reports whether a name exists. Members of embedded types count too.
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

// lacks returns why a code span names nothing that exists. It returns an empty text if all is well.
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

// codeSpans returns the texts in `backticks`, except in fenced blocks.
func codeSpans(text string) (spans []string) {
	for _, match := range span.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		spans = append(spans, match[1])
	}
	return spans
}

// tableOf returns the rows of the document's tables whose first column has this title.
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

// Each benchmark in a document's command is in one of the command's packages.
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

// In every document, links to files of the repository lead to a file.
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
				t.Errorf("%s has a link to %s, which does not exist", path, match[1])
			}
		}
		return nil
	})
	if err != nil || documents < 4 {
		t.Fatalf("%d documents: %v", documents, err)
	}
}
