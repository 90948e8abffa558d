package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Values of x-amz-content-sha256 that are no hash.
const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	streamingPrefix = "STREAMING-" // aws-chunked, and its relatives
)

// signedRequest is all that a signature covers, in every form it may have.
type signedRequest struct {
	request  *http.Request
	claim    *claim
	target   target
	headers  []string // canonical header blocks, one for each host
	payloads []string // last lines of the canonical request
}

// matches tries the forms of the canonical request until one gives the
// signature. Which one matches is no secret; how far a wrong signature agrees
// with a right one is.
func (s *signedRequest) matches(key *signingKey) bool {
	mac := key.mac()
	defer key.done(mac)
	head := s.stringToSignHead()
	var sum, want [sha256.Size]byte
	var digits [signatureDigits]byte
	found := false
	s.forms(func(canonical []byte) bool {
		sum = sha256.Sum256(canonical)
		mac.Reset()
		mac.Write([]byte(head))
		mac.Write(hex.AppendEncode(digits[:0], sum[:]))
		hex.Encode(digits[:], mac.Sum(want[:0]))
		found = subtle.ConstantTimeCompare(digits[:], []byte(s.claim.signature)) == 1
		return !found
	})
	return found
}

// canonicalBytes is what most canonical requests take.
const canonicalBytes = 1024

// forms yields canonical requests, likeliest first, until told to stop or
// candidatesMax is reached. The bytes are valid only during the call.
func (s *signedRequest) forms(yield func(canonical []byte) bool) {
	tried := 0
	canonical := make([]byte, 0, canonicalBytes)
	paths := pathForms(s.target.path)
	for _, pairs := range s.claim.signedPairs(s.target.pairs) {
		queries := queryList{pairs: pairs}
		for _, headers := range s.headers {
			for query := range queries.all {
				for _, path := range paths {
					for _, payload := range s.payloads {
						canonical = s.appendCanonical(canonical[:0], path, query, headers, payload)
						if tried++; !yield(canonical) || tried == candidatesMax {
							return
						}
					}
				}
			}
		}
	}
}

// appendCanonical writes one canonical request (IAM User Guide, "Create a
// canonical request").
func (s *signedRequest) appendCanonical(b []byte, path, query, headers, payload string) []byte {
	method := s.request.Method
	if method == "" {
		method = http.MethodGet
	}
	for _, line := range [...]string{method, path, query, headers, s.claim.signedHeaders} {
		b = append(append(b, line...), '\n')
	}
	return append(b, payload...)
}

// stringToSignHead is the string to sign up to the hash of the canonical
// request.
func (s *signedRequest) stringToSignHead() string {
	c := s.claim
	return algorithm + "\n" + stamp(c.when) + "\n" + c.date + "/" + c.region + "/" + c.service + "/" + c.terminator + "\n"
}

// explain shows the specification's canonical request and string to sign, in
// the words AWS has for it. A session token is left out.
func (s *signedRequest) explain() string {
	var text string
	s.forms(func(canonical []byte) bool {
		sum := sha256.Sum256(canonical)
		text = "The Canonical String for this request should have been\n'" + string(canonical) +
			"'\n\nThe String-to-Sign should have been\n'" + s.stringToSignHead() + hex.EncodeToString(sum[:]) + "'"
		return false
	})
	if token := s.claim.token; token != "" {
		text = strings.NewReplacer(token, "(session token)", escape(token, escapeSlash), "(session token)").Replace(text)
	}
	return text
}

// headerForms writes the canonical headers, once for each host that may have
// been signed.
func (v *Verifier) headerForms(r *http.Request, c *claim) ([]string, error) {
	if len(r.Header["X-Amz-Target"]) > 0 && !c.signs("x-amz-target") {
		return nil, incomplete("'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.")
	}
	hosts := v.hostForms(r)
	blocks := make([]string, len(hosts))
	for i, host := range hosts {
		block, err := canonicalHeaders(r, c.names, host)
		if err != nil {
			return nil, err
		}
		blocks[i] = block
	}
	return blocks, nil
}

