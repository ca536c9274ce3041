package main

import (
	"cmp"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"slices"
	"strconv"
)

// A finder collects the mutants of a tree. It knows the syntax and a few types. The type checker later
// removes mutants that do not compile.
type finder struct {
	tree  *tree
	src   *source
	fn    string     // the enclosing function or declaration
	stack []ast.Node // from the declaration to the current node
	found []*mutant
}

// checks is a file without mutants: only tests call its checks. Breaking a check is not breaking the
// package.
const checks = "invariants.go"

// find returns every mutant of the trees, in the order of files and positions.
func find(trees ...*tree) []*mutant {
	var all []*mutant
	for _, t := range trees {
		all = append(all, t.find()...)
	}
	identify(all)
	return all
}

func (t *tree) find() []*mutant {
	f := &finder{tree: t}
	for _, f.src = range t.files {
		if filepath.Base(f.src.name) == checks {
			continue
		}
		first := len(f.found)
		for _, d := range f.src.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				f.fn = funcName(d)
				f.walk(d)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.ValueSpec); ok {
						f.fn = s.Names[0].Name
						f.walk(s)
					}
				}
			}
		}
		slices.SortStableFunc(f.found[first:], func(a, b *mutant) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
		})
	}
	return f.found
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	recv := d.Recv.List[0].Type
	for {
		switch t := recv.(type) {
		case *ast.StarExpr:
			recv = t.X
		case *ast.IndexExpr:
			recv = t.X
		case *ast.IndexListExpr:
			recv = t.X
		case *ast.Ident:
			return t.Name + "." + d.Name.Name
		default:
			return d.Name.Name
		}
	}
}

func (f *finder) walk(root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		if n == nil {
			f.stack = f.stack[:len(f.stack)-1]
			return true
		}
		f.node(n)
		f.stack = append(f.stack, n)
		return true
	})
}

func (f *finder) parent() ast.Node {
	if len(f.stack) == 0 {
		return nil
	}
	return f.stack[len(f.stack)-1]
}

func (f *finder) offset(p token.Pos) int { return f.tree.fset.Position(p).Offset }

// text returns the source text of a node.
func (f *finder) text(n ast.Node) string {
	return string(f.src.text[f.offset(n.Pos()):f.offset(n.End())])
}

// change proposes other text for a node.
func (f *finder) change(kind string, n ast.Node, text string) {
	f.cut(kind, n.Pos(), n.End(), text)
}

// cut proposes other text for the source between two positions.
func (f *finder) cut(kind string, from, to token.Pos, text string) {
	at := f.tree.fset.Position(from)
	m := &mutant{
		Func: f.fn, Kind: kind,
		File: path.Join(f.tree.pkg, filepath.Base(f.src.name)), Line: at.Line, Column: at.Column,
		src: f.src, start: at.Offset, end: f.offset(to), text: text,
	}
	m.Before, m.After = normal(string(f.src.text[m.start:m.end])), normal(text)
	f.found = append(f.found, m)
}

func (f *finder) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		f.binary(n)
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.change("negate", n, f.text(n.X))
		}
	case *ast.BasicLit:
		f.literal(n)
	case *ast.Ident:
		f.boolean(n)
	case *ast.CallExpr:
		f.call(n)
	case *ast.CompositeLit:
		f.fields(n)
	case *ast.AssignStmt:
		f.assign(n)
	case *ast.IncDecStmt:
		other := map[token.Token]string{token.INC: "--", token.DEC: "++"}[n.Tok]
		f.change("step", n, f.text(n.X)+other)
	case *ast.BranchStmt:
		f.branch(n)
	case *ast.ReturnStmt:
		f.returned(n)
	case *ast.IfStmt:
		f.condition(n.Cond)
		f.change("force", n.Cond, "true")
		if len(n.Body.List) > 1 || n.Else != nil {
			f.change("force", n.Cond, "false") // for a single statement, this is the same as deleting it
		}
	case *ast.ForStmt:
		if n.Cond != nil {
			f.condition(n.Cond)
			f.change("force", n.Cond, "false")
		}
	case *ast.RangeStmt:
		f.empty(n.Body.List)
	case *ast.BlockStmt:
		f.statements(n.List)
	case *ast.CaseClause:
		f.empty(n.Body)
		f.statements(n.Body)
	case *ast.CommClause:
		f.change("clause", n, "")
		f.empty(n.Body)
		f.statements(n.Body)
	}
}

