package interaction

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
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
	Path   string // "Patient", "Patient/1/_history"
	Query  string // as understood
	Moment store.Moment
	After  []byte
	Back   [][]byte // where earlier pages began, the newest last
}

// sealedPage is a pageToken before it is sealed. What grows with the data store
// is padded: else the length of a link would tell how much is in the store that
// its reader may not see.
type sealedPage struct {
	Path   string   `json:"p"`
	Query  string   `json:"q"`
	Moment padded   `json:"m"`
	After  padded   `json:"a,omitempty"`
	Back   []padded `json:"b,omitempty"`
}

// padded is bytes whose JSON has one length for up to padBlock-1 of them, another
// for as many more, and so on.
type padded []byte

// padBlock holds every engine's moment, and every place in an unsorted search, in
// bytes.
const padBlock = 48

// padMark ends the bytes; zeros follow.
const padMark = 0x80

// MarshalJSON pads.
func (p padded) MarshalJSON() ([]byte, error) {
	full := make([]byte, (len(p)/padBlock+1)*padBlock)
	full[copy(full, p)] = padMark
	return json.Marshal(full)
}

// UnmarshalJSON takes the padding off.
func (p *padded) UnmarshalJSON(text []byte) error {
	var full []byte
	if err := json.Unmarshal(text, &full); err != nil {
		return err
	}
	end := bytes.LastIndexByte(full, padMark)
	if end < 0 || len(bytes.Trim(full[end+1:], "\x00")) > 0 {
		return errors.New("not padded")
	}
	*p = append(padded(nil), full[:end]...)
	return nil
}

func (t pageToken) sealed() sealedPage {
	p := sealedPage{Path: t.Path, Query: t.Query, Moment: padded(t.Moment), After: t.After}
	for _, back := range t.Back {
		p.Back = append(p.Back, back)
	}
	return p
}

func (p sealedPage) token() pageToken {
	t := pageToken{Path: p.Path, Query: p.Query, Moment: store.Moment(p.Moment), After: p.After}
	for _, back := range p.Back {
		t.Back = append(t.Back, back)
	}
	return t
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
	raw, err := json.Marshal(t.sealed())
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
	var p sealedPage
	if err := json.Unmarshal(plain, &p); err != nil {
		return pageToken{}, bad
	}
	return p.token(), nil
}

// link makes the URL of a page.
func (s *Session) link(t pageToken, count int) (string, error) {
	text, err := s.seal(t)
	if err != nil {
		return "", err
	}
	return s.Base + "/" + t.Path + "?" + url.Values{"_count": {strconv.Itoa(count)}, "page": {text}}.Encode(), nil
}
