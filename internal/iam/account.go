package iam

import (
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds of an IAM file's names (IAM User Guide, "IAM and AWS STS quotas").
const (
	nameMax         = 128 // of a user or a policy
	keyIDMin        = 3   // AWS makes 20 characters, other tools fewer
	keyIDMax        = 128
	secretMin       = 16 // a shorter one could be guessed from one signed request
	secretMax       = 256
	tagsMax         = 50
	tagKeyMax       = 128
	tagValueMax     = 256
	nameCharacters  = alphanumeric + "_+=,.@-"
	keyIDCharacters = alphanumeric + "_-"
	roleDurationMin = time.Hour
	roleDurationMax = 12 * time.Hour
	statusActive    = "Active"
	statusInactive  = "Inactive"
)

// Account is an IAM file, read: users, roles, their keys and policies. It is
// immutable and safe for concurrent use.
type Account struct {
	identities map[string]*identity // by ARN
	keys       map[string]accessKey // by access key id
	policies   map[string]*Document // of the file's own, by name
	warnings   []fault.Issue
}

// identity is a user or a role.
type identity struct {
	subject
	role        bool
	roleName    string // without its path
	path        string // of a user: "/clinic/"
	policies    []*Document
	trust       *Document     // of a role; nil trusts HealthLake alone
	maxDuration time.Duration // of a role's sessions
}

// accessKey is a long-lived key of a user.
type accessKey struct {
	secret string
	user   string // ARN
	active bool
}

// Warnings are what the file says and hardly means; Finding writes one.
func (a *Account) Warnings() []fault.Issue { return a.warnings }

// ParseAccount reads an IAM file for an account ("111122223333") of a partition
// ("aws"). Several texts are read as if they were one. Errors are fault.Syntax
// or fault.Invalid and name every place with its line; they never hold a secret.
func ParseAccount(partition, account string, texts ...[]byte) (*Account, error) {
	roots := make([]*node, len(texts))
	for i, text := range texts {
		root, err := parseTree(text)
		if err != nil {
			return nil, err
		}
		roots[i] = root
	}
	r := &accountReader{
		findings: &findings{}, partition: partition, number: account,
		policies: map[string]*Document{}, users: map[string]bool{},
		account: &Account{identities: map[string]*identity{}, keys: map[string]accessKey{}},
	}
	var err error
	if r.managed, err = managedPolicies(); err != nil {
		return nil, err
	}
	r.read(roots)
	r.account.warnings, r.account.policies = r.warnings, r.policies
	return r.account, r.err()
}

// accountReader reads one file.
type accountReader struct {
	*findings
	account   *Account
	partition string
	number    string               // the account's
	managed   map[string]*Document // by name
	policies  map[string]*Document // of the file, by name
	users     map[string]bool      // the file's names, folded
}

// read takes the policies first, since users and roles name them.
func (r *accountReader) read(roots []*node) {
	for _, root := range roots {
		if policies := root.get("policies"); policies != nil {
			r.list(policies, r.policy)
		}
	}
	for _, root := range roots {
		r.object(root, map[string]func(*node){
			"policies": func(*node) {},
			"users":    func(n *node) { r.list(n, r.user) },
			"roles":    func(n *node) { r.list(n, r.role) },
		})
	}
}

func (r *accountReader) policy(n *node) {
	var name string
	r.object(n, map[string]func(*node){
		"name":     func(n *node) { name = r.name(n) },
		"document": func(*node) {},
	})
	if !r.needs(n, "name", "document") {
		return
	}
	switch {
	case r.managed[name] != nil:
		r.wrong(n.get("name"), "%q is the name of a policy of AWS", name)
	case r.policies[name] != nil:
		r.wrong(n.get("name"), "%q names two policies", name)
	}
	d := r.document(name, n.get("document"), identityPolicy)
	if d == nil { // told already; whoever names the policy is not to be told too
		d = &Document{name: name}
	}
	r.policies[name] = d
}

// needs tells what an object lacks.
func (r *accountReader) needs(n *node, names ...string) bool {
	complete := n.kind == isObject
	for _, name := range names {
		if n.kind == isObject && n.get(name) == nil {
			r.wrong(n, "has no %s", name)
			complete = false
		}
	}
	return complete
}

func (r *accountReader) name(n *node) string {
	name := r.string(n)
	if name == "" || len(name) > nameMax || strings.Trim(name, nameCharacters) != "" {
		r.wrong(n, "a name has 1 to %d letters, digits and _+=,.@-", nameMax)
	}
	return name
}

func (r *accountReader) user(n *node) {
	u := &identity{path: "/"}
	var keys *node
	r.object(n, map[string]func(*node){
		"name":       func(n *node) { u.name = r.name(n) },
		"path":       func(n *node) { u.path = r.path(n) },
		"accessKeys": func(n *node) { keys = n },
		"policies":   func(n *node) { u.policies = r.attached(n) },
		"tags":       func(n *node) { u.tags = r.tags(n) },
	})
	if !r.needs(n, "name") {
		return
	}
	u.account = r.number
	u.arn = arn.ARN{Partition: r.partition, Service: "iam", Account: r.number, Resource: "user" + u.path + u.name}.String()
	r.unique(n.get("name"), u.name)
	r.account.identities[u.arn] = u
	if keys != nil {
		r.list(keys, func(n *node) { r.accessKey(n, u.arn) })
	}
}

// unique tells a user's name that is there already; names do not know case.
func (r *accountReader) unique(n *node, name string) {
	folded := foldText(name)
	if r.users[folded] {
		r.wrong(n, "%q names two users", name)
	}
	r.users[folded] = true
}

func (r *accountReader) path(n *node) string {
	path := r.string(n)
	if !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/") || strings.Trim(path, nameCharacters+"/") != "" {
		r.wrong(n, "a path begins and ends with a slash: /clinic/")
		return "/"
	}
	return path
}