// others are the replacements of each operator.
var others = map[token.Token][]string{
	token.EQL: {"!="}, token.NEQ: {"=="},
	token.LSS: {"<=", ">="}, token.LEQ: {"<", ">"},
	token.GTR: {">=", "<="}, token.GEQ: {">", "<"},
	token.LAND: {"||"}, token.LOR: {"&&"},
	token.ADD: {"-"}, token.SUB: {"+"}, token.MUL: {"/"}, token.QUO: {"*"}, token.REM: {"*"},
	token.SHL: {">>"}, token.SHR: {"<<"},
	token.AND: {"|"}, token.OR: {"&"}, token.XOR: {"&"}, token.AND_NOT: {"&"},

	token.ADD_ASSIGN: {"-=", "="}, token.SUB_ASSIGN: {"+=", "="},
	token.MUL_ASSIGN: {"/=", "="}, token.QUO_ASSIGN: {"*=", "="}, token.REM_ASSIGN: {"*=", "="},
	token.SHL_ASSIGN: {">>=", "="}, token.SHR_ASSIGN: {"<<=", "="},
	token.AND_ASSIGN: {"|=", "="}, token.OR_ASSIGN: {"&=", "="}, token.XOR_ASSIGN: {"&=", "="},
	token.AND_NOT_ASSIGN: {"&=", "="},
}

func (f *finder) binary(n *ast.BinaryExpr) {
	if n.Op == token.ADD && f.isString(n.X) {
		return
	}
	operand := func(e ast.Expr) string {
		if _, ok := e.(*ast.BinaryExpr); ok {
			return "(" + f.text(e) + ")"
		}
		return f.text(e)
	}
	for _, op := range others[n.Op] {
		text := operand(n.X) + " " + op + " " + operand(n.Y)
		if _, ok := f.parent().(*ast.BinaryExpr); ok {
			text = "(" + text + ")"
		}
		f.change("operator", n, text)
	}
	if n.Op == token.LAND || n.Op == token.LOR {
		f.change("operand", n, operand(n.X))
		f.change("operand", n, operand(n.Y))
	}
}

func (f *finder) isString(e ast.Expr) bool {
	t := f.tree.info.TypeOf(e)
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsString != 0
}

// condition negates a condition, unless another operator already does.
func (f *finder) condition(e ast.Expr) {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		if e.Op != token.LAND && e.Op != token.LOR {
			return
		}
	case *ast.UnaryExpr:
		if e.Op == token.NOT {
			return
		}
	}
	f.change("negate", e, "!("+f.text(e)+")")
}

// literal changes numbers and characters by one.
func (f *finder) literal(n *ast.BasicLit) {
	switch n.Kind {
	case token.INT:
		v, err := strconv.ParseInt(n.Value, 0, 64)
		if err != nil {
			return
		}
		f.change("constant", n, strconv.FormatInt(v+1, 10))
		if v > 0 {
			f.change("constant", n, strconv.FormatInt(v-1, 10))
		}
	case token.CHAR:
		r, _, _, err := strconv.UnquoteChar(n.Value[1:len(n.Value)-1], '\'')
		if err == nil {
			f.change("constant", n, strconv.QuoteRune(r+1))
		}
	}
}

func (f *finder) boolean(n *ast.Ident) {
	switch f.tree.info.Uses[n] {
	case types.Universe.Lookup("true"):
		f.change("bool", n, "false")
	case types.Universe.Lookup("false"):
		f.change("bool", n, "true")
	}
}

