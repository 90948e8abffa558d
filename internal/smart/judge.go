package smart

import "context"

// Call is what a token is presented for.
type Call struct {
	Endpoint  string // the data store's, "https://host/datastore/id/r4/"
	Operation string // IAM action: "ReadResource"
}

// Judge says what a token is worth. A token that is not accepted is
// fault.UnknownKey or fault.ExpiredToken; where the judge cannot say,
// fault.FailedDependency or fault.Timeout: never a Claims.
type Judge interface {
	Verify(ctx context.Context, token string, call Call) (Claims, error)
}

// nobody is the judge of a store that has none: it takes signatures only.
type nobody struct{ reason string }

// Verify refuses.
func (n nobody) Verify(context.Context, string, Call) (Claims, error) {
	return Claims{}, unknown("smart.nobody", n.reason, nil)
}
