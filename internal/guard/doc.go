// Package guard decides who may do what, and writes down what it decided: the
// two are one act, so that a check that leaves no record cannot be expressed.
//
// Rights are Azure RBAC: role definitions (built in or custom) assigned to
// users, groups (nested) and service principals at a scope, effective there
// and below; what no assignment allows is denied. The audit log is a file per
// plane, chained by a keyed hash. Open check.go first, then roles.go and log.go.
package guard