// headerBytes is what most headers take, name and value.
const headerBytes = 64

// canonicalHeaders writes "name:value\n" for each name, in the order in which
// the client lists them.
func canonicalHeaders(r *http.Request, names []string, host string) (string, error) {
	var b strings.Builder
	b.Grow(len(names) * headerBytes)
	for _, name := range names {
		b.WriteString(name)
		b.WriteByte(':')
		if name == "host" {
			writeTrimmed(&b, host)
			b.WriteByte('\n')
			continue
		}
		values := headerValues(r, name)
		if len(values) == 0 {
			return "", incomplete("'" + name + "' is named as a SignedHeader, but it does not exist in the HTTP request.")
		}
		for i, value := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			writeTrimmed(&b, value)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// headerValues finds a header where net/http keeps it: some are taken out of
// Header when a request is read.
func headerValues(r *http.Request, name string) []string {
	switch name {
	case "content-length":
		if r.ContentLength >= 0 {
			return []string{strconv.FormatInt(r.ContentLength, 10)}
		}
	case "transfer-encoding":
		if len(r.TransferEncoding) > 0 {
			return r.TransferEncoding
		}
	}
	return r.Header[canonicalName(name)]
}

// canonicalName is a header's name as net/http keeps it.
func canonicalName(name string) string {
	if canonical, known := usualNames[name]; known {
		return canonical
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// usualNames are those that most requests sign: the general way makes a new
// string each time.
var usualNames = map[string]string{
	"accept": "Accept", "content-type": "Content-Type", "prefer": "Prefer", "user-agent": "User-Agent", "x-amz-content-sha256": "X-Amz-Content-Sha256",
	"x-amz-date": "X-Amz-Date", "x-amz-security-token": "X-Amz-Security-Token", "x-amz-target": "X-Amz-Target",
}

// writeTrimmed writes a header value without white space at its ends and with
// single spaces inside (Trimall of the specification). A folded header has
// become one line before, as RFC 9112 section 5.2 has it.
func writeTrimmed(b *strings.Builder, value string) {
	pending, empty := false, true
	for i := range len(value) {
		c := value[i]
		if c == ' ' || '\t' <= c && c <= '\r' {
			pending = !empty
			continue
		}
		if pending {
			b.WriteByte(' ')
			pending = false
		}
		b.WriteByte(c)
		empty = false
	}
}

// payloads lists the last lines that the canonical request may have: what
// x-amz-content-sha256 says where it is there, after it was held against the
// body, and else the body's hash.
func (v *Verifier) payloads(r *http.Request, c *claim, sum [sha256.Size]byte) ([]string, error) {
	bodyHash := hex.EncodeToString(sum[:])
	mayBeUnsigned := v.config.AllowUnsignedPayload != nil && v.config.AllowUnsignedPayload(r)
	switch said := c.contentHash; {
	case said == "" && c.presigned && mayBeUnsigned && r.ContentLength == 0:
		// A presigned GET has no body and often no header to tell how it was
		// signed: S3's presigners write UNSIGNED-PAYLOAD, all others the hash
		// of nothing.
		return []string{bodyHash, unsignedPayload}, nil
	case said == "":
		return []string{bodyHash}, nil
	case strings.HasPrefix(said, streamingPrefix):
		return nil, &fault.Error{Kind: fault.NotSupported, Op: opVerify, Subject: "x-amz-content-sha256",
			Detail: "bodies signed in chunks (aws-chunked) are not supported", Hint: "sign the whole body"}
	case said == unsignedPayload && mayBeUnsigned:
		return []string{said}, nil
	case said == unsignedPayload:
		return nil, &fault.Error{Kind: fault.BadSignature, Op: opVerify,
			Detail: "UNSIGNED-PAYLOAD is accepted only over TLS or loopback", Hint: "sign the body"}
	case subtle.ConstantTimeCompare([]byte(strings.ToLower(said)), []byte(bodyHash)) != 1:
		return nil, fault.New(fault.BadSignature, opVerify,
			"The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return []string{c.contentHash}, nil
}
