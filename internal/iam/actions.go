package iam

import "strings"

// Level is how an action touches data (IAM User Guide, "Access levels in policy
// summaries").
type Level uint8

// The access levels.
const (
	LevelList Level = iota
	LevelRead
	LevelWrite
	LevelTagging
)

func (l Level) String() string { return [...]string{"List", "Read", "Write", "Tagging"}[l] }

// Area is the part of the service an action belongs to.
type Area uint8

// The areas.
const (
	AreaControl   Area = iota // control plane
	AreaFHIRRead              // data plane, changing nothing
	AreaFHIRWrite             // data plane
	AreaTransform             // Data Transformation Agent
	AreaIdentity              // sts and iam, as far as this server asks for them
)

func (a Area) String() string {
	return [...]string{"control", "FHIR read", "FHIR write", "data transformation", "identity"}[a]
}

// Action is one name that a policy may allow.
type Action struct {
	Name       string // with its service: "healthlake:ReadResource"
	Area       Area
	Level      Level
	OnResource bool // judged on the ARN of what it is about; else on "*"
}

const servicePrefix = "healthlake"

// Actions lists the catalogue: the actions of the Service Authorization
// Reference's page on AWS HealthLake, the two that HealthLake asks for without
// being listed there (GetHistoryByResourceType, GetFullHistory), this server's
// own operations of the control plane, and what the token service asks for. Levels are the page's where it gives one, else they
// follow from what the action does.
func Actions() []Action { return append([]Action(nil), actions...) }

var actions = catalogue()

// row is a group of actions that differ in name alone.
type row struct {
	area       Area
	level      Level
	onResource bool
	names      string
}

var rows = []row{
	{AreaControl, LevelWrite, false, `CreateFHIRDatastore`},
	{AreaControl, LevelWrite, true, `UpdateFHIRDatastore DeleteFHIRDatastore RestoreFHIRDatastore StartFHIRImportJob StartFHIRExportJob`},
	{AreaControl, LevelList, false, `ListFHIRDatastores`},
	{AreaControl, LevelList, true, `ListFHIRImportJobs ListFHIRExportJobs ListTagsForResource`},
	{AreaControl, LevelRead, true, `DescribeFHIRDatastore DescribeFHIRImportJob DescribeFHIRExportJob`},
	{AreaControl, LevelTagging, true, `TagResource UntagResource`},
	// This server's own: what an operator sets beyond AWS's configurations, jobs
	// of every kind, and upkeep.
	{AreaControl, LevelList, true, `ListJobs`},
	{AreaControl, LevelRead, true, `DescribeDatastoreSettings DescribeJob`},
	{AreaControl, LevelWrite, true, `UpdateDatastoreSettings CancelJob CheckDatastore CompactDatastore BackupDatastore RotateDatastoreKey`},
	{AreaFHIRWrite, LevelWrite, true, `CreateResource UpdateResource PatchResource DeleteResource ProcessBundle
		StartFHIRBulkDeleteJob StartFHIRBulkPatchJob StartFHIRBulkMemberMatchJob
		MemberAdd MemberRemove MemberMatch ConfirmAttributionList RetrieveAttributionStatus SubmitPreAuthClaim
		GenerateDocumentWithGet GenerateDocumentWithPost
		StartFHIRExportJobWithGet StartFHIRExportJobWithPost CancelFHIRExportJobWithDelete`},
	{AreaFHIRRead, LevelRead, true, `ReadResource VersionReadResource GetHistoryByResourceId GetHistoryByResourceType GetFullHistory
		SearchWithGet SearchWithPost SearchEverything GetCapabilities ValidateResource
		DescribeFHIRExportJobWithGet GetExportedFile
		DescribeFHIRBulkDeleteJob DescribeFHIRBulkPatchJob DescribeFHIRBulkMemberMatchJob
		ExpandValueSetWithGet ExpandValueSetWithPost LookupCodeSystemWithGet LookupCodeSystemWithPost
		TranslateConceptMapWithGet TranslateConceptMapWithPost InquirePreAuthClaim QuestionnairePackage`},
	{AreaTransform, LevelWrite, false, `CreateDataTransformationProfile`},
	{AreaTransform, LevelWrite, true, `UpdateDataTransformationProfile PublishDataTransformationProfile DeleteDataTransformationProfile
		StartDataTransformationJob UpdateProfileWithAgent TransformData`},
	{AreaTransform, LevelList, false, `ListDataTransformationProfiles ListDataTransformationJobs`},
	{AreaTransform, LevelList, true, `ListDataTransformationProfileVersions`},
	{AreaTransform, LevelRead, false, `DescribeDataTransformationJob`},
	{AreaTransform, LevelRead, true, `GetDataTransformationProfile ValidateSource`},
}

// identityActions are those of other services that this server asks for.
var identityActions = []Action{
	{"sts:AssumeRole", AreaIdentity, LevelWrite, true},
	{"sts:GetCallerIdentity", AreaIdentity, LevelRead, false},
	{"sts:GetSessionToken", AreaIdentity, LevelRead, false},
	{"iam:PassRole", AreaIdentity, LevelWrite, true},
}

// iamActions are the identity service's that is offered on the same port.
const iamActions = `CreateUser GetUser ListUsers DeleteUser
	CreateAccessKey ListAccessKeys UpdateAccessKey DeleteAccessKey GetAccessKeyLastUsed
	CreateRole GetRole ListRoles DeleteRole
	CreatePolicy ListPolicies DeletePolicy
	AttachUserPolicy DetachUserPolicy ListAttachedUserPolicies
	AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies`

func catalogue() []Action {
	var all []Action
	for _, r := range rows {
		for name := range strings.FieldsSeq(r.names) {
			all = append(all, Action{servicePrefix + ":" + name, r.area, r.level, r.onResource})
		}
	}
	for name := range strings.FieldsSeq(iamActions) {
		level := LevelWrite
		switch {
		case strings.HasPrefix(name, "Get"):
			level = LevelRead
		case strings.HasPrefix(name, "List"):
			level = LevelList
		}
		all = append(all, Action{"iam:" + name, AreaIdentity, level, true})
	}
	return append(all, identityActions...)
}

// nearest are names of this server's own, each with the action that is asked for
// in its place. Discovery is SMART's configuration, which HealthLake has no
// action for.
var nearest = map[string]string{"healthlake:Discovery": "healthlake:GetCapabilities"}

// asked is the action that policies are asked about.
func asked(action string) string {
	if other, ok := nearest[action]; ok {
		return other
	}
	return action
}

// matchingActions lists the actions of the catalogue that a pattern means.
func matchingActions(folded glob) []Action {
	var found []Action
	for _, a := range actions {
		if folded.match(foldText(a.Name)) {
			found = append(found, a)
		}
	}
	return found
}

// aboutThisServer reports whether a statement can ever bear on a request here:
// it means some action of the catalogue, or says what it does not mean.
func aboutThisServer(statement *node) bool {
	list := statement.get("Action")
	if list == nil {
		return true
	}
	names := list.items
	if list.kind != isList {
		names = []*node{list}
	}
	for _, n := range names {
		service, _, _ := strings.Cut(strings.ToLower(n.text), ":")
		if service == servicePrefix || len(matchingActions(newGlob(n.text).fold())) > 0 {
			return true
		}
	}
	return false
}