// call replaces min by max and max by min, and swaps the first and the last argument of cmp.Or.
func (f *finder) call(n *ast.CallExpr) {
	switch fun := n.Fun.(type) {
	case *ast.Ident:
		switch f.tree.info.Uses[fun] {
		case types.Universe.Lookup("min"):
			f.change("minmax", fun, "max")
		case types.Universe.Lookup("max"):
			f.change("minmax", fun, "min")
		}
	case *ast.SelectorExpr:
		o := f.tree.info.Uses[fun.Sel]
		if o == nil || o.Pkg() == nil || o.Pkg().Path() != "cmp" || o.Name() != "Or" || len(n.Args) < 2 {
			return
		}
		first, last := n.Args[0], n.Args[len(n.Args)-1]
		between := string(f.src.text[f.offset(first.End()):f.offset(last.Pos())])
		f.cut("swap", first.Pos(), last.End(), f.text(last)+between+f.text(first))
	}
}

// fields removes each named field of a struct literal.
func (f *finder) fields(n *ast.CompositeLit) {
	t := f.tree.info.TypeOf(n)
	if t == nil {
		return
	}
	if p, ok := t.Underlying().(*types.Pointer); ok {
		t = p.Elem() // a list of pointers may omit the element type
	}
	if _, ok := t.Underlying().(*types.Struct); !ok {
		return
	}
	for _, e := range n.Elts {
		if e, ok := e.(*ast.KeyValueExpr); ok {
			to := e.End()
			if f.src.text[f.offset(to)] == ',' {
				to++
			}
			f.cut("field", e.Pos(), to, "")
		}
	}
}

// assign replaces the operator, or drops one of several values.
func (f *finder) assign(n *ast.AssignStmt) {
	for _, op := range others[n.Tok] {
		if n.Tok == token.ADD_ASSIGN && op == "-=" && f.isString(n.Lhs[0]) {
			continue
		}
		f.change("operator", n, f.text(n.Lhs[0])+" "+op+" "+f.text(n.Rhs[0]))
	}
	if n.Tok != token.ASSIGN || len(n.Lhs) == 1 {
		return
	}
	for _, l := range n.Lhs {
		if id, ok := l.(*ast.Ident); !ok || id.Name != "_" {
			text := f.text(n)
			from := f.offset(l.Pos()) - f.offset(n.Pos())
			f.change("unassign", n, text[:from]+"_"+text[from+len(f.text(l)):])
		}
	}
}

func (f *finder) branch(n *ast.BranchStmt) {
	label := ""
	if n.Label != nil {
		label = " " + n.Label.Name
	}
	switch n.Tok {
	case token.BREAK:
		f.change("branch", n, "continue"+label)
	case token.CONTINUE:
		f.change("branch", n, "break"+label)
	}
}

// returned replaces a returned error by nil.
func (f *finder) returned(n *ast.ReturnStmt) {
	for _, r := range n.Results {
		v := f.tree.info.Types[r]
		if v.Type != nil && !v.IsNil() && types.Identical(v.Type, types.Universe.Lookup("error").Type()) {
			f.change("error", r, "nil")
		}
	}
}

// empty removes all statements of a list. For a list of one statement that can be deleted, see statements.
func (f *finder) empty(list []ast.Stmt) {
	if len(list) > 1 || len(list) == 1 && !deletable(list[0]) {
		f.cut("empty", list[0].Pos(), list[len(list)-1].End(), "")
	}
}

// statements deletes each statement that can be deleted. It keeps a return at the end of a function:
// without it, the program does not compile, or is the same.
func (f *finder) statements(list []ast.Stmt) {
	for i, s := range list {
		if l, ok := s.(*ast.LabeledStmt); ok {
			s = l.Stmt
		}
		if _, ok := s.(*ast.ReturnStmt); ok && i == len(list)-1 && f.isBody() {
			continue
		}
		if deletable(s) {
			f.change("delete", s, "")
		}
	}
}

func deletable(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.AssignStmt:
		return s.Tok != token.DEFINE
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.SendStmt, *ast.GoStmt, *ast.DeferStmt, *ast.BranchStmt, *ast.ReturnStmt:
		return true
	}
	return false
}

// isBody reports whether the current block is the body of a function.
func (f *finder) isBody() bool {
	switch f.parent().(type) {
	case *ast.FuncDecl, *ast.FuncLit:
		return true
	}
	return false
}
