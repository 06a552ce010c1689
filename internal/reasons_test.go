package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestReasons: docs/troubleshooting.md has an entry for every reason that conditions and events can have, and for no other.
func TestReasons(t *testing.T) {
	inCode, inDocs := reasons(t), headings(t, "Reasons")
	// One of each way in which the code writes them: if the search misses one, it is the search that is wrong.
	for _, known := range []string{"PoolExhausted", "LastGoodInForce", "NoEligibleNode", "GossipBlocked", "Released", "InUseOtherwise", "None"} {
		if !slices.Contains(inCode, known) {
			t.Errorf("the search through the code has missed %s", known)
		}
	}
	for _, r := range inCode {
		if !slices.Contains(inDocs, r) {
			t.Errorf("docs/troubleshooting.md has no entry %q under Reasons", r)
		}
	}
	for _, r := range inDocs {
		if !slices.Contains(inCode, r) {
			t.Errorf("docs/troubleshooting.md has an entry for the reason %s, which no code writes", r)
		}
	}
}

// reasons finds in the code the constants of the types Reason, and what is written out as the reason of a condition or an event.
func reasons(t *testing.T) (all []string) {
	t.Helper()
	add := func(e ast.Expr) {
		if lit, is := e.(*ast.BasicLit); is && lit.Kind == token.STRING {
			if r, err := strconv.Unquote(lit.Value); err == nil && r != "" && !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	for _, dir := range []string{"ipam", "config", "placement", "controller", "speaker", "kube"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				eachReason(n, add)
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// eachReason yields the expressions that are reasons in one node of the code.
func eachReason(n ast.Node, yield func(ast.Expr)) {
	switch n := n.(type) {
	case *ast.ValueSpec:
		if kind, is := n.Type.(*ast.Ident); is && kind.Name == "Reason" {
			for _, v := range n.Values {
				yield(v)
			}
		}
	case *ast.CallExpr: // Event(on, type, reason, ...), NodeEvent(node, type, reason, ...)
		if f, is := n.Fun.(*ast.SelectorExpr); is && (f.Sel.Name == "Event" || f.Sel.Name == "NodeEvent") && len(n.Args) == 5 {
			yield(n.Args[2])
		}
	case *ast.KeyValueExpr:
		if key, is := n.Key.(*ast.Ident); is && key.Name == "Reason" {
			yield(n.Value)
		}
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if field, is := to.(*ast.SelectorExpr); is && field.Sel.Name == "Reason" && len(n.Rhs) == len(n.Lhs) {
				yield(n.Rhs[i])
			}
		}
	}
}
