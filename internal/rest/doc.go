// Package rest turns HTTP into calls and results into HTTP, for every surface
// of a plane: route tables in which access stands beside the path, handlers
// that return (value, error), and the one place where an az.Error becomes a
// body in one of five forms.
//
// It knows no tokens and no rights: a Surface is given a function that says
// who the caller is. Open route.go first, then errors.go.
package rest
