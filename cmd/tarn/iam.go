package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// iamCommand speaks the identity service's API, as `aws iam` does.
type iamCommand struct {
	User   iamUserCommand   `cmd:"" help:"Users: create, list, delete."`
	Key    iamKeyCommand    `cmd:"" help:"Access keys: create, list, rotate, disable, enable, delete."`
	Role   iamRoleCommand   `cmd:"" help:"Roles: create, list, delete."`
	Policy iamPolicyCommand `cmd:"" help:"Policies: create, list, delete, attach, detach."`
}

type iamUserCommand struct {
	Create iamUserCreate `cmd:"" help:"Make a user, with an access key."`
	List   iamUserList   `cmd:"" help:"List users, those of the IAM file too."`
	Delete iamUserDelete `cmd:"" help:"Delete a user with its keys."`
}

type iamKeyCommand struct {
	Create  iamKeyCreate  `cmd:"" help:"Make an access key; its secret is shown this once."`
	List    iamKeyList    `cmd:"" help:"List a user's access keys with their last use."`
	Rotate  iamKeyRotate  `cmd:"" help:"Make a new access key and switch the old one off."`
	Disable iamKeyDisable `cmd:"" help:"Switch an access key off."`
	Enable  iamKeyEnable  `cmd:"" help:"Switch an access key on again."`
	Delete  iamKeyDelete  `cmd:"" help:"Delete an access key."`
}

type iamRoleCommand struct {
	Create iamRoleCreate `cmd:"" help:"Make a role."`
	List   iamRoleList   `cmd:"" help:"List roles, those of the IAM file too."`
	Delete iamRoleDelete `cmd:"" help:"Delete a role; its sessions end."`
}

type iamPolicyCommand struct {
	Create iamPolicyCreate `cmd:"" help:"Keep a policy document."`
	List   iamPolicyList   `cmd:"" help:"List policies."`
	Delete iamPolicyDelete `cmd:"" help:"Delete a policy that nobody has."`
	Attach iamPolicyAttach `cmd:"" help:"Give a user or a role a policy."`
	Detach iamPolicyDetach `cmd:"" help:"Take a policy from a user or a role."`
}

// iamKey is an access key as the service tells of it.
type iamKey struct {
	UserName        string `json:",omitempty"`
	AccessKeyID     string `xml:"AccessKeyId" json:"AccessKeyId"`
	SecretAccessKey string `json:",omitempty"`
	Status          string
	LastUsed        string `json:",omitempty"`
}

// iamThing is a user, role or policy in a list.
type iamThing struct{ Arn string }

