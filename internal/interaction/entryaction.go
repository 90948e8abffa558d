package interaction

import "strings"

// The IAM actions that entries of bundles stand for (Service Authorization
// Reference, AWS HealthLake), the same as those of the requests that they spell.
const (
	actionCreate       = "CreateResource"
	actionUpdate       = "UpdateResource"
	actionPatch        = "PatchResource"
	actionDelete       = "DeleteResource"
	actionRead         = "ReadResource"
	actionVread        = "VersionReadResource"
	actionSearch       = "SearchWithGet"
	actionCapabilities = "GetCapabilities"
	actionHistory      = "GetFullHistory"
	actionTypeHistory  = "GetHistoryByResourceType"
	actionIDHistory    = "GetHistoryByResourceId"
)

// permitted refuses an entry whose own action is denied, though the bundle as a
// whole is allowed.
func (s *Session) permitted(e *entry) error {
	if s.Forbids == nil {
		return nil
	}
	return e.in(s.Forbids(e.action()))
}

// action is the IAM action of an entry.
func (e *entry) action() string {
	switch e.method {
	case "POST":
		return actionCreate
	case "PUT":
		return actionUpdate
	case "PATCH":
		return actionPatch
	case "DELETE":
		return actionDelete
	}
	return e.target.readAction()
}

// readAction is the action of a GET entry.
func (t target) readAction() string {
	switch {
	case t.typ == "metadata" && t.id == "":
		return actionCapabilities
	case t.history:
		return t.historyAction()
	case t.version != "":
		return actionVread
	case strings.HasPrefix(t.typ, "$"):
		if o, ok := FindOperation(OnInstance, t.in, t.typ); ok {
			return o.Action
		}
	case t.id != "" && t.in == "":
		return actionRead
	}
	return actionSearch
}

func (t target) historyAction() string {
	switch {
	case t.id != "":
		return actionIDHistory
	case t.typ != "":
		return actionTypeHistory
	}
	return actionHistory
}
