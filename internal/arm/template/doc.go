// Package template is the language of Azure Resource Manager templates: JSON
// with comments, in which strings in square brackets are expressions.
//
// It owns the reader, the expressions and their functions, parameters,
// variables, copy loops and outputs, and the order in which resources come. It
// is pure: what an expression may learn of the world (a group, a resource that
// was deployed, the time) it gets from a Host. Rights, storage and requests are
// its caller's, arm.
//
// A template is a stranger's program, so every result is charged to a budget:
// loops, doubling texts and nested templates end with InvalidTemplate, not
// with the process.
//
// Open template.go first (Parse, Bind), then plan.go (Plan, Body, Outputs),
// then eval.go.
package template
