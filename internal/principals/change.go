package principals

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
)

// UserARN, RoleARN and PolicyARN name what the account has.
func (r *Registry) UserARN(path, name string) string { return r.arn("user" + path + name) }
func (r *Registry) RoleARN(path, name string) string { return r.arn("role" + path + name) }
func (r *Registry) PolicyARN(name string) string     { return r.arn("policy/" + name) }
func (r *Registry) arn(resource string) string {
	return arn.ARN{Partition: r.Partition, Service: "iam", Account: r.Account, Resource: resource}.String()
}

// Member finds a user (by name without path) or a role; fault.NotFound.
func (r *Registry) Member(role bool, name string) (iam.Member, error) {
	for _, m := range r.Directory.Members() {
		if m.Role == role && strings.EqualFold(m.Name, name) {
			return m, nil
		}
	}
	return iam.Member{}, absent(what(role), name)
}

func what(role bool) string {
	if role {
		return "role"
	}
	return "user"
}

// CreateUser makes a user; fault.Duplicate where the name is taken.
func (r *Registry) CreateUser(ctx context.Context, path, name string) error {
	return r.change(ctx, func(a *account) error {
		if _, err := r.Member(false, name); err == nil {
			return taken("user", name)
		}
		if len(a.Users) >= usersMax {
			return full("users", usersMax)
		}
		a.Users = append(a.Users, user{Name: name, Path: path, Created: r.now()})
		return nil
	})
}

// user finds a kept user within a change.
func (r *Registry) user(a *account, name string) (*user, error) {
	for i := range a.Users {
		if strings.EqualFold(a.Users[i].Name, name) {
			return &a.Users[i], nil
		}
	}
	if _, err := r.Member(false, name); err != nil {
		return nil, err
	}
	return nil, declared(name)
}

// role finds a kept role within a change.
func (r *Registry) role(a *account, name string) (*role, error) {
	m, err := r.Member(true, name)
	if err != nil {
		return nil, err
	}
	for i := range a.Roles {
		if a.Roles[i].ARN == m.ARN {
			return &a.Roles[i], nil
		}
	}
	return nil, declared(name)
}

// DeleteUser takes a user away that has neither keys nor policies any more.
func (r *Registry) DeleteUser(ctx context.Context, name string) error {
	return r.change(ctx, func(a *account) error {
		u, err := r.user(a, name)
		if err != nil {
			return err
		}
		if len(u.AccessKeys) > 0 || len(u.Policies) > 0 {
			return fault.New(fault.Conflict, "principals", "the user still has access keys or policies; delete and detach them first")
		}
		a.Users = slices.DeleteFunc(a.Users, func(other user) bool { return other.Name == u.Name })
		return nil
	})
}

// CreateKey makes an access key of a user; its secret is told this once.
func (r *Registry) CreateKey(ctx context.Context, name string) (made iam.Credentials, at time.Time, err error) {
	made, err = iam.NewCredentials(r.Random)
	if err != nil {
		return made, at, err
	}
	created := r.now()
	err = r.change(ctx, func(a *account) error {
		u, err := r.user(a, name)
		if err != nil {
			return err
		}
		if len(u.AccessKeys) >= keysMax {
			return full("access keys of the user", keysMax)
		}
		u.AccessKeys = append(u.AccessKeys, key{made.AccessKeyID, made.SecretAccessKey, statusActive, created})
		return nil
	})
	return made, *created, err
}

// The states of an access key.
const (
	statusActive   = "Active"
	statusInactive = "Inactive"
)

// SetKey switches a user's access key on or off; in force when it returns.
func (r *Registry) SetKey(ctx context.Context, name, id string, active bool) error {
	return r.change(ctx, func(a *account) error {
		u, at, err := r.key(a, name, id)
		if err != nil {
			return err
		}
		u.AccessKeys[at].Status = statusInactive
		if active {
			u.AccessKeys[at].Status = statusActive
		}
		return nil
	})
}

// DeleteKey takes a user's access key away.
func (r *Registry) DeleteKey(ctx context.Context, name, id string) error {
	return r.change(ctx, func(a *account) error {
		u, at, err := r.key(a, name, id)
		if err != nil {
			return err
		}
		u.AccessKeys = slices.Delete(u.AccessKeys, at, at+1)
		return nil
	})
}

func (r *Registry) key(a *account, name, id string) (*user, int, error) {
	u, err := r.user(a, name)
	if err != nil {
		return nil, 0, err
	}
	at := slices.IndexFunc(u.AccessKeys, func(k key) bool { return k.ID == id })
	if at < 0 {
		return nil, 0, absent("access key of the user", id)
	}
	return u, at, nil
}