// query carries out an operation of the identity service; in is name, value, ….
func (c connection) query(ctx context.Context, action string, out any, in ...string) error {
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for i := 0; i < len(in); i += 2 {
		if in[i+1] != "" {
			form.Set(in[i], in[i+1])
		}
	}
	body := []byte(form.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := c.sign(ctx, req, body, "iam"); err != nil {
		return err
	}
	reply, err := fetched(req)
	if err != nil {
		return err
	}
	if reply.code != http.StatusOK {
		var said struct {
			Error struct{ Code, Message string }
		}
		if err := xml.Unmarshal(reply.body, &said); err != nil || said.Error.Code == "" {
			return fmt.Errorf("the server answered %s", reply.status)
		}
		return fmt.Errorf("%s: %s", said.Error.Code, said.Error.Message)
	}
	if out == nil {
		return nil
	}
	return xml.Unmarshal(reply.body, out)
}

// things lists ARNs.
func (c connection) things(list []iamThing) error {
	if c.Output == "json" {
		return printJSON(list)
	}
	for _, t := range list {
		fmt.Println(t.Arn)
	}
	return nil
}

func (c connection) keys(list ...iamKey) error {
	if c.Output == "json" {
		return printJSON(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ACCESS KEY\tSTATUS\tLAST USED\tSECRET (SHOWN ONCE)")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.AccessKeyID, k.Status, k.LastUsed, k.SecretAccessKey)
	}
	return w.Flush()
}

func (c connection) makeKey(ctx context.Context, user string) (iamKey, error) {
	var out struct {
		AccessKey iamKey `xml:"CreateAccessKeyResult>AccessKey"`
	}
	err := c.query(ctx, "CreateAccessKey", &out, "UserName", user)
	return out.AccessKey, err
}

func (c connection) listKeys(ctx context.Context, user string) ([]iamKey, error) {
	var out struct {
		Keys []iamKey `xml:"ListAccessKeysResult>AccessKeyMetadata>member"`
	}
	if err := c.query(ctx, "ListAccessKeys", &out, "UserName", user); err != nil {
		return nil, err
	}
	for i := range out.Keys {
		var used struct {
			At string `xml:"GetAccessKeyLastUsedResult>AccessKeyLastUsed>LastUsedDate"`
		}
		if err := c.query(ctx, "GetAccessKeyLastUsed", &used, "AccessKeyId", out.Keys[i].AccessKeyID); err != nil {
			return nil, err
		}
		out.Keys[i].LastUsed = used.At
	}
	return out.Keys, nil
}

// policyARN takes a policy's name for that of the account's own policy, unless
// AWS has one of that name.
func (c connection) policyARN(ctx context.Context, name string) (string, error) {
	if strings.HasPrefix(name, "arn:") {
		return name, nil
	}
	if strings.HasPrefix(name, "AmazonHealthLake") {
		return "arn:aws:iam::aws:policy/" + name, nil
	}
	var out struct {
		All []iamThing `xml:"ListPoliciesResult>Policies>member"`
	}
	if err := c.query(ctx, "ListPolicies", &out); err != nil {
		return "", err
	}
	for _, p := range out.All {
		if strings.HasSuffix(p.Arn, ":policy/"+name) {
			return p.Arn, nil
		}
	}
	return "", fmt.Errorf("there is no policy %q", name)
}

type iamUserCreate struct {
	connection
	Name   string   `arg:"" help:"The user's name."`
	Path   string   `help:"Path of the user's ARN." default:"/" env:"TARN_IAM_PATH"`
	Policy []string `help:"Policies to attach, by name or ARN." env:"TARN_IAM_POLICY"`
}

// Run makes the user, attaches policies, makes a key and shows it.
func (c *iamUserCreate) Run(ctx context.Context) error {
	if err := c.query(ctx, "CreateUser", nil, "UserName", c.Name, "Path", c.Path); err != nil {
		return err
	}
	for _, p := range c.Policy {
		whole, err := c.policyARN(ctx, p)
		if err != nil {
			return err
		}
		if err := c.query(ctx, "AttachUserPolicy", nil, "UserName", c.Name, "PolicyArn", whole); err != nil {
			return err
		}
	}
	key, err := c.makeKey(ctx, c.Name)
	if err != nil {
		return err
	}
	return c.keys(key)
}

type iamUserList struct{ connection }

// Run lists users.
func (c *iamUserList) Run(ctx context.Context) error {
	var out struct {
		All []iamThing `xml:"ListUsersResult>Users>member"`
	}
	if err := c.query(ctx, "ListUsers", &out); err != nil {
		return err
	}
	return c.things(out.All)
}

type iamUserDelete struct {
	connection
	Name string `arg:"" help:"The user's name."`
}

// Run takes keys and policies away, then the user.
func (c *iamUserDelete) Run(ctx context.Context) error {
	keys, err := c.listKeys(ctx, c.Name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := c.query(ctx, "DeleteAccessKey", nil, "UserName", c.Name, "AccessKeyId", k.AccessKeyID); err != nil {
			return err
		}
	}
	if err := c.detachAll(ctx, "User", c.Name); err != nil {
		return err
	}
	return c.query(ctx, "DeleteUser", nil, "UserName", c.Name)
}

// detachAll takes all policies from a User or a Role.
func (c connection) detachAll(ctx context.Context, kind, name string) error {
	var out struct {
		Result struct {
			ARNs []string `xml:"AttachedPolicies>member>PolicyArn"`
		} `xml:",any"`
	}
	if err := c.query(ctx, "ListAttached"+kind+"Policies", &out, kind+"Name", name); err != nil {
		return err
	}
	for _, p := range out.Result.ARNs {
		if err := c.query(ctx, "Detach"+kind+"Policy", nil, kind+"Name", name, "PolicyArn", p); err != nil {
			return err
		}
	}
	return nil
}

type iamKeyCreate struct {
	connection
	User string `arg:"" help:"The user's name."`
}

// Run makes a key.
func (c *iamKeyCreate) Run(ctx context.Context) error {
	key, err := c.makeKey(ctx, c.User)
	if err != nil {
		return err
	}
	return c.keys(key)
}

type iamKeyList struct {
	connection
	User string `arg:"" help:"The user's name."`
}

// Run lists a user's keys.
func (c *iamKeyList) Run(ctx context.Context) error {
	keys, err := c.listKeys(ctx, c.User)
	if err != nil {
		return err
	}
	return c.keys(keys...)
}

type iamKeyRotate struct {
	connection
	User string `arg:"" help:"The user's name."`
	ID   string `arg:"" optional:"" help:"The access key to replace; may be left out where there is one."`
}

// Run makes the new key first, so that a failure leaves the old one.
func (c *iamKeyRotate) Run(ctx context.Context) error {
	if c.ID == "" {
		keys, err := c.listKeys(ctx, c.User)
		if err != nil {
			return err
		}
		if len(keys) != 1 {
			return fmt.Errorf("the user has %d access keys: name the one to replace", len(keys))
		}
		c.ID = keys[0].AccessKeyID
	}
	made, err := c.makeKey(ctx, c.User)
	if err != nil {
		return err
	}
	if err := c.keys(made); err != nil {
		return err
	}
	return c.setKey(ctx, c.User, c.ID, "Inactive")
}

func (c connection) setKey(ctx context.Context, user, id, status string) error {
	return c.query(ctx, "UpdateAccessKey", nil, "UserName", user, "AccessKeyId", id, "Status", status)
}

type iamKeyDisable struct {
	connection
	User string `arg:"" help:"The user's name."`
	ID   string `arg:"" help:"The access key."`
}

// Run switches the key off, in force at once.
func (c *iamKeyDisable) Run(ctx context.Context) error {
	return c.setKey(ctx, c.User, c.ID, "Inactive")
}

type iamKeyEnable struct {
	connection
	User string `arg:"" help:"The user's name."`
	ID   string `arg:"" help:"The access key."`
}

// Run switches the key on.
func (c *iamKeyEnable) Run(ctx context.Context) error { return c.setKey(ctx, c.User, c.ID, "Active") }

type iamKeyDelete struct {
	connection
	User string `arg:"" help:"The user's name."`
	ID   string `arg:"" help:"The access key."`
}

// Run deletes the key.
func (c *iamKeyDelete) Run(ctx context.Context) error {
	return c.query(ctx, "DeleteAccessKey", nil, "UserName", c.User, "AccessKeyId", c.ID)
}

type iamRoleCreate struct {
	connection
	Name    string        `arg:"" help:"The role's name."`
	Trust   string        `help:"File with the trust policy, JSON." required:"" type:"existingfile" env:"TARN_IAM_TRUST"`
	Path    string        `help:"Path of the role's ARN." default:"/" env:"TARN_IAM_PATH"`
	Longest time.Duration `help:"How long a session may last at most." default:"1h" env:"TARN_IAM_LONGEST"`
	Policy  []string      `help:"Policies to attach, by name or ARN." env:"TARN_IAM_POLICY"`
}

// Run makes the role and attaches policies.
func (c *iamRoleCreate) Run(ctx context.Context) error {
	trust, err := os.ReadFile(c.Trust)
	if err != nil {
		return err
	}
	if err := c.query(ctx, "CreateRole", nil, "RoleName", c.Name, "Path", c.Path, "AssumeRolePolicyDocument", string(trust),
		"MaxSessionDuration", strconv.Itoa(int(c.Longest.Seconds()))); err != nil {
		return err
	}
	for _, p := range c.Policy {
		whole, err := c.policyARN(ctx, p)
		if err != nil {
			return err
		}
		if err := c.query(ctx, "AttachRolePolicy", nil, "RoleName", c.Name, "PolicyArn", whole); err != nil {
			return err
		}
	}
	return nil
}

type iamRoleList struct{ connection }

// Run lists roles.
func (c *iamRoleList) Run(ctx context.Context) error {
	var out struct {
		All []iamThing `xml:"ListRolesResult>Roles>member"`
	}
	if err := c.query(ctx, "ListRoles", &out); err != nil {
		return err
	}
	return c.things(out.All)
}

type iamRoleDelete struct {
	connection
	Name string `arg:"" help:"The role's name."`
}

// Run takes the policies away, then the role.
func (c *iamRoleDelete) Run(ctx context.Context) error {
	if err := c.detachAll(ctx, "Role", c.Name); err != nil {
		return err
	}
	return c.query(ctx, "DeleteRole", nil, "RoleName", c.Name)
}

type iamPolicyCreate struct {
	connection
	Name string `arg:"" help:"The policy's name."`
	File string `arg:"" help:"File with the policy document, JSON." type:"existingfile"`
}

// Run keeps the document.
func (c *iamPolicyCreate) Run(ctx context.Context) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	return c.query(ctx, "CreatePolicy", nil, "PolicyName", c.Name, "PolicyDocument", string(text))
}

type iamPolicyList struct{ connection }

// Run lists policies.
func (c *iamPolicyList) Run(ctx context.Context) error {
	var out struct {
		All []iamThing `xml:"ListPoliciesResult>Policies>member"`
	}
	if err := c.query(ctx, "ListPolicies", &out); err != nil {
		return err
	}
	return c.things(out.All)
}

type iamPolicyDelete struct {
	connection
	Name string `arg:"" help:"The policy's name."`
}

// Run deletes the policy.
func (c *iamPolicyDelete) Run(ctx context.Context) error {
	whole, err := c.policyARN(ctx, c.Name)
	if err != nil {
		return err
	}
	return c.query(ctx, "DeletePolicy", nil, "PolicyArn", whole)
}

// holder is whose policies are changed.
type holder struct {
	Policy string `arg:"" help:"The policy's name or ARN."`
	User   string `help:"The user's name." xor:"holder" required:"" env:"TARN_IAM_USER"`
	Role   string `help:"The role's name." xor:"holder" required:"" env:"TARN_IAM_ROLE"`
}

func (h holder) change(ctx context.Context, c connection, verb string) error {
	whole, err := c.policyARN(ctx, h.Policy)
	if err != nil {
		return err
	}
	if h.Role != "" {
		return c.query(ctx, verb+"RolePolicy", nil, "RoleName", h.Role, "PolicyArn", whole)
	}
	return c.query(ctx, verb+"UserPolicy", nil, "UserName", h.User, "PolicyArn", whole)
}

type iamPolicyAttach struct {
	connection
	holder
}

// Run attaches the policy.
func (c *iamPolicyAttach) Run(ctx context.Context) error {
	return c.change(ctx, c.connection, "Attach")
}

type iamPolicyDetach struct {
	connection
	holder
}

// Run detaches the policy.
func (c *iamPolicyDetach) Run(ctx context.Context) error {
	return c.change(ctx, c.connection, "Detach")
}
