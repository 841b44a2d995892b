// Package internal has no code: its test says who may import whom.
package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hawser/hawser/"

// floors gives each package its floor. A package imports only from floors below
// its own, so that code which reads strangers' bytes can reach no secret by any
// import, and the whole can be read from the bottom up.
var floors = map[string]int{
	"cmd/hawser": 9, "hawsertest": 9,
	"internal/server":    8,
	"internal/connector": 7,
	"internal/site":      6, "internal/easyauth": 6,
	"internal/vault": 5, "internal/authority": 5,
	"internal/signin": 4,
	"internal/arm":    3, "internal/directory": 3, "internal/proxy": 3,
	"internal/guard": 2, "internal/gateway/pg": 2, "internal/gateway/mysql": 2, "internal/gateway/tds": 2, "internal/gateway/redis": 2, "internal/portal": 2, "internal/arm/template": 2,
	"internal/rest": 1, "internal/store": 1, "internal/gateway": 1, "internal/run": 1,
	"internal/az": 0, "internal/seal": 0, "client": 0,
}

// stdOnly are packages that strangers import or everything stands on.
var stdOnly = map[string]bool{"internal/az": true, "client": true}

// Test helpers may be imported by tests of any floor.
func isTestHelper(pkg string) bool {
	return strings.HasPrefix(pkg, "internal/") && strings.HasSuffix(pkg, "test")
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range parsed(t, false) {
		mine, known := floors[f.pkg]
		if !known {
			if !isTestHelper(f.pkg) && f.pkg != "internal" && !strings.HasPrefix(f.pkg, "bench") {
				t.Errorf("%s: the package %s has no floor; give it one here and a record in docs/decisions", f.path, f.pkg)
			}
			continue
		}
		for _, imp := range f.imports {
			other, ours := strings.CutPrefix(imp, module)
			switch {
			case ours && isTestHelper(other):
				t.Errorf("%s imports the test helper %s", f.path, other)
			case ours && floors[other] >= mine:
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go down only", f.path, mine, other, floors[other])
			case !ours && stdOnly[f.pkg] && strings.Contains(strings.Split(imp, "/")[0], "."):
				t.Errorf("%s imports %s: %s stands on the standard library only", f.path, imp, f.pkg)
			}
		}
	}
}

// The words of SQL stand in store only.
func TestSQLOnlyInStore(t *testing.T) {
	for _, f := range parsed(t, false) {
		if f.pkg == "internal/store" || f.pkg == "internal/connector" || isTestHelper(f.pkg) {
			continue // connector speaks SQL to other people's databases, helpers to those of tests
		}
		for _, imp := range f.imports {
			if imp == "database/sql" {
				t.Errorf("%s imports database/sql: SQL belongs in store", f.path)
			}
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	comments := map[string]int{}
	for _, f := range parsed(t, false) {
		if f.doc {
			comments[f.pkg]++
		} else if _, ok := comments[f.pkg]; !ok {
			comments[f.pkg] = 0
		}
	}
	for pkg, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one", pkg, n)
		}
	}
}

// Nothing is registered behind a reader's back.
func TestNoInitFunctions(t *testing.T) {
	for _, f := range parsed(t, false) {
		if f.init {
			t.Errorf("%s has an init function", f.path)
		}
	}
}

// The binary is static and foreign code comes through the module proxy only.
func TestNoCgo(t *testing.T) {
	for _, f := range parsed(t, true) {
		for _, imp := range f.imports {
			if imp == "C" {
				t.Errorf("%s uses cgo", f.path)
			}
		}
	}
}

type file struct {
	path, pkg string
	imports   []string
	doc, init bool
}

func parsed(t *testing.T, tests bool) []file {
	t.Helper()
	var out []file
	root := ".."
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		if d.IsDir() {
			if path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || hasModule(path)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || !tests && strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, describe(rel, f))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("only %d files were found", len(out))
	}
	return out
}

func hasModule(dir string) bool {
	if dir == ".." {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func describe(rel string, f *ast.File) file {
	out := file{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), doc: f.Doc != nil}
	for _, imp := range f.Imports {
		if p, err := strconv.Unquote(imp.Path.Value); err == nil {
			out.imports = append(out.imports, p)
		}
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			out.init = true
		}
	}
	return out
}
