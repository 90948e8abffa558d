package awsquery

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/principals"
)

var iamOperations = map[string]operation{
	"CreateUser": change("UserName", "User", createUser),
	"DeleteUser": change("UserName", "User", deleteUser),
	"GetUser":    change("UserName", "User", getUser),
	"ListUsers": list(func(a *API) any {
		return struct {
			Users       []userShape `xml:"Users>member"`
			IsTruncated bool
		}{a.users(), false}
	}),
	"CreateAccessKey":      change("UserName", "User", createAccessKey),
	"UpdateAccessKey":      change("UserName", "User", updateAccessKey),
	"DeleteAccessKey":      change("UserName", "User", deleteAccessKey),
	"ListAccessKeys":       change("UserName", "User", listAccessKeys),
	"GetAccessKeyLastUsed": keyLastUsed,
	"CreateRole":           change("RoleName", "Role", createRole),
	"DeleteRole":           change("RoleName", "Role", deleteRole),
	"GetRole":              change("RoleName", "Role", getRole),
	"ListRoles": list(func(a *API) any {
		return struct {
			Roles       []roleShape `xml:"Roles>member"`
			IsTruncated bool
		}{a.roles(), false}
	}),
	"CreatePolicy": createPolicy,
	"DeletePolicy": deletePolicy,
	"ListPolicies": list(func(a *API) any {
		return struct {
			Policies    []policyShape `xml:"Policies>member"`
			IsTruncated bool
		}{a.policies(), false}
	}),
	"AttachUserPolicy":         change("UserName", "User", attach(false, (*principals.Registry).Attach)),
	"DetachUserPolicy":         change("UserName", "User", attach(false, (*principals.Registry).Detach)),
	"AttachRolePolicy":         change("RoleName", "Role", attach(true, (*principals.Registry).Attach)),
	"DetachRolePolicy":         change("RoleName", "Role", attach(true, (*principals.Registry).Detach)),
	"ListAttachedUserPolicies": change("UserName", "User", attached(false)),
	"ListAttachedRolePolicies": change("RoleName", "Role", attached(true)),
}

type userShape struct {
	Path       string
	UserName   string
	UserID     string `xml:"UserId"`
	Arn        string
	CreateDate *time.Time `xml:",omitempty"`
}

type roleShape struct {
	Path               string
	RoleName           string
	RoleID             string `xml:"RoleId"`
	Arn                string
	CreateDate         *time.Time `xml:",omitempty"`
	MaxSessionDuration int
}

type policyShape struct {
	PolicyName string
	Arn        string
	CreateDate *time.Time `xml:",omitempty"`
}

type keyShape struct {
	UserName        string
	AccessKeyID     string `xml:"AccessKeyId"`
	Status          string
	SecretAccessKey string     `xml:",omitempty"`
	CreateDate      *time.Time `xml:",omitempty"`
}

func (a *API) user(m iam.Member) userShape {
	return userShape{m.Path, m.Name, userID(m.ARN), m.ARN, a.Principals.Created(m.ARN)}
}

func (a *API) role(m iam.Member) roleShape {
	return roleShape{m.Path, m.Name, uniqueID("AROA", accountOf(m.ARN)+"/"+m.Name), m.ARN, a.Principals.Created(m.ARN), int(m.Longest.Seconds())}
}

func (a *API) users() (all []userShape) {
	for _, m := range a.Principals.Directory.Members() {
		if !m.Role {
			all = append(all, a.user(m))
		}
	}
	return all
}

func (a *API) roles() (all []roleShape) {
	for _, m := range a.Principals.Directory.Members() {
		if m.Role {
			all = append(all, a.role(m))
		}
	}
	return all
}