// CreateRole makes a role; lasting bounds its sessions, 0 is an hour.
func (r *Registry) CreateRole(ctx context.Context, path, name, trust string, lasting time.Duration) error {
	if _, err := iam.ParseTrust(name, []byte(trust)); err != nil {
		return malformed("AssumeRolePolicyDocument", err)
	}
	return r.change(ctx, func(a *account) error {
		if _, err := r.Member(true, name); err == nil {
			return taken("role", name)
		}
		if len(a.Roles) >= rolesMax {
			return full("roles", rolesMax)
		}
		a.Roles = append(a.Roles, role{ARN: r.RoleARN(path, name), Trust: json.RawMessage(trust), Longest: int(lasting.Seconds()), Created: r.now()})
		return nil
	})
}

// DeleteRole takes a role away that has no policies any more; its sessions end.
func (r *Registry) DeleteRole(ctx context.Context, name string) error {
	return r.change(ctx, func(a *account) error {
		found, err := r.role(a, name)
		if err != nil {
			return err
		}
		if len(found.Policies) > 0 {
			return fault.New(fault.Conflict, "principals", "the role still has policies; detach them first")
		}
		a.Roles = slices.DeleteFunc(a.Roles, func(other role) bool { return other.ARN == found.ARN })
		return nil
	})
}

// CreatePolicy keeps a policy document.
func (r *Registry) CreatePolicy(ctx context.Context, name, document string) error {
	if _, err := iam.ParseDocument(name, []byte(document)); err != nil {
		return malformed("PolicyDocument", err)
	}
	return r.change(ctx, func(a *account) error {
		if slices.Contains(r.Directory.PolicyARNs(), r.PolicyARN(name)) {
			return taken("policy", name)
		}
		if len(a.Policies) >= policiesMax {
			return full("policies", policiesMax)
		}
		a.Policies = append(a.Policies, policy{Name: name, Document: json.RawMessage(document), Created: r.now()})
		return nil
	})
}

// DeletePolicy takes a policy away that nobody has.
func (r *Registry) DeletePolicy(ctx context.Context, name string) error {
	return r.change(ctx, func(a *account) error {
		whole := r.PolicyARN(name)
		for _, m := range r.Directory.Members() {
			if slices.Contains(m.Policies, whole) {
				return fault.New(fault.Conflict, "principals", "%s still has the policy; detach it first", m.ARN)
			}
		}
		before := len(a.Policies)
		a.Policies = slices.DeleteFunc(a.Policies, func(p policy) bool { return p.Name == name })
		switch {
		case len(a.Policies) < before:
			return nil
		case slices.Contains(r.Directory.PolicyARNs(), whole):
			return declared(name)
		}
		return absent("policy", whole)
	})
}

// Attach gives a user or a role a policy, of the account or of AWS's, by ARN;
// one that it has is no error.
func (r *Registry) Attach(ctx context.Context, toRole bool, name, policy string) error {
	return r.attachments(ctx, toRole, name, func(list []string) ([]string, error) {
		switch {
		case slices.Contains(list, policy):
			return list, nil
		case len(list) >= attachedMax:
			return nil, full("policies attached", attachedMax)
		}
		if _, managed := iam.ManagedPolicy(policy); !managed && !slices.Contains(r.Directory.PolicyARNs(), policy) {
			return nil, absent("policy", policy)
		}
		return append(list, policy), nil
	})
}

// Detach takes a policy from a user or a role.
func (r *Registry) Detach(ctx context.Context, fromRole bool, name, policy string) error {
	return r.attachments(ctx, fromRole, name, func(list []string) ([]string, error) {
		at := slices.Index(list, policy)
		if at < 0 {
			return nil, absent("policy attached", policy)
		}
		return slices.Delete(list, at, at+1), nil
	})
}

func (r *Registry) attachments(ctx context.Context, ofRole bool, name string, edit func([]string) ([]string, error)) error {
	return r.change(ctx, func(a *account) (err error) {
		if !ofRole {
			u, err := r.user(a, name)
			if err == nil {
				u.Policies, err = edit(u.Policies)
			}
			return err
		}
		found, err := r.role(a, name)
		if err == nil {
			found.Policies, err = edit(found.Policies)
		}
		return err
	})
}

// malformed names the document that is wrong.
func malformed(parameter string, err error) error {
	named := *fault.From(err)
	named.Kind, named.Subject = fault.Unprocessable, parameter
	return &named
}

// Created tells when a kept user, role, key or policy was made; nil for what the
// IAM file declares.
func (r *Registry) Created(arnOrKey string) *time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.kept.Users {
		for _, k := range u.AccessKeys {
			if k.ID == arnOrKey {
				return k.Created
			}
		}
		if r.UserARN(u.path(), u.Name) == arnOrKey {
			return u.Created
		}
	}
	for _, one := range r.kept.Roles {
		if one.ARN == arnOrKey {
			return one.Created
		}
	}
	for _, p := range r.kept.Policies {
		if r.PolicyARN(p.Name) == arnOrKey {
			return p.Created
		}
	}
	return nil
}

func (u user) path() string {
	if u.Path == "" {
		return "/"
	}
	return u.Path
}
