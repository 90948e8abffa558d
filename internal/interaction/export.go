package interaction

import (
	"context"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/export"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Exports are the data store's export jobs.
type Exports interface {
	// Start makes the job and gives its id, durably. A bucket that cannot be used
	// is fault.Forbidden or fault.FailedDependency; fault.Throttled says that too
	// many wait.
	Start(ctx context.Context, ask ExportAsk) (id string, err error)
	// Get gives a job; fault.NotFound.
	Get(ctx context.Context, id string) (*Export, error)
	// Cancel stops a job, or takes the files of one that ended away.
	Cancel(ctx context.Context, id string) error
	// File opens a file that the server keeps itself.
	File(ctx context.Context, id, name string) (io.ReadSeekCloser, error)
}

// KindExport is the kind of the jobs that export data stores.
const KindExport = "fhir.export"

// ExportAsk is what was asked of an export job. Persisted as JSON.
type ExportAsk struct {
	export.Request
	Name   string `json:",omitempty"` // JobName
	S3Uri  string `json:",omitempty"` // empty: the server keeps the files
	KMSKey string `json:",omitempty"` // KmsKeyId
	Role   string `json:",omitempty"` // DataAccessRoleArn
}

// Folder is the folder that a job makes below its S3Uri, as HealthLake names it.
func (a ExportAsk) Folder(datastore, jobID string) (blob.Location, error) {
	at, err := blob.Parse(a.S3Uri)
	return at.Under(datastore + "-FHIR_EXPORT-" + jobID + "/"), err
}

// Export is an export job.
type Export struct {
	ID               string
	Ask              ExportAsk
	Status           job.Status
	Submitted, Ended time.Time
	Message          string
	State            export.State
	Folder           string // of the files in S3: "s3://bucket/prefix/…/"
	Retry            int    // seconds to wait before asking again
}

// systemExport, patientExport and groupExport start a $export (Bulk Data Access
// 2.0.0; devguide, "$export").
func systemExport(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	return s.startExport(ctx, req, export.Request{Level: export.System})
}

func patientExport(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	return s.startExport(ctx, req, export.Request{Level: export.Patients})
}

func groupExport(ctx context.Context, s *Session, req OperationRequest) (*Started, error) {
	return s.startExport(ctx, req, export.Request{Level: export.Group, Group: req.ID})
}

func (s *Session) startExport(ctx context.Context, req OperationRequest, r export.Request) (*Started, error) {
	if s.Exports == nil {
		return nil, fault.New(fault.NotSupported, "interaction.export", "this server carries out no exports")
	}
	ask := ExportAsk{Request: r}
	pairs, err := s.readExportBody(&ask, req.Body)
	if err != nil {
		return nil, err
	}
	ask.URL = s.exportURL(req)
	x := &exportAsking{Session: s, ask: &ask}
	for _, p := range slices.Concat(req.Pairs, pairs) {
		if err := x.parameter(p); err != nil {
			return nil, err
		}
	}
	if err := x.settle(ctx); err != nil {
		return nil, err
	}
	id, err := s.Exports.Start(ctx, ask)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(struct {
		DatastoreID string     `json:"datastoreId"`
		JobStatus   job.Status `json:"jobStatus"`
		JobID       string     `json:"jobId"`
	}{s.StoreID, job.Submitted, id})
	return &Started{Poll: "export/" + id, Body: body}, fault.Wrap(fault.Internal, "interaction.export", err)
}

func (s *Session) exportURL(req OperationRequest) string {
	url := s.Base
	for _, part := range []string{req.Type, req.ID} {
		if part != "" {
			url += "/" + part
		}
	}
	url += "/$export"
	if len(req.Pairs) > 0 {
		url += "?" + search.Encode(req.Pairs)
	}
	return url
}

// healthlakeExport is the body of HealthLake's form.
type healthlakeExport struct {
	ResourceType     string `json:"resourceType"`
	JobName          string
	RoleArn          string `json:"DataAccessRoleArn"`
	OutputDataConfig *struct {
		S3Configuration *struct{ S3Uri, KmsKeyId string }
	}
}

// What the members of the form look like (healthlake-2017-07-01).
var (
	s3URI   = regexp.MustCompile(`^s3://[a-z0-9][.\-a-z0-9]{1,61}[a-z0-9](/.*)?$`)
	roleARN = regexp.MustCompile(`^arn:aws(-[^:]+)?:iam::[0-9]{12}:role/.+$`)
	jobName = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-%@]{1,64}$`)
)

// readExportBody reads a POST's body: Parameters, or HealthLake's form.
func (s *Session) readExportBody(ask *ExportAsk, body []byte) ([]search.Pair, error) {
	if len(body) == 0 {
		return nil, nil
	}
	var form healthlakeExport
	if err := jsonv2.Unmarshal(body, &form); err != nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.export", Detail: "the body is neither Parameters nor HealthLake's form", Cause: err}
	}
	if form.ResourceType != "" {
		return exportParameters(body)
	}
	if form.OutputDataConfig == nil && form.RoleArn == "" && form.JobName == "" {
		return nil, nil // {}
	}
	wrong := func(member, detail string) error {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.export", Subject: member, Detail: detail}
	}
	switch {
	case form.OutputDataConfig == nil || form.OutputDataConfig.S3Configuration == nil:
		return nil, wrong("OutputDataConfig.S3Configuration", "it is missing")
	case !s3URI.MatchString(form.OutputDataConfig.S3Configuration.S3Uri) && !elsewhere(form.OutputDataConfig.S3Configuration.S3Uri):
		return nil, wrong("OutputDataConfig.S3Configuration.S3Uri", "not s3://bucket/prefix")
	case form.OutputDataConfig.S3Configuration.KmsKeyId == "":
		return nil, wrong("OutputDataConfig.S3Configuration.KmsKeyId", "it is missing")
	case !roleARN.MatchString(form.RoleArn):
		return nil, wrong("DataAccessRoleArn", "not the ARN of a role")
	case form.JobName != "" && !jobName.MatchString(form.JobName):
		return nil, wrong("JobName", "not a name of 1 to 64 characters")
	}
	to := form.OutputDataConfig.S3Configuration
	ask.Name, ask.Role, ask.S3Uri, ask.KMSKey, ask.ByType = form.JobName, form.RoleArn, to.S3Uri, to.KmsKeyId, true
	return nil, nil
}

// elsewhere reports whether a location is of another storage, which judges it.
func elsewhere(uri string) bool {
	at, err := blob.Parse(uri)
	return err == nil && at.Scheme != "s3"
}

// exportParameters are the parameters in a Parameters resource: simple ones, and
// patient, which is a Reference.
func exportParameters(body []byte) ([]search.Pair, error) {
	doc, err := parseParameters(body)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	var pairs []search.Pair
	for p := range doc.Root().Get("parameter").Items() {
		value, ok := simpleValue(p)
		if ref := p.Get("valueReference").Get("reference"); ref.Exists() {
			value, ok = ref.Text(), true
		}
		if !ok {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.export", Subject: p.Path(), Detail: "not a name with one simple value"}
		}
		pairs = append(pairs, search.Pair{Name: p.Get("name").Text(), Value: value})
	}
	return pairs, nil
}

// exportAsking reads the parameters of an export.
type exportAsking struct {
	*Session
	ask   *ExportAsk
	types []string // asked for; nil: all
	only  []string // ids of patients
}

// ndjson are the forms of output (Bulk Data Access, "_outputFormat").
var ndjson = []string{"application/fhir+ndjson", "application/ndjson", "ndjson"}

func (x *exportAsking) parameter(p search.Pair) (err error) {
	r := &x.ask.Request
	list := strings.Split(p.Value, ",")
	switch p.Name {
	case "_outputFormat":
		if !slices.Contains(ndjson, p.Value) {
			return invalidPair(p, "the output is application/fhir+ndjson")
		}
	case "_type":
		return x.typeList(p, list)
	case "_since":
		r.Since, err = instantOf(p, false)
	case "_until":
		r.Until, err = instantOf(p, true)
	case "_typeFilter":
		return x.filters(p, list)
	case "_elements":
		r.Elements = append(r.Elements, list...)
	case "_tag", "_security":
		r.All = append(r.All, p)
	case "includeAssociatedData":
		return x.associated(p, list)
	case "patient":
		return x.patients(p, list)
	case "_format", "_pretty":
	default:
		return x.unknown(p, p.Name)
	}
	return err
}

// unknown refuses what is not supported, or passes over it where the client
// said handling=lenient; a file of the export tells of it then.
func (x *exportAsking) unknown(p search.Pair, what string) error {
	if !x.Lenient {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.export", Subject: p.Name + "=" + cutText(p.Value), Detail: what + " is not supported",
			Hint: "Prefer: handling=lenient passes over it"}
	}
	x.ask.Ignored = append(x.ask.Ignored, cutText(what))
	return nil
}

func (x *exportAsking) typeList(p search.Pair, list []string) error {
	if x.types == nil {
		x.types = []string{}
	}
	for _, name := range list {
		name = strings.TrimSpace(name)
		if _, err := x.typ(name); err != nil {
			if err := x.unknown(p, "the type "+name); err != nil {
				return err
			}
			continue
		}
		if !slices.Contains(x.types, name) {
			x.types = append(x.types, name)
		}
	}
	return nil
}

// filters takes _typeFilter apart: a comma separates filters where a type and a
// question mark follow it, else it belongs to a value.
func (x *exportAsking) filters(p search.Pair, list []string) error {
	for _, piece := range list {
		typ, _, isFilter := strings.Cut(piece, "?")
		if _, known := x.Registry.Type(typ); isFilter && known {
			x.ask.Filters = append(x.ask.Filters, piece)
		} else if n := len(x.ask.Filters); n > 0 {
			x.ask.Filters[n-1] += "," + piece
		} else {
			return invalidPair(p, "a filter is a type, a question mark and search parameters")
		}
	}
	return nil
}

func (x *exportAsking) associated(p search.Pair, list []string) error {
	for _, value := range list {
		switch value {
		case "RelevantProvenanceResources":
			x.ask.Provenance, x.ask.Latest = true, false
			continue
		case "LatestProvenanceResources":
			x.ask.Latest = !x.ask.Provenance || x.ask.Latest // all that is relevant has the latest in it
			x.ask.Provenance = true
			continue
		}
		if err := x.unknown(p, "includeAssociatedData="+value); err != nil {
			return err
		}
	}
	return nil
}

func (x *exportAsking) patients(p search.Pair, list []string) error {
	if x.ask.Level == export.System {
		return x.unknown(p, "patient on a system export")
	}
	for _, reference := range list {
		ref := fhir.ParseReference(reference)
		if ref.Type != "Patient" || ref.Form == fhir.Absolute && ref.Base != x.Base {
			return invalidPair(p, "not a reference to a patient of this store")
		}
		x.only = append(x.only, ref.ID)
	}
	return nil
}

// settle fixes the moment, the patients and the types.
func (x *exportAsking) settle(ctx context.Context) error {
	view, err := x.Store.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	r := &x.ask.Request
	r.Moment, r.Time = view.Moment(), x.Clock().UTC()
	if r.Level == export.Group {
		key, err := x.key("Group", r.Group)
		if err != nil {
			return err
		}
		// Clients are registered for the types they export, which a Group is not among
		// (SMART backend services): to name it is enough for those who may read every
		// patient.
		if !x.mayReadAll([]string{"Patient"}) {
			return noPatients()
		}
		named := *x.Session
		named.Grant = search.Everything()
		v, err := named.readIn(ctx, view, key)
		if err != nil {
			return err
		}
		if r.Owners, err = x.groupMembers(v); err != nil {
			return err
		}
	}
	if x.only != nil {
		if r.Level == export.Group {
			x.only = slices.DeleteFunc(x.only, func(id string) bool { return !slices.Contains(r.Owners, id) })
		}
		r.Owners = append([]string{}, x.only...)
	}
	if err := x.settleTypes(); err != nil {
		return err
	}
	check := export.Exporter{Store: x.Store, Registry: x.Registry, Base: x.Base}
	return check.Check(ctx, *r)
}

// WholeStore is an export of every resource as it stands now: StartFHIRExportJob,
// which is allowed by IAM alone.
func (s *Session) WholeStore(ctx context.Context) (export.Request, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return export.Request{}, err
	}
	defer view.Close()
	r := export.Request{Level: export.System, Moment: view.Moment(), Time: s.Clock().UTC(), URL: s.Base, ByType: true}
	for _, t := range s.Registry.Types() {
		if name := s.Registry.Name(t); !notStored[name] {
			r.Types = append(r.Types, name)
		}
	}
	return r, nil
}

// groupMembers are the ids of a Group's active patients.
func (s *Session) groupMembers(v *Version) ([]string, error) {
	doc, err := fhir.ParseStored(v.Resource())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.export", err)
	}
	defer doc.Release()
	ids := []string{}
	for _, key := range (&scope{Session: s}).members(doc.Root()) {
		ids = append(ids, key.ID)
	}
	return ids, nil
}

// settleTypes are the types that are asked for, that can be in the export, and
// that the caller may read whole: a condition cannot be kept until the job runs.
func (x *exportAsking) settleTypes() error {
	r := &x.ask.Request
	refused := ""
	if r.Level != export.System && !x.mayReadAll([]string{"Patient"}) {
		// Who is a patient, and of whom resources are, tells of patients.
		return noPatients()
	}
	for _, t := range x.Registry.Types() {
		name := x.Registry.Name(t)
		if notStored[name] || x.types != nil && !slices.Contains(x.types, name) || !x.within(t) {
			continue
		}
		if where, ok := x.Grant.Where(t, search.Read); !ok || where != nil {
			refused = name
			continue
		}
		r.Types = append(r.Types, name)
	}
	for _, name := range x.types {
		if t, _ := x.Registry.Type(name); !x.within(t) {
			if err := x.unknown(search.Pair{Name: "_type", Value: name}, "the type "+name+", which is in no patient's compartment,"); err != nil {
				return err
			}
		}
	}
	provenance, _ := x.Registry.Type("Provenance")
	if where, ok := x.Grant.Where(provenance, search.Read); r.Provenance && (!ok || where != nil) {
		refused = "Provenance"
	}
	if refused != "" && (x.types != nil || len(r.Types) == 0 || r.Provenance) {
		return &fault.Error{Kind: fault.Forbidden, Op: "interaction.export", Subject: refused, Detail: "an export needs access to every resource of the type"}
	}
	return nil
}

func noPatients() error {
	return &fault.Error{Kind: fault.Forbidden, Op: "interaction.export", Subject: "Patient", Detail: "the export needs access to every patient"}
}

// within reports whether resources of a type can be in the export.
func (x *exportAsking) within(t plan.Type) bool {
	if x.ask.Level == export.System {
		return true
	}
	patient, _ := x.Registry.Type("Patient")
	params, _ := x.Registry.Compartment(patient, t)
	return len(params) > 0 || t == patient
}

// Trim cuts a resource to elements, with what is mandatory: export.Exporter.Trim.
func Trim(body []byte, t plan.Type, elements []string) ([]byte, error) {
	known := slices.DeleteFunc(slices.Clone(elements), func(name string) bool {
		_, is := r4.Element(r4.TypeName(t), name)
		return !is
	})
	var whole search.Summary
	return trim(body, t, whole, append(known, "id"))
}

// ExportStatus is what the status URL of an export answers.
type ExportStatus struct {
	Code     int
	Body     []byte
	FHIR     bool   // Body is an OperationOutcome
	Progress string // X-Progress; empty: none
	Retry    int    // Retry-After in seconds; 0: none
}

// exportTime is how HealthLake writes the times of these jobs.
const exportTime = "Jan 2, 2006 3:04:05 PM"

// exportProperties is HealthLake's exportJobProperties, its letter cases
// included.
type exportProperties struct {
	JobID       string          `json:"jobId"`
	JobName     string          `json:"JobName,omitempty"`
	JobStatus   job.Status      `json:"jobStatus"`
	SubmitTime  string          `json:"submitTime,omitempty"`
	EndTime     string          `json:"endTime,omitempty"`
	DatastoreID string          `json:"datastoreId"`
	Output      *exportOutputTo `json:"outputDataConfig,omitempty"`
	Role        string          `json:"DataAccessRoleArn,omitempty"`
	Message     string          `json:"message,omitempty"`
}

type exportOutputTo struct {
	S3 struct {
		S3Uri    string
		KmsKeyId string
	} `json:"s3Configuration"`
}

type exportFile struct {
	Type  string `json:"type"`
	URL   string `json:"url"`
	Count int64  `json:"count"`
}

// manifest is the answer of a complete export (Bulk Data Access, "Response -
// Complete Status"), with HealthLake's member beside.
type manifest struct {
	TransactionTime     string           `json:"transactionTime"`
	Request             string           `json:"request"`
	RequiresAccessToken bool             `json:"requiresAccessToken"`
	Output              []exportFile     `json:"output"`
	Deleted             []exportFile     `json:"deleted"`
	Error               []exportFile     `json:"error"`
	Properties          exportProperties `json:"exportJobProperties"`
}

// ExportStatus tells how far an export is, in the form in which it was begun.
func (s *Session) ExportStatus(ctx context.Context, id string) (*ExportStatus, error) {
	e, err := s.openExport(ctx, id)
	if err != nil {
		return nil, err
	}
	files := map[export.Kind][]exportFile{export.Output: {}, export.Deleted: {}, export.Errors: {}}
	for _, f := range e.State.Files {
		url := s.Base + "/export/" + id + "/" + f.Name
		if e.Ask.S3Uri != "" {
			url = e.Folder + f.Name
		}
		files[f.Kind] = append(files[f.Kind], exportFile{f.Type, url, f.Count})
	}
	told := &ExportStatus{Code: 200}
	var body any
	properties := s.exportProperties(e)
	done := e.Status == job.Completed || e.Status == job.CompletedWithErrors
	switch {
	case e.Ask.S3Uri != "" && done:
		body = struct {
			P      exportProperties `json:"exportJobProperties"`
			Output []exportFile     `json:"output"`
		}{properties, files[export.Output]}
	case done:
		body = manifest{fhirInstant(e.Ask.Time), e.Ask.URL, true, files[export.Output], files[export.Deleted], files[export.Errors], properties}
	case e.Ask.S3Uri == "" && e.Status == job.Failed:
		told.Code, told.FHIR = 500, true
		told.Body = fhir.AppendOutcome(nil, fhir.OutcomeIssue{Severity: "error", Code: "exception", Diagnostics: e.Message})
		return told, nil
	default:
		if e.Ask.S3Uri == "" {
			told.Code, told.Retry, told.Progress = 202, e.Retry, exportProgress(e)
		}
		body = struct {
			P exportProperties `json:"exportJobProperties"`
		}{properties}
	}
	told.Body, err = json.Marshal(body)
	return told, fault.Wrap(fault.Internal, "interaction.ExportStatus", err)
}

func fhirInstant(t time.Time) string { return string(fhir.AppendInstant(nil, t)) }

func (s *Session) exportProperties(e *Export) exportProperties {
	p := exportProperties{
		JobID: e.ID, JobName: e.Ask.Name, JobStatus: e.Status, SubmitTime: e.Submitted.UTC().Format(exportTime), DatastoreID: s.StoreID,
		Role: e.Ask.Role, Message: e.Message,
	}
	if !e.Ended.IsZero() {
		p.EndTime = e.Ended.UTC().Format(exportTime)
	}
	if e.Ask.S3Uri != "" {
		p.Output = &exportOutputTo{}
		p.Output.S3.S3Uri, p.Output.S3.KmsKeyId = e.Folder, e.Ask.KMSKey
	}
	return p
}

// maxProgress bounds X-Progress in characters (Bulk Data Access: less than 100).
const maxProgress = 99

func exportProgress(e *Export) string {
	text := string(e.Status)
	if e.State.Total > 0 {
		text += ": " + strconv.FormatInt(e.State.Done, 10) + " of " + strconv.FormatInt(e.State.Total, 10) + " resources"
	}
	return text[:min(len(text), maxProgress)]
}

// openExport reads an export that was not deleted, when the caller may read all
// that is in it.
func (s *Session) openExport(ctx context.Context, id string) (*Export, error) {
	absent := &fault.Error{Kind: fault.NotFound, Op: "interaction.openExport", Subject: cutText(id), Detail: "no such export"}
	if s.Exports == nil || !validJobID(id) {
		return nil, absent
	}
	e, err := s.Exports.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	canceled := e.Ask.S3Uri == "" && strings.HasPrefix(string(e.Status), "CANCEL_")
	if canceled || !s.mayReadAll(e.Ask.Types) || e.Ask.Provenance && !s.mayReadAll([]string{"Provenance"}) {
		return nil, absent
	}
	return e, nil
}

func (s *Session) mayReadAll(types []string) bool {
	for _, name := range types {
		t, ok := s.Registry.Type(name)
		if where, may := s.Grant.Where(t, search.Read); !ok || !may || where != nil {
			return false
		}
	}
	return true
}

// CancelExport stops an export and takes its files away.
func (s *Session) CancelExport(ctx context.Context, id string) (*ExportStatus, error) {
	e, err := s.openExport(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := s.Exports.Cancel(ctx, id); err != nil {
		return nil, err
	}
	body, err := json.Marshal(struct {
		P exportProperties `json:"exportJobProperties"`
	}{exportProperties{JobID: e.ID, JobStatus: job.Status("CANCEL_SUBMITTED"), DatastoreID: s.StoreID}})
	return &ExportStatus{Code: 202, Body: body}, fault.Wrap(fault.Internal, "interaction.CancelExport", err)
}

// ExportFile opens a file of a complete export that the server keeps.
func (s *Session) ExportFile(ctx context.Context, id, name string) (io.ReadSeekCloser, error) {
	e, err := s.openExport(ctx, id)
	if err != nil {
		return nil, err
	}
	known := slices.ContainsFunc(e.State.Files, func(f export.File) bool { return f.Name == name })
	if e.Ask.S3Uri != "" || !known || !e.Status.Ended() {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "interaction.ExportFile", Subject: cutText(name), Detail: "no such file"}
	}
	return s.Exports.File(ctx, id, name)
}
