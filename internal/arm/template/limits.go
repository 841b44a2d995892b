package template

import (
	"github.com/hawser/hawser/internal/az"
)

// Limits of templates. Source: Azure Resource Manager, "Template best
// practices: template limits".
const (
	// MaxTemplate bounds a template's text, in bytes.
	MaxTemplate = 4 << 20
	// MaxResources bounds the resources of a template, copies included.
	MaxResources  = 800
	maxParameters = 256
	maxVariables  = 512
	maxOutputs    = 64
	maxExpression = 24576 // characters
	maxCopies     = 800   // iterations of a loop that makes something else than resources
)

// Limits of our own: Azure has such, but does not publish them.
const (
	// maxDepth bounds the nesting of JSON and of an expression.
	maxDepth = 100
	// maxRange is the largest range(). Source: numeric functions of templates.
	maxRange = 10_000
	// maxSteps bounds how much a template may have computed.
	maxSteps = 1_000_000
	// maxBytes bounds what its results may hold, all together: four times what
	// a deployment can be large.
	maxBytes = 4 * MaxTemplate
	// maxFunctionCalls bounds how deep functions of the template's own call
	// each other.
	maxFunctionCalls = 16
)

// Budget is what is left to a template, and to those nested in it.
type Budget struct {
	steps, bytes, resources int
	spent                   bool
}

// NewBudget is the budget of a deployment.
func NewBudget() *Budget { return &Budget{steps: maxSteps, bytes: maxBytes, resources: MaxResources} }

// charge takes steps and bytes; without them evaluation ends.
func (b *Budget) charge(steps, bytes int) error {
	if b.steps -= steps; b.steps < 0 || b.spent {
		b.spent = true
		return invalid("The template takes too many steps to evaluate: the limit is %d. Use smaller loops.", maxSteps)
	}
	if b.bytes -= bytes; b.bytes < 0 || bytes < 0 {
		b.spent = true
		return invalid("The results of the template's expressions are too large: the limit is %d bytes in all.", maxBytes)
	}
	return nil
}

// chargeValue takes what a value is large, written out.
func (b *Budget) chargeValue(v any) error {
	n := 0
	if !measure(v, &n, b.bytes) {
		return b.charge(1, b.bytes+1)
	}
	return b.charge(1, n)
}

// bytesPerStep is how much of a resource's text counts as one step: each of a
// loop's is read again.
const bytesPerStep = 512

// chargeReading takes steps for going through a value.
func (b *Budget) chargeReading(v any) error {
	n := 0
	measure(v, &n, b.steps*bytesPerStep)
	return b.charge(n/bytesPerStep, 0)
}

// measure adds up a value's size until it is above limit: shared parts count
// each time, as they will be written out.
func measure(v any, n *int, limit int) bool {
	*n += 8
	switch v := v.(type) {
	case string:
		*n += len(v)
	case []any:
		for _, x := range v {
			if !measure(x, n, limit) {
				return false
			}
		}
	case map[string]any:
		for k, x := range v {
			*n += len(k)
			if !measure(x, n, limit) {
				return false
			}
		}
	}
	return *n <= limit
}

// CodeInvalid is the code of errors in a template.
const CodeInvalid = "InvalidTemplate"

func invalid(format string, args ...any) *az.Error {
	e := az.Errorf(az.Invalid, CodeInvalid, format, args...)
	e.Message = "Deployment template validation failed: '" + e.Message + "'."
	return e
}
