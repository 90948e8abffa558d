package sigv4

import (
	"errors"
	"io"
	"net/http"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// ReadBody reads r's body whole, up to Config.MaxBody; a longer one is
// fault.TooLarge, a broken one fault.Syntax. Without a body it answers nil.
func (v *Verifier) ReadBody(r *http.Request) ([]byte, error) {
	const op = "sigv4.ReadBody"
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > v.config.MaxBody {
		return nil, bodyTooLarge(v.config.MaxBody)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, v.config.MaxBody+1))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge || int64(len(body)) > v.config.MaxBody {
		return nil, bodyTooLarge(v.config.MaxBody)
	}
	if err != nil {
		return nil, &fault.Error{Kind: fault.Syntax, Op: op, Detail: "the body ended early", Cause: err}
	}
	return body, nil
}

func bodyTooLarge(max int64) error {
	return fault.New(fault.TooLarge, opVerify, "the body is longer than %d bytes", max)
}
