package iam

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
)

// Member is a user or a role as lists show it, without secrets.
type Member struct {
	ARN      string
	Name     string // without path
	Path     string // "/clinic/"
	Role     bool
	Policies []string // the ARNs of those attached, in order
	Keys     []MemberKey
	Longest  time.Duration // of a role's sessions
}

// MemberKey is one of a user's access keys.
type MemberKey struct {
	ID     string
	Active bool
}

// Members lists the users and roles of the account, by ARN.
func (d *Directory) Members() []Member {
	account := d.current()
	keys := map[string][]MemberKey{}
	for id, k := range account.keys {
		keys[k.user] = append(keys[k.user], MemberKey{id, k.active})
	}
	all := make([]Member, 0, len(account.identities))
	for _, i := range account.identities {
		m := Member{ARN: i.arn, Name: i.name, Path: i.path, Role: i.role, Keys: keys[i.arn], Longest: i.maxDuration}
		if i.role {
			m.Name, m.Path = i.roleName, rolePath(i.arn, i.roleName)
		}
		for _, p := range i.policies {
			m.Policies = append(m.Policies, d.policyARN(p.name))
		}
		slices.SortFunc(m.Keys, func(a, b MemberKey) int { return cmp.Compare(a.ID, b.ID) })
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ARN, b.ARN) })
	return all
}

// rolePath is what stands between role and the name in an ARN.
func rolePath(name, role string) string {
	_, resource, _ := strings.Cut(name, ":role/")
	return "/" + strings.TrimSuffix(resource, role)
}

// PolicyARNs lists the policies of the account, without AWS's own.
func (d *Directory) PolicyARNs() []string {
	var all []string
	for name := range d.current().policies {
		all = append(all, d.policyARN(name))
	}
	slices.Sort(all)
	return all
}

// policyARN is the ARN of a policy of the account's or of AWS's.
func (d *Directory) policyARN(name string) string {
	if strings.HasPrefix(name, managedPrefix) {
		return name
	}
	return arn.ARN{Partition: d.options.Partition, Service: "iam", Account: d.options.Account, Resource: "policy/" + name}.String()
}
