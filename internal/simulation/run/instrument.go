package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// instrumented are the packages below the root whose goroutines the simulation interleaves.
var instrumented = []string{".", "internal/logging"}

// overlay writes copies of the packages' files with a yield.Point before each statement, and a
// file that makes the go command build these instead. Files that share nothing between
// goroutines stay unchanged. Line numbers stay the same.
func overlay(root, dir string) (string, error) {
	var files []string
	for _, pkg := range instrumented {
		some, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
		if err != nil {
			return "", err
		}
		files = append(files, some...)
	}
	replace := make(map[string]string)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		text, err := instrument(file, src)
		if err != nil {
			return "", err
		}
		if text == nil {
			continue
		}
		copied := filepath.Join(dir, filepath.Base(file)+".txt") // tools like gofmt ignore it
		if err := write(copied, text); err != nil {
			return "", err
		}
		replace[file] = copied
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, write(name, text)
}

// write replaces a file that other processes may be reading.
func write(name string, text []byte) error {
	fresh := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := os.WriteFile(fresh, text, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, name)
}

// instrument returns the file with points inserted; nil if it needs none.
func instrument(name string, src []byte) ([]byte, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	shared := false
	var points []int
	before := func(list []ast.Stmt) {
		for _, s := range list {
			switch s.(type) {
			case *ast.LabeledStmt, *ast.DeclStmt, *ast.EmptyStmt: // a label belongs to what follows it
				continue
			}
			points = append(points, set.Position(s.Pos()).Offset)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BlockStmt:
			if len(n.List) > 0 {
				switch n.List[0].(type) {
				case *ast.CaseClause, *ast.CommClause: // of a switch or a select
				default:
					before(n.List)
				}
			}
		case *ast.CaseClause:
			before(n.Body)
		case *ast.CommClause:
			before(n.Body)
		case *ast.SendStmt, *ast.SelectStmt, *ast.GoStmt, *ast.ChanType:
			shared = true
		case *ast.ImportSpec:
			shared = shared || n.Path.Value == `"sync/atomic"`
		}
		return true
	})
	if !shared {
		return nil, nil
	}
	slices.Sort(points)
	var out bytes.Buffer
	clause := set.Position(file.Name.End()).Offset
	out.Write(src[:clause])
	fmt.Fprint(&out, `; import simulated "irohub/internal/simulation/yield"`)
	at := clause
	for _, p := range points {
		out.Write(src[at:p])
		fmt.Fprint(&out, "simulated.Point(); ")
		at = p
	}
	out.Write(src[at:])
	return out.Bytes(), nil
}
