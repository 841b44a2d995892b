package az

import "context"

type correlationKey struct{}

// WithCorrelation puts a request's correlation id into the context, so that
// audit records and log lines made on its behalf carry it.
func WithCorrelation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, correlationKey{}, id)
}

// Correlation returns the context's correlation id, or "".
func Correlation(ctx context.Context) string {
	id, _ := ctx.Value(correlationKey{}).(string)
	return id
}
