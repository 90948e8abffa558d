package interaction

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
	if e.target.operation != "" {
		return e.target.operationAction(e.method)
	}
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
	case t.id != "" && t.in == "":
		return actionRead
	}
	return actionSearch
}

// operationAction is the action of an operation; one that is not offered is
// refused as such later.
func (t target) operationAction(method string) string {
	o, ok := FindOperation(OperationRequest{Type: t.typ, ID: t.id}.level(), t.typ, t.operation)
	switch {
	case !ok:
		return actionSearch
	case method == "POST" && o.PostAction != "":
		return o.PostAction
	}
	return o.Action
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
