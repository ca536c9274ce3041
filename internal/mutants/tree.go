package main

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
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// A tree is a package to break: its files, as text and parsed, and its types.
type tree struct {
	dir   string
	pkg   string // the argument for the go command, from the first tree's directory
	own   *suite // its own tests, if not among the runner's suites; they run first
	path  string // its import path
	fset  *token.FileSet
	files []*source
	info  *types.Info

	checking sync.Mutex // an importer must not be used concurrently
	imports  types.Importer
}

type source struct {
	tree *tree
	name string // including its directory
	text []byte
	file *ast.File
}

// loadTree reads a package without its tests, from the directory where the go command runs. The go command
// first builds what the package imports, because the types come from there.
func loadTree(dir, pkg string) (*tree, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,CgoFiles,Export", pkg)
	cmd.Dir, cmd.Stderr = dir, new(bytes.Buffer)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, cmd.Stderr)
	}

	type listed struct {
		ImportPath, Dir, Export string
		GoFiles, CgoFiles       []string
	}
	var last listed // the last one listed, after its dependencies
	exports := make(map[string]string)
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		last = listed{}
		if err := d.Decode(&last); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[last.ImportPath] = last.Export
	}
	if len(last.CgoFiles) > 0 {
		return nil, fmt.Errorf("%s uses cgo, whose types cannot be checked here", last.ImportPath)
	}

	t := &tree{dir: last.Dir, pkg: pkg, path: last.ImportPath, fset: token.NewFileSet()}
	t.imports = importer.ForCompiler(t.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	for _, name := range last.GoFiles {
		s := &source{tree: t, name: filepath.Join(last.Dir, name)}
		if s.text, err = os.ReadFile(s.name); err != nil {
			return nil, err
		}
		if s.file, err = parser.ParseFile(t.fset, s.name, s.text, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		t.files = append(t.files, s)
	}
	t.info = &types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object)}
	return t, t.typecheck(nil, nil, t.info)
}

// compiles returns why the tree with this mutant does not compile, or nil.
func (t *tree) compiles(m *mutant) error {
	file, err := parser.ParseFile(t.fset, m.src.name, m.apply(), parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	return t.typecheck(m.src, file, nil)
}

// typecheck checks the package, with one of its files replaced.
func (t *tree) typecheck(replaced *source, by *ast.File, info *types.Info) error {
	t.checking.Lock()
	defer t.checking.Unlock()
	var files []*ast.File
	for _, s := range t.files {
		if s == replaced {
			files = append(files, by)
		} else {
			files = append(files, s.file)
		}
	}
	config := types.Config{Importer: t.imports}
	_, err := config.Check(t.path, t.fset, files, info)
	return err
}
