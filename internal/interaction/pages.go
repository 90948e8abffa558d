package interaction

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// pageToken is what a page link carries, sealed and bound to its data store: the
// whole question, the moment it is asked of, and where to go on. Links are in
// HealthLake's form, ?_count=N&page=token, and hold no readable search term. A
// token gives no rights: every page is authorised anew.
type pageToken struct {
	Path   string       `json:"p"` // "Patient", "Patient/1/_history"
	Query  string       `json:"q"` // as understood
	Moment store.Moment `json:"m"`
	After  []byte       `json:"a,omitempty"`
	Back   [][]byte     `json:"b,omitempty"` // where earlier pages began, the newest last
}

// maxBack is how many pages back a link still knows the way.
const maxBack = 16

func (t pageToken) next(after []byte) pageToken {
	t.Back = append(t.Back[max(0, len(t.Back)-maxBack+1):len(t.Back):len(t.Back)], t.After)
	t.After = after
	return t
}

func (t pageToken) previous() (pageToken, bool) {
	if len(t.Back) == 0 {
		return t, false
	}
	last := len(t.Back) - 1
	t.After, t.Back = t.Back[last], t.Back[:last]
	return t, true
}

// seal makes the token's text: base64url without padding, so that no sign in it
// asks to be encoded.
func (s *Session) seal(t pageToken) (string, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return "", fault.Wrap(fault.Internal, "interaction.seal", err)
	}
	for len(raw)%tokenStep != 0 {
		raw = append(raw, ' ')
	}
	sealed, err := s.Pages.Seal(raw, []byte(s.StoreID))
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(sealed)
	if len(text) > maxToken {
		return "", &fault.Error{Kind: fault.TooCostly, Op: "interaction.seal", Detail: "the search has more than one page and is too long for the link to the next",
			Hint: "ask for a larger _count, or for fewer values at a time"}
	}
	return text, nil
}

// tokenStep is the step in which tokens grow, in bytes before they are sealed: a
// length to the byte would tell how many rows and commits a store has.
const tokenStep = 256

// maxToken bounds a page token's text in bytes: it travels in a URL.
const maxToken = 64 << 10

func (s *Session) open(text string) (pageToken, error) {
	bad := &fault.Error{Kind: fault.Invalid, Op: "interaction.open", Subject: "page", Detail: "not a page of this data store",
		Hint: "follow Bundle.link as it stands, or begin the search again"}
	if len(text) > maxToken {
		return pageToken{}, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return pageToken{}, bad
	}
	plain, err := s.Pages.Open(raw, []byte(s.StoreID))
	if err != nil {
		return pageToken{}, bad
	}
	var t pageToken
	if err := json.Unmarshal(plain, &t); err != nil {
		return pageToken{}, bad
	}
	return t, nil
}

// link makes the URL of a page.
func (s *Session) link(t pageToken, count int) (string, error) {
	text, err := s.seal(t)
	if err != nil {
		return "", err
	}
	return s.Base + "/" + t.Path + "?" + url.Values{"_count": {strconv.Itoa(count)}, "page": {text}}.Encode(), nil
}
