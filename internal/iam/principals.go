package iam

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/arn"
)

// principals are whom a trust policy's statement is about.
type principals struct {
	anyone   bool
	accounts []string // account ids: whoever there is allowed by a policy of their own
	arns     []string // users, roles and sessions
	services []string // "healthlake.amazonaws.com"
}

// trusts says how a statement names a caller.
type trusts uint8

const (
	notNamed  trusts = iota
	byAccount        // the caller's account: a policy of the caller's must allow it too
	inPerson         // the caller
)

// names tells how the statement names a caller of this account.
func (p principals) names(caller Principal, who subject) trusts {
	if p.anyone {
		return inPerson
	}
	for _, a := range p.arns {
		if a == who.arn || a == caller.ARN {
			return inPerson
		}
	}
	for _, a := range p.accounts {
		if a == who.account {
			return byAccount
		}
	}
	return notNamed
}

// principals reads "*" or {"AWS": …, "Service": …}.
func (r *documentReader) principals(n *node) (p principals) {
	if n.kind == isText {
		if p.anyone = n.text == "*"; !p.anyone {
			r.wrong(n, `%q is not a Principal: {"AWS": …} or {"Service": …} or "*"`, n.text)
		}
		return p
	}
	r.object(n, map[string]func(*node){
		"AWS":       func(n *node) { r.oneOrMany(n, func(n *node) { r.awsPrincipal(n, &p) }) },
		"Service":   func(n *node) { r.oneOrMany(n, func(n *node) { p.services = append(p.services, r.string(n)) }) },
		"Federated": func(n *node) { r.wrong(n, "federated principals are not supported") },
	})
	return p
}

// awsPrincipal reads *, an account id, an account's root, or the ARN of a user,
// role or session. Wildcards inside an ARN mean nothing here, as in AWS.
func (r *documentReader) awsPrincipal(n *node, p *principals) {
	text := r.string(n)
	if text == "*" {
		p.anyone = true
		return
	}
	if isAccount(text) {
		p.accounts = append(p.accounts, text)
		return
	}
	a, err := arn.Parse(text)
	switch {
	case err != nil || a.Service != "iam" && a.Service != "sts" || strings.ContainsAny(text, "*?"):
		r.wrong(n, "%q is not an account or the ARN of a user, role or session", text)
	case a.Resource == "root":
		p.accounts = append(p.accounts, a.Account)
	default:
		p.arns = append(p.arns, text)
	}
}

// accountDigits is the length of an account id.
const accountDigits = 12

func isAccount(s string) bool { return len(s) == accountDigits && strings.Trim(s, "0123456789") == "" }
