// Package iam knows who may do what: principals, their access keys, and the
// policy that judges an action.
//
// In this version there is one principal, the account's root, whose key is
// given by the environment or made at first start and kept in
//
//	<data>/credentials    [tarn] aws_access_key_id, aws_secret_access_key
//
// in the AWS shared-credentials format. Every action of both planes is judged
// by a Policy all the same, from the first day, so that users, roles and policy
// documents move in here without a new door.
package iam

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Principal is somebody recognised.
type Principal struct {
	ARN         string // "arn:aws:iam::111122223333:root"
	AccessKeyID string // the key that signed
}

// Anonymous is nobody in particular: who reads what is public.
var Anonymous = Principal{}

// Policy judges actions.
type Policy interface {
	// Allow returns nil when the principal may carry out the action
	// ("healthlake:ReadResource") on the resource (an ARN, or "*" where the action
	// names none yet), else fault.Forbidden.
	Allow(ctx context.Context, p Principal, action, resource string) error
}

// RootOnly is the policy of an account that has no one but its root.
type RootOnly struct{ Root string } // the root's ARN

// publicActions need no principal: the door lets them through unsigned only
// where the operator wants that.
var publicActions = map[string]bool{"healthlake:GetCapabilities": true, "healthlake:Discovery": true}

// Allow lets the root do everything, and anyone what is public.
func (r RootOnly) Allow(_ context.Context, p Principal, action, resource string) error {
	if p.ARN == r.Root || p == Anonymous && publicActions[action] {
		return nil
	}
	return fault.New(fault.Forbidden, "iam.Allow", "%s is not authorized to perform: %s on resource: %s", p.ARN, action, resource)
}
