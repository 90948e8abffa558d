package awslambda_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/tarn-fhir/tarn/internal/smart"
	"github.com/tarn-fhir/tarn/internal/smart/awslambda"
)

var _ smart.Invoker = (*awslambda.Invoker)(nil)

const arn = "arn:aws:lambda:us-east-1:111122223333:function:smart"

// client speaks to a local runtime as the SDK does where its endpoint is set.
func client(address string) *lambda.Client {
	return lambda.New(lambda.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(address), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
}

// The function is invoked by its ARN with the event as it is, and only an answer
// of the function itself is an answer.
func TestInvoke(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   string // "" is an error
	}{
		{"answers", func(w http.ResponseWriter) { io.WriteString(w, `{"ok":1}`) }, `{"ok":1}`},
		{"ends in an error", func(w http.ResponseWriter) {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
			io.WriteString(w, `{"errorMessage":"TOKEN"}`)
		}, ""},
		{"is taken for later", func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }, ""},
		{"is not there", func(w http.ResponseWriter) {
			w.Header().Set("X-Amzn-ErrorType", "ResourceNotFoundException")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{}`)
		}, ""},
	}
	for _, tt := range tests {
		var asked string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path, _ := url.PathUnescape(r.URL.EscapedPath())
			body, _ := io.ReadAll(r.Body)
			asked = strings.Join([]string{r.Method, path, r.Header.Get("X-Amz-Invocation-Type"), string(body)}, " ")
			tt.answer(w)
		}))
		got, err := awslambda.New(client(s.URL)).Invoke(t.Context(), arn, []byte(`{"bearerToken":"t"}`))
		s.Close()
		if string(got) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "TOKEN") {
			t.Errorf("%s: the error shows what the function said: %v", tt.name, err)
		}
		if want := "POST /2015-03-31/functions/" + arn + "/invocations RequestResponse " + `{"bearerToken":"t"}`; asked != want {
			t.Errorf("%s: asked %s\nwant %s", tt.name, asked, want)
		}
	}
}