func (a *API) policies() (all []policyShape) {
	for _, name := range a.Principals.Directory.PolicyARNs() {
		all = append(all, policyShape{lastPart(name), name, a.Principals.Created(name)})
	}
	return all
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// list is an operation that shows all there is, in one page.
func list(show func(*API) any) operation {
	return func(a *API, p *parameters) (*Request, error) {
		p.text("MaxItems")
		return &Request{Resource: "*", run: func(context.Context, Caller) (any, error) { return show(a), nil }}, nil
	}
}

// named carries out an operation on one user or role.
type named func(ctx context.Context, a *API, name string, in map[string]string) (any, error)

// change is an operation on the user or role that a parameter names; its other
// parameters are those that operations of that name have.
func change(parameter, kind string, do named) operation {
	return func(a *API, p *parameters) (*Request, error) {
		name, err := p.needed(parameter)
		if err != nil {
			return nil, err
		}
		in := map[string]string{}
		for _, other := range changeParameters[p.values.Get("Action")] {
			in[other] = p.text(other)
		}
		path := in["Path"]
		if path == "" {
			path = "/"
		}
		resource := a.Principals.UserARN(path, name)
		if kind == "Role" {
			resource = a.Principals.RoleARN(path, name)
		}
		if m, err := a.Principals.Member(kind == "Role", name); err == nil {
			resource = m.ARN
		}
		return &Request{Resource: resource, run: func(ctx context.Context, _ Caller) (any, error) { return do(ctx, a, name, in) }}, nil
	}
}

// changeParameters are the parameters of operations beside the name.
var changeParameters = map[string][]string{
	"CreateUser":       {"Path"},
	"UpdateAccessKey":  {"AccessKeyId", "Status"},
	"DeleteAccessKey":  {"AccessKeyId"},
	"ListAccessKeys":   {"MaxItems"},
	"CreateRole":       {"Path", "AssumeRolePolicyDocument", "MaxSessionDuration", "Description"},
	"AttachUserPolicy": {"PolicyArn"}, "DetachUserPolicy": {"PolicyArn"},
	"AttachRolePolicy": {"PolicyArn"}, "DetachRolePolicy": {"PolicyArn"},
	"ListAttachedUserPolicies": {"MaxItems"}, "ListAttachedRolePolicies": {"MaxItems"},
}

func createUser(ctx context.Context, a *API, name string, in map[string]string) (any, error) {
	path := in["Path"]
	if path == "" {
		path = "/"
	}
	if err := a.Principals.CreateUser(ctx, path, name); err != nil {
		return nil, err
	}
	return getUser(ctx, a, name, nil)
}

func getUser(_ context.Context, a *API, name string, _ map[string]string) (any, error) {
	m, err := a.Principals.Member(false, name)
	return struct{ User userShape }{a.user(m)}, err
}

func deleteUser(ctx context.Context, a *API, name string, _ map[string]string) (any, error) {
	return nil, a.Principals.DeleteUser(ctx, name)
}

func createAccessKey(ctx context.Context, a *API, name string, _ map[string]string) (any, error) {
	made, at, err := a.Principals.CreateKey(ctx, name)
	if err != nil {
		return nil, err
	}
	return struct{ AccessKey keyShape }{keyShape{name, made.AccessKeyID, "Active", made.SecretAccessKey, &at}}, nil
}

func updateAccessKey(ctx context.Context, a *API, name string, in map[string]string) (any, error) {
	if in["Status"] != "Active" && in["Status"] != "Inactive" {
		return nil, invalid("Status", "neither Active nor Inactive")
	}
	return nil, a.Principals.SetKey(ctx, name, in["AccessKeyId"], in["Status"] == "Active")
}

func deleteAccessKey(ctx context.Context, a *API, name string, in map[string]string) (any, error) {
	return nil, a.Principals.DeleteKey(ctx, name, in["AccessKeyId"])
}

func listAccessKeys(_ context.Context, a *API, name string, _ map[string]string) (any, error) {
	m, err := a.Principals.Member(false, name)
	out := struct {
		UserName          string
		AccessKeyMetadata []keyShape `xml:"AccessKeyMetadata>member"`
		IsTruncated       bool
	}{UserName: m.Name}
	for _, k := range m.Keys {
		status := "Inactive"
		if k.Active {
			status = "Active"
		}
		out.AccessKeyMetadata = append(out.AccessKeyMetadata, keyShape{m.Name, k.ID, status, "", a.Principals.Created(k.ID)})
	}
	return out, err
}

func keyLastUsed(a *API, p *parameters) (*Request, error) {
	id, err := p.needed("AccessKeyId")
	if err != nil {
		return nil, err
	}
	owner, known := a.owner(id)
	return &Request{Resource: owner.ARN, run: func(context.Context, Caller) (any, error) {
		if !known {
			return nil, &fault.Error{Kind: fault.NotFound, Op: "awsquery", Subject: cut(id), Detail: "there is no such access key"}
		}
		var out struct {
			UserName          string
			AccessKeyLastUsed struct {
				LastUsedDate        *time.Time `xml:",omitempty"`
				ServiceName, Region string
			}
		}
		out.UserName = owner.Name
		out.AccessKeyLastUsed.ServiceName, out.AccessKeyLastUsed.Region = "N/A", "N/A"
		if at, used := a.Principals.Directory.LastUsed(id); used {
			at = at.UTC().Truncate(time.Second)
			out.AccessKeyLastUsed.LastUsedDate, out.AccessKeyLastUsed.ServiceName = &at, "healthlake"
		}
		return out, nil
	}}, nil
}

// owner finds whose an access key is.
func (a *API) owner(id string) (iam.Member, bool) {
	for _, m := range a.Principals.Directory.Members() {
		if slices.ContainsFunc(m.Keys, func(k iam.MemberKey) bool { return k.ID == id }) {
			return m, true
		}
	}
	return iam.Member{ARN: "*"}, false
}

func createRole(ctx context.Context, a *API, name string, in map[string]string) (any, error) {
	path := in["Path"]
	if path == "" {
		path = "/"
	}
	p := &parameters{values: map[string][]string{"MaxSessionDuration": {in["MaxSessionDuration"]}}, read: map[string]bool{}}
	lasting, err := p.seconds("MaxSessionDuration")
	if err != nil {
		return nil, err
	}
	if err := a.Principals.CreateRole(ctx, path, name, in["AssumeRolePolicyDocument"], lasting); err != nil {
		return nil, err
	}
	return getRole(ctx, a, name, nil)
}

func getRole(_ context.Context, a *API, name string, _ map[string]string) (any, error) {
	m, err := a.Principals.Member(true, name)
	return struct{ Role roleShape }{a.role(m)}, err
}

func deleteRole(ctx context.Context, a *API, name string, _ map[string]string) (any, error) {
	return nil, a.Principals.DeleteRole(ctx, name)
}

func createPolicy(a *API, p *parameters) (*Request, error) {
	name, err := p.needed("PolicyName")
	if err != nil {
		return nil, err
	}
	document, err := p.needed("PolicyDocument")
	if err != nil {
		return nil, err
	}
	p.text("Description")
	whole := a.Principals.PolicyARN(name)
	return &Request{Resource: whole, run: func(ctx context.Context, _ Caller) (any, error) {
		if err := a.Principals.CreatePolicy(ctx, name, document); err != nil {
			return nil, err
		}
		return struct{ Policy policyShape }{policyShape{name, whole, a.Principals.Created(whole)}}, nil
	}}, nil
}

func deletePolicy(a *API, p *parameters) (*Request, error) {
	whole, err := p.needed("PolicyArn")
	if err != nil {
		return nil, err
	}
	return &Request{Resource: whole, run: func(ctx context.Context, _ Caller) (any, error) {
		return nil, a.Principals.DeletePolicy(ctx, lastPart(whole))
	}}, nil
}

func attach(role bool, do func(*principals.Registry, context.Context, bool, string, string) error) named {
	return func(ctx context.Context, a *API, name string, in map[string]string) (any, error) {
		return nil, do(a.Principals, ctx, role, name, in["PolicyArn"])
	}
}

func attached(role bool) named {
	return func(_ context.Context, a *API, name string, _ map[string]string) (any, error) {
		m, err := a.Principals.Member(role, name)
		type one struct{ PolicyName, PolicyArn string }
		out := struct {
			AttachedPolicies []one `xml:"AttachedPolicies>member"`
			IsTruncated      bool
		}{}
		for _, whole := range m.Policies {
			out.AttachedPolicies = append(out.AttachedPolicies, one{lastPart(whole), whole})
		}
		return out, err
	}
}
