package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	fileMax = 1 << 20 // bytes of a configuration file
	nodeMax = 100_000 // values in it, aliases followed
)

// A tree is a value of a YAML file, aliases and merge keys resolved.
type tree struct {
	line int    // where it begins, from 1
	text string // of a scalar, as written
	kind treeKind
	list []tree
	keys []branch // of a mapping, in order
}

type treeKind int

const (
	nothing treeKind = iota // null, or no value at all
	scalar
	list
	mapping
)

type branch struct {
	key   string
	line  int
	value tree
}

// lineError is what is wrong with a line of a file.
type lineError struct {
	path string
	line int // 0: with the whole file
	err  error
}

func (e *lineError) Error() string {
	if e.line == 0 {
		return fmt.Sprintf("%s: %v", e.path, e.err)
	}
	return fmt.Sprintf("%s:%d: %v", e.path, e.line, e.err)
}

func (e *lineError) Unwrap() error { return e.err }

// readTree reads a file with one YAML document. Its errors are *lineError.
func readTree(path string) (tree, error) {
	whole := func(err error) (tree, error) { return tree{}, &lineError{path: path, err: err} }
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return whole(bareError(err))
	case !info.Mode().IsRegular():
		return whole(errors.New("not a file"))
	case info.Size() > fileMax:
		return whole(fmt.Errorf("longer than %d bytes", fileMax))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return whole(bareError(err))
	}
	t, err := parseTree(data)
	if err == nil {
		return t, nil
	}
	var e *lineError
	if !errors.As(err, &e) {
		return whole(err)
	}
	e.path = path
	return tree{}, e
}

// parseTree reads the text of a file.
func parseTree(data []byte) (tree, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var e yaml.Error
		if errors.As(err, &e) && e.GetToken() != nil {
			return tree{}, &lineError{line: e.GetToken().Position.Line, err: errors.New(e.GetMessage())}
		}
		return tree{}, err
	}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil {
			bodies = append(bodies, d.Body)
		}
	}
	switch len(bodies) {
	case 0:
		return tree{}, errors.New("there is nothing in it")
	case 1:
	default:
		return tree{}, &lineError{line: lineOf(bodies[1]), err: errors.New("a second document: put all services into the first")}
	}
	r := treeReader{anchors: map[string]ast.Node{}}
	return r.read(bodies[0], 0)
}

// treeReader makes trees of what the parser found.
type treeReader struct {
	anchors map[string]ast.Node
	nodes   int
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func (r *treeReader) read(n ast.Node, depth int) (tree, error) {
	t := tree{line: lineOf(n)}
	fail := func(format string, a ...any) (tree, error) {
		return tree{}, &lineError{line: t.line, err: fmt.Errorf(format, a...)}
	}
	if r.nodes++; r.nodes > nodeMax || depth > 100 {
		return fail("too many values, or too deep")
	}
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return t, nil
	case *ast.MappingNode:
		t.kind = mapping
		if len(n.Values) > 0 {
			t.line = lineOf(n.Values[0].Key)
		}
		for _, v := range n.Values {
			if err := r.branch(&t, v, depth); err != nil {
				return tree{}, err
			}
		}
	case *ast.MappingValueNode:
		t.kind, t.line = mapping, lineOf(n.Key)
		if err := r.branch(&t, n, depth); err != nil {
			return tree{}, err
		}
	case *ast.SequenceNode:
		t.kind = list
		for _, v := range n.Values {
			one, err := r.read(v, depth+1)
			if err != nil {
				return tree{}, err
			}
			t.list = append(t.list, one)
		}
	case *ast.AnchorNode:
		r.anchors[n.Name.GetToken().Value] = n.Value
		return r.read(n.Value, depth+1)
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		meant, ok := r.anchors[name]
		if !ok {
			return fail("*%s: there is no such anchor above", name)
		}
		return r.read(meant, depth+1)
	case *ast.TagNode:
		return fail("the tag %s means nothing here: leave it out", n.Start.Value)
	case *ast.LiteralNode:
		t.kind, t.text = scalar, n.Value.Value
	case ast.ScalarNode:
		t.kind, t.text = scalar, n.GetToken().Value
	default:
		return fail("%s means nothing here", n.Type())
	}
	return t, nil
}

// branch reads one KEY: VALUE of a mapping. What is merged (<<) gives way to
// what is written.
func (r *treeReader) branch(t *tree, v *ast.MappingValueNode, depth int) error {
	value, err := r.read(v.Value, depth+1)
	if err != nil {
		return err
	}
	if v.Key.IsMergeKey() {
		if value.kind != mapping {
			return &lineError{line: lineOf(v.Key), err: errors.New("<< merges a mapping: give it an alias of one, as in <<: *name")}
		}
		for _, b := range value.keys {
			if _, there := t.find(b.key); !there {
				t.keys = append(t.keys, b)
			}
		}
		return nil
	}
	b := branch{key: v.Key.GetToken().Value, line: lineOf(v.Key), value: value}
	for i, old := range t.keys { // merged above: the parser refuses two that are written
		if old.key == b.key {
			t.keys[i] = b
			return nil
		}
	}
	t.keys = append(t.keys, b)
	return nil
}

// find gives the value of a key of a mapping.
func (t tree) find(key string) (branch, bool) {
	for _, b := range t.keys {
		if b.key == key {
			return b, true
		}
	}
	return branch{}, false
}

// bareError drops the operation and path of an error that names them again.
func bareError(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