// accessKey reads a key; what is wrong with a secret is told without it.
func (r *accountReader) accessKey(n *node, user string) {
	key := accessKey{user: user, active: true}
	var id string
	r.object(n, map[string]func(*node){
		"accessKeyId":     func(n *node) { id = r.keyID(n) },
		"secretAccessKey": func(n *node) { key.secret = r.secret(n) },
		"status":          func(n *node) { key.active = r.status(n) },
	})
	if !r.needs(n, "accessKeyId", "secretAccessKey") {
		return
	}
	if _, twice := r.account.keys[id]; twice {
		r.wrong(n.get("accessKeyId"), "%q is there twice", id)
	}
	r.account.keys[id] = key
}

func (r *accountReader) keyID(n *node) string {
	id := r.string(n)
	if len(id) < keyIDMin || len(id) > keyIDMax || strings.Trim(id, keyIDCharacters) != "" {
		r.wrong(n, "an access key id has %d to %d letters, digits, _ and -", keyIDMin, keyIDMax)
	}
	return id
}

func (r *accountReader) secret(n *node) string {
	secret := r.string(n)
	if len(secret) < secretMin || len(secret) > secretMax {
		r.wrong(n, "a secret access key has %d to %d characters", secretMin, secretMax)
	}
	return secret
}

func (r *accountReader) status(n *node) (active bool) {
	status := r.string(n)
	if status != statusActive && status != statusInactive {
		r.wrong(n, "%q is neither %s nor %s", status, statusActive, statusInactive)
	}
	return status == statusActive
}

func (r *accountReader) role(n *node) {
	role := &identity{role: true, maxDuration: roleDurationMin}
	var trust *node
	r.object(n, map[string]func(*node){
		"arn":                func(n *node) { role.arn, role.account, role.roleName = r.roleARN(n) },
		"policies":           func(n *node) { role.policies = r.attached(n) },
		"trust":              func(n *node) { trust = n },
		"tags":               func(n *node) { role.tags = r.tags(n) },
		"maxSessionDuration": func(n *node) { role.maxDuration = r.duration(n) },
	})
	if !r.needs(n, "arn") {
		return
	}
	if r.account.identities[role.arn] != nil {
		r.wrong(n.get("arn"), "%q is there twice", role.arn)
	}
	if trust != nil {
		role.trust = r.document(role.arn, trust, trustPolicy)
	}
	r.account.identities[role.arn] = role
}

func (r *accountReader) roleARN(n *node) (whole, account, name string) {
	text := r.string(n)
	a, err := arn.Parse(text)
	path, isRole := strings.CutPrefix(a.Resource, "role/")
	if err != nil || a.Service != "iam" || !isRole || !isAccount(a.Account) || strings.Trim(path, nameCharacters+"/") != "" {
		r.wrong(n, "%q is not a role's ARN: arn:aws:iam::111122223333:role/name", text)
	}
	return text, a.Account, path[strings.LastIndexByte(path, '/')+1:]
}

// duration reads the longest session of a role, in seconds.
func (r *accountReader) duration(n *node) time.Duration {
	seconds, err := strconv.Atoi(r.string(n))
	if d := time.Duration(seconds) * time.Second; err == nil && d >= roleDurationMin && d <= roleDurationMax {
		return d
	}
	r.wrong(n, "a role's sessions last %d to %d seconds at most", int(roleDurationMin.Seconds()), int(roleDurationMax.Seconds()))
	return roleDurationMin
}

// attached reads the names of policies: of the file's own or of AWS's, or the
// ARN of either.
func (r *accountReader) attached(n *node) (all []*Document) {
	r.list(n, func(n *node) {
		written := r.string(n)
		name := strings.TrimPrefix(written, managedPrefix)
		if d := r.managed[name]; d != nil {
			all = append(all, d)
			return
		}
		own := arn.ARN{Partition: r.partition, Service: "iam", Account: r.number, Resource: "policy/"}.String()
		if d := r.policies[strings.TrimPrefix(written, own)]; d != nil {
			all = append(all, d)
			return
		}
		r.wrong(n, "no policy is named %s", written)
	})
	return all
}

// tags reads the tags of a user or a role; keys that differ in case alone would
// be one in a condition.
func (r *accountReader) tags(n *node) map[string]string {
	if n.kind != isObject {
		r.wrong(n, "is %s, wanted an object of tags", n.kind)
		return nil
	}
	tags := make(map[string]string, len(n.members))
	seen := make(map[string]bool, len(n.members))
	for _, m := range n.members {
		value := r.scalar(m.value)
		if m.name == "" || len(m.name) > tagKeyMax || len(value) > tagValueMax {
			r.wrong(m.value, "a tag has a key of 1 to %d and a value of up to %d characters", tagKeyMax, tagValueMax)
		}
		if seen[foldText(m.name)] {
			r.wrong(m.value, "%q differs from another tag in case alone", m.name)
		}
		tags[m.name], seen[foldText(m.name)] = value, true
	}
	if len(tags) > tagsMax {
		r.wrong(n, "more than %d tags", tagsMax)
	}
	return tags
}
